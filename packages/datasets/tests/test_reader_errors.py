"""Readers of many files tell what is wrong with each of them, not with the first alone."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from det_datasets.ade20k.make import make_ade20k
from det_datasets.cityscapes.make import make_cityscapes
from det_datasets.dota.make import make_dota
from det_datasets.openimages.make import make_openimages
from det_datasets.panoptic.make import make_coco_panoptic
from det_datasets.voc.make import make_voc
from detkit.data.check import check
from detkit.data.problems import SeveralErrors
from detkit.data.source import find_splits, open_split


def break_voc(folder: Path) -> Iterator[str]:
    paths = sorted((folder / "Annotations").glob("train_*.xml")) or sorted((folder / "Annotations").glob("*.xml"))
    broken, other, strange = [path for path in paths if "<object>" in path.read_text()][:3]
    broken.write_text("<annotation>")
    yield f"{broken} is not XML"
    other.write_text(other.read_text().replace("<xmin>", "<xmin>x", 1))
    yield f"{other}: object 1"
    strange.write_text(strange.read_text().replace("</name>", "fish</name>"))
    yield f"{strange} has an object of class"


def break_dota(folder: Path) -> Iterator[str]:
    first, second, *_ = [path for path in sorted((folder / "train/labelTxt").iterdir()) if path.stat().st_size]
    first.write_text("1 2 3\n")
    yield f"{first}:1: '1 2 3'; x1 y1"
    second.unlink()
    yield f"cannot read the labels {second}"


def break_images(folder: Path, pattern: str) -> Iterator[str]:
    for path in sorted(folder.glob(pattern))[1:4]:
        path.write_bytes(b"no image")
        yield f"cannot read the size of the image {path}"


def break_cityscapes(folder: Path) -> Iterator[str]:
    first, second, *_ = sorted(folder.glob("gtFine/train/*/*_instanceIds.png"))
    first.write_bytes(first.read_bytes()[:60])
    yield f"{first}"
    second.unlink()
    outlines = second.with_name(second.name.replace("instanceIds.png", "polygons.json"))
    outlines.write_text("{}")
    yield f"{outlines} is not one of Cityscapes' files of polygons"


def break_panoptic(folder: Path) -> Iterator[str]:
    file = folder / "annotations" / "panoptic_train2017.json"
    data = json.loads(file.read_text())
    first, second, *others = [entry for entry in data["annotations"] if entry["segments_info"]]
    first["segments_info"][0]["category_id"] = second["segments_info"][0]["category_id"] = 999
    data["annotations"].append(others[0])
    file.write_text(json.dumps(data))
    yield f"{file}: image {others[0]['image_id']} has several annotations"
    for entry in sorted((first, second), key=lambda entry: entry["image_id"]):
        yield f"{file}: segment {entry['segments_info'][0]['id']} of image {entry['image_id']} has category_id 999"


BROKEN: dict[str, tuple[Callable[..., None], Callable[[Path], Iterator[str]]]] = {
    "voc": (make_voc, break_voc),
    "dota": (make_dota, break_dota),
    "openimages": (make_openimages, lambda folder: break_images(folder, "train/*.jpg")),
    "ade20k": (make_ade20k, lambda folder: break_images(folder, "images/training/*.jpg")),
    "cityscapes": (make_cityscapes, break_cityscapes),
    "coco-panoptic": (make_coco_panoptic, break_panoptic),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_broken_file_is_told(tmp_path: Path, name: str) -> None:
    make, damage = BROKEN[name]
    make(tmp_path, images=8, val_images=1, size=48)
    expected = list(damage(tmp_path))
    reports, _ = check({"train": find_splits(tmp_path)["train"]})
    findings = reports["train"].findings
    assert findings.counts == {"annotations": len(expected)}
    for start, place in zip(expected, findings.places["annotations"], strict=True):
        assert start in place.text
    with pytest.raises(ValueError, match=rf"\(the first of {len(expected)} errors; `detkit data check` lists them\)"):
        open_split(tmp_path)


def test_several_errors_can_be_sent_to_other_processes() -> None:
    error = pickle.loads(pickle.dumps(SeveralErrors(["a is broken", "b is broken", "c is broken"])))
    assert str(error) == "a is broken (the first of 3 errors; `detkit data check` lists them)"
    assert error.messages == ("a is broken", "b is broken", "c is broken")
    assert str(SeveralErrors(["a is broken"])) == "a is broken"
