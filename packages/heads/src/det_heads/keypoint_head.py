"""The keypoint head: a heat map for each keypoint of a region (He et al., Mask R-CNN, 2017, section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from det_heads.heat_maps import keypoint_cells, keypoints_in_boxes
from det_heads.pooler import RoiPooler, at_rows, foreground_rows, last_pixels
from detkit.interfaces import RoiHead, RoiSamples
from detkit.layers import Conv, init_relu_conv
from detkit.ops.compact import valid_rows
from detkit.ops.distributed import average_count
from detkit.structures.batch import Targets
from detkit.structures.categories import Categories
from detkit.structures.shape import Shape


class KeypointHead(RoiHead):
    """Convolutions on pooled regions, a transposed convolution and bilinear upsampling, each by 2: a heat map for each
    keypoint, whose highest point it is.

    Args:
        input_shapes: of the neck's maps.
        in_features: the maps to pool from, finest first.
        num_classes: without background.
        num_keypoints: of an instance.
        categories: whose keypoints say which of them change places in a mirrored image, for test-time augmentation.
        pool_size, sampling_ratio, aligned, inclusive: of ROIAlign; heat maps have four times the pool's size.
        channels: of each of the convolutions.
        pixel_numbers: points are numbers of pixels, as in Detectron and torchvision, half a pixel less than coordinates
            from the image's edge: how the head was trained.
        keypoints_per_image: what the loss is divided by, for each image; by default the number of keypoints that are
            visible in the regions.
        weight: of the loss.
    """

    learns_masks = False

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        num_classes: int,
        num_keypoints: int,
        categories: Categories | None = None,
        in_features: Sequence[str] = ("p2", "p3", "p4", "p5"),
        pool_size: int = 14,
        sampling_ratio: int = 0,
        aligned: bool = True,
        inclusive: bool = False,
        channels: Sequence[int] = (512,) * 8,
        pixel_numbers: bool = False,
        keypoints_per_image: float | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.num_keypoints = num_classes, num_keypoints
        self.flipped = categories.keypoints.flipped if categories and categories.keypoints else None
        self.pool = RoiPooler(
            input_shapes,
            in_features,
            size=pool_size,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
            inclusive=inclusive,
        )
        widths = [self.pool.channels, *channels]
        convs = [Conv(a, b, 3, relu=True) for a, b in pairwise(widths)]
        self.trunk = nn.Sequential(*convs)
        self.upsample = nn.ConvTranspose2d(widths[-1], num_keypoints, 4, stride=2, padding=1)
        for conv in convs:
            init_relu_conv(conv)
        init_relu_conv(self.upsample)
        self.offset = 0.5 if pixel_numbers else 0.0
        self.inclusive = inclusive
        self.keypoints_per_image, self.weight = keypoints_per_image, weight

    def _spans(self, boxes: Tensor) -> Tensor:
        """What the heat maps of boxes (..., 4) span."""
        return last_pixels(boxes) if self.inclusive else boxes

    def _logits(self, features: Mapping[str, Tensor], samples: RoiSamples, rows: Tensor) -> Tensor:
        """Heat maps (R, K, S, S) of the boxes at `rows` (R,) of all (B * N,)."""
        x = self.upsample(self.trunk(self.pool.regions(features, samples, rows)))
        return F.interpolate(x.float(), scale_factor=2.0, mode="bilinear", align_corners=False)

    def losses(self, features: Mapping[str, Tensor], samples: RoiSamples, targets: Targets) -> dict[str, Tensor]:
        """keypoint: cross-entropy over the cells of the heat map, of the visible keypoints within foreground regions.

        Raises:
            ValueError: the targets have no keypoints, or not as many for each instance.
        """
        keypoints = targets.extra.get("keypoints")
        if keypoints is None:
            raise ValueError(
                "the keypoint head needs 'keypoints' (N, keypoints, 3) of x, y, visibility in every target; the data "
                "has none"
            )
        if keypoints.shape[2:] != (self.num_keypoints, 3):
            raise ValueError(
                f"targets have keypoints of shape (N, {', '.join(map(str, keypoints.shape[2:]))}); the keypoint head "
                f"needs (N, {self.num_keypoints}, 3)"
            )
        assert samples.target_index is not None
        foreground, rows = foreground_rows(samples, self.num_classes, (keypoints[..., 2] > 0).any(dim=2))
        logits = self._logits(features, samples, rows)
        instance = rows // samples.valid.shape[1] * keypoints.shape[1] + samples.target_index.flatten()[rows]
        boxes = self._spans(samples.boxes.flatten(0, 1)[rows])
        points = keypoints.flatten(0, 1)[instance]
        points = torch.cat([points[..., :2] - self.offset, points[..., 2:]], dim=-1)
        cells, visible = keypoint_cells(points, boxes, logits.shape[-1])
        visible = visible & foreground[:, None]
        entropy = F.cross_entropy(logits.flatten(2).flatten(0, 1), cells.flatten(), reduction="none")
        count = visible.sum()
        if self.keypoints_per_image is not None:
            count = torch.full_like(count, self.keypoints_per_image * len(samples.valid), dtype=torch.float32)
        loss = torch.where(visible, entropy.view(visible.shape), 0.0).sum() / average_count(count).clamp(min=1e-3)
        return {"keypoint": loss * self.weight}

    def detect(self, features: Mapping[str, Tensor], samples: RoiSamples, image_sizes: Tensor) -> RoiSamples:
        """Adds the outputs `keypoint_maps` (B, N, K, S, S), logits on a grid inside each box, and `keypoint_extents`
        (B, N, 2), its width and height in pixels of what the model sees."""
        rows = valid_rows(samples.valid.flatten())
        spans = self._spans(samples.boxes)
        found = {
            "keypoint_maps": at_rows(self._logits(features, samples, rows), rows, samples.valid),
            "keypoint_extents": spans[..., 2:] - spans[..., :2],
        }
        return replace(samples, outputs={**samples.outputs, **found})

    def mirrored(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.flipped is None:
            raise ValueError(
                "the model's categories do not say which keypoints change places in a mirrored image; predict with "
                "flip false"
            )
        maps = outputs["keypoint_maps"].flip(-1)[:, :, self.flipped]
        return {"keypoint_maps": maps, "keypoint_extents": outputs["keypoint_extents"]}

    def paste(self, raw: Mapping[str, Tensor], image_size: tuple[int, int]) -> dict[str, Tensor]:
        """keypoints (N, K, 3) x, y, score."""
        boxes = self._spans(raw["boxes"])
        points = keypoints_in_boxes(raw["keypoint_maps"], boxes, raw["keypoint_extents"])
        return {"keypoints": points + points.new_tensor([self.offset, self.offset, 0.0])}
