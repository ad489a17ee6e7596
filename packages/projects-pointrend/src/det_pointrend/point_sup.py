"""Mask R-CNN's mask head, learning from labelled points (Cheng et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from det_heads.mask_head import MaskHead, mean_entropy
from det_heads.pooler import foreground_rows
from det_pointrend.point_annotations import annotated_points
from det_pointrend.points import sample_maps
from detkit.interfaces import RoiSamples
from detkit.structures.batch import Targets


class PointSupervisedMaskHead(MaskHead):
    """Mask R-CNN's mask head, which learns from labelled points instead of masks: its logits are looked up there
    (Cheng, Parkhi and Kirillov, Pointly-Supervised Instance Segmentation, 2022, section 4). It answers as that one
    does.

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

    def losses(self, features: Mapping[str, Tensor], samples: RoiSamples, targets: Targets) -> dict[str, Tensor]:
        """mask: binary cross-entropy of the true class's map at the labelled points, mean over all points of the
        foreground regions; those of which nothing is known, or outside their region, count as 0.

        Raises:
            ValueError: the targets have no points.
        """
        foreground, rows = foreground_rows(samples, self.num_classes)
        logits = self.logits(features, samples, rows)
        points, wanted, known = annotated_points(samples, targets, rows)
        loss = mean_entropy(sample_maps(logits[:, None], points)[:, 0], wanted, foreground, known)
        return {"mask": loss * self.weight}
