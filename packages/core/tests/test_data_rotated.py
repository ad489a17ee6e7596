"""Rotated boxes on their way from a dataset through the transforms to a batch."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from detkit.data.targets import collate, cut_to_canvas
from detkit.data.transforms.flip import Flip
from detkit.data.transforms.moving import moved
from detkit.data.transforms.resize import ResizeShortestEdge
from detkit.interfaces import Transform
from detkit.ops.rotated_iou import rotated_iou
from detkit.structures.sample import Sample

SIZE = (80, 120)


def painted(box: list[float]) -> torch.Tensor:
    """An image (3, H, W) in which the inside of a rotated box is white, at 4 times the resolution."""
    x, y, width, height, degrees = box
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(u * width / 2, v * height / 2) for u, v in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    picture = Image.new("RGB", (4 * SIZE[1], 4 * SIZE[0]))
    ring = [(4 * (x + u * cos + v * sin) - 0.5, 4 * (y - u * sin + v * cos) - 0.5) for u, v in corners]
    ImageDraw.Draw(picture).polygon(ring, fill="white")
    return torch.from_numpy(np.array(picture.resize(SIZE[::-1], Image.Resampling.BOX))).permute(2, 0, 1)


def sample(*boxes: list[float]) -> Sample:
    target = {
        "boxes": tv_tensors.BoundingBoxes(
            torch.tensor(boxes).reshape(-1, 5), format="CXCYWHR", canvas_size=SIZE, clamping_mode=None
        ),
        "labels": torch.arange(len(boxes)),
    }
    return Sample(tv_tensors.Image(painted(boxes[0])), target)


def ellipse(image: torch.Tensor) -> tuple[float, float, float]:
    """The middle of what is white, and the direction in degrees counter-clockwise along which it is longest."""
    weight = image[0].double()
    y, x = (torch.arange(side, dtype=torch.float64) + 0.5 for side in weight.shape)
    total = weight.sum()
    x = x - (weight.sum(0) * x).sum() / total
    y = y - (weight.sum(1) * y).sum() / total
    xx, yy = (weight.sum(0) * x * x).sum(), (weight.sum(1) * y * y).sum()
    xy = (weight * y[:, None] * x).sum()
    middle = (-x[0] + 0.5, -y[0] + 0.5)
    return float(middle[0]), float(middle[1]), math.degrees(0.5 * math.atan2(-2 * xy, xx - yy))


@pytest.mark.parametrize(
    "transform",
    [Flip(1.0), Flip(0.0, 1.0), Flip(1.0, 1.0), ResizeShortestEdge([40])],
    ids=["mirrored", "upside down", "both", "smaller"],
)
@pytest.mark.parametrize("degrees", [25.0, -70.0])
def test_boxes_stay_on_what_they_are_around(transform: Transform, degrees: float) -> None:
    """Which also says that angles are counter-clockwise, as one sees the image."""
    moved_sample = transform(sample([50.0, 35, 50, 12, degrees]))
    x, y, angle = ellipse(moved_sample.image)
    box = moved_sample.target["boxes"][0].tolist()
    assert box[0] == pytest.approx(x, abs=0.3)
    assert box[1] == pytest.approx(y, abs=0.3)
    assert math.sin(math.radians(box[4] - angle)) == pytest.approx(0, abs=0.02)
    assert box[2] == pytest.approx(50 * moved_sample.image.shape[1] / 80, abs=0.1)


@pytest.mark.parametrize("horizontal", [0.0, 1.0])
def test_an_upright_box_is_upright_after_a_flip(horizontal: float) -> None:
    flipped = Flip(horizontal, 1 - horizontal)(sample([50.0, 35, 50, 12, 0]))
    assert flipped.target["boxes"][0, 4].item() == 0


def test_boxes_beyond_the_border_keep_their_shape_or_go() -> None:
    cropped = moved(sample([50.0, 35, 50, 12, 30], [100, 60, 30, 10, 45], [2, 3, 20, 10, 0]), F.crop, 0, 0, 50, 60)
    cut = cut_to_canvas(cropped)
    boxes = cut.target["boxes"]
    assert boxes.format == tv_tensors.BoundingBoxFormat.CXCYWHR
    assert tuple(boxes.canvas_size) == (50, 60)
    assert cut.target["labels"].tolist() == [0, 2]
    torch.testing.assert_close(
        boxes.as_subclass(torch.Tensor), torch.tensor([[50.0, 35, 50, 12, 30], [6, 4, 12, 8, 0]])
    )


def test_a_batch_has_boxes_of_five_numbers() -> None:
    batch = collate([sample([50.0, 35, 50, 12, 30]), sample([5.0, 5, 4, 4, 0], [9, 9, 5, 5, 10])], [1, 2], 32)
    assert batch.targets is not None
    assert batch.targets.boxes.shape == (2, 2, 5)
    assert batch.targets.valid.tolist() == [[True, False], [True, True]]
    assert rotated_iou(batch.targets.boxes[0], batch.targets.boxes[0])[0, 0] > 0.999
