"""Detectron's formulae, written down anew for boxes from the first to the last pixel, against detkit's."""

from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor

from det_detectron2.caffe2_tree import anchors
from detkit.config import build
from detkit.interfaces import RoiHead
from detkit.ops.boxes import clip_boxes, decode_boxes
from detkit.structures.shape import Shape


def inclusive_decode(boxes: np.ndarray, deltas: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    width, height = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    dx, dy, dw, dh = (deltas / np.array(weights)).T
    dw, dh = np.minimum(dw, np.log(1000 / 16)), np.minimum(dh, np.log(1000 / 16))
    x, y = boxes[:, 0] + width / 2 + dx * width, boxes[:, 1] + height / 2 + dy * height
    w, h = np.exp(dw) * width, np.exp(dh) * height
    return np.stack([x - w / 2, y - h / 2, x + w / 2 - 1, y + h / 2 - 1], axis=1)


def from_edges(boxes: Tensor) -> np.ndarray:
    return boxes.numpy() - np.array([0, 0, 1, 1])


def test_anchors_are_detectrons() -> None:
    """The table of Faster R-CNN's first code, for a cell of 16 pixels, in Matlab, which counts pixels from 1."""
    wanted = [
        [-83, -39, 100, 56],
        [-175, -87, 192, 104],
        [-359, -183, 376, 200],
        [-55, -55, 72, 72],
        [-119, -119, 136, 136],
        [-247, -247, 264, 264],
        [-35, -79, 52, 96],
        [-79, -167, 96, 184],
        [-167, -343, 184, 360],
    ]
    centred = torch.tensor(anchors(16, [128, 256, 512], [0.5, 1, 2]))
    in_cell = from_edges(centred + 8)  # around its middle: an offset of half a stride
    assert (in_cell + 1).tolist() == wanted


def test_boxes_are_decoded_as_detectron_does() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 200, (50, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 200, (50, 2))], axis=1)
    deltas = rng.normal(0, 3, (50, 4))
    weights = (10.0, 10.0, 5.0, 5.0)
    edges = torch.from_numpy(boxes + np.array([0, 0, 1, 1]))
    found = from_edges(decode_boxes(edges, torch.from_numpy(deltas), weights))
    np.testing.assert_allclose(found, inclusive_decode(boxes, deltas, weights), rtol=1e-4, atol=1e-3)


def test_boxes_are_clipped_as_detectron_does() -> None:
    """Where a pixel of them is inside: to the numbers of the first and the last pixel."""
    rng = np.random.default_rng(1)
    low = rng.uniform(-50, 98, (50, 2))
    boxes = np.concatenate([low, np.maximum(low, 0) + rng.uniform(0, 200, (50, 2))], axis=1)
    edges = torch.from_numpy(boxes + np.array([0, 0, 1, 1]))
    found = from_edges(clip_boxes(edges[None], torch.tensor([[100, 100]]))[0])
    np.testing.assert_allclose(found, boxes.clip(0, 99), atol=1e-6)


def head(kind: str, **arguments: Any) -> Any:
    shapes = {f"p{level}": Shape(8, 2**level) for level in (2, 3, 4, 5)}
    spec = {"name": kind, "sampling_ratio": 2, "aligned": False, "inclusive": True, **arguments}
    return build(spec, RoiHead, input_shapes=shapes, num_classes=1, num_keypoints=2, categories=None)


def test_regions_are_pooled_up_to_the_number_of_their_last_pixel() -> None:
    pool = head("box", channels=4).pool
    generator = torch.Generator().manual_seed(0)
    features = {
        f"p{level}": torch.rand(1, 8, 2 ** (8 - level), 2 ** (8 - level), generator=generator) for level in (2, 3, 4, 5)
    }
    first_and_last = torch.tensor([[10.0, 20.0, 49.0, 99.0]])
    found = pool(features, first_and_last + torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.zeros(1, dtype=torch.int64))
    wanted = torchvision.ops.roi_align(features["p2"], [first_and_last], 7, 1 / 4, 2, aligned=False)
    torch.testing.assert_close(found, wanted)


def test_keypoints_are_numbers_of_pixels() -> None:
    """A peak in the first cell of 56 in a box from pixel 10 to pixel 66: half a cell from its corner, in detkit's
    coordinates another half a pixel."""
    maps = torch.full((1, 2, 56, 56), -10.0)
    maps[0, 0, 0, 0] = maps[0, 1, 55, 55] = 10.0
    raw = {
        "keypoint_maps": maps,
        "boxes": torch.tensor([[10.0, 10.0, 67.0, 67.0]]),
        "keypoint_extents": torch.tensor([[56.0, 56.0]]),
    }
    points = head("keypoint", channels=[4], pixel_numbers=True).paste(raw, (100, 100))["keypoints"]
    torch.testing.assert_close(points[0, :, 0], torch.tensor([11.0, 66.0]))
