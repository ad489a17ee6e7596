from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detkit.data import image as reading
from detkit.data.image import read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture(params=["torchcodec", "pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to decode."""
    if request.param == "pillow":
        monkeypatch.setattr(reading, "_decoder", lambda: reading._decode_with_pillow)
    else:
        pytest.importorskip("torchcodec")
    return request.param


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_reads_jpeg_of_any_colours(tmp_path: Path, decoder: str, mode: str) -> None:
    path = tmp_path / "image.jpg"
    Image.fromarray(PIXELS).convert(mode).save(path)
    expected = np.asarray(Image.open(path).convert("RGB"))
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
def test_reads_png_of_any_colours(tmp_path: Path, decoder: str, mode: str) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).convert("L").convert(mode).save(path)
    assert read_image(path).shape == (3, 20, 30)


def test_reads_16_bits(tmp_path: Path, decoder: str) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(path)
    assert np.abs(read_image(path).numpy()[0].astype(int) - PIXELS[..., 0]).max() <= 1


def test_turns_as_exif_says(tmp_path: Path, decoder: str) -> None:
    path = rotated_jpeg(tmp_path)
    assert read_image(path).shape == (3, 30, 20)


def test_leaves_pixels_as_stored_where_the_annotations_do(tmp_path: Path, decoder: str) -> None:
    path = rotated_jpeg(tmp_path)
    assert read_image(path, (20, 30)).shape == (3, 20, 30)
    assert read_image(path, (30, 20)).shape == (3, 30, 20)


def rotated_jpeg(folder: Path) -> Path:
    path = folder / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(path, exif=exif)
    return path


def test_another_size_than_annotated_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    with pytest.raises(ValueError, match=r"image\.png is 30 x 20 pixels, but its annotations say 40 x 20"):
        read_image(path, (20, 40))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jpg", None, "No such file"),
        ("cut.jpg", "cut", "truncated"),
        ("text.jpg", b"no image", ""),
        ("empty.jpg", b"", ""),
    ],
)
def test_unreadable_files_are_named(
    tmp_path: Path, decoder: str, name: str, content: bytes | str | None, message: str
) -> None:
    path = tmp_path / name
    if content == "cut":
        Image.fromarray(PIXELS).save(path)
        path.write_bytes(path.read_bytes()[:-300])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"cannot read the image .*{name}.*{message}"):
        read_image(path)


def test_images_of_the_size_of_aerial_ones_are_no_attack(tmp_path: Path) -> None:
    """DOTA's largest are 29,200 pixels wide; the sizes of images are read from their headers."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 29_200, 27_620, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT")
    parts = (struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks)
    (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with Image.open(tmp_path / "large.png") as image:
        assert image.size == (29_200, 27_620)
