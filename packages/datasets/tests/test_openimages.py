"""Open Images: what is read and written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from det_datasets.annotated import AnnotatedImages
from det_datasets.columns import ColumnsBuilder
from det_datasets.openimages import table
from det_datasets.openimages.dataset import OpenImagesDataset
from det_datasets.openimages.make import OpenImagesWriter, make_openimages
from detkit.data.source import find_splits, open_split
from detkit.interfaces import Dataset
from detkit.structures.categories import Categories
from detkit.testing.dataset import DatasetContract

HEIGHT, WIDTH = 50, 100
HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
FIRST, SECOND, THIRD = "000a1249af2bc5f0", "ffff1249af2bc5f0", "0fff1249af2bc5f0"
CLASSES = "/m/011k07,Tortoise\n/m/0,Container\n/m/0110k,Magpie\n"


def row(image: str = FIRST, label: str = "/m/0", box: str = "0.1,0.5,0.2,0.4", flags: str = "0,0,0,0,0") -> str:
    return f"{image},xclick,{label},1,{box},{flags}"


def write(folder: Path, *rows: str, header: str = HEADER, classes: str = CLASSES, end: str = "\n") -> Path:
    """Two images and files of their boxes and classes."""
    (folder / "train").mkdir(exist_ok=True)
    for name in (FIRST, SECOND):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "train" / f"{name}.jpg")
    (folder / "oidv6-train-annotations-bbox.csv").write_bytes(end.join((header, *rows, "")).encode())
    (folder / "class-descriptions-boxable.csv").write_text(classes)
    return folder


class TestOpenImagesDataset(DatasetContract):
    name = "openimages"

    def make(self, folder: Path) -> Dataset:
        make_openimages(folder, images=8, val_images=1, size=64)
        return open_split(folder)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_boxes(tmp_path: Path, end: str) -> None:
    """Shares of the image's size, in the order of the images; groups are crowds; -1 is not known."""
    rows = (
        row(SECOND, "/m/0110k", "0,1,0.5,1", "-1,-1,-1,-1,-1"),
        row(FIRST, "/m/011k07", "0.1,0.5,0.2,0.4", "1,0,1,0,0"),
        row(FIRST, "/m/0", "1e-1,0.25,0,.5", "0,1,0,1,1"),
    )
    data = OpenImagesDataset(write(tmp_path, *rows, end=end))
    assert [data.image_id(index) for index in range(2)] == [FIRST, SECOND]
    first, second = data[0].target, data[1].target
    assert first["boxes"].tolist() == [[10, 10, 50, 20], [10, 0, 25, 25]]
    assert first["labels"].tolist() == [0, 1]
    assert first["crowd"].tolist() == [True, False]
    assert second["boxes"].tolist() == [[0, 25, 100, 50]]
    assert second["labels"].tolist() == [2]
    assert data.class_ids == ("/m/011k07", "/m/0", "/m/0110k")
    truth = data.ground_truth()
    assert truth["categories"][0] == {"id": 1, "name": "Tortoise", "class_id": "/m/011k07"}
    marks = [(entry["occluded"], entry["truncated"]) for entry in truth["annotations"]]
    assert marks == [(1, 0), (0, 1), (0, 0)]


def test_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that reach over the end of a block, and a last one without newline."""
    rng = np.random.default_rng(0)
    rows = [row((FIRST, SECOND, THIRD)[index % 3], box=f"0.1,0.{rng.integers(2, 999)},0.2,0.4") for index in range(60)]
    folder = write(tmp_path, *rows)
    whole = OpenImagesDataset(folder)
    file = folder / "oidv6-train-annotations-bbox.csv"
    file.write_bytes(file.read_bytes()[:-1])
    for size in (7, 100, 1000):
        monkeypatch.setattr(table, "BLOCK", size)
        other = OpenImagesDataset(folder)
        for index in range(2):
            assert torch.equal(whole[index].target["boxes"], other[index].target["boxes"])
    assert whole.problems["boxes belong to images that are not in the folder: left out"] == 20


def test_numbers_are_those_of_python(tmp_path: Path) -> None:
    texts = ["0.012500", "0.9999999", "1e-05", "0.33333334", "0.1"]
    rows = [row(box=f"0,{text},0,1") for text in texts]
    data = OpenImagesDataset(write(tmp_path, *rows))
    shares = [float(np.float32(text)) for text in texts]
    assert data[0].target["boxes"][:, 2].tolist() == [float(np.float32(100 * share)) for share in shares]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row("000A1249af2bc5f0"), "ImageID is '000A1249af2bc5f0'; an id of 16 hexadecimal digits"),
        (row("12"), "ImageID is '12'"),
        (row(label="/m/01"), "LabelName is '/m/01'; the list of classes does not have it"),
        (row(label=""), "LabelName is ''"),
        (row(box="0.1,x,0.2,0.3"), "XMax is 'x'; a number is needed"),
        (row(box="0.1,0.2,,0.3"), "YMin is ''; a number is needed"),
        (row(box="nan,0.2,0.1,0.3"), "XMin is 'nan'; a finite number"),
        (row(box="0.1,0.2,0.1,30"), "YMax is '30'; a share of the image's size"),
        (f"{row()},7", "14 columns, but the first line names 13"),
        ("", "1 columns, but"),
    ],
)
def test_rows_that_make_no_sense_are_named(tmp_path: Path, bad: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"bbox\.csv:4: {message}"):
        OpenImagesDataset(write(tmp_path, row(), row(), bad, row()))


def test_files_that_make_no_sense_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no column XMin"):
        OpenImagesDataset(write(tmp_path, row(), header=HEADER.replace("XMin", "Left")))
    with pytest.raises(ValueError, match="is no list of classes"):
        OpenImagesDataset(write(tmp_path, classes="Tortoise\n"))
    with pytest.raises(ValueError, match="category name given more than once: Pot"):
        OpenImagesDataset(write(tmp_path, classes="/m/0,Pot\n/m/1,Pot\n"))
    with pytest.raises(ValueError, match=r"there is no file \*validation-annotations-bbox.csv"):
        OpenImagesDataset(tmp_path, "val")
    with pytest.raises(ValueError, match="split is 'validation'; there are train, val, test"):
        OpenImagesDataset(tmp_path, "validation")
    (tmp_path / "train" / f"{FIRST}.jpg").write_text("nothing")
    with pytest.raises(ValueError, match=f"size of the image .*{FIRST}"):
        OpenImagesDataset(write_rows_only(tmp_path))
    for path in (tmp_path / "train").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"there are no images in .*train"):
        OpenImagesDataset(tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "train" / "cat.jpg")
    with pytest.raises(ValueError, match=r"no image in .* is called as in Open Images"):
        OpenImagesDataset(tmp_path)


def write_rows_only(folder: Path) -> Path:
    (folder / "class-descriptions-boxable.csv").write_text(CLASSES)
    (folder / "oidv6-train-annotations-bbox.csv").write_text(f"{HEADER}\n{row()}\n")
    return folder


def test_what_can_be_mended_is_counted(tmp_path: Path) -> None:
    folder = write(tmp_path, row(box="0.5,0.5,0,1"), row(box="-0.5,0.5,0,1"), row(THIRD))
    Image.new("RGB", (9, 9)).save(folder / "train" / "cat.jpg")
    data = OpenImagesDataset(folder)
    assert data[0].target["boxes"].tolist() == [[0, 0, 50, 50]]
    assert (
        dict(data.problems).items()
        >= {
            "boxes reach over the border: cut there": 1,
            "objects have an empty box: left out": 1,
            "boxes belong to images that are not in the folder: left out": 1,
            "images are not called as in Open Images (16 hexadecimal digits): left out": 1,
        }.items()
    )


def test_layouts(tmp_path: Path) -> None:
    """A list of classes with header, files in annotations/, images in images/, several versions."""
    folder = write(tmp_path, row())
    (folder / "annotations").mkdir()
    (folder / "images").mkdir()
    (folder / "train").rename(folder / "images" / "validation")
    (folder / "oidv6-train-annotations-bbox.csv").rename(folder / "annotations" / "validation-annotations-bbox.csv")
    classes = folder / "annotations" / "oidv7-class-descriptions-boxable.csv"
    classes.write_text(f"LabelName,DisplayName\n{CLASSES}")
    (folder / "class-descriptions-boxable.csv").unlink()
    assert list(find_splits(folder)) == ["val"]
    assert open_split(folder, "val").categories.names == ("Tortoise", "Container", "Magpie")
    classes.unlink()
    assert OpenImagesDataset.splits(folder) is None


def test_splits_that_open_images_has_not(tmp_path: Path) -> None:
    data = OpenImagesDataset(write(tmp_path, row()))
    with pytest.raises(ValueError, match="Open Images has no split 'extra'"):
        OpenImagesWriter().write({"extra": data}, tmp_path / "out")


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """To six digits of the image's size; written again, with the ids of images and classes."""
    folder, builder = tmp_path_factory.mktemp("openimages"), ColumnsBuilder()
    names = [f"{data.draw(st.integers(0, 15)):x}{number:015x}" for number in (7, 8)]
    for name in sorted(names):
        builder.image(name, f"{name}.jpg", HEIGHT, WIDTH)
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{name}.jpg")
        for _ in range(data.draw(st.integers(0, 3))):
            left, top = data.draw(st.floats(0, WIDTH - 2)), data.draw(st.floats(0, HEIGHT - 2))
            box = (left, top, data.draw(st.floats(left + 1, WIDTH)), data.draw(st.floats(top + 1, HEIGHT)))
            flags = {"crowd": data.draw(st.booleans()), "marks": data.draw(st.integers(0, 3))}
            builder.object(data.draw(st.integers(0, 1)), box, **flags)
    given = AnnotatedImages(
        source=folder,
        images=folder,
        columns=builder.build(),
        categories=Categories(("Tea, pot", 'the "cup"')),
        problems=Counter(),
    )
    OpenImagesWriter().write({"val": given}, folder / "out")
    found = open_split(folder / "out", "val")
    OpenImagesWriter().write({"val": found}, folder / "again")
    again = open_split(folder / "again", "val")
    assert isinstance(found, OpenImagesDataset)
    assert isinstance(again, OpenImagesDataset)
    assert found.class_ids == again.class_ids == ("/detkit/1", "/detkit/2")
    for each in (found, again):
        assert each.categories.names == given.categories.names
        for index in range(2):
            assert each.image_id(index) == given.image_id(index)
            ours, theirs = each[index].target, given[index].target
            assert np.asarray(ours["boxes"]) == pytest.approx(np.asarray(theirs["boxes"]), abs=3e-4)
            assert torch.equal(ours["labels"], theirs["labels"])
            assert torch.equal(ours["crowd"], theirs["crowd"])
            assert torch.equal(each.marks(index), given.marks(index))
