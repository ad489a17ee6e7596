"""`detkit data check` of formats that are close to COCO's: it tells everything that is wrong, as of COCO files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from det_datasets.lvis.make import make_lvis
from det_datasets.objects365.make import make_objects365
from detkit.cli.main import main
from detkit.data.check import check
from detkit.data.source import Split, find_splits, open_split

FILES = {"lvis": "lvis/lvis_v1_train.json", "objects365": "annotations/zhiyuan_objv2_train.json"}
MAKERS: dict[str, Callable[..., None]] = {"lvis": make_lvis, "objects365": make_objects365}


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Path]:
    """A dataset in a format."""

    def make(name: str) -> Path:
        MAKERS[name](tmp_path / name, images=8, val_images=1, size=64)
        return tmp_path / name

    return make


def contents(folder: Path, name: str) -> Any:
    return json.loads((folder / FILES[name]).read_text())


def found(folder: Path, name: str, data: Any, **arguments: Any) -> dict[str, int]:
    """How often what is wrong, when the training file holds this; without what a few images lack."""
    (folder / FILES[name]).write_text(json.dumps(data))
    split = find_splits(folder)["train"]
    assert isinstance(split, Split)
    reports, _ = check({"train": Split(name, {**split.arguments, **arguments})})
    counts = reports["train"].findings.counts
    assert reports["train"].reader == name
    return {code: count for code, count in counts.items() if code not in ("category-unused", "box-tiny", "box-aside")}


def texts(folder: Path) -> dict[str, list[str]]:
    """The places of each problem of the training images."""
    report = folder.parent / "report.json"
    main(["data", "check", str(folder), "--split", "train", "--json", str(report)])
    problems = json.loads(report.read_text())["splits"]["train"]["problems"]
    return {problem["code"]: [place["text"] for place in problem["places"]] for problem in problems}


@pytest.mark.parametrize("name", FILES)
def test_good_data_is_left_in_peace(made: Callable[[str], Path], name: str) -> None:
    folder = made(name)
    assert found(folder, name, contents(folder, name)) == {}


@pytest.mark.parametrize("name", FILES)
def test_everything_that_is_wrong_is_told_and_corrected(made: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    folder = made(name)
    data = contents(folder, name)
    first, second, third, fourth, *_ = data["annotations"]
    first["bbox"], second["category_id"], third["id"] = [5, 5, 0, 9], 99, fourth["id"]
    data["images"][-1]["height"] += 3
    assert data["images"][-1]["id"] not in {entry["image_id"] for entry in (first, second, third, fourth)}
    expected = {"box-empty": 1, "category-unknown": 1, "annotation-id": 1, "image-size": 1}
    assert found(folder, name, data) == expected
    with pytest.raises(ValueError, match="category_id 99"):
        open_split(folder)
    assert main(["data", "check", str(folder), "--split", "train", "--fix", str(tmp_path / "fixed")]) == 0
    assert main(["data", "check", str(tmp_path / "fixed")]) == 0
    assert len(open_split(tmp_path / "fixed")) == len(data["images"])


def test_images_of_lvis_are_named_by_address_or_file(made: Callable[[str], Path]) -> None:
    folder = made("lvis")
    data = contents(folder, "lvis")
    one, two, three, *_ = data["images"]
    two["file_name"], two["coco_url"] = two["coco_url"].rpartition("/")[2], ""
    three["coco_url"] = 7
    del one["coco_url"]
    (folder / "coco" / two["file_name"]).write_bytes((folder / "coco/train2017" / two["file_name"]).read_bytes())
    assert found(folder, "lvis", data) == {"image-entry": 3}
    assert texts(folder)["image-entry"] == [
        f"image {three['id']} has the coco_url 7; a text is needed",
        f"image {one['id']} (None) names no file",
        f"image {three['id']} (None) names no file",
    ]


def test_what_images_of_lvis_say_of_categories_is_looked_at(made: Callable[[str], Path], tmp_path: Path) -> None:
    folder = made("lvis")
    data = contents(folder, "lvis")
    one, two, three, *_ = data["images"]
    one["neg_category_ids"], two["not_exhaustive_category_ids"], three["neg_category_ids"] = [2, 77, "x"], None, [2]
    assert found(folder, "lvis", data) == {"image-entry": 2}
    assert texts(folder)["image-entry"] == [
        f"image {one['id']}: neg_category_ids has [77, 'x'], which are no categories",
        f"image {two['id']}: not_exhaustive_category_ids is None; a list of ids of categories is needed",
    ]
    assert main(["data", "check", str(folder), "--split", "train", "--fix", str(tmp_path / "fixed")]) == 0
    images = open_split(tmp_path / "fixed").ground_truth()["images"]
    assert [image["neg_category_ids"] for image in (images[0], images[2])] == [[2], [2]]
    assert images[1]["not_exhaustive_category_ids"] == []


def test_categories_of_lvis_that_share_a_name_are_no_error(made: Callable[[str], Path]) -> None:
    folder = made("lvis")
    data = contents(folder, "lvis")
    data["categories"][0]["name"] = data["categories"][1]["name"]
    del data["categories"][2]["name"]
    assert found(folder, "lvis", data) == {}


def test_what_lvis_does_not_share_with_coco_is_not_looked_at(made: Callable[[str], Path]) -> None:
    folder = made("lvis")
    data = contents(folder, "lvis")
    shared = {entry["id"] for entry in data["categories"] if entry["name"] in ("sports ball", "book", "pizza")}
    ours = next(entry for entry in data["annotations"] if entry["category_id"] in shared)
    other = next(entry for entry in data["annotations"] if entry["category_id"] not in shared)
    ours["bbox"] = other["bbox"] = [5, 5, 0, 9]
    assert found(folder, "lvis", data, categories="coco") == {"box-empty": 1}
    assert found(folder, "lvis", data) == {"box-empty": 2}
    for entry in data["categories"]:
        entry["synset"] = "unicorn.n.01"
    assert found(folder, "lvis", data, categories="coco") == {"annotations": 1}


def test_what_objects365_leaves_out_is_not_looked_at(made: Callable[[str], Path]) -> None:
    folder = made("objects365")
    data = contents(folder, "objects365")
    with_objects = sorted({entry["image_id"] for entry in data["annotations"]})
    missing = next(image for image in data["images"] if image["id"] == with_objects[0])
    missing["file_name"] = "images/v1/patch6/objects365_v1_00320532.jpg"
    for entry in data["annotations"]:
        if entry["image_id"] == missing["id"]:
            entry["bbox"] = "nowhere"
    data["annotations"][-1] |= {"bbox": [5, 5, 0, 9], "isfake": 1}
    assert found(folder, "objects365", data) == {"reader": 1, "box-empty": 1}
    assert found(folder, "objects365", data, without=["fake"]) == {"reader": 1}
