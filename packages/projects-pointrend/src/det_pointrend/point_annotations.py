"""Labelled points instead of masks: a few of each object, said to be on it or not (Cheng et al., 2022)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from detkit.data.transforms.draws import integer
from detkit.interfaces import RoiSamples, Transform
from detkit.structures.batch import Targets
from detkit.structures.instance_points import InstancePoints
from detkit.structures.sample import Sample

ENTRY = "points"
"""What the points are called in targets."""


class PointAnnotations(InstancePoints):
    """K points of each of N instances, (N, K, 3) float32: x, y in pixels, and the label: 1 on the object, 0 not, -1 not
    known, as of points outside the image.

    Args:
        points: (N, K, 3), or anything that becomes such a tensor.
        canvas_size: height and width of the image in pixels.
    """

    unknown: ClassVar[tuple[float, float, float]] = (0.0, 0.0, -1.0)

    def hidden(self, known: Tensor) -> Tensor:
        return known.clamp(max=0)


class SamplePoints(Transform):
    """Some of each instance's labelled points, others each time: with few points per object, models learn more from
    half of them at a time (Cheng et al., Pointly-Supervised Instance Segmentation, 2022, section 4).

    Args:
        count: points of each instance; where there are fewer, some come again.

    Raises:
        ValueError: less than one point.
    """

    def __init__(self, count: int = 5) -> None:
        if count < 1:
            raise ValueError(f"count is {count}; at least one point of each instance is needed")
        self.count = count

    def __call__(self, sample: Sample) -> Sample:
        points = sample.target.get(ENTRY)
        if points is None:
            return sample
        instances, total = points.shape[:2]
        if self.count > total:
            chosen = torch.tensor([[integer(0, total - 1) for _ in range(self.count)] for _ in range(instances)])
        else:
            chosen = torch.rand(instances, total).argsort(dim=1)[:, : self.count]
        index = chosen.reshape(-1, self.count, 1).expand(-1, -1, 3).long()
        fewer = points.like_this(points.as_subclass(Tensor).gather(1, index))
        return Sample(sample.image, {**sample.target, ENTRY: fewer}, sample.info)


@torch.no_grad()
def annotated_points(samples: RoiSamples, targets: Targets, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The labelled points of the instances that regions are matched to.

    Args:
        samples: in training.
        targets: with points.
        rows: (R,) of the flattened (B * N,) samples.

    Returns:
        Points (R, K, 2) from 0 to 1 over each region, their labels (R, K) 0 or 1, and which of these are known (R, K):
        points outside a region say nothing about its mask.

    Raises:
        ValueError: the targets have no points.
    """
    if ENTRY not in targets.extra:
        raise ValueError(
            f"the mask head learns from {ENTRY!r} (N, K, 3) in every target; the data has none: "
            "`detkit data points DATA` makes them of masks, and the reader 'coco-points' reads them"
        )
    assert samples.target_index is not None
    annotated = targets.extra[ENTRY]
    instance = rows // samples.valid.shape[1] * annotated.shape[1] + samples.target_index.flatten()[rows]
    points, boxes = annotated.flatten(0, 1)[instance], samples.boxes.flatten(0, 1)[rows]
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    places = (points[..., :2] - low) / (high - low).clamp(min=1e-6)
    known = (points[..., 2] >= 0) & ((places >= 0) & (places <= 1)).all(dim=-1)
    return torch.where(known[..., None], places, 0.5), points[..., 2].clamp(min=0), known
