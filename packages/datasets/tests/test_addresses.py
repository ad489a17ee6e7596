"""What readers do with URLs: they read what can be read there, and say so where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from det_datasets.panoptic.make import make_coco_panoptic
from det_datasets.semantic.make import make_coco_stuff
from detkit.data.source import Split, find_splits, open_split
from detkit.plugins import registry

FOLDERS: dict[str, dict[str, Any]] = {
    "cityscapes": {"folder": "s3://bucket/cityscapes"},
    "ade20k": {"folder": "s3://bucket/ade20k"},
    "voc": {"folder": "s3://bucket/voc"},
    "openimages": {"folder": "s3://bucket/openimages"},
    "dota": {"folder": "s3://bucket/dota"},
    "yolo": {"source": "s3://bucket/yolo"},
    "coco-panoptic": {"images": "images", "annotations": "annotations.json", "pictures": "s3://bucket/pictures"},
}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_url_for_a_folder_is_named(name: str, kind: type) -> None:
    arguments = {key: kind(value) if "://" in value else value for key, value in FOLDERS[name].items()}
    with pytest.raises(ValueError, match=r"s3://?bucket.* is a URL, and a folder of this machine is needed here"):
        registry().load("dataset", name)(**arguments)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_url_for_a_folder_in_a_yaml_file_is_named(tmp_path: Path, name: str) -> None:
    entries = ", ".join(f"{key}: {value}" for key, value in FOLDERS[name].items())
    (tmp_path / "data.yaml").write_text(f"train: {{name: {name}, {entries}}}")
    with pytest.raises(ValueError, match=r"data\.yaml: train\.\w+ is the URL s3://bucket/\w+; files of this machine"):
        open_split(tmp_path / "data.yaml")


def test_data_at_a_url_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="s3://bucket/coco is a URL, and the splits below a URL cannot be found"):
        find_splits("s3://bucket/coco")
    (tmp_path / "data.yaml").write_text("train: {data: s3://bucket/coco}")
    with pytest.raises(ValueError, match=r"train\.data is the URL s3://bucket/coco"):
        find_splits(tmp_path / "data.yaml")


@pytest.mark.parametrize("make", [make_coco_panoptic, make_coco_stuff])
def test_json_files_and_images_may_be_at_urls(tmp_path: Path, make: Any) -> None:
    make(tmp_path, images=3, val_images=1, size=48)
    split = find_splits(tmp_path)["train"]
    assert isinstance(split, Split)
    near = split.open()
    away = {key: f"file://{split.arguments[key]}" for key in ("images", "annotations")}
    far = Split(split.reader, {**split.arguments, **away}).open()
    for index in range(len(near)):
        assert torch.equal(far[index].image, near[index].image)
        assert torch.equal(far[index].target["semantic"], near[index].target["semantic"])
