import torch
import torch.nn.functional as F

from detkit.ops import paste
from detkit.ops.paste import paste_masks


def reference(mask: torch.Tensor, box: torch.Tensor, height: int, width: int) -> torch.Tensor:
    x0, y0, x1, y1 = box
    x = ((torch.arange(width) + 0.5 - x0) / (x1 - x0) * 2 - 1).expand(height, width)
    y = ((torch.arange(height) + 0.5 - y0) / (y1 - y0) * 2 - 1)[:, None].expand(height, width)
    return F.grid_sample(mask[None, None], torch.stack([x, y], dim=-1)[None], align_corners=False)[0, 0]


def test_equals_bilinear_sampling_at_pixel_centres(monkeypatch) -> None:
    monkeypatch.setattr(paste, "CHUNK_PIXELS", 48 * 64 * 3)  # several chunks
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(10, 14, 14, generator=generator)
    low = torch.rand(10, 2, generator=generator) * 40 - 5
    boxes = torch.cat([low, low + 1 + torch.rand(10, 2, generator=generator) * 50], dim=1)
    pasted = paste_masks(masks, boxes, (48, 64))
    for index in range(10):
        soft = reference(masks[index], boxes[index], 48, 64)
        certain = (soft - 0.5).abs() > 1e-4
        assert torch.equal(pasted[index][certain], (soft >= 0.5)[certain])


def test_no_mask_gives_no_mask() -> None:
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (30, 40)).shape == (0, 30, 40)
