"""Region proposal network (Ren et al., Faster R-CNN, 2015), on one feature map or a pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from det_heads.anchors import cell_anchors, given_anchors, grid_anchors
from det_heads.losses import BoxLoss, box_loss
from detkit.interfaces import ProposalGenerator, RoiTrunk
from detkit.layers import Conv, init_normal
from detkit.ops.boxes import box_sides, clip_boxes, decode_boxes
from detkit.ops.matching import match_boxes
from detkit.ops.nms import batched_nms
from detkit.ops.sampling import sample_balanced
from detkit.structures.batch import Targets
from detkit.structures.proposals import Proposals
from detkit.structures.shape import Shape

SAMPLING_STREAM = 1  # tells this use of an image's seed from others


class RPN(ProposalGenerator):
    """Scores anchors and moves them; convolutions shared by all levels, non-maximum suppression within each.

    Args:
        input_shapes: of the neck's maps.
        in_features: the maps to use; all by default.
        sizes: anchor sides in pixels (square roots of the areas), one list for each level.
        aspect_ratios: height / width; one list for all levels, or one list for each.
        anchor_boxes: in place of those of `sizes` and `aspect_ratios`: for each level a list of boxes [x0, y0, x1, y1]
            around a point of the grid, in pixels.
        offset: of the first anchor's centre, in strides.
        channels: of the hidden 3 x 3 convolutions, one after the other; null keeps those of its input.
        trunk: hidden layers in place of those convolutions.
        foreground_iou, background_iou: anchors from the first on are foreground, below the second background, between
            them ignored; each object's best anchors are foreground anyway.
        boundary: anchors that reach out of the image by more than this many pixels are not trained on; null trains on
            all.
        batch_size_per_image: anchors of each image that are sampled for the losses.
        foreground_fraction: at most this share of them is foreground.
        pre_nms_train, pre_nms_test: best-scored anchors of each level that are kept before suppression.
        post_nms_train, post_nms_test: proposals for each image after suppression over all levels.
        nms_iou: overlap above which the lower score goes.
        min_size: shorter proposals are dropped, in pixels.
        box_weights: of the (dx, dy, dw, dh) parametrisation.
        box_loss: "smooth_l1" compares deltas; "giou", "diou" and "ciou" compare boxes.
        smooth_l1_beta: where the smooth L1 loss turns from quadratic to linear; 0 is L1.
        objectness_weight, box_weight: of the losses.

    Raises:
        ValueError: not one list of sizes, or of ratios, for each map; a trunk that changes the maps' size.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        in_features: Sequence[str] | None = None,
        sizes: Sequence[Sequence[float]] = ((32,), (64,), (128,), (256,), (512,)),
        aspect_ratios: Sequence[float] | Sequence[Sequence[float]] = (0.5, 1.0, 2.0),
        anchor_boxes: Sequence[Sequence[Sequence[float]]] | None = None,
        offset: float = 0.0,
        channels: Sequence[int | None] = (None,),
        trunk: RoiTrunk | None = None,
        foreground_iou: float = 0.7,
        background_iou: float = 0.3,
        boundary: float | None = None,
        batch_size_per_image: int = 256,
        foreground_fraction: float = 0.5,
        pre_nms_train: int = 2000,
        pre_nms_test: int = 1000,
        post_nms_train: int = 1000,
        post_nms_test: int = 1000,
        nms_iou: float = 0.7,
        min_size: float = 0.0,
        box_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        box_loss: BoxLoss = "smooth_l1",
        smooth_l1_beta: float = 0.0,
        objectness_weight: float = 1.0,
        box_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.in_features = tuple(in_features or input_shapes)
        cells = (
            given_anchors(anchor_boxes, self.in_features)
            if anchor_boxes is not None
            else [cell_anchors(*level) for level in sizes_and_ratios(sizes, aspect_ratios, self.in_features)]
        )
        self.strides = [input_shapes[name].stride for name in self.in_features]
        self.offset = offset
        self.foreground_iou, self.background_iou, self.boundary = foreground_iou, background_iou, boundary
        self.batch_size_per_image, self.foreground_fraction = batch_size_per_image, foreground_fraction
        self.pre_nms = {True: pre_nms_train, False: pre_nms_test}
        self.post_nms = {True: post_nms_train, False: post_nms_test}
        self.nms_iou, self.min_size = nms_iou, min_size
        self.box_weights, self.box_loss, self.smooth_l1_beta = tuple(box_weights), box_loss, smooth_l1_beta
        self.objectness_weight, self.box_weight = objectness_weight, box_weight
        for level, cell in enumerate(cells):
            self.register_buffer(f"cell_anchors{level}", cell, persistent=False)
        width = input_shapes[self.in_features[0]].channels
        convs = []
        for outputs in channels if trunk is None else ():
            convs.append(Conv(width, outputs or width, 3, relu=True))
            width = convs[-1].out_channels
        self.trunk: nn.Module = nn.Sequential(*convs)
        if trunk is not None:
            hidden = trunk.output_shapes["region"]
            if hidden.stride != next(iter(input_shapes.values())).stride:
                raise ValueError("the trunk of an RPN changes the size of the maps; give one whose strides are 1")
            self.trunk, width = trunk, hidden.channels
        self.objectness = nn.Conv2d(width, len(cells[0]), 1)
        self.deltas = nn.Conv2d(width, len(self.box_weights) * self.objectness.out_channels, 1)
        for layer in (*convs, self.objectness, self.deltas):
            init_normal(layer, std=0.01)

    def forward(
        self, features: Mapping[str, Tensor], image_sizes: Tensor, targets: Targets | None
    ) -> tuple[Proposals, dict[str, Tensor]]:
        """Proposals (B, post_nms), highest score first in each image; losses rpn_objectness and rpn_box with
        targets."""
        logits, deltas, anchors = [], [], []
        for level, name in enumerate(self.in_features):
            hidden = self.trunk(features[name])
            logits.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1).float())
            deltas.append(
                self.deltas(hidden).permute(0, 2, 3, 1).reshape(len(hidden), -1, len(self.box_weights)).float()
            )
            cell = getattr(self, f"cell_anchors{level}")
            anchors.append(grid_anchors(cell, hidden.shape[2], hidden.shape[3], self.strides[level], self.offset))
        losses = (
            {}
            if targets is None
            else self._losses(torch.cat(logits, 1), torch.cat(deltas, 1), torch.cat(anchors), image_sizes, targets)
        )
        with torch.no_grad():
            proposals = self._propose(logits, deltas, anchors, image_sizes)
        return proposals, losses

    def _losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, image_sizes: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        labels, matched = match_boxes(
            targets.boxes,
            targets.valid,
            anchors[None],
            low=self.background_iou,
            high=self.foreground_iou,
            keep_best=True,
        )
        if self.boundary is not None:
            labels = torch.where(_inside(anchors, image_sizes, self.boundary), labels, -1)
        index, chosen, foreground = sample_balanced(
            labels,
            targets.seeds,
            count=self.batch_size_per_image,
            positive_fraction=self.foreground_fraction,
            stream=SAMPLING_STREAM,
        )
        labels = labels.gather(1, index)
        objectness = F.binary_cross_entropy_with_logits(
            logits.gather(1, index), (labels > 0).to(logits.dtype), reduction="none"
        )
        index, is_foreground = index[:, :foreground], (chosen & (labels > 0))[:, :foreground]
        box_of = matched.gather(1, index)[..., None].expand(-1, -1, deltas.shape[2])
        regression = box_loss(
            deltas.gather(1, index[..., None].expand(-1, -1, deltas.shape[2])),
            anchors[index],
            targets.boxes.gather(1, box_of),
            is_foreground,
            kind=self.box_loss,
            weights=self.box_weights,
            beta=self.smooth_l1_beta,
        )
        count = self.batch_size_per_image * len(logits)
        return {
            "rpn_objectness": torch.where(chosen, objectness, 0.0).sum() * (self.objectness_weight / count),
            "rpn_box": regression.sum() * (self.box_weight / count),
        }

    def _propose(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor], image_sizes: Tensor
    ) -> Proposals:
        scores, boxes, levels = [], [], []
        for level, (level_logits, level_deltas, level_anchors) in enumerate(zip(logits, deltas, anchors, strict=True)):
            best = level_logits.topk(min(self.pre_nms[self.training], level_logits.shape[1]), dim=1)
            picked = level_deltas.gather(1, best.indices[..., None].expand(-1, -1, level_deltas.shape[2]))
            boxes.append(decode_boxes(level_anchors[best.indices], picked, self.box_weights))
            scores.append(best.values)
            levels.append(torch.full_like(best.indices[0], level))
        all_boxes, all_scores = torch.cat(boxes, dim=1), torch.cat(scores, dim=1)
        finite = all_boxes.isfinite().all(dim=-1) & all_scores.isfinite()
        all_boxes = clip_boxes(torch.where(finite[..., None], all_boxes, 0.0), image_sizes)
        width, height = box_sides(all_boxes)
        valid = finite & (width > self.min_size) & (height > self.min_size)
        keep = batched_nms(all_boxes, all_scores, torch.cat(levels), valid, self.nms_iou)
        best = torch.where(keep, all_scores, -torch.inf).topk(min(self.post_nms[self.training], keep.shape[1]), dim=1)
        return Proposals(
            boxes=all_boxes.gather(1, best.indices[..., None].expand(-1, -1, all_boxes.shape[2])),
            scores=best.values,
            valid=keep.gather(1, best.indices),
        )


def sizes_and_ratios(
    sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[float] | Sequence[Sequence[float]],
    features: Sequence[str],
) -> list[tuple[Sequence[float], Sequence[float]]]:
    """The sizes and the aspect ratios of the anchors on each of the feature maps, whichever way the ratios were given.

    Raises:
        ValueError: not one list for each map, or not as many anchors on each.
    """
    ratios = _per_level(aspect_ratios, len(features))
    for what, levels in (("sizes", sizes), ("aspect_ratios", ratios)):
        if len(levels) != len(features):
            raise ValueError(
                f"{what} has {len(levels)} levels but there are {len(features)} feature maps "
                f"({', '.join(features)}); give one list of {what} for each map"
            )
    if len({len(of_size) * len(of_ratio) for of_size, of_ratio in zip(sizes, ratios, strict=True)}) > 1:
        raise ValueError(
            f"every level needs as many anchors, since the head is shared; got {[list(s) for s in sizes]} sizes "
            f"and {[list(r) for r in ratios]} aspect ratios"
        )
    return list(zip(sizes, ratios, strict=True))


def _per_level(aspect_ratios: Sequence[float] | Sequence[Sequence[float]], levels: int) -> Sequence[Sequence[float]]:
    """The aspect ratios of each level, whichever way they were given."""
    own = [entry for entry in aspect_ratios if isinstance(entry, Sequence)]
    shared = [entry for entry in aspect_ratios if not isinstance(entry, Sequence)]
    if own and shared:
        raise ValueError(f"aspect_ratios mixes numbers and lists: {list(aspect_ratios)}; give one list, or one per map")
    return own or [shared] * levels


def _inside(anchors: Tensor, image_sizes: Tensor, margin: float) -> Tensor:
    """(B, N) bool: which anchors (N, 4) reach out of images of sizes (B, 2) by no more than `margin` pixels."""
    limit = image_sizes.flip(1)[:, None].to(anchors.dtype) + margin
    return (anchors[:, :2] >= -margin).all(dim=-1) & (anchors[:, 2:] < limit).all(dim=-1)
