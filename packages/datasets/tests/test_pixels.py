from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from det_datasets.coco.dataset import CocoDataset
from det_datasets.coco.layout import find_splits
from det_datasets.shapes.make import make_shapes
from detkit.data.loader import eval_loader
from detkit.data.source import open_split
from detkit.data.targets import rasterized
from detkit.structures.input_spec import InputSpec

NAMES = ["things", "grass", "sky"]


@pytest.fixture
def with_pixels(coco: Callable[..., CocoDataset], tmp_path: Path) -> Callable[..., CocoDataset]:
    """A dataset of two images with these labels of pixels."""

    def write(labels: Any = 1, names: Any = NAMES, mode: str | None = None) -> CocoDataset:
        plain = coco(images=2)
        folder = tmp_path / "semantic"
        folder.mkdir()
        if names is not None:
            (tmp_path / "semantic.json").write_text(json.dumps(names))
        for index in range(2):
            picture = Image.fromarray(np.broadcast_to(np.asarray(labels, np.uint8), plain.size(index)).copy())
            (picture if mode is None else picture.convert(mode)).save(folder / f"{index + 1}.png")
        return CocoDataset(plain.folder, plain.annotation_file, folder)

    return write


def test_labels_come_with_the_image(with_pixels: Callable[..., CocoDataset]) -> None:
    row = np.array([0, 1, 2, 255] * 10)
    data = with_pixels(row)
    assert data.semantic_categories is not None
    assert data.semantic_categories.names == tuple(NAMES)
    assert data[1].target["semantic"][5].tolist() == row.tolist()
    assert data.semantic_map(2)[0].tolist() == row.tolist()


def test_a_palette_does_not_matter(with_pixels: Callable[..., CocoDataset], tmp_path: Path) -> None:
    data = with_pixels(2)
    for path in (tmp_path / "semantic").iterdir():
        picture = Image.open(path)
        picture.putpalette([9, 9, 9] * 256)
        picture.save(path)
    assert (data[0].target["semantic"] == 2).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": 3}, r"1\.png has pixels with label 3; .*semantic\.json names labels 0 to 2"),
        ({"mode": "RGB"}, r"1\.png has mode RGB; labels are grey values or palette indices"),
    ],
)
def test_what_are_no_labels_is_named(
    with_pixels: Callable[..., CocoDataset], arguments: dict[str, Any], message: str
) -> None:
    data = with_pixels(**arguments)
    with pytest.raises(ValueError, match=message):
        data[0]


def test_missing_and_wrong_files_are_named(with_pixels: Callable[..., CocoDataset], tmp_path: Path) -> None:
    data = with_pixels()
    (tmp_path / "semantic" / "1.png").unlink()
    Image.new("L", (3, 3)).save(tmp_path / "semantic" / "2.png")
    with pytest.raises(ValueError, match=r"cannot read the labels of pixels in .*1\.png"):
        data[0]
    with pytest.raises(ValueError, match=r"2\.png is 3 x 3 pixels, its image 40 x 30"):
        data[1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, r"cannot read .*semantic\.json, the names of the classes of pixels"),
        ({"things": 0}, "a JSON list of names is needed"),
        (["sky", "sky"], "given more than once: sky"),
        ([], "it names 0 classes"),
    ],
)
def test_classes_must_be_named(with_pixels: Callable[..., CocoDataset], names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_pixels(names=names)


def test_a_missing_folder_is_named(coco: Callable[..., CocoDataset], tmp_path: Path) -> None:
    plain = coco()
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        CocoDataset(plain.folder, plain.annotation_file, tmp_path / "nowhere")
    assert plain.semantic_categories is None
    with pytest.raises(ValueError, match="CocoDataset has no classes of pixels"):
        plain.semantic_map(1)


@pytest.mark.parametrize(
    ("annotations", "pixels"),
    [
        ("train/annotations.json", "train/semantic"),
        ("annotations/instances_train2017.json", "panoptic_stuff_train2017"),
    ],
)
def test_layouts_have_a_place_for_labels_of_pixels(tmp_path: Path, annotations: str, pixels: str) -> None:
    (tmp_path / annotations).parent.mkdir(parents=True)
    (tmp_path / annotations).write_text("{}")
    (tmp_path / pixels).mkdir(parents=True)
    assert "semantic" not in (find_splits(tmp_path) or {})["train"]
    (tmp_path / f"{pixels}.json").write_text("[]")
    assert (find_splits(tmp_path) or {})["train"]["semantic"] == tmp_path / pixels


def test_a_yaml_source_names_the_folder(with_pixels: Callable[..., CocoDataset], tmp_path: Path) -> None:
    with_pixels()
    source = tmp_path / "data.yaml"
    source.write_text("train: {images: images, annotations: annotations.json, semantic: semantic}")
    assert (open_split(source)[0].target["semantic"] == 1).all()


def test_shapes_are_things_and_the_rest_is_labelled(tmp_path: Path) -> None:
    make_shapes(tmp_path, images=8, val_images=1, size=96, semantic=True, crowd_share=0)
    data = open_split(tmp_path)
    assert data.semantic_categories is not None
    assert data.semantic_categories.names == ("things", "plain", "stripes", "noise")
    seen: set[int] = set()
    for index in range(len(data)):
        sample = data[index]
        labels = sample.target["semantic"]
        masks = rasterized(sample)["masks"]
        wrong = (masks.amax(dim=0).bool() if len(masks) else torch.zeros_like(labels).bool()) != (labels == 0)
        assert wrong.float().mean() < 0.01  # splinters are not annotated
        seen |= set(labels.unique().tolist())
    assert seen == {0, 1, 2, 3}


def test_labelling_pixels_leaves_the_shapes_as_they_are(tmp_path: Path) -> None:
    for name, semantic in (("with", True), ("without", False)):
        make_shapes(tmp_path / name, images=2, val_images=1, size=64, semantic=semantic)
    files = [tmp_path / name / "train" / "annotations.json" for name in ("with", "without")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_evaluation_batches_have_labels(tmp_path: Path) -> None:
    make_shapes(tmp_path, images=1, val_images=2, size=64, semantic=True)
    loader = eval_loader(open_split(tmp_path, "val"), InputSpec(min_size=40, divisor=32), batch_size=2, workers=0)
    (batch,) = loader
    assert batch.targets is not None
    assert batch.targets.semantic is not None
    assert batch.targets.semantic.shape == (2, *batch.images.shape[2:])
