from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from det_datasets.annotated import AnnotatedImages
from det_datasets.coco.write import CocoWriter
from det_datasets.shapes.make import make_shapes
from detkit.cli.main import main
from detkit.data.convert import convert
from detkit.data.source import find_splits, open_split
from detkit.interfaces import Dataset, DatasetWriter


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    make_shapes(tmp_path / "shapes", images=6, val_images=2, size=64, background_share=0.2, crowd_share=0.4)
    return tmp_path / "shapes"


def written(source: Path, out: Path, *options: str) -> Path:
    assert main(["data", "convert", str(source), str(out), *options]) == 0
    return out


def test_coco_files_are_the_same_again(shapes: Path, tmp_path: Path) -> None:
    out = written(shapes, tmp_path / "out", "--format", "coco")
    for split in ("train", "val"):
        before, after = (json.loads((each / split / "annotations.json").read_text()) for each in (shapes, out))
        assert after == before
        for path in (shapes / split / "images").iterdir():
            assert (out / split / "images" / path.name).read_bytes() == path.read_bytes()


def test_keypoints_and_labels_of_pixels_are_the_same_again(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", images=3, val_images=1, size=64, keypoints=True, semantic=True)
    out = written(tmp_path / "shapes", tmp_path / "out", "--format", "coco")
    before, after = open_split(tmp_path / "shapes"), open_split(out)
    assert after.categories == before.categories
    assert after.semantic_categories is not None
    assert before.semantic_categories is not None
    assert after.semantic_categories.names == before.semantic_categories.names
    for index in range(3):
        for key in ("keypoints", "semantic", "boxes"):
            values = [each[index].target[key].as_subclass(Tensor) for each in (before, after)]
            assert torch.equal(*values)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("webdataset", [], 1e-4),
        ("yolo", ["task=detect"], 1e-3),
        ("voc", [], 1.0),
        ("openimages", [], 1e-3),
        ("objects365", [], 1e-3),
        ("lvis", [], 1e-3),
    ],
)
def test_there_and_back_again(shapes: Path, tmp_path: Path, name: str, options: list[str], tolerance: float) -> None:
    there = written(shapes, tmp_path / "there", "--format", name, *options)
    back = written(there, tmp_path / "back", "--format", "coco")
    before, after = _boxes(open_split(shapes)), _boxes(open_split(back))
    assert before.keys() == after.keys()
    for key, boxes in before.items():
        assert (boxes[:, None] - after[key]).abs().amax(-1).amin(1).max() <= tolerance


def _boxes(dataset: Dataset) -> dict[Any, Tensor]:
    """(size of the image, class) -> boxes (N, 4) but those of crowds."""
    found: dict[Any, list[Tensor]] = {}
    for index in range(len(dataset)):
        target = dataset.target(index)
        names = [dataset.categories.names[label] for label in target["labels"].tolist()]
        for name, box, crowd in zip(names, target["boxes"].as_subclass(Tensor), target["crowd"], strict=True):
            if not crowd:
                found.setdefault((dataset.size(index), name), []).append(box)
    return {key: torch.stack(boxes) for key, boxes in found.items()}


def test_names_of_images_survive_as_numbers_and_names(shapes: Path, tmp_path: Path) -> None:
    voc = written(shapes, tmp_path / "voc", "--format", "voc")
    coco = written(voc, tmp_path / "coco", "--format", "coco")
    names = [open_split(voc).image_id(index) for index in range(6)]
    images = json.loads((coco / "train" / "annotations.json").read_text())["images"]
    assert [image["name"] for image in images] == names
    assert sorted(image["id"] for image in images) == [1, 2, 3, 4, 5, 6]


def test_what_a_format_cannot_hold_is_counted(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(shapes, tmp_path / "out", "--format", "objects365")
    dataset = open_split(shapes)
    masks = sum(int(dataset.target(index)["has_mask"].sum()) for index in range(len(dataset)))
    assert f"WARNING train has {masks} masks, what was written 0" in capsys.readouterr().err


def differences(source: Path, out: Path, *options: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """What `convert` says of train."""
    capsys.readouterr()
    written(source, out, *options)
    lines = capsys.readouterr().err.splitlines()
    return {
        line.replace("what was written ", "") for line in lines if line.startswith(("WARNING train", "note: train"))
    }


def edited(shapes: Path, **changes: Any) -> dict[str, Any]:
    """Change the first object of train, and its image; the file."""
    file = shapes / "train" / "annotations.json"
    data: dict[str, Any] = json.loads(file.read_text())
    entry = next(each for each in data["annotations"] if not each["iscrowd"])
    entry |= changes
    image = next(each for each in data["images"] if each["id"] == entry["image_id"])
    image["camera"] = "left"
    file.write_text(json.dumps(data))
    return data


def test_what_yolo_cannot_hold(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = edited(shapes, ignore=1, attributes={"colour": "red"})
    objects = len(data["annotations"])
    crowds = sum(entry["iscrowd"] for entry in data["annotations"])
    found = differences(shapes, tmp_path / "out", "--format", "yolo", "task=segment", capsys=capsys)
    assert found == {
        f"WARNING train has {objects} objects, {objects - crowds}",
        f"WARNING train has {crowds} crowds, 0",
        f"WARNING train has {objects} masks, {objects - crowds}",
        "WARNING train has 1 difficult objects, 0",
        "WARNING train has 1 objects with `attributes`, 0",
        "WARNING train has 1 images with `camera`, 0",
        "WARNING train has 5 classes with `supercategory`, 0",
    }


def test_crowds_become_difficult_objects_in_voc(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crowds = sum(entry["iscrowd"] for entry in edited(shapes, ignore=1, truncated=1)["annotations"])
    found = differences(shapes, tmp_path / "out", "--format", "voc", capsys=capsys)
    assert f"WARNING train has {crowds} crowds, 0" in found
    assert f"note: train has 1 difficult objects, {1 + crowds}" in found
    assert "WARNING train has 1 truncated objects, 0" in found


def test_rotated_boxes_that_are_made_and_names_that_change(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shapes / "train" / "annotations.json"
    data = json.loads(file.read_text())
    data["categories"][0]["name"] = "round thing"
    file.write_text(json.dumps(data))
    classes, objects = len(data["categories"]), len(data["annotations"])
    options = ("--format", "dota", "--splits", "train")
    found = differences(shapes, tmp_path / "out", *options, capsys=capsys)
    assert f"note: train has 0 rotated boxes, {objects}" in found
    assert f"WARNING train has {classes} classes of that name, {classes - 1}" in found


def test_lists_of_categories_of_lvis(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lvis = written(shapes, tmp_path / "lvis", "--format", "lvis")
    found = differences(lvis, tmp_path / "voc", "--format", "voc", capsys=capsys)
    assert "WARNING train has 6 images with `neg_category_ids`, 0" in found
    found = differences(lvis, tmp_path / "coco", "--format", "coco", capsys=capsys)
    assert found == set()


def test_boxes_of_masks_are_counted_by_the_reader(shapes: Path) -> None:
    file = shapes / "train" / "annotations.json"
    data = json.loads(file.read_text())
    del data["annotations"][0]["bbox"]
    file.write_text(json.dumps(data))
    assert open_split(shapes).problems["have no box: that of their mask is taken"] == 1


def test_keypoints_of_other_formats_keep_their_names(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", images=3, val_images=1, size=64, keypoints=True)
    yolo = written(tmp_path / "shapes", tmp_path / "yolo", "--format", "yolo")
    before, after = open_split(yolo), open_split(written(yolo, tmp_path / "coco", "--format", "coco"))
    assert before.categories.keypoints is not None
    assert after.categories.keypoints == before.categories.keypoints


def test_flags_of_a_mixture_are_those_of_its_datasets(shapes: Path, tmp_path: Path) -> None:
    voc = written(shapes, tmp_path / "voc", "--format", "voc")
    (tmp_path / "mixed.yaml").write_text("train: [{data: voc}, {data: voc, member: again}]")
    dataset = open_split(voc)
    assert isinstance(dataset, AnnotatedImages)
    difficult = sum(int(dataset.difficult(index).sum()) for index in range(len(dataset)))
    again = open_split(written(tmp_path / "mixed.yaml", tmp_path / "again", "--format", "voc"))
    assert isinstance(again, AnnotatedImages)
    assert sum(int(again.difficult(index).sum()) for index in range(len(again))) == 2 * difficult > 0


@pytest.mark.parametrize(("how", "linked"), [("link", 2), ("symlink", 1), ("copy", 1)])
def test_images_may_be_links(shapes: Path, tmp_path: Path, how: str, linked: int) -> None:
    out = written(shapes, tmp_path / "out", "--format", "coco", "--images", how)
    image = next((out / "train" / "images").iterdir())
    assert image.is_symlink() == (how == "symlink")
    assert image.lstat().st_nlink == linked
    assert len(open_split(out)[0].target["labels"]) >= 0


def test_images_may_stay_where_they_are(shapes: Path, tmp_path: Path) -> None:
    out = written(shapes, tmp_path / "out", "--format", "coco", "--images", "keep")
    assert not list(out.rglob("*.jpg"))
    before, after = open_split(shapes), open_split(out / "data.yaml")
    assert [after.image_id(index) for index in range(6)] == [before.image_id(index) for index in range(6)]
    assert torch.equal(after[3].image, before[3].image)


def test_files_in_folders_keep_them_and_names_do_not_clash(shapes: Path, tmp_path: Path) -> None:
    file, images = shapes / "train" / "annotations.json", shapes / "train" / "images"
    data = json.loads(file.read_text())
    for number, image in enumerate(data["images"]):
        (images / f"camera{number % 2}").mkdir(exist_ok=True)
        path = images / f"camera{number % 2}" / f"{number // 2}.jpg"
        (images / image["file_name"]).rename(path)
        image["file_name"] = str(path if number == 5 else path.relative_to(images))
    file.write_text(json.dumps(data))
    out = written(shapes, tmp_path / "out", "--format", "coco")
    names = sorted(path.relative_to(out / "train" / "images").as_posix() for path in out.glob("train/**/*.jpg"))
    assert names == ["2.jpg", "camera0/0.jpg", "camera0/1.jpg", "camera0/2.jpg", "camera1/0.jpg", "camera1/1.jpg"]
    assert len(open_split(out)) == 6


@pytest.mark.parametrize("name", ["coco", "voc", "yolo", "dota", "webdataset", "lvis", "objects365", "openimages"])
def test_names_with_spaces_and_dots(shapes: Path, tmp_path: Path, name: str) -> None:
    file = shapes / "train" / "annotations.json"
    data = json.loads(file.read_text())
    for number, image in enumerate(data["images"]):
        path = shapes / "train" / "images" / image["file_name"]
        image["file_name"] = f"späte Aufnahme.{number}.jpg"
        path.rename(path.with_name(image["file_name"]))
    file.write_text(json.dumps(data))
    out = open_split(written(shapes, tmp_path / "out of it", "--format", name))
    assert len({out[index].info["path"] for index in range(len(out))}) == 6


def test_only_some_splits(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = written(shapes, tmp_path / "out", "--format", "coco", "--splits", "val")
    assert list(find_splits(out)) == ["val"]
    assert main(["data", "convert", str(shapes), str(tmp_path / "x"), "--format", "coco", "--splits", "dev"]) == 2
    assert "has no split 'dev'; it has: train, val" in capsys.readouterr().err


class Dying(DatasetWriter):
    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        CocoWriter().write(splits, folder)
        raise KeyboardInterrupt


def test_an_interrupted_convert_leaves_nothing(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "parent" / "out"
    with pytest.raises(KeyboardInterrupt):
        convert({"train": open_split(shapes)}, Dying(), out)
    assert list(out.parent.iterdir()) == []


def test_a_folder_that_is_not_empty_is_refused(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert main(["data", "convert", str(shapes), str(tmp_path / "out"), "--format", "coco"]) == 2
    assert "there is something at" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_formats_are_listed_and_their_options_checked(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["data", "convert", str(shapes), out]) == 2
    assert "give --format NAME; there are:" in capsys.readouterr().err
    assert main(["data", "convert", str(shapes), out, "--format", "voc", "--images", "link"]) == 2
    assert "leave out --images" in capsys.readouterr().err
    assert main(["data", "convert", str(shapes), out, "--format", "lvis", "version=v9"]) == 2
    assert "wanted one of 'v1', 'v0.5'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_split_divides_without_copying(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "parts"
    parts = ["--split", "train", "--parts", "train=0.5,dev=0.5"]
    assert main(["data", "split", str(shapes), str(out), *parts]) == 0
    assert "dev" in capsys.readouterr().out
    assert not list(out.rglob("*.jpg"))
    whole = open_split(shapes)
    names = {name: split.open() for name, split in find_splits(out / "data.yaml").items()}
    ids = [dataset.image_id(index) for dataset in names.values() for index in range(len(dataset))]
    assert sorted(ids) == [whole.image_id(index) for index in range(len(whole))]
    again = tmp_path / "again"
    assert main(["data", "split", str(shapes), str(again), *parts]) == 0
    for file in ("train.json", "dev.json"):
        assert (again / "annotations" / file).read_bytes() == (out / "annotations" / file).read_bytes()


@pytest.mark.parametrize("rule", [r"^\d{5}([0-3])", "video"])
def test_split_keeps_groups_together(shapes: Path, tmp_path: Path, rule: str) -> None:
    file = shapes / "train" / "annotations.json"
    data = json.loads(file.read_text())
    for image in data["images"]:
        if image["id"] > 3:
            (shapes / "train" / "images" / image["file_name"]).rename(
                shapes / "train" / "images" / f"{image['id'] - 3:06}b.jpg"
            )
            image["file_name"] = f"{image['id'] - 3:06}b.jpg"
        image["video"] = (image["id"] - 1) % 3
    file.write_text(json.dumps(data))
    options = ["--split", "train", "--parts", "train=67,val=33", "--group-by", rule]
    assert main(["data", "split", str(shapes), str(tmp_path / "out"), *options]) == 0
    groups = [
        {(split.open().image_id(index) - 1) % 3 for index in range(len(split.open()))}  # type: ignore[operator]
        for split in find_splits(tmp_path / "out" / "data.yaml").values()
    ]
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "has the splits train, val; choose what to divide with --split"),
        (["--split", "train", "--parts", "a=1,b=2"], "the shares sum to 3"),
        (["--split", "train", "--parts", "half"], "NAME=SHARE,NAME=SHARE is needed"),
        (["--split", "train", "--group-by", "("], "nor a regular expression"),
        (["--split", "train", "--group-by", "scene"], "does not match the name 000001.jpg"),
        (["--split", "train", "--group-by", "jpg"], "all images are one group"),
        (["--split", "train", "--parts", "a=.98,b=.01,c=.01"], "nothing is left for"),
    ],
)
def test_split_says_what_it_needs(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["data", "split", str(shapes), str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
