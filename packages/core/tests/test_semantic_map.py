from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from detkit.data.targets import collate, cut_to_canvas, rasterized, select
from detkit.data.transforms.resize import LargeScaleJitter
from detkit.data.transforms.torchvision import Torchvision
from detkit.structures.batch import UNLABELLED
from detkit.structures.sample import Sample
from detkit.structures.semantic_map import SemanticMap
from detkit.testing.samples import random_sample

LABELS = torch.tensor([[0, 1, 2], [3, 254, UNLABELLED]], dtype=torch.uint8)


def moved(functional: Any, *args: Any, **kwargs: Any) -> list[list[int]]:
    found = functional(SemanticMap(LABELS), *args, **kwargs)
    assert isinstance(found, SemanticMap)
    assert found.dtype == torch.uint8
    rows: list[list[int]] = found.tolist()
    return rows


def test_flips_and_crops_move_labels() -> None:
    assert moved(F.horizontal_flip) == [[2, 1, 0], [255, 254, 3]]
    assert moved(F.vertical_flip) == [[3, 254, 255], [0, 1, 2]]
    assert moved(F.crop, 0, 1, 2, 2) == [[1, 2], [254, 255]]


def test_what_is_added_around_an_image_has_no_label() -> None:
    assert moved(F.pad, [1, 0, 0, 1]) == [[255, 0, 1, 2], [255, 3, 254, 255], [255] * 4]
    assert moved(F.pad, [0, 0, 0, 1], fill=128)[2] == [255] * 3
    assert moved(F.crop, -1, 0, 2, 3) == [[255] * 3, [0, 1, 2]]
    turned = F.rotate(SemanticMap(torch.zeros(9, 9)), 45)
    assert turned[0, 0] == UNLABELLED
    assert turned[4, 4] == 0


def test_pixels_are_looked_up_at_their_centres() -> None:
    labels = SemanticMap(torch.arange(6).expand(6, 6))
    assert F.resize(labels, [2, 2])[0].tolist() == [1, 4]
    assert F.resize(labels, [6, 12])[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert F.resized_crop(labels, 0, 0, 6, 3, [2, 1])[0].tolist() == [1]
    assert F.resize(labels, 3, max_size=100).shape == (3, 3)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RandomRotation", {"degrees": 30, "fill": 128}),
        ("RandomResizedCrop", {"size": (40, 50)}),
        ("RandomPerspective", {"p": 1.0}),
        ("RandomZoomOut", {"p": 1.0}),
        ("ScaleJitter", {"target_size": (60, 70)}),
        ("RandomIoUCrop", {}),
    ],
)
def test_torchvisions_transforms_move_labels_with_the_image(name: str, arguments: dict[str, Any]) -> None:
    """The image shows its labels, up to what is interpolated at the borders of regions."""
    sample = random_sample()
    labels = sample.target["semantic"].as_subclass(Tensor)
    sample = replace(sample, image=tv_tensors.Image((labels * 40 + 100).expand(3, -1, -1)))
    target = {key: sample.target[key] for key in ("boxes", "labels", "semantic")}
    torch.manual_seed(0)
    done = Torchvision(name, arguments)(replace(sample, target=target))
    found = done.target["semantic"].as_subclass(Tensor)
    assert found.shape == done.image.shape[1:]
    labelled = found != UNLABELLED
    assert labelled.any()
    shown = (done.image[0].as_subclass(Tensor)[labelled].float() - 100) / 40
    assert ((shown - found[labelled]).abs() < 0.6).float().mean() > 0.95


def test_leaving_out_instances_leaves_labels_alone() -> None:
    sample = random_sample()
    kept = select(sample, torch.tensor([True, False, False, True]))
    assert torch.equal(kept.target["semantic"], sample.target["semantic"])
    assert rasterized(cut_to_canvas(kept))["semantic"].shape == sample.image.shape[1:]


def test_sanitizing_boxes_leaves_labels_alone() -> None:
    sample = random_sample()
    target = {key: sample.target[key] for key in ("boxes", "labels", "semantic")}
    target["boxes"][1, 2:] = target["boxes"][1, :2]
    _, found = v2.SanitizeBoundingBoxes()(sample.image, target)
    assert len(found["boxes"]) == 3
    assert torch.equal(found["semantic"], target["semantic"])


def test_large_scale_jitter_pads_with_no_label() -> None:
    torch.manual_seed(0)
    found = LargeScaleJitter(size=64, min_scale=0.5, max_scale=0.5)(random_sample()).target["semantic"]
    assert found.shape == (64, 64)
    assert (found[:, 32:] == UNLABELLED).all()
    assert (found[:20, :32] != UNLABELLED).all()


def test_a_batch_has_the_labels_of_all_images() -> None:
    first = random_sample()
    image = tv_tensors.Image(first.image[:, :50, :60])
    second = Sample(image, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "semantic": SemanticMap(LABELS)})
    targets = collate([first, second], [0, 1], divisor=32).targets
    assert targets is not None
    assert targets.semantic is not None
    assert targets.semantic.dtype == torch.int64
    assert targets.semantic.shape == (2, 128, 192)
    assert torch.equal(targets.semantic[0], first.target["semantic"].as_subclass(Tensor).long())
    assert torch.equal(targets.semantic[1, :2, :3], LABELS.long())
    assert (targets.semantic[1, 2:] == UNLABELLED).all()
