"""What dense, or one-stage, detectors share: a head on every level of a pyramid, and all that is not the loss."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from detkit.detector import Detector
from detkit.interfaces import Backbone, Neck
from detkit.layers import Norm, init_normal, make_norm
from detkit.ops.boxes import clip_boxes
from detkit.ops.distributed import average_count
from detkit.ops.nms import batched_nms
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.prediction import Prediction
from detkit.structures.shape import Shape
from detkit.tta import View, merge_boxes

MOMENTUM = 0.9  # of the moving average of the number of foreground rows


class LevelBatchNorm(nn.Module):
    """Batch norm for layers that all levels share: scale and shift are shared too, but each level has its own
    statistics, since levels differ in theirs (Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021)."""

    def __init__(self, channels: int, levels: int, *, synchronised: bool) -> None:
        super().__init__()
        norm = nn.SyncBatchNorm if synchronised else nn.BatchNorm2d
        self.levels = nn.ModuleList(norm(channels, affine=False) for _ in range(levels))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, level: int) -> Tensor:
        return self.levels[level](x) * self.weight[:, None, None] + self.bias[:, None, None]


class Tower(nn.Sequential):
    """3x3 convolutions with a bias, each followed by a norm and a ReLU, shared by all levels."""

    def __init__(self, in_channels: int, channels: int, *, layers: int, levels: int, norm: Norm) -> None:
        parts: list[nn.Module] = []
        for layer in range(layers):
            parts.append(nn.Conv2d(channels if layer else in_channels, channels, 3, padding=1))
            if norm in ("bn", "sync_bn"):
                parts.append(LevelBatchNorm(channels, levels, synchronised=norm == "sync_bn"))
            elif norm:
                parts.append(cast(nn.Module, make_norm(norm, channels)))
            parts.append(nn.ReLU(inplace=True))
        super().__init__(*parts)

    def forward(self, x: Tensor, level: int) -> Tensor:  # type: ignore[override]
        for part in self:
            x = part(x, level) if isinstance(part, LevelBatchNorm) else part(x)
        return x


@dataclass
class DensePredictions:
    """What a head says of each row, that is of each anchor at each location, row by row: lists by level of logits
    (B, R_l, K), deltas (B, R_l, 4) and, where the head has it, centerness (B, R_l); anchors (R_l, 4) xyxy."""

    logits: list[Tensor]
    deltas: list[Tensor]
    centerness: list[Tensor]
    anchors: list[Tensor]


class DenseHead(nn.Module):
    """A tower that ends in class logits and one that ends in box deltas, on every level."""

    def __init__(
        self,
        shapes: Sequence[Shape],
        num_classes: int,
        *,
        anchors: int,
        layers: int,
        channels: int,
        norm: Norm,
        prior: float,
        centerness: bool = False,
    ) -> None:
        super().__init__()
        widths = sorted({shape.channels for shape in shapes})
        if len(widths) > 1:
            raise ValueError(f"all levels share the head, so their maps need as many channels; got {widths}")
        self.num_classes = num_classes
        self.class_tower, self.box_tower = (
            Tower(widths[0], channels, layers=layers, levels=len(shapes), norm=norm) for _ in range(2)
        )
        width = channels if layers else widths[0]
        self.logits = nn.Conv2d(width, anchors * num_classes, 3, padding=1)
        self.deltas = nn.Conv2d(width, anchors * 4, 3, padding=1)
        self.centerness = nn.Conv2d(width, anchors, 3, padding=1) if centerness else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init_normal(module, std=0.01)
        # At first everything is background with near certainty, or its sheer number would make training diverge.
        nn.init.constant_(self.logits.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
        self.rows_per_class = {"logits.weight": (anchors, 1), "logits.bias": (anchors, 1)}

    def forward(self, x: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """A level's map (B, C, H, W) -> logits (B, H * W * anchors, K), deltas (B, H * W * anchors, 4), centerness
        (B, H * W * anchors)."""
        boxes = self.box_tower(x, level)
        return (
            _rows(self.logits(self.class_tower(x, level)), self.num_classes),
            _rows(self.deltas(boxes), 4).float(),
            None if self.centerness is None else _rows(self.centerness(boxes), 1).squeeze(-1).float(),
        )


def _rows(maps: Tensor, width: int) -> Tensor:
    """(B, A * width, H, W) -> (B, H * W * A, width): no copy of what is in channels-last order."""
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, width)


class DenseDetector(Detector):
    """backbone -> neck -> a head on every level -> the best rows, without those that others of their class overlap.

    Subclasses set `head`, say what a row's `anchors` and boxes are, and implement `losses`.

    Args:
        backbone, neck: its parts; without a neck the head sees the backbone's maps.
        in_features: the maps that the head sees, finest first; all by default.
        score_threshold: detections need a higher score.
        candidates: the most (row, class) pairs of a level that enter suppression, best first.
        nms_iou: overlap above which the lower score of a class goes.
        clip_before_nms: whether the overlaps are of the parts inside the image.
        detections_per_image: the most detections of an image.
        normalizer: the number of foreground rows of a batch to begin with.
        input: how images are prepared.
        categories: the classes.
    """

    head: DenseHead
    normalizer: Tensor

    learns_masks = False

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | None,
        in_features: Sequence[str] | None,
        score_threshold: float,
        candidates: int,
        nms_iou: float,
        clip_before_nms: bool,
        detections_per_image: int,
        normalizer: float,
        input: InputSpec,
        categories: Categories,
    ) -> None:
        divisor = math.lcm(input.divisor, backbone.divisor, 1 if neck is None else neck.divisor)
        super().__init__(input=replace(input, divisor=divisor), categories=categories)
        self.backbone = backbone
        self.neck = neck
        shapes = (neck or backbone).output_shapes
        self.in_features = tuple(in_features or shapes)
        missing = [name for name in self.in_features if name not in shapes]
        if missing:
            raise ValueError(f"in_features has {', '.join(missing)}; there are {', '.join(shapes)}")
        self.shapes = [shapes[name] for name in self.in_features]
        self.score_threshold, self.candidates = score_threshold, candidates
        self.nms_iou, self.clip_before_nms = nms_iou, clip_before_nms
        self.detections_per_image = detections_per_image
        self.register_buffer("normalizer", torch.tensor(float(normalizer)))

    @abstractmethod
    def anchors(self, level: int, height: int, width: int) -> Tensor:
        """The anchors (height * width * A, 4) xyxy of a level whose map is of this size."""

    @abstractmethod
    def decode(self, anchors: Tensor, deltas: Tensor) -> Tensor:
        """Boxes (..., 4) xyxy from anchors (..., 4) and what the head says of them (..., 4)."""

    def dense(self, images: Tensor, sizes: Tensor) -> DensePredictions:
        """What the head says of uint8 RGB images (B, 3, H, W) of sizes (B, 2)."""
        features = self.backbone(self.normalize(images, sizes))
        if self.neck is not None:
            features = self.neck(features)
        found = DensePredictions([], [], [], [])
        for level, name in enumerate(self.in_features):
            logits, deltas, centerness = self.head(features[name], level)
            found.logits.append(logits)
            found.deltas.append(deltas)
            if centerness is not None:
                found.centerness.append(centerness)
            found.anchors.append(self.anchors(level, *features[name].shape[2:]))
        return found

    def average_foreground(self, count: Tensor) -> Tensor:
        """What losses are divided by: a moving average of the number of foreground rows in a batch, which varies a lot
        from one small batch to the next. Evaluation, as for validation losses, leaves it as it is.

        Detectron2's differs from process to process and begins anew when a run resumes; this one does neither.

        Args:
            count: of this batch in this process, a scalar.
        """
        if self.training:
            with torch.no_grad():
                self.normalizer.lerp_(average_count(count).to(self.normalizer).clamp(min=1), 1 - MOMENTUM)
        return self.normalizer.clone()  # since the next step changes it, perhaps before this one's backward pass

    def detect(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """boxes (B, D, 4) in pixels of the padded images, scores from high to low, labels and valid (B, D)."""
        found = self.dense(images, sizes)
        scores, labels, boxes = [], [], []
        for level, (logits, deltas, anchors) in enumerate(zip(found.logits, found.deltas, found.anchors, strict=True)):
            centerness = found.centerness[level] if found.centerness else None
            level_scores, rows, level_labels = self._best(logits, centerness)
            moved = deltas.gather(1, rows[..., None].expand(-1, -1, 4))
            scores.append(level_scores)
            labels.append(level_labels)
            boxes.append(self.decode(anchors[rows], moved))
        score, label, box = torch.cat(scores, dim=1), torch.cat(labels, dim=1), torch.cat(boxes, dim=1)
        finite = box.isfinite().all(dim=-1)
        box = torch.where(finite[..., None], box, 0.0)
        if self.clip_before_nms:
            box = clip_boxes(box, sizes)
        keep = batched_nms(box, score, label, finite & (score > self.score_threshold), self.nms_iou)
        best = torch.where(keep, score, -1.0).topk(min(self.detections_per_image, keep.shape[1]), dim=1)
        valid = keep.gather(1, best.indices)
        box = clip_boxes(box.gather(1, best.indices[..., None].expand(-1, -1, 4)), sizes)
        return {
            "boxes": torch.where(valid[..., None], box, 0.0),
            "scores": torch.where(valid, best.values, 0.0),
            "labels": torch.where(valid, label.gather(1, best.indices), 0),
            "valid": valid,
        }

    def _best(self, logits: Tensor, centerness: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, rows and labels (B, n) of the best (row, class) pairs of a level, from logits (B, R, K) and
        centerness (B, R).

        A pair among the best n is in one of the n rows whose best class is best, so most rows are left out by a look at
        their maximum alone.
        """
        rows = self._scores(logits.amax(dim=-1), centerness).topk(min(self.candidates, logits.shape[1]), dim=1).indices
        logits = logits.gather(1, rows[..., None].expand(-1, -1, logits.shape[-1]))
        if centerness is not None:
            centerness = centerness.gather(1, rows)[..., None]
        scores = self._scores(logits, centerness).flatten(1)
        best = scores.topk(min(self.candidates, scores.shape[1]), dim=1)
        return best.values, rows.gather(1, best.indices // logits.shape[-1]), best.indices % logits.shape[-1]

    @staticmethod
    def _scores(logits: Tensor, centerness: Tensor | None) -> Tensor:
        scores = logits.float().sigmoid()
        return scores if centerness is None else (scores * centerness.sigmoid()).sqrt()

    def detect_views(self, views: Sequence[View]) -> dict[str, Tensor]:
        """The detections of all views merged."""
        answers = [self.detect(view.images, view.sizes) for view in views]
        return merge_boxes(answers, views, nms_iou=self.nms_iou, capacity=self.detections_per_image)

    def postprocess(
        self, raw: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]], output_sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        predictions = []
        for image, (size, output_size) in enumerate(zip(sizes, output_sizes, strict=True)):
            limit = raw["boxes"].new_tensor([output_size[1], output_size[0]] * 2)
            scale = limit / raw["boxes"].new_tensor([size[1], size[0]] * 2)
            boxes = torch.minimum((raw["boxes"][image] * scale).clamp(min=0), limit)
            keep = raw["valid"][image] & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            fields = {name: raw[name][image][keep] for name in ("scores", "labels")}
            predictions.append(Prediction(output_size, boxes=boxes[keep], **fields))
        return predictions
