import math
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from detkit.ops.roi_align import pyramid_roi_align
from detkit.ops.rotated_roi_align import MOST_SAMPLES, rotated_roi_align
from detkit.testing.op import OpContract

MODULE = sys.modules["detkit.ops.rotated_roi_align"]


def reference(
    features: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    *,
    size: int,
    sampling_ratio: int = 0,
) -> Tensor:
    """One region, bin and sample after the other."""
    rows = []
    for box, image, level in zip(boxes.tolist(), images.tolist(), levels.tolist(), strict=True):
        x, y, width, height = (value / strides[level] for value in box[:4])
        region = (x - 0.5, y - 0.5, width, height, math.radians(box[4]))
        cells = [
            bin_mean(features[level][image], region, i, j, size, sampling_ratio)
            for i in range(size)
            for j in range(size)
        ]
        rows.append(torch.stack(cells, dim=1).view(-1, size, size))
    return torch.stack(rows)


def bin_mean(feature: Tensor, region: Sequence[float], i: int, j: int, size: int, ratio: int) -> Tensor:
    center_x, center_y, width, height, angle = region
    down, across = ratio or math.ceil(height / size), ratio or math.ceil(width / size)
    total = feature[:, 0, 0] * 0
    for v in range(down):
        for u in range(across):
            up = (i + (v + 0.5) / down) * height / size - height / 2
            along = (j + (u + 0.5) / across) * width / size - width / 2
            y = center_y + up * math.cos(angle) - along * math.sin(angle)
            x = center_x + up * math.sin(angle) + along * math.cos(angle)
            total = total + bilinear(feature, y, x)
    return total / max(1, down * across)


def bilinear(feature: Tensor, y: float, x: float) -> Tensor:
    height, width = feature.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return feature[:, 0, 0] * 0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = feature[:, top, left] * (1 - x + left) + feature[:, top, right] * (x - left)
    lower = feature[:, bottom, left] * (1 - x + left) + feature[:, bottom, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


def regions(count: int = 10) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(count, 5, generator=generator) * torch.tensor([120.0, 80, 90, 70, 720])
    boxes[:, 4] -= 360
    boxes[0, 2], boxes[1, 4], boxes[2, :2] = 0, 90, -20
    images, levels = (torch.randint(2, (count,), generator=generator) for _ in range(2))
    return {"boxes": boxes, "images": images, "levels": levels}


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, 20 // scale, 30 // scale, generator=generator) for scale in (1, 2)]


@pytest.mark.parametrize("ratio", [0, 1, 2])
def test_equals_plain_loops(ratio: int) -> None:
    given = {"features": maps(), "strides": (4, 8), **regions(), "size": 3, "sampling_ratio": ratio}
    torch.testing.assert_close(rotated_roi_align(**given), reference(**given), rtol=1e-4, atol=1e-5)


def test_upright_regions_are_pooled_as_upright_boxes() -> None:
    given = regions()
    boxes = given.pop("boxes").abs()
    boxes[:, 4] = 0
    corners = torch.cat([boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2], dim=1)
    found = rotated_roi_align(maps(), (4, 8), boxes, **given, size=3, sampling_ratio=2)
    expected = pyramid_roi_align(maps(), (4, 8), corners, **given, size=3, sampling_ratio=2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ratio", [0, 2])
def test_the_kernels_for_accelerators_give_the_same(ratio: int) -> None:
    generator = torch.Generator().manual_seed(2)
    table, rois = torch.randn(600, 3, generator=generator), torch.rand(40, 6, generator=generator) * 25
    where = torch.tensor([[0, 20, 30]]).expand(40, -1)
    on_accelerator = MODULE._pool._init_fn(table, where, rois, 3, ratio)  # runs on any device
    torch.testing.assert_close(on_accelerator, MODULE._pool(table, where, rois, 3, ratio))
    gradient = torch.randn(360, 3, generator=generator)
    on_accelerator = MODULE._unpool._init_fn(gradient, where, rois, 600, 3, ratio)
    torch.testing.assert_close(on_accelerator, MODULE._unpool(gradient, where, rois, 600, 3, ratio))


def test_no_bin_has_more_samples_than_there_is_room_for() -> None:
    sides = torch.tensor([[0.0, 0], [7, 7], [8, 7], [60, 3], [3, 450], [1e3, 1e3], [1e30, 1], [1e30, 1e30]])
    rois = torch.cat([torch.zeros(len(sides), 2), sides, torch.ones(len(sides), 2)], dim=1)
    rows, columns = MODULE._samples_per_bin(rois, 7, 0)
    assert (rows * columns <= MOST_SAMPLES).all()
    assert list(zip(columns.tolist(), rows.tolist(), strict=True))[:6] == [
        (0, 0),
        (1, 1),
        (2, 1),
        (9, 1),
        (1, 64),
        (8, 8),
    ]


def test_gradients_flow_to_the_features_in_half_precision_too() -> None:
    features = [feature.to(torch.bfloat16).requires_grad_() for feature in maps()]
    pooled = rotated_roi_align(features, (4, 8), **regions(), size=3)
    assert pooled.dtype == torch.bfloat16
    pooled.float().sum().backward()
    assert all(feature.grad is not None and feature.grad.isfinite().all() for feature in features)


def test_no_regions_give_no_rows() -> None:
    none = {name: value[:0] for name, value in regions().items()}
    assert rotated_roi_align(maps(), (4, 8), **none, size=3).shape == (0, 3, 3, 3)


def test_operator_registration() -> None:
    table = torch.randn(600, 3, requires_grad=True)
    rois = torch.rand(4, 6, generator=torch.Generator().manual_seed(3)) * 5
    # without test_aot_dispatch_dynamic, which warns of gradients that it does not look at
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(MODULE._pool, (table, torch.tensor([[0, 20, 30]] * 4), rois, 3, 0), test_utils=checks)


class TestOperator(OpContract):
    operator = staticmethod(lambda feature, **given: rotated_roi_align([feature], (4,), **given))
    reference = staticmethod(lambda feature, **given: reference([feature], (4,), **given))
    cases = {
        "adaptive": {"feature": maps()[0], **regions(4), "levels": torch.zeros(4, dtype=torch.int64), "size": 2},
    }
