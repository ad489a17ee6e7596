from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shapely import MultiPolygon, Polygon, box

from det_datasets.coco.ground_truth import encode
from det_datasets.shapes.keypoints import place_keypoints
from det_datasets.shapes.make import annotate, make_shapes, run_lengths
from det_datasets.shapes.outlines import CATEGORY_IDS, outline
from det_datasets.shapes.paint import paint
from det_datasets.shapes.scene import Item, Scene, _place
from detkit.data.source import open_split
from detkit.data.targets import rasterized


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(out, images=120, val_images=30, seed=3)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        make_shapes(tmp_path / name, images=3, val_images=2, seed=seed)
    assert contents(tmp_path / "first") == contents(tmp_path / "again")
    assert contents(tmp_path / "first").keys() == contents(tmp_path / "other").keys()
    assert contents(tmp_path / "first") != contents(tmp_path / "other")


def test_a_picture_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    make_shapes(tmp_path / "few", images=2, val_images=1)
    make_shapes(tmp_path / "many", images=4, val_images=1)
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    assert all(many[name] == data for name, data in few.items() if name.endswith(".jpg"))


def test_it_has_what_real_data_have(folder: Path) -> None:
    data = json.loads((folder / "train" / "annotations.json").read_text())
    ids = [category["id"] for category in data["categories"]]
    assert min(ids) == 1
    assert ids != list(range(1, len(ids) + 1))
    annotated = {annotation["image_id"] for annotation in data["annotations"]}
    assert len(annotated) < len(data["images"])
    crowds = [annotation for annotation in data["annotations"] if annotation["iscrowd"]]
    assert crowds
    assert all(isinstance(annotation["segmentation"]["counts"], list) for annotation in crowds)
    assert {annotation["category_id"] for annotation in data["annotations"]} == set(ids)
    sizes = {(image["height"] > image["width"]) for image in data["images"]}
    assert sizes == {True, False}


def test_objects_overlap_and_masks_do_not(folder: Path) -> None:
    dataset, overlapping = open_split(folder), 0
    for sample in dataset:
        plain = rasterized(sample)
        assert (plain["masks"].sum(0) > 1).sum() < 60  # pixels on a common edge
        x1, y1, x2, y2 = plain["boxes"].unbind(1)
        across = torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1)
        down = torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1)
        overlapping += int(((across > 0) & (down > 0)).sum() - len(x1)) // 2
    assert overlapping > 10


def test_boxes_are_tight(folder: Path) -> None:
    # but for the tips of stars and what occlusion leaves, which are thinner than pixels
    for sample in open_split(folder):
        plain = rasterized(sample)
        for mask, corners in zip(plain["masks"].numpy(), plain["boxes"].numpy(), strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            bounds = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert np.abs(corners - bounds).max() <= 4


def test_annotated_pixels_are_the_painted_ones() -> None:
    """A shape in front of another, and one that leaves a hole in it."""
    pieces = [outline("square", (50, 50), 40, 1.0, 0.2), outline("star", (85, 40), 20, 1.0, 0.0)]
    pieces.append(outline("circle", (45, 55), 12, 1.2, 0.0))
    items: list[Item] = []
    for name, piece in zip(("square", "star", "circle"), pieces, strict=True):
        assert _place(items, Item(name, [piece]), 100, 110)
    annotations = [annotate(item, 100, 110) for item in items]
    assert [type(annotation["segmentation"]) for annotation in annotations] == [dict, list, list]

    picture = np.asarray(paint(np.random.default_rng(0), Scene(100, 110, items)), float)
    background = np.asarray(paint(np.random.default_rng(0), Scene(100, 110, [])), float)
    changed = np.abs(picture - background).max(2) > 30  # noise changes less
    masks = [_decode(annotation["segmentation"]) for annotation in annotations]
    union = np.logical_or.reduce(masks)
    assert (union != changed).mean() < 0.02
    assert not np.logical_and(masks[0], masks[2]).any()


def _decode(segmentation: object) -> np.ndarray:
    from hotcoco import mask as rle

    return rle.decode(encode(segmentation, 100, 110)).astype(bool)


@pytest.fixture(scope="module")
def with_keypoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(out, images=40, val_images=1, seed=5, keypoints=True)
    return out


def test_keypoints_are_added_and_nothing_else_changes(with_keypoints: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path, images=40, val_images=1, seed=5)
    plain, marked = contents(tmp_path), contents(with_keypoints)
    assert plain.keys() == marked.keys()
    assert {name for name in plain if plain[name] != marked[name]} == {
        "train/annotations.json",
        "val/annotations.json",
    }
    without = json.loads(plain["train/annotations.json"])
    data = json.loads(marked["train/annotations.json"])
    for entry in (*data["annotations"], *data["categories"]):
        for key in ("keypoints", "num_keypoints", "skeleton", "sigmas"):
            entry.pop(key, None)
    assert data == without


def test_keypoints_lie_on_the_outline_of_their_shape(with_keypoints: Path) -> None:
    seen = hidden = 0
    for sample in open_split(with_keypoints):
        points, boxes = sample.target["keypoints"], sample.target["boxes"]
        height, width = sample.image.shape[-2:]
        assert (points[sample.target["crowd"]] == 0).all()
        assert ((points[..., 0] >= 0) & (points[..., 0] <= width)).all()
        assert ((points[..., 1] >= 0) & (points[..., 1] <= height)).all()
        for each, (x1, y1, x2, y2) in zip(points.tolist(), boxes.tolist(), strict=True):
            inside = [x1 - 2 <= x <= x2 + 2 and y1 - 2 <= y <= y2 + 2 for x, y, v in each if v == 2]
            assert all(inside)
            seen, hidden = seen + len(inside), hidden + sum(v == 1 for _, _, v in each)
    assert seen > 5 * hidden > 0


@pytest.mark.parametrize("name", CATEGORY_IDS)
def test_a_mirror_exchanges_left_and_right(name: str) -> None:
    points = place_keypoints(name, outline(name, (0, 0), 20, 1.2, 0.4))
    mirrored = place_keypoints(name, outline(name, (0, 0), 20, 1.2, -0.4))
    assert np.allclose(mirrored * (-1, 1), points[[0, 2, 1, 3]], atol=0.3)
    top, left, right, bottom = points
    assert top[1] < min(left[1], right[1]) <= max(left[1], right[1]) <= bottom[1] + 12
    assert left[0] < right[0]


def test_what_would_hide_another_is_not_placed() -> None:
    items: list[Item] = []
    assert _place(items, Item("circle", [outline("circle", (50, 50), 15, 1.0, 0.0)]), 100, 100)
    assert not _place(items, Item("square", [outline("square", (50, 50), 30, 1.0, 0.0)]), 100, 100)
    assert not _place(items, Item("square", [outline("square", (0, 0), 30, 1.0, 0.0)]), 100, 100)
    assert len(items) == 1


@pytest.mark.parametrize("name", CATEGORY_IDS)
def test_outlines_are_simple_and_as_large_as_asked(name: str) -> None:
    shape = Polygon(outline(name, (50, 60), 20, 1.3, 0.4))
    assert shape.is_valid
    assert shape.centroid.distance(box(45, 55, 55, 65)) == 0
    assert 20 < max(shape.bounds[2] - shape.bounds[0], shape.bounds[3] - shape.bounds[1]) < 56


def test_run_lengths_count_columns_and_begin_with_zeros() -> None:
    mask = np.zeros((3, 2), np.uint8)
    assert run_lengths(mask) == [6]
    mask[0, 0] = 1
    assert run_lengths(mask) == [0, 1, 5]
    mask[:] = [[0, 1], [0, 0], [1, 1]]
    assert run_lengths(mask) == [2, 2, 1, 1]


def test_pictures_are_jpeg_files_of_the_annotated_size(folder: Path) -> None:
    data = json.loads((folder / "val" / "annotations.json").read_text())
    for entry in data["images"]:
        with Image.open(folder / "val" / "images" / entry["file_name"]) as picture:
            assert picture.format == "JPEG"
            assert picture.size == (entry["width"], entry["height"])


def test_another_dataset_is_not_overwritten_unasked(tmp_path: Path) -> None:
    make_shapes(tmp_path, images=3, val_images=1)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="there is a dataset already"):
        make_shapes(tmp_path, images=2, val_images=1)
    assert contents(tmp_path) == before
    make_shapes(tmp_path, images=2, val_images=1, overwrite=True)
    assert len(list((tmp_path / "train" / "images").iterdir())) == 2


@pytest.mark.parametrize("options", [{"images": 0}, {"val_images": 0}, {"size": 8}])
def test_a_dataset_of_nothing_is_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1, 1 and 32"):
        make_shapes(tmp_path, **options)


def test_items_start_without_anything_visible() -> None:
    assert Item("circle", []).visible == MultiPolygon()
