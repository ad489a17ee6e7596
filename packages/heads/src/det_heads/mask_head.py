"""The mask head: a small binary mask for each region and class (He et al., Mask R-CNN, 2017)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from det_heads.pooler import RoiPooler, at_rows, foreground_rows
from detkit.interfaces import RoiHead, RoiSamples, RoiTrunk
from detkit.layers import Conv, Norm, init_normal, init_relu_conv
from detkit.ops.compact import valid_rows
from detkit.ops.distributed import average_count
from detkit.ops.paste import paste_masks
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape


class MaskPredictor(nn.Module):
    """Upsampling by 2, if `upsample`, and one logit map for each class, or one for all of them if `class_agnostic`."""

    def __init__(
        self, in_channels: int, channels: int, num_classes: int, *, class_agnostic: bool = False, upsample: bool = True
    ) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(in_channels, channels, 2, stride=2) if upsample else None
        self.logits = nn.Conv2d(channels if upsample else in_channels, 1 if class_agnostic else num_classes, 1)
        if self.upsample is None:
            init_relu_conv(self.logits)
        else:
            init_relu_conv(self.upsample)
            init_normal(self.logits, std=0.001)
        self.rows_per_class = {} if class_agnostic else {"logits.weight": 1, "logits.bias": 1}

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x if self.upsample is None else F.relu(self.upsample(x)))


class GridMaskHead(RoiHead):
    """What mask heads do alike: their answer is a grid of probabilities in each box, which is pasted into the image.

    Attributes:
        threshold: pixels from this probability on belong to the mask.
    """

    threshold: float = 0.5

    @abstractmethod
    def logits(self, features: Mapping[str, Tensor], samples: RoiSamples, rows: Tensor) -> Tensor:
        """Mask logits (R, M, M), with which inference answers, in the boxes at `rows` (R,) of the flattened (B * N,)
        samples, and of their labels: of any class for background."""

    def detect(self, features: Mapping[str, Tensor], samples: RoiSamples, image_sizes: Tensor) -> RoiSamples:
        """Adds the output `mask_grid` (B, N, M, M): probabilities on a grid inside each box."""
        rows = valid_rows(samples.valid.flatten())
        grids = at_rows(self.logits(features, samples, rows).sigmoid(), rows, samples.valid)
        return replace(samples, outputs={**samples.outputs, "mask_grid": grids})

    def mirrored(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"mask_grid": outputs["mask_grid"].flip(-1)}

    def paste(self, raw: Mapping[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """masks (N, H, W) bool."""
        return {"masks": paste_masks(raw["mask_grid"], raw["boxes"], image_size, self.threshold)}


class MaskHead(GridMaskHead):
    """Convolutions on pooled regions, upsampling by 2, a mask for each class or for all of them.

    Args:
        input_shapes: of the neck's maps.
        in_features: the maps to pool from, finest first.
        num_classes: without background.
        pool_size, sampling_ratio, aligned, inclusive: of ROIAlign; with convolutions and upsampling, masks have twice
            the pool's size.
        trunk: layers of this head's own, in place of the convolutions.
        layers, norm: of the convolutions.
        channels: of the convolutions and of the upsampling.
        upsample: whether there is upsampling by 2 after those layers; else masks have the size that they give.
        class_agnostic: one mask for all classes of a region, instead of one for each.
        weight: of the loss.
        threshold: pixels from this probability on belong to the mask.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        num_classes: int,
        in_features: Sequence[str] = ("p2", "p3", "p4", "p5"),
        pool_size: int = 14,
        sampling_ratio: int = 0,
        aligned: bool = True,
        inclusive: bool = False,
        trunk: RoiTrunk | None = None,
        layers: int = 4,
        channels: int = 256,
        norm: Norm = "",
        upsample: bool = True,
        class_agnostic: bool = False,
        weight: float = 1.0,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.pool = RoiPooler(
            input_shapes,
            in_features,
            size=pool_size,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
            inclusive=inclusive,
        )
        widths = [self.pool.channels] + [channels] * (layers if trunk is None else 0)
        convs = [Conv(a, b, 3, norm=norm, relu=True) for a, b in pairwise(widths)]
        for conv in convs:
            init_relu_conv(conv)
        self.trunk: nn.Module = nn.Sequential(*convs) if trunk is None else trunk
        self.predictor = MaskPredictor(
            widths[-1] if trunk is None else trunk.output_shapes["region"].channels,
            channels,
            num_classes,
            class_agnostic=class_agnostic,
            upsample=upsample,
        )
        self.weight, self.threshold = weight, threshold

    def logits(self, features: Mapping[str, Tensor], samples: RoiSamples, rows: Tensor) -> Tensor:
        assert samples.labels is not None
        maps = self.predictor(self.trunk(self.pool.regions(features, samples, rows)))
        return of_class(maps, samples.labels.flatten()[rows]).float()

    def losses(self, features: Mapping[str, Tensor], samples: RoiSamples, targets: Targets) -> dict[str, Tensor]:
        """mask: binary cross-entropy of the true class's map, mean over the pixels of the foreground regions.

        Raises:
            ValueError: the targets have no masks.
        """
        foreground, rows = foreground_rows(samples, self.num_classes, targets.extra.get("has_mask"))
        masks, index = true_masks(targets, samples, rows)
        logits = self.logits(features, samples, rows)
        wanted = crop_masks(masks, samples.boxes.flatten(0, 1)[rows], index, logits.shape[-1])
        return {"mask": mean_entropy(logits, wanted, foreground) * self.weight}


def of_class(maps: Tensor, labels: Tensor) -> Tensor:
    """From maps (R, K, ...) of all classes, or of all together (R, 1, ...), those (R, ...) of the `labels` (R,); of any
    class for background."""
    index = labels.clamp(max=maps.shape[1] - 1).view(-1, *[1] * (maps.ndim - 1))
    return maps.gather(1, index.expand(-1, 1, *maps.shape[2:])).squeeze(1)


def true_masks(targets: Targets, samples: RoiSamples, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The masks (B * G, H, W) of all images, and which of them (R,) the samples at `rows` (R,) are matched to.

    Raises:
        ValueError: the targets have no masks.
    """
    if targets.masks is None:
        raise ValueError("the mask head needs 'masks' (N, height, width) in every target; the data has none")
    assert samples.target_index is not None
    images = rows // samples.valid.shape[1]
    return targets.masks.flatten(0, 1), images * targets.masks.shape[1] + samples.target_index.flatten()[rows]


def mean_entropy(logits: Tensor, wanted: Tensor, foreground: Tensor, known: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of logits (R, ...), mean over the `foreground` (R,) regions of all processes and, in each,
    over all cells or points; those that are not `known` count as 0."""
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    if known is not None:
        entropy = torch.where(known, entropy, 0.0)
    total = torch.where(foreground, entropy.flatten(1).mean(dim=1), 0.0).sum()
    return total / average_count(foreground.sum()).clamp(min=1e-3)


@torch.no_grad()
def crop_masks(masks: Tensor, boxes: Tensor, index: Tensor, size: int) -> Tensor:
    """Binary masks (G, H, W) cropped to boxes (R, 4), each from the mask at index (R,), and resampled to (R, size,
    size): 1.0 where at least half of a cell is covered."""
    rois = torch.cat([index[:, None].to(boxes.dtype), boxes], dim=1)
    return (roi_align(masks[:, None].to(boxes.dtype), rois, size, 1.0, 0, True).squeeze(1) >= 0.5).to(boxes.dtype)
