from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detkit.predict.sources import find_sources, is_single


def write(
    path: Path, mode: str = "RGB", colour: object = (255, 0, 0), size: tuple[int, int] = (6, 4), **options: object
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def names(source: object) -> list[str]:
    return [Path(found.path or "").name for found in find_sources(source)]


def test_a_folder_gives_its_images_by_name(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.webp", "below/d.jpg"):
        write(tmp_path / name, format="PNG")
    (tmp_path / "notes.txt").touch()
    assert names(tmp_path) == ["a.png", "b.JPG", "c.webp"]


def test_a_pattern_reaches_folders_below(tmp_path: Path) -> None:
    for name in ("a.png", "below/d.png", "below/e.txt"):
        write(tmp_path / name, format="PNG")
    assert names(f"{tmp_path}/**/*") == ["a.png", "d.png"]


def test_a_list_mixes_all_kinds(tmp_path: Path) -> None:
    write(tmp_path / "folder" / "a.png")
    array = np.zeros((2, 3, 3), np.uint8)
    found = list(find_sources([str(tmp_path / "folder"), array, torch.zeros(3, 2, 3, dtype=torch.uint8)]))
    assert [source.read().shape for source in found] == [(3, 4, 6), (3, 2, 3), (3, 2, 3)]


def test_files_whose_names_look_like_patterns(tmp_path: Path) -> None:
    path = str(write(tmp_path / "photo[1].png"))
    assert names(path) == ["photo[1].png"]
    assert is_single(path)


@pytest.mark.parametrize(
    ("mode", "colour", "want"),
    [
        ("L", 128, (128, 128, 128)),
        ("LA", (128, 0), (128, 128, 128)),
        ("RGBA", (10, 20, 30, 0), (10, 20, 30)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("P", 0, (0, 0, 0)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(mode: str, colour: object, want: tuple[int, int, int]) -> None:
    [source] = find_sources(Image.new(mode, (6, 4), colour))
    assert source.read()[:, 0, 0].tolist() == list(want)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [("bmp", "RGB"), ("tif", "RGB"), ("jpg", "L"), ("jpg", "CMYK"), ("png", "RGBA"), ("png", "P"), ("webp", "RGB")],
)
def test_every_file_is_three_channels(tmp_path: Path, suffix: str, mode: str) -> None:
    [source] = find_sources(write(tmp_path / f"image.{suffix}", mode, None))
    assert source.read().shape == (3, 4, 6)
    assert source.read().dtype == torch.uint8


def rotated(path: Path) -> Path:
    """Stored 6 wide and 4 high, red at the upper left; EXIF says that it was taken with the camera turned."""
    image = Image.new("RGB", (6, 4))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    return path


def test_files_are_turned_upright(tmp_path: Path) -> None:
    [source] = find_sources(rotated(tmp_path / "turned.png"))
    image = source.read()
    assert image.shape == (3, 6, 4)
    assert image[0, 0, 3] == 255


def test_pil_images_are_turned_upright(tmp_path: Path) -> None:
    with Image.open(rotated(tmp_path / "turned.png")) as image:
        [source] = find_sources(image)
        assert source.read().shape == (3, 6, 4)


def test_arrays_may_be_views_backwards() -> None:
    bgr = np.zeros((2, 2, 3), np.uint8)
    bgr[..., 0] = 9
    [source] = find_sources(bgr[..., ::-1])
    assert source.read()[:, 0, 0].tolist() == [0, 0, 9]


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        (np.zeros((4, 6, 3)), "multiply values from 0 to 1 by 255"),
        (np.zeros((4, 6), np.uint8), "repeat a grey image three times"),
        (np.zeros((3, 4, 6), np.uint8), "move the channels to the end"),
        (np.zeros((4, 6, 4), np.uint8), "drop the alpha channel"),
        (np.zeros((2, 4, 6, 3), np.uint8), "give a list of them"),
        (np.zeros((0, 6, 3), np.uint8), "not empty"),
        (torch.zeros(4, 6, 3, dtype=torch.uint8), "move the channels to the front"),
        (torch.zeros(3, 4, 6), "multiply values from 0 to 1 by 255"),
    ],
)
def test_images_of_another_form_say_what_to_do(image: object, remedy: str) -> None:
    [source] = find_sources(image)
    with pytest.raises(ValueError, match=remedy):
        source.read()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "cv2.imread returns that"),
        (7, "cannot predict on a int"),
        ({"image": 1}, "cannot predict on a dict"),
        ([["a.jpg"]], "a list inside a list"),
        ("https://example.org/a.jpg", "download the image"),
        ("nowhere/a.jpg", "nowhere/a.jpg does not exist"),
        ("nowhere/*.jpg", "no image matches the pattern"),
    ],
)
def test_wrong_sources_are_explained(source: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(find_sources(source))


def test_a_folder_without_images_says_what_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    with pytest.raises(ValueError, match=r"holds no image \(.*\.jpg.*give the pattern"):
        list(find_sources(tmp_path))


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.jpg", size=(64, 64))
    path.write_bytes(path.read_bytes()[:300])
    [source] = find_sources(path)
    with pytest.raises(ValueError, match=r"cut\.jpg"):
        source.read()
