"""Random inputs of the shapes that models see, the same every time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from detkit.structures.batch import UNLABELLED, Batch, Targets
from detkit.structures.categories import Categories
from detkit.structures.keypoints import Keypoints
from detkit.structures.shape import Shape

CATEGORIES = Categories(
    ("circle", "square", "triangle"),
    ids=(2, 3, 7),
    keypoints=Keypoints(("top", "left", "right", "bottom"), swaps=((1, 2),), skeleton=((0, 3), (1, 2))),
)
SEMANTIC_CATEGORIES = Categories(("things", "grass", "water", "sky"))
"""The classes of pixels; label 0 stands for all instances, as in Detectron2's panoptic models."""
HEIGHT, WIDTH = 128, 192
"""Size of the images in pixels; a multiple of 64."""
_MOST = 2  # images in a batch; always drawn, so that a batch of one is the beginning of a batch of two


def generator(seed: int = 0) -> torch.Generator:
    """A generator of its own, so that the global one stays as it is."""
    return torch.Generator().manual_seed(seed)


def random_features(shapes: Mapping[str, Shape], batch: int, *, gradient: bool = False) -> dict[str, Tensor]:
    """Feature maps (batch, channels, HEIGHT / stride, WIDTH / stride), sizes rounded up."""
    source = generator()
    return {
        name: torch.randn(
            _MOST, shape.channels, -(-HEIGHT // shape.stride), -(-WIDTH // shape.stride), generator=source
        )[:batch].requires_grad_(gradient)
        for name, shape in shapes.items()
    }


def random_boxes(batch: int, count: int, seed: int = 1) -> Tensor:
    """Boxes (batch, count, 4) xyxy inside the image, at least 8 pixels wide and high."""
    source = generator(seed)
    limit = torch.tensor([WIDTH, HEIGHT], dtype=torch.float32)
    low = torch.rand(_MOST, count, 2, generator=source) * (limit - 40)
    size = 8 + torch.rand(_MOST, count, 2, generator=source) * 32
    return torch.cat([low, low + size], dim=-1)[:batch]


def turned(boxes: Tensor) -> Tensor:
    """Boxes (B, N, 4) xyxy, each turned around its centre by an angle of its own: (B, N, 5)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    angles = torch.arange(boxes.shape[1], dtype=boxes.dtype).mul(50).add(17).expand(boxes.shape[:2])
    return torch.cat([(low + high) / 2, high - low, angles[..., None]], dim=-1)


def random_targets(batch: int, count: int = 3, *, valid: bool = True, rotated: bool = False) -> Targets:
    """Ground truth of `count` boxes in each image, with rectangular masks, keypoints and a semantic map; no instance
    counts and no pixel is labelled if `valid` is False. If `rotated`, the boxes (B, N, 5) alone are turned."""
    boxes = random_boxes(batch, count)
    y = torch.arange(HEIGHT)[:, None] + 0.5
    x = torch.arange(WIDTH)[None] + 0.5
    x0, y0, x1, y1 = (side[..., None, None] for side in boxes.unbind(-1))
    masks = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    labels = torch.arange(count).expand(batch, -1) % len(CATEGORIES)
    rows, columns = torch.arange(HEIGHT) * 3 // HEIGHT, torch.arange(WIDTH) * 4 // WIDTH
    semantic = ((rows[:, None] + columns) % len(SEMANTIC_CATEGORIES)).expand(batch, -1, -1).contiguous()
    semantic[:, :8] = UNLABELLED
    keypoints = _keypoints(boxes)
    boxes = turned(boxes) if rotated else boxes
    if not valid:
        boxes, labels, masks, keypoints = boxes * 0, labels * 0, masks & False, keypoints * 0
        semantic.fill_(UNLABELLED)
    return Targets(
        boxes=boxes,
        labels=labels.contiguous(),
        valid=torch.full((batch, count), valid),
        seeds=torch.arange(batch),
        masks=masks.to(torch.uint8),
        semantic=semantic,
        extra={"keypoints": keypoints},
    )


def _keypoints(boxes: Tensor) -> Tensor:
    """(B, N, 4, 3): the middles of the sides of boxes (B, N, 4), the bottom one not labelled."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    two, none = torch.full_like(x, 2), torch.zeros_like(x)
    points = [(x, y0 + 1, two), (x0 + 1, y, two / 2), (x1 - 1, y, two), (none, none, none)]
    return torch.stack([torch.stack(point, dim=-1) for point in points], dim=-2)


def random_batch(batch: int, *, valid: bool = True, rotated: bool = False) -> Batch:
    """Noise images with targets."""
    images = torch.randint(256, (_MOST, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator(2))
    return Batch(images[:batch], image_sizes(batch), random_targets(batch, valid=valid, rotated=rotated))


def image_sizes(batch: int) -> Tensor:
    """(batch, 2) height and width; no image is padded."""
    return torch.tensor([[HEIGHT, WIDTH]]).expand(batch, -1).contiguous()
