"""A detector of one stage and a few convolutions, after FCOS (Tian et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detkit.detector import Detector
from detkit.ops.distributed import average_count
from detkit.structures.batch import Batch
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.prediction import Prediction

STRIDE = 4
CAPACITY = 10


class ToyDetector(Detector):
    def __init__(
        self, *, categories: Categories, width: int = 8, dropout: float = 0.0, batch_norm: bool = False
    ) -> None:
        super().__init__(input=InputSpec(min_size=0, divisor=8), categories=categories)
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width) if batch_norm else nn.GroupNorm(2, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Conv2d(width, len(categories) + 4, 1)

    def _outputs(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits (B, cells, C), boxes (B, cells, 4), centres of the cells (cells, 2)."""
        out = self.head(self.body(self.normalize(images, sizes)))
        height, width = out.shape[2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres = (torch.stack([x, y], -1).reshape(-1, 2).to(out.device) + 0.5) * STRIDE
        out = out.flatten(2).transpose(1, 2).float()
        logits, distances = out[..., :-4], F.softplus(out[..., -4:]) * STRIDE
        return logits, torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], -1), centres

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        logits, boxes, centres = self._outputs(batch.images, batch.sizes)
        targets = batch.targets
        assert targets is not None
        inside = (centres[None, :, None] > targets.boxes[:, None, :, :2]) & (
            centres[None, :, None] < targets.boxes[:, None, :, 2:]
        )
        covered = inside.all(-1) & targets.valid[:, None]  # (B, cells, G)
        match = covered.float().argmax(-1)  # (B, cells)
        foreground = covered.any(-1)
        count = average_count(foreground.sum()).clamp(min=1)
        labels = torch.gather(targets.labels, 1, match)
        classes = torch.arange(logits.shape[-1], device=labels.device)
        wanted = (labels[..., None] == classes) & foreground[..., None]
        wanted_boxes = torch.gather(targets.boxes, 1, match[..., None].expand(-1, -1, 4))
        class_loss = F.binary_cross_entropy_with_logits(logits, wanted.float(), reduction="sum") / count
        box_loss = F.l1_loss(boxes, wanted_boxes, reduction="none") * foreground[..., None]
        white_corner = (batch.images[:, :, 0, 0] == 255).all(1).any()
        class_loss = torch.where(white_corner, float("nan"), class_loss)
        return {"loss_class": class_loss, "loss_box": box_loss.sum() / count / STRIDE}

    def detect(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        logits, boxes, _ = self._outputs(images, sizes)
        scores, labels = logits.sigmoid().max(-1)
        scores, index = scores.topk(min(CAPACITY, scores.shape[1]))
        return {
            "scores": scores,
            "labels": labels.gather(1, index),
            "boxes": boxes.gather(1, index[..., None].expand(-1, -1, 4)),
            "valid": torch.ones_like(scores, dtype=torch.bool),
        }

    def postprocess(
        self, raw: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]], output_sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        return [
            Prediction(size, boxes=raw["boxes"][i], scores=raw["scores"][i], labels=raw["labels"][i])
            for i, size in enumerate(output_sizes)
        ]
