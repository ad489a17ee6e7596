"""Points of regions and of images: where they are drawn, and what maps and masks are there.

Points (R, P, 2) are x, y from 0 to 1: of a region from its left upper to its right lower corner, of an image likewise.
All look-ups are bilinear between the centres of cells, and 0 outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from detkit.ops.sampling import random_keys
from detkit.structures.shape import Shape

SAMPLING_STREAM = 21  # tells this use of an image's seed from others; 22 is that of a region's


@dataclass(frozen=True)
class PointSampling:
    """How the points are drawn that a head is trained on: many at random, of which the uncertain ones are kept, and
    some more at random (Kirillov et al., PointRend, 2020, section 3.1).

    Args:
        count: points of each region or image.
        oversample: so many times `count` are drawn, to find the uncertain ones among them.
        importance: the share of `count` that is of uncertain points.

    Raises:
        ValueError: fewer are drawn than kept, or a share that there cannot be.
    """

    count: int = 14 * 14
    oversample: float = 3.0
    importance: float = 0.75

    def __post_init__(self) -> None:
        if self.count < 1 or self.oversample < 1 or not 0 <= self.importance <= 1:
            raise ValueError(
                f"count {self.count}, oversample {self.oversample}, importance {self.importance}: at least one point, "
                "a factor of at least 1 and a share from 0 to 1 are needed"
            )

    @torch.no_grad()
    def draw(self, seeds: Tensor, uncertainty: Callable[[Tensor], Tensor]) -> Tensor:
        """Points (R, count, 2) that depend on `seeds` (R,) and on the `uncertainty` of points (R, P, 2) -> (R, P)."""
        candidates, uncertain = int(self.count * self.oversample), int(self.count * self.importance)
        points = uniform_points(seeds, candidates + self.count - uncertain)
        chosen = uncertainty(points[:, :candidates]).topk(uncertain, dim=1, sorted=False).indices
        kept = points.gather(1, chosen[..., None].expand(-1, -1, 2))
        return torch.cat([kept, points[:, candidates:]], dim=1)


@torch.no_grad()
def region_seeds(seeds: Tensor, rows: Tensor, width: int) -> Tensor:
    """Seeds (R,) of the regions at `rows` (R,) of all (B * width,), from those of the images (B,)."""
    return random_keys(seeds, width, SAMPLING_STREAM).flatten()[rows]


@torch.no_grad()
def uniform_points(seeds: Tensor, count: int) -> Tensor:
    """Points (R, count, 2) anywhere, which depend on `seeds` (R,) alone."""
    keys = random_keys(seeds, 2 * count, SAMPLING_STREAM + 1)
    return ((keys >> 8).to(torch.float32) * 2.0**-24).view(-1, count, 2)  # 24 bits: 1 itself is not among them


def grid_points(size: int, device: torch.device) -> Tensor:
    """The centres (size * size, 2) of a grid of cells, row by row."""
    centres = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def points_in_image(boxes: Tensor, points: Tensor) -> Tensor:
    """Points (R, P, 2) of boxes (R, 4) xyxy, in pixels."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    return low + points * (high - low)


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """What maps (R, C, H, W) are at points (R, P, 2), each at its own: (R, C, P)."""
    return F.grid_sample(_wide(maps), 2 * points[:, :, None] - 1, align_corners=False).squeeze(3)


def _wide(maps: Tensor) -> Tensor:
    """At least float32: places are looked up in the maps' type, and in a smaller one they are coarse."""
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


class FeatureSampler:
    """Looks up feature maps at points of regions of any image of the batch.

    Args:
        input_shapes: of the maps.
        names: of the maps to look at; their channels are concatenated.

    Raises:
        ValueError: a map is not there.
    """

    def __init__(self, input_shapes: Mapping[str, Shape], names: Sequence[str]) -> None:
        if missing := [name for name in names if name not in input_shapes]:
            raise ValueError(f"the head wants the maps {missing}; there are {', '.join(input_shapes)}")
        self._strides = {name: input_shapes[name].stride for name in names}
        self.channels = sum(input_shapes[name].channels for name in names)

    def __call__(self, features: Mapping[str, Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        """(points in pixels (R, P, 2), their images (R,)) -> features (R, channels, P) there."""
        towers = [_tower(features[name]) for name in self._strides]

        def look(points: Tensor, images: Tensor) -> Tensor:
            found = [
                _look_up(tower, features[name].shape[2], stride, points, images)
                for tower, (name, stride) in zip(towers, self._strides.items(), strict=True)
            ]
            return torch.cat(found, dim=1)

        return look


def _tower(maps: Tensor) -> Tensor:
    """The maps (B, C, H, W) of all images as one (1, C, B * (H + 1), W): one below the other, a row of zeros between
    them. So one look-up serves regions of all images, in any order. Where channels come last in memory, no map moves.
    """
    return F.pad(_wide(maps), (0, 0, 0, 1)).permute(1, 0, 2, 3).flatten(1, 2)[None]


def _look_up(tower: Tensor, height: int, stride: int, points: Tensor, images: Tensor) -> Tensor:
    rows, columns = tower.shape[2:]
    x = points[..., 0] * (2 / (stride * columns)) - 1
    row = (points[..., 1] / stride - 0.5).clamp(-1, height)  # what is further outside would see another image
    y = (2 * (row + images[:, None] * (height + 1)) + 1) / rows - 1
    return F.grid_sample(tower, torch.stack([x, y], dim=-1)[None], align_corners=False)[0].transpose(0, 1)


@torch.no_grad()
def mask_values(masks: Tensor, index: Tensor, points: Tensor) -> Tensor:
    """What binary masks (G, H, W) are at points (R, P, 2) in pixels, each row in the mask at `index` (R,): (R, P) from
    0 to 1. The masks stay as they are, one byte for a pixel."""
    height, width = masks.shape[1:]
    position = points - 0.5
    low = position.floor()
    part = position - low
    total = torch.zeros_like(part[..., 0])
    for right in (0, 1):
        for down in (0, 1):
            x, y = low[..., 0].to(torch.int64) + right, low[..., 1].to(torch.int64) + down
            weight = (part[..., 0] if right else 1 - part[..., 0]) * (part[..., 1] if down else 1 - part[..., 1])
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            place = (index[:, None] * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
            total += torch.where(inside, weight, 0.0) * masks.flatten()[place]
    return total
