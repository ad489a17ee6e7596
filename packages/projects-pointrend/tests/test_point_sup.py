"""Labelled points: drawn from masks, read, transformed, learned from."""

import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pycocotools import mask as reference_masks
from torch import Tensor
from torchvision.transforms import v2

from det_pointrend.coco_points import CocoPoints
from det_pointrend.data_points import labelled, main
from det_pointrend.implicit_head import ImplicitPointRendHead
from det_pointrend.point_annotations import PointAnnotations, SamplePoints, annotated_points
from det_pointrend.point_sup import PointSupervisedMaskHead
from detkit.data.source import open_split
from detkit.data.targets import collate, cut_to_canvas
from detkit.interfaces import Dataset, RoiSamples
from detkit.structures.batch import Targets
from detkit.structures.sample import Sample
from detkit.structures.shape import Shape
from detkit.testing.dataset import DatasetContract
from detkit.testing.inputs import random_features, random_targets
from detkit.testing.samples import random_sample
from detkit.testing.transform import TransformContract

SHAPES = {"p2": Shape(8, 4), "p3": Shape(8, 8), "p4": Shape(8, 16), "p5": Shape(8, 32)}
SQUARE = [[10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]]


def truth() -> dict[str, Any]:
    """Three images, two objects in the second and one in the third: polygons, uncompressed and compressed RLE."""
    runs = {"size": [40, 50], "counts": [400, 600, 1000]}
    code = reference_masks.frPyObjects(runs, 40, 50)
    masks = [
        [*SQUARE, [32.0, 8.0, 40.0, 8.0, 40.0, 30.0]],
        runs,
        {"size": [40, 50], "counts": code["counts"].decode()},
    ]
    boxes = [[10.0, 5.0, 30.0, 25.0], [10.0, 0.0, 15.0, 40.0], [10.2, 0.0, 14.9, 40.0]]
    return {
        "info": {"year": 2017},
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": 40, "width": 50} for n in (1, 2, 3)],
        "categories": [{"id": 3, "name": "lion"}, {"id": 7, "name": "yak"}],
        "annotations": [
            {"id": 90 - n, "image_id": n // 2 + 2, "category_id": 3, "area": 9.0, "iscrowd": 0, "bbox": box,
             "segmentation": mask}
            for n, (box, mask) in enumerate(zip(boxes, masks, strict=True))
        ],
    }  # fmt: skip


def write(folder: Path, data: Mapping[str, Any]) -> Path:
    """In the layout that the reader of COCO files knows; the annotation file."""
    (folder / "train" / "images").mkdir(parents=True)
    for image in data["images"]:
        Image.new("RGB", (50, 40), (90, 20, 20)).save(folder / "train" / "images" / image["file_name"])
    file = folder / "train" / "annotations.json"
    file.write_text(json.dumps(data))
    return file


def published(data: Mapping[str, Any], count: int, seed: int) -> list[tuple[list[list[int]], list[int]]]:
    """What the script of Cheng et al. draws: for each annotation in turn two uniform numbers for each point, rounded
    down to a pixel of the box, and what the mask has there."""
    np.random.seed(seed)
    found = []
    for entry in data["annotations"]:
        segmentation = entry["segmentation"]
        if isinstance(segmentation, list):
            code = reference_masks.merge(reference_masks.frPyObjects(segmentation, 40, 50))
        elif isinstance(segmentation["counts"], list):
            code = reference_masks.frPyObjects(segmentation, 40, 50)
        else:
            code = segmentation
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, about pycocotools
            mask = reference_masks.decode(code)
        x, y, width, height = entry["bbox"]
        places = np.random.rand(count, 2) * [width, height] + [x, y]
        columns, rows = np.floor(places).astype(int).T
        found.append((np.stack([columns, rows], axis=1).tolist(), mask[rows, columns].tolist()))
    return found


@pytest.mark.parametrize(("count", "seed"), [(10, 12345), (3, 0)])
def test_points_are_those_of_the_published_script(count: int, seed: int) -> None:
    found = labelled(truth(), points=count, seed=seed)
    drawn = [(entry["point_coords"], entry["point_labels"]) for entry in found["annotations"]]
    assert drawn == published(truth(), count, seed)
    assert count < 10 or {label for _, labels in drawn for label in labels} == {0, 1}
    assert not any("segmentation" in entry for entry in found["annotations"])
    assert found["info"] == truth()["info"]


def test_boxes_that_reach_over_the_border_have_points_inside() -> None:
    data = truth()
    data["annotations"][0]["bbox"] = [-20.0, 30.0, 90.0, 30.0]
    places = np.array(labelled(data, points=50, seed=1)["annotations"][0]["point_coords"])
    assert places.min() >= 0
    assert (places < (50, 40)).all()


def test_objects_without_masks_are_named() -> None:
    data = truth()
    del data["annotations"][1]["segmentation"]
    with pytest.raises(ValueError, match="annotation 89 has no mask"):
        labelled(data, points=1, seed=0)


def test_the_command_writes_what_the_reader_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "coco", truth())
    assert main([str(tmp_path / "coco"), "--out", str(tmp_path / "points"), "--points", "4", "--seed", "3"]) == 0
    assert "4 points for each of 3 objects" in capsys.readouterr().out
    dataset = open_split(tmp_path / "points" / "data.yaml")
    assert isinstance(dataset, CocoPoints)
    assert not dataset.has_masks
    drawn = dict(zip((90, 89, 88), published(truth(), 4, 3), strict=True))
    for index, ids in enumerate([[], [90, 89], [88]]):
        found = dataset[index].target["points"].as_subclass(Tensor)
        assert found.shape == (len(ids), 4, 3)
        for points, number in zip(found, ids, strict=True):
            coordinates, labels = drawn[number]
            assert (points[:, :2] - 0.5).tolist() == coordinates
            assert points[:, 2].tolist() == labels


def test_the_validation_split_keeps_its_masks(tmp_path: Path) -> None:
    """They are what models are evaluated by; the points are for the loss there."""
    data = truth()
    write(tmp_path / "coco", data)
    del data["annotations"][2]["segmentation"]
    write(tmp_path / "other", data)
    (tmp_path / "other" / "train").rename(tmp_path / "coco" / "val")
    main([str(tmp_path / "coco"), "--out", str(tmp_path / "points")])
    dataset = open_split(tmp_path / "points" / "data.yaml", "val")
    assert dataset.has_masks
    target = dataset[1].target
    assert target["has_mask"].tolist() == [True, True]
    assert (target["points"][..., 2] >= 0).all()
    assert (dataset[2].target["points"][..., 2] == -1).all()


def test_annotations_with_fewer_points_have_some_that_are_not_known(tmp_path: Path) -> None:
    data = labelled(truth(), points=3, seed=0)
    data["annotations"][0] |= {"point_coords": [[4, 6]], "point_labels": [1]}
    del data["annotations"][2]["point_coords"], data["annotations"][2]["point_labels"]
    file = write(tmp_path, data)
    dataset = CocoPoints(file.with_name("images"), file)
    points = dataset[1].target["points"].as_subclass(Tensor)
    assert points[0].tolist() == [[4.5, 6.5, 1], [0, 0, -1], [0, 0, -1]]
    assert dataset[2].target["points"][0, :, 2].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"point_labels": [1]}, "3 point_coords"),
        ({"point_labels": [1, 0, 5]}, "annotation 90 has the label 5 of a point"),
        ({"point_coords": "here"}, "array"),
        ({"id": 89}, "id"),
    ],
)
def test_unusable_points_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    data = labelled(truth(), points=3, seed=0)
    data["annotations"][0] |= change
    file = write(tmp_path, data)
    with pytest.raises(ValueError, match=message):
        CocoPoints(file.with_name("images"), file)


def test_proposals_and_labels_of_pixels_come_with_the_points(tmp_path: Path) -> None:
    """Also where points are drawn from data that has them."""
    write(tmp_path, truth())
    maps, proposals = tmp_path / "maps", tmp_path / "proposals.pkl"
    maps.mkdir()
    (tmp_path / "maps.json").write_text(json.dumps(["grass", "sky"]))
    for number in (1, 2, 3):
        Image.fromarray(np.full((40, 50), number % 2, np.uint8)).save(maps / f"{number}.png")
    box, score = np.array([[0, 0, 9, 9.0]], np.float32), np.zeros(1, np.float32)
    found = {"ids": [1, 2, 3], "boxes": [box] * 3, "objectness_logits": [score] * 3, "bbox_mode": 0}
    proposals.write_bytes(pickle.dumps(found))
    (tmp_path / "data.yaml").write_text(
        "train: {images: train/images, annotations: train/annotations.json, semantic: maps, proposals: proposals.pkl}"
    )
    assert main([str(tmp_path / "data.yaml"), "--out", str(tmp_path / "points")]) == 0
    target = open_split(tmp_path / "points" / "data.yaml")[1].target
    assert target["points"].shape == (2, 10, 3)
    assert target["proposals"].shape == (1, 4)
    assert (target["semantic"] == 0).all()


def test_files_without_points_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, truth())
    with pytest.raises(ValueError, match="detkit data points"):
        CocoPoints(file.with_name("images"), file)


class TestCocoPoints(DatasetContract):
    name = "coco-points"

    def make(self, folder: Path) -> Dataset:
        file = write(folder, labelled(truth(), points=5, seed=0))
        return CocoPoints(file.with_name("images"), file)


class TestTransforms(TransformContract):
    distribution = "det-pointrend"


def sample() -> Sample:
    found = random_sample()
    points = PointAnnotations(torch.tensor([[[0, 0, 0], [30, 20, 1], [1e4, 2, 1.0]]] * 4), canvas_size=(128, 160))
    size = tuple(found.image.shape[-2:])
    return replace(
        found, target={**found.target, "points": points.like_this(points.as_subclass(Tensor), canvas_size=size)}
    )


def test_points_move_with_the_image_and_nothing_is_known_outside() -> None:
    given = sample()
    width = given.image.shape[-1]
    image, target = v2.functional.horizontal_flip(given.image), dict(given.target)
    target["points"] = v2.functional.horizontal_flip(given.target["points"])
    cut = cut_to_canvas(Sample(image, {**given.target, "points": target["points"]}, given.info)).target["points"]
    assert isinstance(cut, PointAnnotations)
    assert cut[0].tolist() == [[width, 0, 0], [width - 30, 20, 1], [0, 0, -1]]


def test_what_is_pasted_over_a_point_takes_it_from_the_object() -> None:
    over = torch.zeros(sample().image.shape[-2:], dtype=torch.bool)
    over[20, 30] = True
    assert sample().target["points"].covered(over)[0, :, 2].tolist() == [0, 0, 1]


def test_some_of_the_points_are_sampled_each_once() -> None:
    given = sample()
    torch.manual_seed(0)
    seen = set()
    for _ in range(20):
        found = SamplePoints(2)(given).target["points"].as_subclass(Tensor)
        assert found.shape == (4, 2, 3)
        for rows in found:
            assert rows[0].tolist() != rows[1].tolist()
            seen |= {tuple(row) for row in rows.tolist()}
    assert len(seen) == 3
    assert SamplePoints(5)(given).target["points"].shape == (4, 5, 3)
    assert given.target["points"].shape == (4, 3, 3)
    assert "points" not in SamplePoints(2)(random_sample()).target
    with pytest.raises(ValueError, match="at least one point"):
        SamplePoints(0)


def test_a_batch_has_the_points_of_all_instances() -> None:
    batch = collate([sample(), sample()], [1, 2], 32)
    assert batch.targets is not None
    points = batch.targets.extra["points"]
    assert type(points) is Tensor
    assert points.shape == (2, 4, 3, 3)


def training(labels: int = 2) -> tuple[dict[str, Tensor], RoiSamples, Targets]:
    """Features, five regions in each of two images, the first three foreground, and their ground truth with points."""
    targets = random_targets(2, 3)
    boxes = torch.cat([targets.boxes + torch.tensor([-3.0, 2.0, 4.0, -1.0]), targets.boxes[:, :2]], dim=1)
    low, high = targets.boxes[..., None, :2], targets.boxes[..., None, 2:]
    torch.manual_seed(0)
    places = low + (high - low) * (torch.rand(2, 3, 6, 2) * 1.2 - 0.1)
    known = torch.randint(-1, 2, (2, 3, 6, 1)).float()
    targets.extra["points"] = torch.cat([places, known], dim=-1)
    targets.masks = None
    samples = RoiSamples(
        boxes=boxes,
        valid=torch.ones(2, 5, dtype=torch.bool),
        labels=torch.cat([targets.labels, torch.full((2, 2), 3)], dim=1),
        target_index=torch.tensor([[1, 2, 0, 0, 0]] * 2),
        foreground=3,
    )
    return random_features(SHAPES, 2), samples, targets


def wanted(samples: RoiSamples, targets: Targets) -> list[tuple[int, Tensor, Tensor, Tensor]]:
    """(row, places in the region from 0 to 1, labels, known) of each foreground region, as Detectron2 computes them."""
    assert samples.target_index is not None
    found = []
    for image in range(2):
        for region in range(3):
            box = samples.boxes[image, region]
            points = targets.extra["points"][image, samples.target_index[image, region]]
            places = (points[:, :2] - box[:2]) / (box[2:] - box[:2])
            outside = (places < 0).any(dim=1) | (places > 1).any(dim=1)
            found.append((image * 5 + region, places, points[:, 2], (points[:, 2] != -1) & ~outside))
    return found


def test_points_are_those_of_the_matched_instances_in_their_regions() -> None:
    _, samples, targets = training()
    rows = torch.tensor([row for row, *_ in wanted(samples, targets)])
    points, labels, known = annotated_points(samples, targets, rows)
    for index, (_, places, values, expected) in enumerate(wanted(samples, targets)):
        assert torch.equal(known[index], expected)
        torch.testing.assert_close(points[index][expected], places[expected])
        assert torch.equal(labels[index][expected], values[expected])
    assert 0 < known.sum() < known.numel()


def test_the_mask_heads_loss_is_detectron2s() -> None:
    """Its mean is over all points, with those that are left out as 0."""
    features, samples, targets = training()
    torch.manual_seed(1)
    head = PointSupervisedMaskHead(input_shapes=SHAPES, num_classes=3, channels=8, layers=1, weight=2.0)
    torch.nn.init.normal_(head.predictor.logits.weight)
    losses = []
    for row, places, values, known in wanted(samples, targets):
        logits = head.logits(features, samples, torch.tensor([row]))
        there = F.grid_sample(logits[None], 2 * places[None, :, None] - 1, align_corners=False).flatten()
        entropy = F.binary_cross_entropy_with_logits(there, values.clamp(min=0), reduction="none")
        losses.append(torch.where(known, entropy, 0.0))
    expected = torch.stack(losses).mean() * 2
    torch.testing.assert_close(head.losses(features, samples, targets)["mask"], expected)


def test_implicit_heads_learn_from_the_points_alone() -> None:
    features, samples, targets = training()
    torch.manual_seed(1)
    head = ImplicitPointRendHead(
        input_shapes=SHAPES,
        num_classes=3,
        channels=8,
        width=16,
        point_channels=8,
        position_channels=8,
        train_points=None,
    )
    losses = []
    for row, places, values, known in wanted(samples, targets):
        regions = head.regions(features, samples, torch.tensor([row]))
        logits = head.evaluator(regions)(torch.where(known[:, None], places, 0.5)[None])[0]
        entropy = F.binary_cross_entropy_with_logits(logits, values.clamp(min=0), reduction="none")
        losses.append(torch.where(known, entropy, 0.0))
    torch.testing.assert_close(head.losses(features, samples, targets)["mask_point"], torch.stack(losses).mean())


def test_data_without_points_is_refused() -> None:
    features, samples, targets = training()
    targets.extra.clear()
    head = PointSupervisedMaskHead(input_shapes=SHAPES, num_classes=3, channels=8, layers=0)
    with pytest.raises(ValueError, match="coco-points"):
        head.losses(features, samples, targets)
