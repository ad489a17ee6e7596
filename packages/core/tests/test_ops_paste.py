import pytest
import torch
import torch.nn.functional as F

from detkit.ops import paste
from detkit.ops.paste import paste_masks


def reference(mask: torch.Tensor, box: torch.Tensor, height: int, width: int) -> torch.Tensor:
    x0, y0, x1, y1 = box
    x = ((torch.arange(width) + 0.5 - x0) / (x1 - x0) * 2 - 1).expand(height, width)
    y = ((torch.arange(height) + 0.5 - y0) / (y1 - y0) * 2 - 1)[:, None].expand(height, width)
    return F.grid_sample(mask[None, None], torch.stack([x, y], dim=-1)[None], align_corners=False)[0, 0]


def grids_in_boxes(count: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of 14 by 14 cells, and boxes of which some reach over the border of an image of 48 by 64 pixels."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(count, 14, 14, generator=generator)
    low = torch.rand(count, 2, generator=generator) * 40 - 5
    return masks, torch.cat([low, low + 1 + torch.rand(count, 2, generator=generator) * 50], dim=1)


@pytest.mark.parametrize("by", [paste_masks, paste._paste_together], ids=["one by one", "together"])
def test_equals_bilinear_sampling_at_pixel_centres(by, monkeypatch) -> None:
    monkeypatch.setattr(paste, "CHUNK_PIXELS", 48 * 64 * 3)  # several chunks
    masks, boxes = grids_in_boxes()
    pasted = by(masks, boxes, (48, 64), 0.5)
    for index in range(10):
        soft = reference(masks[index], boxes[index], 48, 64)
        certain = (soft - 0.5).abs() > 1e-4
        assert torch.equal(pasted[index][certain], (soft >= 0.5)[certain])


def test_the_last_half_cell_outside_the_box_counts() -> None:
    """A low threshold reaches where only the border of the grid does."""
    masks, boxes = grids_in_boxes()
    assert torch.equal(paste_masks(masks, boxes, (48, 64), 1e-6), paste._paste_together(masks, boxes, (48, 64), 1e-6))


def test_where_everything_is_wanted_everything_is_given() -> None:
    assert paste_masks(*grids_in_boxes(2), (48, 64), 0.0).all()


@pytest.mark.parametrize(
    "box",
    [
        [9.0, 9.0, 9.0, 9.0],
        [30.0, 40.0, 10.0, 12.0],
        [-500.0, -400.0, -300.0, -200.0],
        [500.0, 400.0, 900.0, 800.0],
        [float("nan"), 0.0, 9.0, 9.0],
        [0.0, 0.0, float("inf"), 9.0],
    ],
)
def test_boxes_that_are_none_have_the_same_masks_both_ways(box: list[float]) -> None:
    given = torch.rand(1, 14, 14), torch.tensor([box]), (48, 64), 0.5
    assert torch.equal(paste_masks(*given), paste._paste_together(*given))


def test_no_mask_gives_no_mask() -> None:
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (30, 40)).shape == (0, 30, 40)
