from __future__ import annotations

from pathlib import Path

import pytest

from det_datasets.coco.layout import find_splits


def make(folder: Path, *files: str) -> None:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["train/annotations.json", "train/images/1.jpg", "val/annotations.json", "val/1.jpg"],
            {"train": ("train/images", "train/annotations.json"), "val": ("val", "val/annotations.json")},
        ),
        (
            [f"{split}/_annotations.coco.json" for split in ("train", "valid", "test")],
            {
                name: (name_, f"{name_}/_annotations.coco.json")
                for name, name_ in zip(("train", "val", "test"), ("train", "valid", "test"), strict=True)
            },
        ),
        (
            ["annotations/instances_train2017.json", "annotations/instances_val2017.json", "train2017/1.jpg"],
            {
                "train": ("train2017", "annotations/instances_train2017.json"),
                "val": ("val2017", "annotations/instances_val2017.json"),
            },
        ),
        (
            ["annotations/instances_val2014.json", "annotations/instances_val2017.json", "images/val2017/1.jpg"],
            {"val": ("images/val2017", "annotations/instances_val2017.json")},
        ),
        (["annotations/captions_train2017.json", "train/readme.txt", "labels.json"], None),
    ],
    ids=["ours", "roboflow", "coco", "coco with images/", "strange"],
)
def test_layouts_are_recognised(tmp_path: Path, files: list[str], expected: dict[str, tuple[str, str]] | None) -> None:
    make(tmp_path, *files)
    if expected is not None:
        expected = {
            name: {"images": tmp_path / images, "annotations": tmp_path / file}
            for name, (images, file) in expected.items()
        }
    assert find_splits(tmp_path) == expected
