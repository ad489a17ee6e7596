"""YOLO's text files: what is read and written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from det_datasets.annotated import AnnotatedImages
from det_datasets.columns import ColumnsBuilder
from det_datasets.headers import read_sizes
from det_datasets.quads import corners, rotated_boxes
from det_datasets.yolo.dataset import YoloDataset
from det_datasets.yolo.make import YoloWriter, make_yolo
from detkit.data.source import find_splits, open_split
from detkit.structures.categories import Categories
from detkit.structures.keypoints import Keypoints

HEIGHT, WIDTH = 50, 100


def write(folder: Path, labels: dict[str, str | None], config: object = None, *, images: str = "images/train") -> Path:
    """Images with these labels, and data.yaml."""
    for name, text in labels.items():
        path = folder / images / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (9, 99, 200)).save(path)
        if text is not None:
            label = Path(f"{folder}/{f'{images}/'.replace('images/', 'labels/', 1)}{name}.txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    tree = {"train": images, "names": ["cup", "pot"], **(config if isinstance(config, dict) else {})}
    (folder / "data.yaml").write_text(yaml.safe_dump(tree))
    return folder


def test_boxes(tmp_path: Path) -> None:
    """Shares of the image's size, the class from 0; an image without text file, or with an empty one, has no
    objects."""
    data = YoloDataset(write(tmp_path, {"7": "1 0.5 0.5 0.2 0.4\n\n0 .1 .2 .2 .4\n", "8": None, "9": ""}))
    assert data.task == "detect"
    assert [data.image_id(index) for index in range(3)] == ["7", "8", "9"]
    assert data[0].target["boxes"].tolist() == [[40, 15, 60, 35], [0, 0, 20, 20]]
    assert data.labels(0).tolist() == [1, 0]
    assert data.categories.ids == (0, 1)
    assert [entry["category_id"] for entry in data.ground_truth()["annotations"]] == [1, 0]
    assert data.problems["images have no text file: they have no objects"] == 1
    assert len(data.labels(1)) == len(data.labels(2)) == 0


def test_the_yaml_file_itself_is_a_source_of_data(tmp_path: Path) -> None:
    folder = write(tmp_path, {"7": "1 0.5 0.5 0.2 0.4"})
    (folder / "data.yaml").rename(folder / "my cups.yaml")
    assert open_split(folder / "my cups.yaml").labels(0).tolist() == [1]


def test_outlines_with_boxes_between_them(tmp_path: Path) -> None:
    text = "0 0.1 0.1 0.3 0.1 0.3 0.5\n1 0.5 0.5 0.2 0.4\n0 .5 .5 .6 .5 .6 .6 .5 .6"
    data = YoloDataset(write(tmp_path, {"a": text}))
    target = data[0].target
    assert data.task == "segment"
    assert target["has_mask"].tolist() == [True, False, True]
    assert target["boxes"].tolist() == [[10, 5, 30, 25], [40, 15, 60, 35], [50, 25, 60, 30]]
    assert target["polygons"].rings()[0][0].tolist() == [[10, 5], [30, 5], [30, 25]]
    assert not YoloDataset(tmp_path, task="detect").has_masks


def test_keypoints(tmp_path: Path) -> None:
    text = "0 0.5 0.5 0.2 0.4 0.45 0.5 2 0 0 0 0.5 0.6 1"
    config = {"kpt_shape": [3, 3], "flip_idx": [0, 2, 1], "kpt_names": {0: ["top", "left", "right"]}}
    data = YoloDataset(write(tmp_path / "3", {"a": text}, config), sigmas=[0.1, 0.2, 0.3])
    assert data[0].target["keypoints"].tolist() == [[[45, 25, 2], [0, 0, 0], [50, 30, 1]]]
    known = data.categories.keypoints
    assert known is not None
    assert (known.names, known.swaps, known.sigmas) == (("top", "left", "right"), ((1, 2),), (0.1, 0.2, 0.3))
    flat = YoloDataset(write(tmp_path / "2", {"a": "0 0.5 0.5 0.2 0.4 0.45 0.5 0 0 0.5 0.6"}, {"kpt_shape": [3, 2]}))
    assert flat[0].target["keypoints"].tolist() == [[[45, 25, 2], [0, 0, 0], [50, 30, 2]]]
    order = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    person = {"kpt_shape": [17, 3], "flip_idx": order}
    folder = write(tmp_path / "17", {"a": f"0 .5 .5 .2 .4{' .5 .5 2' * 17}"}, person)
    persons = YoloDataset(folder).categories.keypoints
    assert persons is not None
    assert persons.names[0] == "nose"
    assert len(persons.sigmas) == 17


TURNED = "0 0.5 0.1 0.7 0.5 0.5 0.9 0.3 0.5"  # a square on its corner, in 100 x 50 pixels
UPRIGHT = "0 0.1 0.1 0.3 0.1 0.3 0.5 0.1 0.5"
TRAPEZE = "0 0.1 0.1 0.9 0.1 0.6 0.5 0.3 0.5"


def test_oriented_boxes(tmp_path: Path) -> None:
    data = YoloDataset(write(tmp_path, {"a": f"{TURNED}\n{UPRIGHT}"}))
    assert data.task == "obb"
    assert data.rotated
    box, other = np.asarray(data[0].target["boxes"])
    assert box[:4] == pytest.approx([50, 25, 800**0.5, 800**0.5])
    assert abs(box[4]) == pytest.approx(45, abs=1e-4)
    assert other == pytest.approx([20, 15, 20, 20, 0])


def test_eight_numbers_may_be_either(tmp_path: Path) -> None:
    """Where all is upright, or much is no rectangle, the data must say what it is."""
    for number, text in enumerate((UPRIGHT, f"{TURNED}\n{TRAPEZE}")):
        folder = write(tmp_path / str(number), {"a": text})
        with pytest.raises(ValueError, match=r"data\.yaml: all lines have eight numbers.*`task: obb` or"):
            YoloDataset(folder)
        assert YoloDataset(folder, task="obb").rotated
        assert YoloDataset(folder, task="segment").has_masks
        tree = yaml.safe_load((folder / "data.yaml").read_text())
        (folder / "data.yaml").write_text(yaml.safe_dump({**tree, "task": "segment"}))
        assert YoloDataset(folder).has_masks
    assert YoloDataset(write(tmp_path / "mixed", {"a": f"{UPRIGHT}\n0 .5 .5 .1 .1"})).task == "segment"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.2 0.2\n0 0.5 x 0.1 0.1", r"a\.txt:2: '0 0.5 x 0.1 0.1' is not a line of numbers"),
        ("\n0 0.5 nan 0.1 0.1", r"a\.txt:2: nan is not a finite number"),
        ("0 .5 .5 .1 .1\n0 .5 .5 .1 inf", r"a\.txt:2: inf is not a finite"),
        ("2 0.5 0.5 0.1 0.1", r"a\.txt:1: class 2; there are classes 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5"),
        ("0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1 0.9", r"a\.txt:2: 5 numbers after the class; a box has four"),
        ("0 0.5", "1 numbers after the class"),
        ("0", "0 numbers after the class"),
        ("0 50 20 10 10", r"a\.txt:1: coordinates must be shares .* seem to be pixels"),
        ("0 50 20 10 10 5 5", "seem to be pixels"),
    ],
)
def test_lines_that_make_no_sense_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        YoloDataset(write(tmp_path, {"a": text}))


@pytest.mark.parametrize(
    ("text", "config", "task", "message"),
    [
        ("0 .5 .5 .1 .1", {}, "obb", "an oriented box has eight"),
        ("0 .5 .5 .1 .1", {}, "pose", "does not say how many keypoints"),
        ("0 .5 .5 .1 .1", {"kpt_shape": [2, 3]}, "auto", r"2 keypoints of 3 numbers \(kpt_shape\) are 10"),
        ("0 .5 .5 .1 .1 .5 .5 7", {"kpt_shape": [1, 3]}, "auto", "visibility of a keypoint is 0, 1 or 2"),
        ("", {"kpt_shape": [2]}, "auto", r"kpt_shape is \[2\]"),
        ("", {"kpt_shape": [2, 3], "flip_idx": [1, 1]}, "auto", "flip_idx"),
        ("", {"kpt_shape": [2, 3], "flip_idx": [0]}, "auto", "flip_idx has 1 entries"),
        ("", {"names": {0: "a", 2: "b"}}, "auto", "0, 1, 2, ... are needed"),
        ("", {"names": ["a", "a"]}, "auto", "category name given more than once: a"),
        ("", {"nc": 3}, "auto", "nc is 3, but there are 2 names"),
        ("", {"task": "classify"}, "auto", "task is 'classify'"),
        ("", {}, "boxes", "task is 'boxes'; it can be auto, detect"),
        ("", {"train": "nowhere"}, "auto", "there is none of nowhere in"),
        ("", {"train": ["images/train", "nowhere"]}, "auto", "train lists nowhere"),
        (None, {}, "auto", "no image has labels; .*labels/train/a.txt"),
    ],
)
def test_datasets_that_make_no_sense_are_named(
    tmp_path: Path, text: str | None, config: dict[str, object], task: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        YoloDataset(write(tmp_path, {"a": text}, config), task=task)


def test_what_can_be_mended_is_counted(tmp_path: Path) -> None:
    text = "0 0.05 0.5 0.2 0.2\n0 0.05 0.5 0.2 0.2\n1 0.5 0.5 0 0.2\n"
    data = YoloDataset(write(tmp_path, {"a": text}))
    assert data[0].target["boxes"].tolist() == [[0, 20, 15, 30]]
    assert data.problems["boxes reach over the border: cut there"] == 1
    assert data.problems["objects have an empty box: left out"] == 1
    assert data.problems["lines repeat another one of the same image: left out"] == 1


def test_splits_of_a_yaml_file(tmp_path: Path) -> None:
    """Folders, lists of folders, text files that list images, names by number, `path` as Ultralytics has it, or
    Roboflow's way up and back."""
    folder = tmp_path / "sets" / "cups"
    for name in ("a", "b", "c"):
        write(folder, {name: "0 .5 .5 .1 .1"}, images=f"images/{name}")
    (folder / "val.txt").write_text(f"./images/c/c.jpg\n{folder}/images/a/a.jpg\n")
    (folder / "test.txt").write_text("images/b/b.jpg\nimages/b/b.jpg\n")
    tree = {"path": "cups", "train": ["images/a", "images/b"], "val": "val.txt", "test": "../test.txt"}
    text = yaml.safe_dump({**tree, "names": {1: "pot", 0: "cup"}, "download": "import os; os.abort()"})
    (folder / "data.yaml").write_text(text)
    (folder / "args.yaml").write_text("names: [1")
    splits = {name: split.open() for name, split in find_splits(folder).items()}
    ids = {name: [split.image_id(index) for index in range(len(split))] for name, split in splits.items()}
    assert ids == {"train": ["a", "b"], "val": ["c", "a"], "test": ["b"]}
    assert splits["val"].categories.names == ("cup", "pot")
    assert YoloDataset(folder / "data.yaml", "val").image_id(0) == "c"
    with pytest.raises(ValueError, match="has no split 'extra' whose images exist; it has: train, val, test"):
        YoloDataset(folder, "extra")
    with pytest.raises(ValueError, match="is no dataset in YOLO's format"):
        YoloDataset(tmp_path)


@pytest.mark.parametrize("images", ["images/train", "train/images", "images", "."])
def test_darknets_folders(tmp_path: Path, images: str) -> None:
    write(tmp_path, {"a": "1 .5 .5 .1 .1"}, images=images)
    (tmp_path / "data.yaml").unlink()
    assert YoloDataset.splits(tmp_path) is None
    (tmp_path / "classes.txt").write_text("cup\npot\n")
    data = open_split(tmp_path)
    assert isinstance(data, YoloDataset)
    assert data.labels(0).tolist() == [1]


def test_names_that_repeat_are_paths(tmp_path: Path) -> None:
    write(tmp_path, {"x/a": "0 .5 .5 .1 .1", "y/a": "0 .5 .5 .1 .1"})
    data = YoloDataset(tmp_path)
    assert [data.image_id(index) for index in range(2)] == ["images/train/x/a", "images/train/y/a"]


def test_sizes_are_those_of_turned_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    folder = write(tmp_path, {"a": "0 .5 .5 .2 .2"})
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "images" / "train" / "a.jpg", exif=exif)
    data = YoloDataset(folder)
    assert data.size(0) == (WIDTH, HEIGHT)
    assert tuple(data[0].image.shape) == (3, WIDTH, HEIGHT)
    (folder / "images" / "train" / "b.png").write_text("nothing")
    with pytest.raises(ValueError, match=r"size of the image .*b\.png"):
        read_sizes([folder / "images" / "train" / "b.png"])


def of_random_objects(folder: Path, data: st.DataObject, task: str) -> AnnotatedImages:
    builder = ColumnsBuilder(rotated=task == "obb", keypoints=2 if task == "pose" else 0)
    share = st.floats(0, 1, width=32)
    for number in range(2):
        builder.image(f"i{number}", f"i{number}.png", HEIGHT, WIDTH)
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"i{number}.png")
        for row in range(data.draw(st.integers(1 - number, 3))):
            left, top = (WIDTH - 6) * data.draw(share), (HEIGHT - 6) * data.draw(share)
            right, bottom = left + 2 + row + data.draw(share), top + 2 + data.draw(share)
            box = [left, top, right, bottom]
            more: dict[str, list[object]] = {}
            if task == "obb":
                box = [left, top, 8 + row, 3 + data.draw(share), data.draw(st.integers(-89, 89))]
            if task == "segment":
                more["rings"] = [[left, top, right, top, right, bottom, (left + right) / 2, bottom]]
            if task == "pose":
                more["keypoints"] = [left, bottom, data.draw(st.integers(1, 2)), 0, 0, 0]
            builder.object(data.draw(st.integers(0, 1)), box, **more)
    names = ("cup", "tea: pot")
    keypoints = Keypoints(("left", "right"), swaps=((0, 1),)) if task == "pose" else None
    return AnnotatedImages(
        source=folder,
        images=folder,
        columns=builder.build(),
        categories=Categories(names, keypoints=keypoints),
        problems=Counter(),
    )


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, task: str, data: st.DataObject
) -> None:
    """To six digits of the image's size."""
    folder = tmp_path_factory.mktemp("yolo")
    given = of_random_objects(folder, data, task)
    YoloWriter().write({"val": given}, folder / "out")
    found = open_split(folder / "out", "val")
    assert isinstance(found, YoloDataset)
    assert (found.task, found.rotated) == (task, task == "obb")
    assert found.categories.names == given.categories.names
    assert found.categories.keypoints == given.categories.keypoints
    for index in range(len(given)):
        assert found.image_id(index) == given.image_id(index)
        ours, theirs = found[index].target, given[index].target
        assert torch.equal(found[index].image, given[index].image)
        assert torch.equal(ours["labels"], theirs["labels"])
        boxes = [np.asarray(target["boxes"], float) for target in (ours, theirs)]
        if task == "obb":
            boxes = [np.sort(corners(each), axis=1) for each in boxes]
        assert boxes[0] == pytest.approx(boxes[1], abs=1e-2 if task == "obb" else 2e-4)
        for key in {"polygons", "keypoints"} & theirs.keys():
            assert np.asarray(ours[key]) == pytest.approx(np.asarray(theirs[key]), abs=2e-4)


def test_bitmaps_and_parts_are_written_as_outlines(tmp_path: Path) -> None:
    """Of the shapes some have holes or several parts; masks stay what they were, but for holes."""
    make_yolo(tmp_path, images=6, val_images=1, size=64)
    splits = {name: split.open() for name, split in find_splits(tmp_path).items()}
    assert splits["train"].has_masks
    builder = ColumnsBuilder()
    builder.image("a", "a.png", HEIGHT, WIDTH)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    parts = [[10, 10, 20, 10, 20, 20, 10, 20], [30, 10, 40, 10, 40, 20, 30, 20], [50, 10, 60, 10, 60, 30]]
    builder.object(0, (10, 10, 60, 30), rings=parts)
    builder.object(0, (0, 0, 9, 9), crowd=True)
    given = AnnotatedImages(
        source=tmp_path, images=tmp_path, columns=builder.build(), categories=Categories(("x",)), problems=Counter()
    )
    YoloWriter().write({"train": given}, tmp_path / "out")
    ours, theirs = (each[0].target["polygons"].rasterize() for each in (open_split(tmp_path / "out"), given))
    assert torch.equal(ours[0], theirs[0])
    assert len(ours) == 1


def test_the_least_box_around_corners() -> None:
    """Against boxes at many angles."""
    rng = np.random.default_rng(0)
    quads = rng.uniform(0, 100, (200, 4, 2))
    quads[:20, 3] = quads[:20, 0]  # triangles
    found = rotated_boxes(quads)
    angles = np.radians(np.linspace(0, 90, 721))
    turned = np.einsum("qpc,acd->qapd", quads, [[(np.cos(a), -np.sin(a)), (np.sin(a), np.cos(a))] for a in angles])
    areas = (turned.max(axis=2) - turned.min(axis=2)).prod(axis=-1).min(axis=1)
    assert (found[:, 2] * found[:, 3] <= areas + 1e-6).all()
    assert (found[:, 2] >= found[:, 3]).all()
    assert ((found[:, 4] >= -90) & (found[:, 4] < 90)).all()
    edges = np.roll(corners(found), -1, axis=1) - corners(found)
    inside = np.einsum("ncx,nqcx->nqc", edges, quads[:, :, None] - corners(found)[:, None])
    assert (inside >= -1e-6 * 100).all()
    assert rotated_boxes(np.zeros((1, 4, 2))).tolist() == [[0, 0, 0, 0, 0]]


def test_a_box_that_is_turned_counter_clockwise() -> None:
    """y points down: with a positive angle its right end is higher."""
    box = np.array([[50.0, 50.0, 20.0, 10.0, 30.0]])
    right = (corners(box)[0, 1] + corners(box)[0, 2]) / 2
    assert right == pytest.approx([50 + 10 * 0.75**0.5, 50 - 5])
    assert rotated_boxes(corners(box)) == pytest.approx(box)
