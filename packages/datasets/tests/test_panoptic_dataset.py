from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from det_datasets.ade20k.labels import ADE20K
from det_datasets.ade20k.make import Ade20kWriter, make_ade20k
from det_datasets.cityscapes.dataset import CityscapesDataset
from det_datasets.cityscapes.make import CityscapesWriter, make_cityscapes
from det_datasets.panoptic.dataset import CocoPanopticDataset
from det_datasets.panoptic.make import CocoPanopticWriter, make_coco_panoptic
from det_datasets.panoptic.stuff import write_stuff
from det_datasets.pixels import read_ids
from det_datasets.semantic.make import make_coco_stuff
from det_datasets.shapes.make import make_shapes
from detkit.cli.data import main
from detkit.data.source import find_splits, open_split
from detkit.interfaces import Dataset

CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 200, "name": "rug", "isthing": 0},
    {"id": 17, "name": "cat", "isthing": 1},
    {"id": 92, "name": "banner", "isthing": 0},
]


@pytest.fixture
def panoptic(tmp_path: Path) -> Callable[..., Path]:
    """Writes two images of 4 x 6 pixels, the second without annotation, in COCO's layout; other arguments replace
    entries of the annotation, or of the file."""

    def write(changes: dict[str, Any] | None = None, **entries: Any) -> Path:
        ids = np.array([[70000] * 3 + [300] * 3, [0, 0, 70000, 5, 5, 300], [8, 8, 8, 5, 5, 300], [8] * 6], np.int32)
        folder = tmp_path / "coco"
        pictures = folder / "panoptic_train2017"
        for place in (pictures, folder / "train2017", folder / "annotations"):
            place.mkdir(parents=True)
        colours = np.stack((ids % 256, ids // 256 % 256, ids // 65536), axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(pictures / "one.png")
        for name in ("1.jpg", "2.jpg"):
            Image.new("RGB", (6, 4)).save(folder / "train2017" / name)
        segments = [
            {"id": 70000, "category_id": 17, "iscrowd": 0, "area": 4, "bbox": [0, 0, 3, 2]},
            {"id": 300, "category_id": 200, "iscrowd": 0, "area": 5, "bbox": [3, 0, 3, 3]},
            {"id": 5, "category_id": 1, "iscrowd": 1, "area": 4, "bbox": [3, 1, 2, 2]},
            {"id": 8, "category_id": 92, "iscrowd": 0, "area": 9, "bbox": [0, 2, 6, 2]},
        ]
        annotation = {"image_id": 1, "file_name": "one.png", "segments_info": segments, **(changes or {})}
        images = [{"id": number, "file_name": f"{number}.jpg", "height": 4, "width": 6} for number in (2, 1)]
        data = {"images": images, "annotations": [annotation], "categories": CATEGORIES, **entries}
        (folder / "annotations" / "panoptic_train2017.json").write_text(json.dumps(data))
        return folder

    return write


def opened(folder: Path, **options: Any) -> CocoPanopticDataset:
    (split,) = find_splits(folder).values()
    assert split.reader == "coco-panoptic"
    return CocoPanopticDataset(**split.arguments, **options)


def test_things_are_objects_with_masks(panoptic: Callable[..., Path]) -> None:
    data = opened(panoptic())
    target = data[0].target
    assert data.categories.names == ("person", "cat")
    assert data.categories.ids == (1, 17)
    assert target["labels"].tolist() == [1, 0]
    assert target["crowd"].tolist() == [False, True]
    assert target["boxes"].tolist() == [[0, 0, 3, 2], [3, 1, 5, 3]]
    assert target["masks"].sum(dim=(1, 2)).tolist() == [4, 4]
    assert target["masks"][0, 1].tolist() == [0, 0, 1, 0, 0, 0]
    assert target["has_mask"].all()


def test_pixels_have_the_classes_of_their_segments(panoptic: Callable[..., Path]) -> None:
    data = opened(panoptic())
    assert data.semantic_categories is not None
    assert data.semantic_categories.names == ("person", "cat", "banner", "rug")
    assert data.semantic_categories.ids == (1, 17, 92, 200)
    assert data[0].target["semantic"].tolist() == [
        [1, 1, 1, 3, 3, 3],
        [255, 255, 1, 0, 0, 3],
        [2, 2, 2, 0, 0, 3],
        [2] * 6,
    ]


def test_things_can_be_one_class_of_pixels(panoptic: Callable[..., Path]) -> None:
    data = opened(panoptic(), things_together=True)
    assert data.semantic_categories is not None
    assert data.semantic_categories.names == ("things", "banner", "rug")
    assert data.semantic_categories.ids == (0, 92, 200)
    assert data.semantic_map(1)[1].tolist() == [255, 255, 0, 0, 0, 2]


def test_segments_have_labels_of_things_or_of_pixels(panoptic: Callable[..., Path]) -> None:
    ids, segments = opened(panoptic()).panoptic_map(1)
    assert ids[0].tolist() == [70000] * 3 + [300] * 3
    assert segments == [
        {"id": 70000, "isthing": True, "label": 1, "area": 4, "iscrowd": False},
        {"id": 300, "isthing": False, "label": 3, "area": 5, "iscrowd": False},
        {"id": 5, "isthing": True, "label": 0, "area": 4, "iscrowd": True},
        {"id": 8, "isthing": False, "label": 2, "area": 9, "iscrowd": False},
    ]


def test_an_image_without_annotation_has_no_segments(panoptic: Callable[..., Path]) -> None:
    data = opened(panoptic())
    sample = data[1]
    assert sample.info["image_id"] == 2
    assert len(sample.target["labels"]) == 0
    assert tuple(sample.target["masks"].shape) == (0, 4, 6)
    assert (sample.target["semantic"] == 255).all()
    ids, segments = data.panoptic_map(2)
    assert not ids.any()
    assert segments == []


def test_ground_truth_has_the_masks_and_the_ids_of_the_dataset(panoptic: Callable[..., Path]) -> None:
    truth = opened(panoptic()).ground_truth()
    assert [entry["category_id"] for entry in truth["annotations"]] == [17, 1]
    assert [entry["bbox"] for entry in truth["annotations"]] == [[0, 0, 3, 2], [3, 1, 2, 2]]
    assert all(entry["segmentation"]["size"] == [4, 6] for entry in truth["annotations"])


def test_segments_without_pixels_are_left_out(panoptic: Callable[..., Path]) -> None:
    empty = {"id": 9, "category_id": 1, "iscrowd": 0, "area": 0, "bbox": [0, 0, 0, 0]}
    data = opened(panoptic({"segments_info": [empty]}))
    assert data.problems["segments without pixels: left out"] == 1
    assert len(data[0].target["labels"]) == 0


@pytest.mark.parametrize(
    ("changes", "entries", "message"),
    [
        ({"segments_info": None}, {}, "is not a COCO panoptic file: Expected `array`, got `null`"),
        ({}, {"images": []}, "lists no images"),
        (
            {"segments_info": [{"id": 9, "category_id": 4, "area": 1, "bbox": [0, 0, 1, 1]}]},
            {},
            "segment 9 of image 1 has category_id 4, which 'categories' does not define",
        ),
        ({}, {"categories": [*CATEGORIES, CATEGORIES[0]]}, "category name given more than once: person"),
        (
            {},
            {"images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 6}] * 2},
            "image id 1 is given to more than one image",
        ),
    ],
)
def test_what_is_wrong_is_named(
    panoptic: Callable[..., Path], changes: dict[str, Any], entries: dict[str, Any], message: str
) -> None:
    folder = panoptic(changes, **entries)
    with pytest.raises(ValueError, match=message):
        opened(folder)


def test_stuff_for_panoptic_fpn_is_as_detectron2_prepares_it(panoptic: Callable[..., Path], tmp_path: Path) -> None:
    folder = panoptic()
    write_stuff(folder / "annotations" / "panoptic_train2017.json", folder / "panoptic_train2017", tmp_path / "stuff")
    assert np.array(Image.open(tmp_path / "stuff" / "one.png")).tolist() == [
        [0, 0, 0, 2, 2, 2],
        [255, 255, 0, 0, 0, 2],
        [1, 1, 1, 0, 0, 2],
        [1] * 6,
    ]
    entries = msgspec.json.decode((tmp_path / "stuff.json").read_bytes())
    assert entries == [
        {"id": 0, "name": "things"},
        {"id": 92, "name": "banner"},
        {"id": 200, "name": "rug"},
    ]


def test_instances_with_panoptic_files_are_read_by_coco(tmp_path: Path) -> None:
    """Both forms of one dataset say the same; the folder of stuff needs no names beside the panoptic file."""
    make_coco_panoptic(tmp_path / "apart", images=6, val_images=1, instances=True)
    make_coco_panoptic(tmp_path / "whole", images=6, val_images=1)
    assert find_splits(tmp_path / "apart")["train"].reader == "coco"
    (tmp_path / "apart" / "panoptic_stuff_train2017.json").unlink()
    apart = open_split(tmp_path / "apart")
    whole = CocoPanopticDataset(**find_splits(tmp_path / "whole")["train"].arguments, things_together=True)
    assert apart.has_panoptic
    assert apart.semantic_categories == whole.semantic_categories
    for index in range(6):
        image_id = whole.image_id(index)
        assert torch.equal(apart.semantic_map(image_id), whole.semantic_map(image_id))
        ids, segments = apart.panoptic_map(image_id)
        expected, described = whole.panoptic_map(image_id)
        assert torch.equal(ids, expected)
        assert segments == described
        assert torch.equal(apart[index].target["labels"], whole[index].target["labels"])


def test_other_stuff_than_the_panoptic_file_has_is_named(tmp_path: Path) -> None:
    make_coco_panoptic(tmp_path, images=2, val_images=1, instances=True)
    (tmp_path / "panoptic_stuff_train2017.json").write_text('["things", "stripes", "plain", "noise"]')
    with pytest.raises(ValueError, match=r"names things, stripes, plain, noise; .* has things, plain, stripes, noise"):
        open_split(tmp_path)


def test_other_classes_of_things_than_the_instances_are_named(tmp_path: Path) -> None:
    make_coco_panoptic(tmp_path, images=2, val_images=1, instances=True)
    file = tmp_path / "annotations" / "panoptic_train2017.json"
    file.write_text(file.read_text().replace('"circle"', '"disc"'))
    with pytest.raises(ValueError, match=r"has other things than the instances: disc, .*; circle, "):
        open_split(tmp_path)


def names_of(data: Dataset, image_id: Any) -> dict[str, tuple[int, int]]:
    """Class -> segments and pixels of an image."""
    assert data.semantic_categories is not None
    found: dict[str, tuple[int, int]] = {}
    for segment in data.panoptic_map(image_id)[1]:
        known = data.categories if segment["isthing"] else data.semantic_categories
        count, area = found.get(known.names[segment["label"]], (0, 0))
        found[known.names[segment["label"]]] = count + 1, area + segment["area"]
    return found


def test_segments_survive_writing_in_other_layouts(tmp_path: Path) -> None:
    make_cityscapes(tmp_path / "cityscapes", images=6, val_images=1)
    first = open_split(tmp_path / "cityscapes")
    CocoPanopticWriter().write({"train": first}, tmp_path / "coco")
    second = open_split(tmp_path / "coco")
    CityscapesWriter().write({"train": second}, tmp_path / "again")
    third = open_split(tmp_path / "again")
    assert isinstance(third, CityscapesDataset)
    for index in range(6):
        image_id = first.image_id(index)
        assert [data.image_id(index) for data in (second, third)] == [image_id, image_id]
        assert names_of(first, image_id) == names_of(second, image_id) == names_of(third, image_id)
        assert torch.equal(first[index].image, third[index].image)


def test_layouts_want_their_own_classes(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", images=1, val_images=1, size=64, semantic=True)
    make_shapes(tmp_path / "plain", images=1, val_images=1, size=64)
    shapes = {"train": open_split(tmp_path / "shapes")}
    with pytest.raises(ValueError, match="Cityscapes has no classes circle, cross, noise, "):
        CityscapesWriter().write(shapes, tmp_path / "out")
    with pytest.raises(ValueError, match="ADE20K has no classes circle, cross, noise, "):
        Ade20kWriter().write(shapes, tmp_path / "out")
    with pytest.raises(ValueError, match="the dataset has no panoptic segments, nor masks"):
        CocoPanopticWriter().write({"train": open_split(tmp_path / "plain")}, tmp_path / "out")


def test_ade20k_has_grey_values_from_one_and_panoptic_files_from_zero(tmp_path: Path) -> None:
    make_ade20k(tmp_path, images=6, val_images=1, panoptic=True)
    whole = open_split(tmp_path)
    assert [split.reader for split in find_splits(tmp_path).values()] == ["ade20k-panoptic"] * 2
    assert whole.semantic_categories is not None
    assert whole.semantic_categories.names == ADE20K.names
    assert len(whole.categories) == 100
    for path in tmp_path.glob("ade20k_panoptic_*.json"):
        path.unlink()
    pixels = open_split(tmp_path)
    assert [split.reader for split in find_splits(tmp_path).values()] == ["ade20k"] * 2
    for index in range(6):
        image_id = whole.image_id(index)
        assert pixels.image_id(index) == image_id
        grey = torch.from_numpy(np.array(Image.open(tmp_path / "annotations" / "training" / f"{image_id}.png")))
        assert torch.equal(pixels.semantic_map(image_id), grey - 1)  # 0, other, becomes 255
        assert torch.equal(whole.semantic_map(image_id), grey - 1)


def test_pixel_maps_of_cocos_stuff_hold_ids(tmp_path: Path) -> None:
    make_coco_stuff(tmp_path, images=2, val_images=1)
    file = tmp_path / "annotations" / "stuff_train2017.json"
    data = msgspec.json.decode(file.read_bytes())
    for entry in data["categories"]:
        entry["id"] += 91
    file.write_bytes(msgspec.json.encode(data))
    maps = tmp_path / "annotations" / "stuff_train2017_pixelmaps"
    values = []
    for path in sorted(maps.iterdir()):
        picture = Image.open(path)
        values.append(np.array(picture))
        shifted = Image.fromarray(np.where(values[-1] > 0, values[-1] + 91, 0).astype(np.uint8))
        shifted.putpalette(picture.getpalette() or [])
        shifted.save(path)
    stuff = open_split(tmp_path)
    assert stuff.semantic_categories is not None
    assert stuff.semantic_categories.ids == (92, 93, 94, 95)
    for index, expected in enumerate(values):
        assert torch.equal(stuff.semantic_map(stuff.image_id(index)), torch.from_numpy(expected) - 1)
    Image.fromarray(np.full(values[0].shape, 7, np.uint8)).save(maps / "000000000001.png")
    with pytest.raises(ValueError, match="has pixels with label 7"):
        stuff.semantic_map(1)


@pytest.mark.parametrize("name", ["coco-panoptic", "cityscapes", "ade20k", "coco-stuff"])
def test_the_command_line_makes_what_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["make", name, "--out", str(tmp_path), "--images", "2", "--val-images", "1", "--size", "64"]) == 0
    assert f"read it with data={tmp_path}" in capsys.readouterr().out
    assert {split: len(source.open()) for split, source in find_splits(tmp_path).items()} == {"train": 2, "val": 1}


def test_the_command_line_prepares_stuff(panoptic: Callable[..., Path], tmp_path: Path) -> None:
    folder = panoptic()
    file, pictures = folder / "annotations" / "panoptic_train2017.json", folder / "panoptic_train2017"
    arguments = ["--annotations", str(file), "--pictures", str(pictures), "--out", str(tmp_path / "stuff")]
    assert main(["make", "panoptic-stuff", *arguments]) == 0
    assert [path.name for path in (tmp_path / "stuff").iterdir()] == ["one.png"]


def test_colours_hold_three_bytes(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[1, 2, 3]]], np.uint8)).save(tmp_path / "ids.png")
    assert read_ids(tmp_path / "ids.png", (1, 1)).tolist() == [[1 + 2 * 256 + 3 * 65536]]
    Image.new("L", (1, 1)).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match=r"grey\.png has mode L; ids of segments are colours"):
        read_ids(tmp_path / "grey.png", (1, 1))
