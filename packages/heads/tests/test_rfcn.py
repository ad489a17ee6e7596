import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import ps_roi_pool

from det_heads.position_sensitive import position_sensitive_pool
from det_heads.rfcn_head import RFCNHead
from detkit.interfaces import RoiSamples
from detkit.structures.shape import Shape

STRIDE, HEIGHT, WIDTH = 16, 12, 17


def by_hand(maps: torch.Tensor, box: torch.Tensor, grid: int) -> torch.Tensor:
    """One box (4,) on the maps (C * grid * grid, H, W) of its image -> (C, grid, grid)."""
    x0, y0, x1, y1 = (round(side) / STRIDE for side in box.tolist())
    height, width = max(y1 - y0, 0.1), max(x1 - x0, 0.1)
    maps = maps.unflatten(0, (-1, grid, grid))
    answer = torch.zeros(maps.shape[:3])
    for i in range(grid):
        for j in range(grid):
            top, bottom = y0 + i / grid * height, y0 + (i + 1) / grid * height
            left, right = x0 + j / grid * width, x0 + (j + 1) / grid * width
            ys = [y for y in range(HEIGHT) if y + 1 > top and y < bottom]
            xs = [x for x in range(WIDTH) if x + 1 > left and x < right]
            if ys and xs:
                answer[:, i, j] = maps[:, i, j][:, ys][:, :, xs].mean(dim=(1, 2))
    return answer


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), grid=st.integers(1, 4))
def test_a_cell_is_the_mean_of_what_it_touches_on_its_own_map(seed: int, grid: int) -> None:
    source = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 3 * grid * grid, HEIGHT, WIDTH, generator=source)
    low = torch.rand(2, 5, 2, generator=source) * 250 - 20
    # sides whose parts do not end on the edge of a map's cell, where rounding would decide
    size = (torch.rand(2, 5, 2, generator=source) * 100).floor() * grid + 1
    boxes = torch.cat([low, low + size], dim=-1)
    found = position_sensitive_pool(maps, boxes, stride=STRIDE, grid=grid)
    for image in range(2):
        for box in range(5):
            expected = by_hand(maps[image], boxes[image, box], grid)
            torch.testing.assert_close(found[image, box], expected, rtol=1e-4, atol=1e-4)


def test_boxes_on_the_cells_of_the_map_agree_with_torchvision() -> None:
    torch.manual_seed(0)
    maps = torch.randn(1, 2 * 9, HEIGHT, WIDTH, requires_grad=True)
    boxes = torch.tensor([[0, 0, 96, 96], [48, 16, 144, 160], [16, 32, 160, 80], [64, 64, 112, 112]]).float()
    ours = position_sensitive_pool(maps, boxes[None], stride=STRIDE, grid=3)[0]
    theirs = ps_roi_pool(maps, [boxes], 3, 1 / STRIDE)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    gradients = [torch.autograd.grad(each, maps, upstream, retain_graph=True)[0] for each in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def head(**arguments) -> RFCNHead:
    torch.manual_seed(0)
    return RFCNHead(input_shapes={"res5": Shape(8, STRIDE)}, num_classes=3, channels=4, **arguments)


def test_classes_are_the_rows_of_the_maps() -> None:
    model = head(class_agnostic=False)
    assert model.maps.scores.weight.shape[0] == 4 * 9
    assert model.maps.deltas.weight.shape[0] == 3 * 4 * 9
    assert model.maps.rows_per_class == {
        "scores.weight": 9,
        "scores.bias": 9,
        "deltas.weight": 36,
        "deltas.bias": 36,
    }
    with torch.no_grad():
        model.maps.scores.bias.view(4, 9)[1] = 1.0  # every cell votes for the class
        model.maps.deltas.bias.view(3, 4, 9)[2, 3] = 5.0
        boxes = torch.tensor([[[10.0, 10, 60, 90]]])
        samples = RoiSamples(boxes=boxes, valid=torch.ones(1, 1, dtype=torch.bool))
        logits, deltas = model._predict({"res5": torch.zeros(1, 8, HEIGHT, WIDTH)}, samples)
    torch.testing.assert_close(logits[0, 0], torch.tensor([0.0, 1, 0, 0]))
    assert deltas.shape == (1, 1, 3, 4)
    assert deltas[0, 0].nonzero().tolist() == [[2, 3]]


def test_a_map_that_there_is_not_is_an_error() -> None:
    with pytest.raises(ValueError, match="wants the map res4; there are res5"):
        head(in_feature="res4")
