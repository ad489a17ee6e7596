"""Overlaps of rotated boxes, exact and without sorting corners."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

SHORT = 32_000  # elements of an operation on a CPU: few enough to stay in its cache, and for torch not to split it over
# threads, which costs short operations more than they gain
_PAIRS = SHORT // 5  # pairs of boxes compared at a time on a CPU; each has four edges from five corners
_MOST_PAIRS = 1 << 21  # elsewhere: so many that the device is busy (some 500 MB)
_TINY = 1e-30
_SLACK = 1e-5  # for the rounding of bounds


def rotated_iou(a: Tensor, b: Tensor, *, detectron2_rounding: bool = False) -> Tensor:
    """Intersection over union (..., N, M) of rotated boxes a (..., N, 5) and b (..., M, 5): centre x, y, width, height,
    degrees counter-clockwise. In float32, without gradients; 0 where a box is of no size.

    The area of two rectangles' intersection is a sum over the edges of one of them (Green's theorem): with the other
    one upright, each edge adds the integral of its x, clamped to that box, over the part of y that the box has. No
    corner needs to be found, so edges that touch, coincide or are parallel are like any others.

    Args:
        detectron2_rounding: whether the overlap with a `b` that lies inside of an `a` is the area of its corners in
            float32, as Detectron2 computes it. All anchors of a size inside of an object overlap it equally; which of
            them are its best, and so foreground, hangs on these last digits.
    """
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    first, second = (
        boxes.detach().expand(*lead, *boxes.shape[-2:]).reshape(math.prod(lead), *boxes.shape[-2:]) for boxes in (a, b)
    )
    return _rotated_iou(first, second, detectron2_rounding).view(*lead, a.shape[-2], b.shape[-2])


@torch.library.custom_op("detkit::rotated_iou", mutates_args=())
def _rotated_iou(a: Tensor, b: Tensor, detectron2_rounding: bool) -> Tensor:
    """(B, N, 5), (B, M, 5) -> (B, N, M)."""
    rows = [
        torch.where(iou >= _least_if_inside(first, second), _if_inside(first, second), iou)
        if detectron2_rounding
        else iou
        for first, second, iou in _grid(box_terms(a), box_terms(b), _MOST_PAIRS)
    ]
    return torch.cat(rows, dim=1) if rows else a.new_zeros(a.shape[0], a.shape[1], b.shape[1])


@_rotated_iou.register_kernel("cpu")
def _rotated_iou_cpu(a: Tensor, b: Tensor, detectron2_rounding: bool) -> Tensor:
    """Only of the pairs whose upright hulls meet."""
    iou = torch.zeros(a.shape[0], a.shape[1], b.shape[1])
    step = max(1, SHORT // max(1, b.shape[1]))
    for first, second, out in zip(box_terms(a).unbind(1), box_terms(b).unbind(1), iou, strict=True):
        for part, rows in zip(first.split(step, dim=1), out.split(step), strict=True):
            candidates = may_overlap(part, second)
            pairs = candidates.view(-1).nonzero().squeeze(1)
            if 2 * len(pairs) < candidates.numel():
                rows.view(-1)[pairs] = listed_iou(part, second, pairs)
            else:
                rows.copy_(torch.cat([found for _, _, found in _grid(part, second, _PAIRS)]))
            if detectron2_rounding:
                inside = (rows >= _least_if_inside(part[..., None], second[:, None])).logical_and_(candidates)
                row, column = inside.nonzero().unbind(1)
                rows[row, column] = _if_inside(part[:, row], second[:, column])
    return iou


@_rotated_iou.register_fake
def _rotated_iou_fake(a: Tensor, b: Tensor, detectron2_rounding: bool) -> Tensor:
    return torch.empty(a.shape[0], a.shape[1], b.shape[1], device=a.device)


def box_terms(boxes: Tensor) -> Tensor:
    """What overlaps are computed from, of boxes (..., 5), each in a row of its own (8, ...): centre x, y, half width,
    half height, cosine and sine of the angle, half width and half height of the upright hull."""
    x, y, width, height, degrees = boxes.unbind(-1)
    angle = degrees.double().remainder(360) * (math.pi / 180)  # in float64, in which quarter turns are exact enough
    cos, sin = angle.cos().float(), angle.sin().float()
    width, height = width.float() / 2, height.float() / 2
    hull = [width * cos.abs() + height * sin.abs(), width * sin.abs() + height * cos.abs()]
    return torch.stack([x.float(), y.float(), width, height, cos, sin, *hull])


def may_overlap(a: Tensor, b: Tensor, iou: float = 0.0) -> Tensor:
    """Which (N, M) of the boxes with terms a (8, N) and b (8, M) can have an IoU above `iou`, judged by their areas and
    their upright hulls."""
    areas_a, areas_b = 4 * a[2, :, None] * a[3, :, None], 4 * b[2] * b[3]
    overlap = torch.minimum(areas_a, areas_b)
    hull = torch.ones_like(overlap)
    for center, half in ((0, 6), (1, 7)):
        low = torch.maximum((a[center] - a[half])[:, None], b[center] - b[half])
        high = torch.minimum((a[center] + a[half])[:, None], b[center] + b[half])
        hull.mul_(high.sub_(low).clamp_(min=0))
    return torch.minimum(overlap, hull) > (areas_a + areas_b).mul_(iou / (1 + iou) * (1 - _SLACK))


def _grid(a: Tensor, b: Tensor, most: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Boxes with terms a (8, ..., n, 1) and b (8, ..., 1, M), `most` pairs at a time, and their IoU (..., n, M)."""
    for part in a[..., None].split(max(1, most // max(1, b[0].numel())), dim=-2):
        yield part, b[..., None, :], pair_iou(part, b[..., None, :])


def listed_iou(a: Tensor, b: Tensor, pairs: Tensor) -> Tensor:
    """Intersection over union (P,) of boxes with terms a (8, N) and b (8, M), at places `pairs` (P,) of (N, M)."""
    parts = pairs.split(_PAIRS)
    rows = ((part // b.shape[1], part % b.shape[1]) for part in parts)
    found = [pair_iou(a[:6].index_select(1, row), b[:6].index_select(1, column)) for row, column in rows]
    return torch.cat(found) if found else a.new_zeros(0)


def pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (...) of pairs of boxes with terms (6 or 8, ...) that broadcast."""
    (ax, ay, aw, ah, acos, asin), (bx, by, bw, bh, bcos, bsin) = a[:6], b[:6]
    # In a's frame, seen from b's centre: b has the corners p + q, q - p, -p - q and p - q, and a is [low, high].
    cos, sin = bcos * acos + bsin * asin, bsin * acos - bcos * asin
    away_x, away_y = ax - bx, ay - by
    a_x, a_y = away_x * acos - away_y * asin, away_x * asin + away_y * acos
    px, py, qx, qy = bw * cos, -bw * sin, bh * sin, bh * cos
    sum_x, sum_y, difference_x, difference_y = qx + px, qy + py, qx - px, qy - py
    x = torch.stack([sum_x, difference_x, -sum_x, -difference_x, sum_x])
    y = torch.stack([sum_y, difference_y, -sum_y, -difference_y, sum_y])

    # The corners with y clamped, and where on its two edges each has moved to: x at the start and the end of each edge
    inside = torch.minimum(torch.maximum(y, a_y - ah), a_y + ah)
    length = (y[1:] - y[:-1]).abs_().clamp_(min=_TINY)
    moved = y.sub_(inside).abs_()
    step = x[1:] - x[:-1]
    start = torch.addcmul(x[:-1], (moved[:-1] / length).clamp_(max=1), step)
    end = torch.addcmul(x[1:], (moved[1:] / length).clamp_(max=1), step, value=-1)

    # Twice the mean of clamped x on each edge: its two ends, and what they miss where x crosses a side of a
    low, high = a_x - aw, a_x + aw
    crossing_low = ((start - low).mul_(end - low)).clamp_(max=0)
    crossing_high = ((start - high).mul_(end - high)).clamp_(max=0)
    mean = crossing_low.sub_(crossing_high).div_((end - start).abs_().clamp_(min=_TINY))
    mean.add_(torch.minimum(torch.maximum(start, low), high)).add_(torch.minimum(torch.maximum(end, low), high))
    shares = mean.mul_(inside[1:] - inside[:-1])

    # Equal overlaps shall be equal numbers, so that an object's best anchors tie: the sum does not depend on where the
    # edges begin, and 20 bits are kept (by Veltkamp's splitting), which do not depend on where the boxes are.
    opposite = shares[:2] + shares[2:]
    overlap = (opposite[0] + opposite[1]).mul_(0.5).clamp_(min=0)
    scaled = overlap * (2**4 + 1)
    overlap = scaled.sub_(scaled - overlap)
    return overlap.div_((4 * aw * ah + 4 * bw * bh - overlap).clamp_(min=_TINY)).clamp_(max=1)


def _if_inside(a: Tensor, b: Tensor) -> Tensor:
    """The IoU (...) of pairs of boxes with terms (8, ...) where b lies inside of a, from the area of b's corners: two
    triangles at the uppermost one, in coordinates from the middle between the centres."""
    (ax, ay, aw, ah, _, _), (bx, by, width, height, cos, sin) = a[:6], b[:6]
    area_a, area_b = 4 * aw * ah, 4 * width * height
    x, y = bx - (ax + bx) / 2, by - (ay + by) / 2
    first_x, second_x = x + sin * height + cos * width, x - sin * height + cos * width
    first_y, second_y = y + cos * height - sin * width, y - cos * height - sin * width
    corner_x = torch.stack([first_x, second_x, 2 * x - first_x, 2 * x - second_x])
    corner_y = torch.stack([first_y, second_y, 2 * y - first_y, 2 * y - second_y])
    top = corner_y.argmin(dim=0, keepdim=True)
    others = torch.cat([top + 1, top + 2, top + 3]) % 4
    side_x = corner_x.gather(0, others) - corner_x.gather(0, top)
    side_y = corner_y.gather(0, others) - corner_y.gather(0, top)
    overlap = (side_x[:-1] * side_y[1:] - side_x[1:] * side_y[:-1]).abs_().sum(dim=0) / 2
    return (overlap / (area_a + area_b - overlap).clamp_(min=_TINY)).clamp_(max=1)


def _least_if_inside(a: Tensor, b: Tensor) -> Tensor:
    """The IoU (...) of pairs of boxes with terms (8, ...) if b were just inside of a, but for rounding."""
    return (b[2] * b[3]) / (a[2] * a[3]).clamp(min=_TINY) * (1 - _SLACK)
