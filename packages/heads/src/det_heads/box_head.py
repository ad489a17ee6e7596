"""The box head: a class and a refined box for each region (Girshick, Fast R-CNN, 2015; Lin et al., FPN, 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from det_heads.losses import smooth_l1
from det_heads.pooler import RoiPooler
from detkit.interfaces import RoiHead, RoiSamples
from detkit.layers import init_linear, init_normal
from detkit.ops.boxes import clip_boxes, decode_boxes, encode_boxes
from detkit.ops.distributed import average_count
from detkit.ops.nms import batched_nms
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape


class BoxPredictor(nn.Module):
    """Class logits, background last, and box deltas of each class."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.scores = nn.Linear(channels, num_classes + 1)
        self.deltas = nn.Linear(channels, 4 * num_classes)
        init_normal(self.scores, std=0.01)
        init_normal(self.deltas, std=0.001)
        self.rows_per_class = {"scores.weight": 1, "scores.bias": 1, "deltas.weight": 4, "deltas.bias": 4}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(x).float(), self.deltas(x).float()


class BoxHead(RoiHead):
    """Two fully connected layers on pooled regions, then classes and class-wise boxes.

    Args:
        input_shapes: of the neck's maps.
        in_features: the maps to pool from, finest first.
        num_classes: without background.
        pool_size, sampling_ratio, aligned: of ROIAlign.
        layers, channels: of the fully connected trunk. On the regions of a detector's `roi_trunk` it starts from their
            mean over the grid; the "C4" models have no layers.
        box_weights: of the (dx, dy, dw, dh) parametrisation.
        smooth_l1_beta: where the box loss turns from quadratic to linear; 0 is L1.
        class_weight, box_weight: of the losses.
        score_threshold: detections need a higher score.
        nms_iou: overlap above which the lower score of a class goes.
        detections_per_image: the most detections of an image.
        candidates: the most (region, class) pairs of an image that enter suppression, best first.
    """

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        num_classes: int,
        in_features: Sequence[str] = ("p2", "p3", "p4", "p5"),
        pool_size: int = 7,
        sampling_ratio: int = 0,
        aligned: bool = True,
        layers: int = 2,
        channels: int = 1024,
        box_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        smooth_l1_beta: float = 0.0,
        class_weight: float = 1.0,
        box_weight: float = 1.0,
        score_threshold: float = 0.05,
        nms_iou: float = 0.5,
        detections_per_image: int = 100,
        candidates: int = 4000,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.pool = RoiPooler(input_shapes, in_features, size=pool_size, sampling_ratio=sampling_ratio, aligned=aligned)
        cells = 1 if self.pool.shared else pool_size**2
        widths = [self.pool.channels * cells] + [channels] * layers
        linears = [nn.Linear(a, b) for a, b in pairwise(widths)]
        for linear in linears:
            init_linear(linear)
        self.trunk = nn.ModuleList(linears)
        self.predictor = BoxPredictor(widths[-1], num_classes)
        self.box_weights, self.smooth_l1_beta = tuple(box_weights), smooth_l1_beta
        self.class_weight, self.box_weight = class_weight, box_weight
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self.detections_per_image, self.candidates = detections_per_image, candidates

    def _predict(self, features: Mapping[str, Tensor], samples: RoiSamples) -> tuple[Tensor, Tensor]:
        """Logits (B, N, classes + 1) and deltas (B, N, classes, 4) of the samples' boxes."""
        x = self.pool.regions(features, samples)
        x = x.mean(dim=(2, 3)) if self.pool.shared else x.flatten(1)
        for layer in self.trunk:
            x = F.relu(layer(x))
        logits, deltas = self.predictor(x)
        shape = samples.valid.shape
        return logits.view(*shape, -1), deltas.view(*shape, self.num_classes, 4)

    def losses(self, features: Mapping[str, Tensor], samples: RoiSamples, targets: Targets) -> dict[str, Tensor]:
        """box_class: cross-entropy, mean over the sampled regions; box_regression: over the foreground, divided
        likewise."""
        assert samples.labels is not None and samples.target_index is not None
        logits, deltas = self._predict(features, samples)
        count = average_count(samples.valid.sum()).clamp(min=1e-3)
        entropy = F.cross_entropy(logits.flatten(0, 1), samples.labels.flatten(), reduction="none").view(
            samples.valid.shape
        )
        part = slice(0, samples.foreground)
        foreground = (samples.valid & (samples.labels < self.num_classes))[:, part, None]
        label = samples.labels[:, part].clamp(max=self.num_classes - 1)[..., None, None].expand(-1, -1, 1, 4)
        box_of = samples.target_index[:, part, None].expand(-1, -1, 4)
        wanted = encode_boxes(samples.boxes[:, part], targets.boxes.gather(1, box_of), self.box_weights)
        wanted = torch.where(foreground, wanted, 0.0)  # where there is no object the encoding is not finite
        error = smooth_l1(deltas[:, part].gather(2, label).squeeze(2), wanted, self.smooth_l1_beta)
        return {
            "box_class": torch.where(samples.valid, entropy, 0.0).sum() / count * self.class_weight,
            "box_regression": torch.where(foreground, error, 0.0).sum() / count * self.box_weight,
        }

    def detect(self, features: Mapping[str, Tensor], samples: RoiSamples, image_sizes: Tensor) -> RoiSamples:
        """The best `detections_per_image` detections after suppression within each class, highest score first."""
        logits, deltas = self._predict(features, samples)
        probabilities = logits.softmax(dim=-1)[..., : self.num_classes]
        good = samples.valid[..., None] & (probabilities > self.score_threshold) & deltas.isfinite().all(dim=-1)
        ranked = torch.where(good, probabilities, -1.0).flatten(1)
        best = ranked.topk(min(self.candidates, ranked.shape[1]), dim=1)
        region, label = best.indices // self.num_classes, best.indices % self.num_classes
        moved = deltas.flatten(1, 2).gather(1, best.indices[..., None].expand(-1, -1, 4))
        source = samples.boxes.gather(1, region[..., None].expand(-1, -1, 4))
        boxes = clip_boxes(decode_boxes(source, moved, self.box_weights), image_sizes)
        keep = batched_nms(boxes, best.values, label, best.values > 0, self.nms_iou)
        final = torch.where(keep, best.values, -1.0).topk(min(self.detections_per_image, keep.shape[1]), dim=1)
        valid = keep.gather(1, final.indices)
        return RoiSamples(
            boxes=torch.where(valid[..., None], boxes.gather(1, final.indices[..., None].expand(-1, -1, 4)), 0.0),
            valid=valid,
            scores=final.values.clamp(min=0),
            labels=label.gather(1, final.indices),
        )
