from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

from detkit.data.targets import cut_to_canvas, rasterized, without_crowds
from detkit.data.transforms.colour import ColorJitter, PhotometricDistort
from detkit.data.transforms.crop import RandomCrop
from detkit.data.transforms.flip import Flip
from detkit.data.transforms.resize import LargeScaleJitter, ResizeShortestEdge
from detkit.data.transforms.torchvision import Torchvision
from detkit.interfaces import Transform
from detkit.structures.instance_keypoints import InstanceKeypoints
from detkit.structures.polygons import Polygons
from detkit.structures.sample import Sample

HEIGHT, WIDTH = 48, 80


def make_sample(boxes: list[list[int]], seed: int = 0) -> Sample:
    """Each box is one instance: an outline if its position is even, else a bitmap, both filling the box; its centre is
    a key point. The image is bright exactly where a box is."""
    size, count = (HEIGHT, WIDTH), len(boxes)
    masks = torch.zeros(count, *size, dtype=torch.uint8)
    rings: list[list[list[int]]] = []
    image = torch.randint(0, 50, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    for position, (x1, y1, x2, y2) in enumerate(boxes):
        image[:, y1:y2, x1:x2] = 250
        masks[position, y1:y2, x1:x2] = position % 2
        rings.append([] if position % 2 else [[x1, y1, x2, y1, x2, y2, x1, y2]])
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    points = torch.cat(((corners[:, :2] + corners[:, 2:]) / 2, torch.full((count, 1), 2.0)), dim=1)[:, None]
    target = {
        "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=size),
        "labels": torch.arange(count),
        "crowd": torch.zeros(count, dtype=torch.bool),
        "polygons": Polygons.from_rings(rings, size),
        "masks": tv_tensors.Mask(masks),
        "has_mask": torch.ones(count, dtype=torch.bool),
        "keypoints": InstanceKeypoints(points, flipped=(0,), canvas_size=size),
    }
    return Sample(tv_tensors.Image(image), target, {"image_id": 7})


@st.composite
def box(draw: st.DrawFn) -> list[int]:
    x1, y1 = draw(st.integers(0, WIDTH - 3)), draw(st.integers(0, HEIGHT - 3))
    return [x1, y1, draw(st.integers(x1 + 2, WIDTH)), draw(st.integers(y1 + 2, HEIGHT))]


SAMPLES = st.lists(box(), max_size=5).map(make_sample)

ALL: list[Callable[[], Transform]] = [
    lambda: Flip(0.5, 0.5),
    lambda: ResizeShortestEdge([24, 60], 90),
    lambda: ResizeShortestEdge([24, 60], 90, "range"),
    lambda: RandomCrop((0.4, 0.4)),
    lambda: RandomCrop((0.5, 0.7), "relative"),
    lambda: RandomCrop((30, 300), "absolute"),
    lambda: RandomCrop((10, 60), "absolute_range"),
    lambda: LargeScaleJitter(64, 0.3, 2.0),
    lambda: ColorJitter(hue=0.1),
    lambda: PhotometricDistort(),
    lambda: Torchvision("RandomRotation", {"degrees": 30, "expand": True}),
]


@pytest.mark.parametrize("make", ALL)
@given(sample=SAMPLES, seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_masks_lie_where_the_image_is_bright(make: Callable[[], Transform], sample: Sample, seed: int) -> None:
    torch.manual_seed(seed)
    moved = cut_to_canvas(make()(sample))
    plain, size = rasterized(moved), tuple(moved.image.shape[-2:])
    assert moved.image.dtype == torch.uint8
    assert moved.info == sample.info
    assert {len(value) for value in plain.values()} == {len(moved.target["labels"])}
    assert plain["masks"].shape[1:] == size
    limit = torch.tensor((size[1], size[0], size[1], size[0]))
    assert ((plain["boxes"] >= 0) & (plain["boxes"] <= limit)).all()
    bright = moved.image.float().mean(0)
    inside = eroded(plain["masks"]).any(0)
    if inside.any() and not isinstance(make(), ColorJitter | PhotometricDistort):
        assert bright[inside].min() > 120


def eroded(masks: Tensor) -> Tensor:
    """Without the pixels at their borders and at that of the image, which resizing mixes with what is beside."""
    padded = torch.nn.functional.pad(masks[:, None].float(), (2, 2, 2, 2))
    return torch.nn.functional.avg_pool2d(padded, 5, 1)[:, 0] > 0.999


@pytest.mark.parametrize("make", ALL)
def test_no_instances_are_no_problem(make: Callable[[], Transform]) -> None:
    torch.manual_seed(0)
    moved = cut_to_canvas(make()(make_sample([])))
    plain = rasterized(moved)
    assert plain["boxes"].shape == (0, 4)
    assert plain["masks"].shape == (0, *moved.image.shape[-2:])


@pytest.mark.parametrize("make", ALL)
def test_torchs_seed_decides(make: Callable[[], Transform]) -> None:
    sample, found = make_sample([[10, 10, 40, 30], [50, 5, 70, 40]]), []
    for seed in (5, 5, 6, 7, 8):
        torch.manual_seed(seed)
        found.append(make()(sample).image)
    assert torch.equal(found[0], found[1])
    assert any(found[0].shape != image.shape or not torch.equal(found[0], image) for image in found[2:])


@given(SAMPLES)
@settings(deadline=None, max_examples=30)
def test_mirroring_twice_changes_nothing(sample: Sample) -> None:
    flip = Flip(1.0, 1.0)
    twice = flip(flip(sample))
    assert torch.equal(twice.image, sample.image)
    assert torch.equal(twice.target["boxes"], sample.target["boxes"])
    assert torch.equal(twice.target["keypoints"], sample.target["keypoints"])
    assert torch.equal(twice.target["masks"], sample.target["masks"])


@given(SAMPLES)
@settings(deadline=None, max_examples=30)
def test_key_points_stay_in_the_middle_of_their_box(sample: Sample) -> None:
    moved = ResizeShortestEdge([96], 200)(Flip(1.0, 1.0)(sample)).target
    boxes = moved["boxes"].as_subclass(Tensor)
    assert torch.allclose(moved["keypoints"][:, 0, :2].as_subclass(Tensor), (boxes[:, :2] + boxes[:, 2:]) / 2)


def test_resizes_the_shortest_edge_unless_the_longest_would_be_too_long() -> None:
    sample = make_sample([])
    assert ResizeShortestEdge([24], 200)(sample).image.shape[-2:] == (24, 40)
    assert ResizeShortestEdge([60], 90)(sample).image.shape[-2:] == (54, 90)


def test_jitter_makes_squares_of_one_size() -> None:
    sample = make_sample([[10, 10, 40, 30]])
    for seed in range(10):
        torch.manual_seed(seed)
        assert LargeScaleJitter(64, 0.2, 3.0)(sample).image.shape[-2:] == (64, 64)


def test_jitter_may_leave_padding_to_the_batch() -> None:
    sample = make_sample([[10, 10, 40, 30]])
    height, width = sample.image.shape[-2:]
    small = LargeScaleJitter(64, 0.5, 0.5, fill=None)(sample).image.shape[-2:]
    assert tuple(small) == (round(32 * height / max(height, width)), round(32 * width / max(height, width)))
    assert max(LargeScaleJitter(64, 3.0, 3.0, fill=None)(sample).image.shape[-2:]) == 64


def test_instances_that_are_cut_get_the_box_of_what_is_left() -> None:
    from torchvision.transforms.v2 import functional as F

    from detkit.data.transforms.moving import moved

    triangle = Polygons.from_rings([[[10, 10, 40, 10, 10, 40]]], (HEIGHT, WIDTH))
    sample = make_sample([[10, 10, 40, 40]])
    sample.target["polygons"] = triangle
    sample.target.pop("masks")
    cut = cut_to_canvas(moved(sample, F.crop, 20, 0, 28, WIDTH))  # rows 20 to 48
    assert torch.allclose(cut.target["boxes"].as_subclass(Tensor), torch.tensor([[10.0, 0.0, 30.0, 20.0]]))


def test_instances_outside_are_left_out() -> None:
    from torchvision.transforms.v2 import functional as F

    from detkit.data.transforms.moving import moved

    sample = make_sample([[0, 0, 10, 10], [0, 0, 10, 10], [50, 20, 70, 40], [50, 20, 70, 40]])
    assert cut_to_canvas(moved(sample, F.crop, 0, 40, HEIGHT, 40)).target["labels"].tolist() == [2, 3]


def test_crowds_are_left_out_with_their_bitmaps() -> None:
    sample = make_sample([[0, 0, 10, 10], [20, 0, 30, 10]])
    sample.target["crowd"] = torch.tensor([False, True])
    left = without_crowds(sample)
    assert left.target["labels"].tolist() == [0]
    assert "masks" not in left.target


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flip(1.5), "horizontal is 1.5; a probability"),
        (lambda: ResizeShortestEdge([]), "sizes"),
        (lambda: ResizeShortestEdge([800], 600), "sizes from 1 to max_size"),
        (lambda: RandomCrop((1.2, 0.5)), "shares"),
        (lambda: RandomCrop((300, 200), "absolute_range"), "the smallest must come first"),
        (lambda: LargeScaleJitter(0), "target 0 x 0"),
        (lambda: LargeScaleJitter(fill=256), "fill is 256; a grey value"),
        (lambda: PhotometricDistort(2.0), "from 0 to 1"),
        (lambda: Torchvision("RandomRotatoin"), "no transform 'RandomRotatoin'"),
        (lambda: Torchvision("RandomRotation", {"degree": 3}), "unexpected keyword argument 'degree'; it takes"),
        (lambda: Torchvision("RandomRotation", {"degrees": -3}), "RandomRotation: If degrees is a single number"),
    ],
)
def test_wrong_arguments_are_explained(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
