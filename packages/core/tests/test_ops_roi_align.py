import pytest
import torch
from torchvision.ops import roi_align

from detkit.ops.roi_align import _gathered_roi_align, assign_levels, pyramid_roi_align

STRIDES = (4, 8, 16)


def pyramid(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, 3, 96 // stride, 128 // stride, dtype=dtype, generator=generator).requires_grad_()
        for stride in STRIDES
    ]


def regions(count: int = 60) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    low = torch.rand(count, 2, dtype=torch.float64, generator=generator) * torch.tensor([120.0, 90.0]) - 8
    boxes = torch.cat([low, low + torch.rand(count, 2, dtype=torch.float64, generator=generator) * 100], dim=1)
    boxes[0] = torch.tensor([5.0, 5, 5, 5])  # empty
    boxes[1] = torch.tensor([300.0, 300, 400, 400])  # outside
    return boxes, torch.randint(2, (count,), generator=generator), torch.randint(3, (count,), generator=generator)


def by_level(features, boxes, images, levels, size: int, ratio: int, aligned: bool) -> torch.Tensor:
    out = torch.zeros(len(boxes), 3, size, size, dtype=boxes.dtype)
    for level, (feature, stride) in enumerate(zip(features, STRIDES, strict=True)):
        rows = (levels == level).nonzero().squeeze(1)
        rois = torch.cat([images[rows, None].to(boxes.dtype), boxes[rows]], dim=1)
        out = out.index_copy(0, rows, roi_align(feature, rois, size, 1 / stride, ratio, aligned))
    return out


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_equals_torchvision_level_by_level(ratio: int, aligned: bool) -> None:
    features, (boxes, images, levels) = pyramid(), regions()
    pooled = pyramid_roi_align(features, STRIDES, boxes, images, levels, size=5, sampling_ratio=ratio, aligned=aligned)
    torch.testing.assert_close(pooled, by_level(features, boxes, images, levels, 5, ratio, aligned))


@pytest.mark.parametrize("ratio", [0, 2])
def test_gradients_equal_torchvisions(ratio: int) -> None:
    features, (boxes, images, levels) = pyramid(), regions()
    weights = torch.randn(len(boxes), 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours = pyramid_roi_align(features, STRIDES, boxes, images, levels, size=5, sampling_ratio=ratio)
    theirs = by_level(features, boxes, images, levels, 5, ratio, True)
    for mine, wanted in zip(
        torch.autograd.grad((ours * weights).sum(), features),
        torch.autograd.grad((theirs * weights).sum(), features),
        strict=True,
    ):
        torch.testing.assert_close(mine, wanted)


def test_the_gathering_kernel_serves_reduced_precision() -> None:
    features = [feature.detach().to(torch.bfloat16) for feature in pyramid()]
    boxes, images, levels = regions()
    pooled = _gathered_roi_align(features, STRIDES, boxes.float(), images, levels, 5, 2, True)
    wanted = by_level([feature.double() for feature in features], boxes, images, levels, 5, 2, True)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.double(), wanted, rtol=0.02, atol=0.03)


@pytest.mark.parametrize("ratio", [0, 2])
def test_reduced_precision_of_the_maps_leaves_the_boxes_exact(ratio: int) -> None:
    """Rounded to bfloat16, coordinates beyond 512 would be up to 2 pixels off."""
    ramp = torch.arange(200.0).expand(1, 4, 200, 200).contiguous()  # whole numbers below 256 are exact in bfloat16
    boxes, zero = torch.tensor([[701.0, 701, 733, 733]]), torch.zeros(1, dtype=torch.int64)
    options = {"size": 2, "sampling_ratio": ratio}
    wanted = pyramid_roi_align([ramp], [4], boxes, zero, zero, **options)
    pooled = pyramid_roi_align([ramp.to(torch.bfloat16)], [4], boxes, zero, zero, **options)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.float(), wanted, rtol=0.004, atol=0)  # what bfloat16 can hold


def test_a_box_of_the_canonical_size_belongs_to_the_canonical_level() -> None:
    boxes = torch.tensor(
        [[0.0, 0, 224, 224], [0, 0, 223, 223], [0, 0, 448, 448], [0, 0, 1, 1], [0, 0, 4000, 4000], [5, 5, 5, 5]]
    )
    assert assign_levels(boxes, levels=4, finest=2).tolist() == [2, 1, 3, 0, 3, 0]
