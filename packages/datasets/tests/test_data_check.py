from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco import mask as rle
from PIL import Image

from det_datasets.coco.repair import repair
from det_datasets.shapes.make import make_shapes
from detkit.cli.main import main
from detkit.data.problems import LISTED, PROBLEMS
from detkit.data.source import open_split

SIDE = 60
RING = [10, 10, 30, 10, 30, 30, 10, 30]
GOOD = {"bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0, "segmentation": [RING]}


class Scratch:
    """A dataset of three images (ids 1, 2, 3, the first with one good annotation) and a validation image, to break."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for split, names in {"train": ["1.png", "2.png", "3.png"], "val": ["9.png"]}.items():
            (folder / split / "images").mkdir(parents=True)
            for name in names:
                self.picture(name, split=split)
        self.images = [{"id": id, "file_name": f"{id}.png", "height": SIDE, "width": SIDE} for id in (1, 2, 3)]
        self.categories: list[Any] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        self.annotations: list[Any] = [self.annotation(1), self.annotation(2, category_id=2)]
        val = {"images": [{**self.images[0], "id": 9, "file_name": "9.png"}], "categories": self.categories}
        self.write("val", {**val, "annotations": [{**annotation, "image_id": 9} for annotation in self.annotations]})

    def picture(self, name: str, *, size: tuple[int, int] = (SIDE, SIDE), split: str = "train", **options: Any) -> None:
        seed = sum(name.encode())
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(self.path(name, split), **options)

    def path(self, name: str, split: str = "train") -> Path:
        return self.folder / split / "images" / name

    def annotation(self, id: int, **changes: Any) -> dict[str, Any]:
        return {"id": id, "image_id": 1, "category_id": 1, **GOOD, **changes}

    def add(self, **changes: Any) -> None:
        """Add an annotation; a value of `...` leaves the key out."""
        entry = self.annotation(**{"id": 100 + len(self.annotations), **changes})
        self.annotations.append({key: value for key, value in entry.items() if value is not ...})

    def write(self, split: str, data: Any) -> None:
        (self.folder / split / "annotations.json").write_text(json.dumps(data))

    def check(self, *options: str) -> tuple[int, dict[str, Any]]:
        """The exit status and the report of train."""
        data = {"images": self.images, "categories": self.categories, "annotations": self.annotations}
        self.write("train", data)
        report = self.folder / "report.json"
        status = main(["data", "check", str(self.folder), "--json", str(report), *options])
        found = json.loads(report.read_text())
        return status, found["splits"]["train"]

    def codes(self) -> dict[str, int]:
        """How often what is wrong."""
        status, report = self.check()
        counts = {problem["code"]: problem["count"] for problem in report["problems"]}
        assert status == any(PROBLEMS[code].level == "error" for code in counts)
        return counts

    def fixed(self) -> dict[str, Any]:
        """The file of a corrected copy, which is checked."""
        out = self.folder / "fixed"
        shutil.rmtree(out, ignore_errors=True)
        assert self.check("--fix", str(out))[0] == 0
        assert main(["data", "check", str(out)]) == 0
        data: dict[str, Any] = json.loads((out / "train" / "annotations.json").read_text())
        return data


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    yield Scratch(tmp_path / "data")


def test_good_data_is_left_in_peace(scratch: Scratch, capsys: pytest.CaptureFixture[str]) -> None:
    assert scratch.codes() == {}
    assert "nothing is wrong" in capsys.readouterr().out


def _code(counts: Any) -> dict[str, Any]:
    return {"size": [SIDE, SIDE], "counts": counts}


@pytest.mark.parametrize(
    ("changes", "codes", "after"),
    [
        ({"bbox": [5, 5, 0, 9]}, ["box-empty"], [10, 10, 20, 20]),
        ({"bbox": [5, 5, -4, 9], "segmentation": ...}, ["box-empty"], None),
        ({"bbox": [500, 5, 10, 10]}, ["box-outside"], [10, 10, 20, 20]),
        ({"bbox": [-20, 40, 60, 40], "segmentation": ...}, ["box-cut", "mask-missing"], [0, 40, 40, 20]),
        ({"bbox": [1, 2, 3]}, ["box-malformed"], [10, 10, 20, 20]),
        ({"bbox": "here", "segmentation": ...}, ["box-malformed"], None),
        ({"bbox": [float("nan"), 1, 2, 3]}, ["number", "box-missing"], [10, 10, 20, 20]),
        ({"bbox": ...}, ["box-missing"], [10, 10, 20, 20]),
        ({"bbox": ..., "segmentation": ...}, ["box-none"], None),
        ({"bbox": [40, 40, 20, 20]}, ["box-aside"], [40, 40, 20, 20]),
        ({"bbox": [1, 1, 1, 9], "segmentation": ...}, ["box-tiny", "mask-missing"], [1, 1, 1, 9]),
        ({"segmentation": [RING, [1, 1, 2, 2]]}, ["polygon-points"], [10, 10, 20, 20]),
        ({"segmentation": [RING, [1, 1, 2, 2, 3, 3]]}, ["polygon-flat"], [10, 10, 20, 20]),
        ({"segmentation": [RING, [70, 1, 90, 2, 80, 9]]}, ["polygon-outside"], [10, 10, 20, 20]),
        ({"segmentation": [RING, [1, float("nan"), 2, 2, 3, 3]]}, ["number"], [10, 10, 20, 20]),
        ({"segmentation": [[1, 1, 2, 2]]}, ["polygon-points", "mask-empty", "mask-missing"], [10, 10, 20, 20]),
        ({"segmentation": RING}, ["mask-malformed"], [10, 10, 20, 20]),
        ({"segmentation": {"size": [3, 4], "counts": [12]}}, ["mask-malformed", "mask-missing"], [10, 10, 20, 20]),
        ({"segmentation": _code([1, 2])}, ["mask-malformed", "mask-missing"], [10, 10, 20, 20]),
        ({"segmentation": _code("zzz\x7f")}, ["mask-malformed", "mask-missing"], [10, 10, 20, 20]),
        ({"segmentation": _code([SIDE * SIDE])}, ["mask-empty", "mask-missing"], [10, 10, 20, 20]),
        ({"segmentation": 5}, ["mask-malformed", "mask-missing"], [10, 10, 20, 20]),
        ({"category_id": 7}, ["category-unknown"], None),
        ({"image_id": 7}, ["image-unknown"], None),
        ({"image_id": None}, ["annotation-entry"], None),
        ({"image_id": "1"}, ["annotation-entry"], [10, 10, 20, 20]),
        ({"id": 1}, ["annotation-id"], [10, 10, 20, 20]),
        ({"id": ...}, ["annotation-number"], [10, 10, 20, 20]),
        ({"iscrowd": True}, ["crowd"], [10, 10, 20, 20]),
        ({"area": -4}, ["area"], [10, 10, 20, 20]),
        ({"area": ...}, ["area-missing"], [10, 10, 20, 20]),
        ({"score": float("inf")}, ["number"], [10, 10, 20, 20]),
    ],
)
def test_what_is_wrong_with_an_annotation_is_told_and_corrected(
    scratch: Scratch, changes: dict[str, Any], codes: list[str], after: list[float] | None
) -> None:
    scratch.add(**changes)
    assert scratch.codes() == dict.fromkeys(codes, 1)
    entries = scratch.fixed()["annotations"]
    assert entries[:2] == scratch.annotations[:2]
    assert [entry["bbox"] for entry in entries[2:]] == ([] if after is None else [after])
    for entry in entries:
        assert {type(entry[key]) for key in ("id", "image_id", "category_id", "iscrowd")} == {int}
    assert len({entry["id"] for entry in entries}) == len(entries)


def test_outlines_are_cut_at_the_border(scratch: Scratch) -> None:
    scratch.add(segmentation=[[-30, 10, 30, 10, 30, 30, -30, 30]], bbox=[-30, 10, 60, 20], area=1200)
    assert scratch.codes() == {"box-cut": 1, "polygon-cut": 1}
    entry = scratch.fixed()["annotations"][-1]
    ring = np.array(entry["segmentation"][0]).reshape(-1, 2)
    assert [*ring.min(0), *ring.max(0)] == [0, 10, 30, 30]
    assert entry["bbox"] == [0, 10, 30, 20]
    assert entry["area"] == 600


def test_entries_that_are_no_objects_are_left_out(scratch: Scratch) -> None:
    scratch.annotations += [17, None]
    scratch.categories += [{"name": "without id"}, "word"]
    scratch.images += [{"file_name": "1.png"}, {"id": 8}]  # type: ignore[list-item]
    codes = scratch.codes()
    assert codes["annotation-entry"] == codes["category-entry"] == 2
    assert codes["image-entry"] >= 1
    assert len(scratch.fixed()["annotations"]) == 2


def test_images_that_cannot_be_used_are_left_out(scratch: Scratch) -> None:
    scratch.path("2.png").unlink()
    scratch.path("3.png").write_bytes(scratch.path("3.png").read_bytes()[:900])
    scratch.path("4.png").write_text("no image")
    scratch.images.append({"id": 4, "file_name": "4.png", "height": 1, "width": 1})
    scratch.add(image_id=3)
    assert scratch.codes() == {"image-missing": 1, "image-unreadable": 2}
    data = scratch.fixed()
    assert [image["id"] for image in data["images"]] == [1]
    assert len(data["annotations"]) == 2


def test_sizes_become_those_of_the_files(scratch: Scratch) -> None:
    scratch.images[0]["width"] = 400
    del scratch.images[1]["height"]
    scratch.add(bbox=[50, 10, 30, 20], segmentation=...)  # reaches out of the real image
    codes = scratch.codes()
    assert codes["image-size"] == codes["image-entry"] == codes["box-cut"] == 1
    data = scratch.fixed()
    assert [(image["height"], image["width"]) for image in data["images"]] == [(SIDE, SIDE)] * 3


def test_turned_images_are_a_warning(scratch: Scratch) -> None:
    exif = Image.Exif()
    exif[274] = 6
    scratch.picture("4.jpg", size=(40, 20), exif=exif)
    scratch.images.append({"id": 4, "file_name": "4.jpg", "height": 20, "width": 40})
    assert scratch.codes() == {"image-turned": 1}
    scratch.images[-1].update(height=40, width=20)
    assert scratch.codes() == {}


def test_ids_that_repeat_are_told_apart(scratch: Scratch) -> None:
    scratch.picture("4.png")
    scratch.images += [{**scratch.images[1], "file_name": "4.png"}, dict(scratch.images[2])]
    scratch.images.append({**scratch.images[0], "id": 50})
    scratch.categories += [{"id": 1, "name": "lion"}, {"id": 9, "name": "dog"}]
    scratch.add(image_id=50, category_id=9)
    assert scratch.codes() == {"image-id": 2, "image-twice": 1, "category-id": 1, "category-name": 1}
    data = scratch.fixed()
    assert [(image["id"], image["file_name"]) for image in data["images"]] == [
        (1, "1.png"),
        (2, "2.png"),
        (3, "3.png"),
        (51, "4.png"),
    ]
    assert [(entry["id"], entry["name"]) for entry in data["categories"]] == [(1, "cat"), (2, "dog")]
    assert (data["annotations"][-1]["image_id"], data["annotations"][-1]["category_id"]) == (1, 2)


def test_the_same_pixels_in_training_and_validation(scratch: Scratch) -> None:
    shutil.copy(scratch.path("9.png", "val"), scratch.path("2.png"))
    shutil.copy(scratch.path("1.png"), scratch.path("3.png"))
    assert scratch.codes() == {"image-leak": 1, "image-same": 1}
    assert [image["id"] for image in scratch.fixed()["images"]] == [1, 3]


def test_unused_categories_and_counts(scratch: Scratch) -> None:
    scratch.categories.append({"id": 5, "name": "yeti"})
    scratch.add(image_id=2, iscrowd=1)
    status, report = scratch.check()
    assert status == 0
    assert [problem["code"] for problem in report["problems"]] == ["category-unused"]
    assert report["problems"][0]["places"] == [{"text": "yeti"}]
    assert report["classes"] == [
        {"name": "cat", "id": 1, "objects": 1, "crowds": 1, "images": 2},
        {"name": "dog", "id": 2, "objects": 1, "crowds": 0, "images": 1},
        {"name": "yeti", "id": 5, "objects": 0, "crowds": 0, "images": 0},
    ]
    assert report["negatives"] == 1


def test_what_the_file_says_otherwise_is_kept(scratch: Scratch) -> None:
    scratch.images[0]["camera"] = "left"
    scratch.annotations[0]["attributes"] = {"old": True}
    scratch.add(bbox=[5, 5, 0, 9])
    data = scratch.fixed()
    assert data["images"][0]["camera"] == "left"
    assert data["annotations"][0]["attributes"] == {"old": True}


def test_the_source_is_not_touched(scratch: Scratch) -> None:
    scratch.add(bbox=[5, 5, 0, 9])
    scratch.check()
    before = {path: path.read_bytes() for path in (scratch.folder / "train").rglob("*") if path.is_file()}
    scratch.fixed()
    assert {path: path.read_bytes() for path in (scratch.folder / "train").rglob("*") if path.is_file()} == before


def test_a_copy_may_name_the_images_of_the_source(scratch: Scratch) -> None:
    scratch.add(bbox=[5, 5, 0, 9])
    out = scratch.folder / "fixed"
    assert scratch.check("--fix", str(out), "--images", "keep")[0] == 0
    assert not list(out.rglob("*.png"))
    assert main(["data", "check", str(out / "data.yaml")]) == 0


def test_a_folder_with_something_in_it_is_kept(scratch: Scratch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(scratch.folder), "--fix", str(scratch.folder)]) == 2
    assert "there is something at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is this a file of results?"),
        ('{"images": {}, "categories": []}', "images is no list"),
        ('{"images": [], "categories": [{"id": 1, "name": "a"}]}', "lists no images"),
    ],
)
def test_files_that_cannot_be_looked_through(
    scratch: Scratch, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (scratch.folder / "train" / "annotations.json").write_text(text)
    assert main(["data", "check", str(scratch.folder)]) == 1
    assert message in " ".join(capsys.readouterr().out.split())
    assert main(["data", "check", str(scratch.folder), "--fix", str(scratch.folder / "out")]) == 2
    assert "train cannot be corrected" in capsys.readouterr().err
    assert not (scratch.folder / "out").exists()


def test_arguments_of_the_reader_are_checked_too(scratch: Scratch, capsys: pytest.CaptureFixture[str]) -> None:
    scratch.check()
    files = "images: train/images, annotations: train/annotations.json"
    for more, message in (
        ("colour: 3", "unexpected keyword argument 'colour'"),
        ("panoptic: x", "give both or neither"),
    ):
        (scratch.folder / "data.yaml").write_text(f"train: {{{files}, {more}}}")
        assert main(["data", "check", str(scratch.folder / "data.yaml")]) == 1
        assert message in " ".join(capsys.readouterr().out.split())


def test_json_goes_to_standard_output(scratch: Scratch, capsys: pytest.CaptureFixture[str]) -> None:
    scratch.add(bbox=[5, 5, 0, 9])
    scratch.check()
    capsys.readouterr()
    assert main(["data", "check", str(scratch.folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["version"], report["errors"], report["warnings"]) == (1, 1, 0)
    problem = report["splits"]["train"]["problems"][0]
    assert problem["places"] == [
        {"text": "annotation 102 of image 1: bbox [5, 5, 0, 9]", "image": 1, "annotation": 102}
    ]


def test_many_places_are_counted_and_some_listed(scratch: Scratch) -> None:
    for _ in range(LISTED + 5):
        scratch.add(area=...)
    _, report = scratch.check()
    assert report["problems"][0]["count"] == LISTED + 5
    assert len(report["problems"][0]["places"]) == LISTED


def test_keypoints_and_labels_of_pixels(tmp_path: Path) -> None:
    make_shapes(tmp_path, images=3, val_images=1, size=64, keypoints=True, semantic=True)
    file = tmp_path / "train" / "annotations.json"
    data = json.loads(file.read_text())
    data["annotations"][0]["keypoints"][2] = 7
    file.write_text(json.dumps(data))
    (tmp_path / "train" / "semantic" / "000002.png").unlink()
    out = tmp_path / "fixed"
    assert main(["data", "check", str(tmp_path), "--split", "train", "--json", str(tmp_path / "r.json")]) == 1
    report = json.loads((tmp_path / "r.json").read_text())["splits"]["train"]
    counts = {problem["code"]: problem["count"] for problem in report["problems"]}
    assert {code: count for code, count in counts.items() if code != "category-unused"} == {"pixels": 1, "keypoints": 1}
    assert main(["data", "check", str(tmp_path), "--fix", str(out)]) == 0
    assert main(["data", "check", str(out)]) == 0
    assert len(open_split(out)) == 2
    assert len(list((out / "train" / "semantic").glob("*.png"))) == 2


def test_other_formats_are_opened_and_corrected_as_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "voc", tmp_path / "fixed"
    assert main(["data", "make", "voc", "--out", str(data), "--images", "4", "--val-images", "2"]) == 0
    assert main(["data", "check", str(data), "--split", "train"]) == 0
    broken = sorted((data / "JPEGImages").glob("train*"))[0]
    broken.write_bytes(broken.read_bytes()[:600])
    capsys.readouterr()
    assert main(["data", "check", str(data), "--split", "train"]) == 1
    assert f"cannot read the image {broken}" in capsys.readouterr().out
    assert main(["data", "check", str(data), "--split", "train", "--fix", str(out)]) == 0
    assert main(["data", "check", str(out)]) == 0
    assert len(open_split(out)) == 3


def test_masks_of_official_tools_are_accepted() -> None:
    notes: list[str] = []
    generator = np.random.default_rng(0)
    for share in (0.02, 0.5, 0.98):
        mask = np.asfortranarray((generator.random((SIDE, 50)) < share).astype(np.uint8))
        code = rle.encode(mask)
        entry = {"bbox": [0, 0, 50, SIDE], "area": 5, "segmentation": {**code, "counts": code["counts"].decode()}}
        found, has_mask = repair(entry, (SIDE, 50), 0, lambda code, text: notes.append(code))
        assert has_mask
        assert found is not None
        assert found["segmentation"] == entry["segmentation"]
    assert notes == []
