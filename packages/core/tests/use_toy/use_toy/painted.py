"""A detector that sees what is painted, to the pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from detkit.detector import Detector
from detkit.structures.batch import Batch
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.prediction import Prediction

_MOST = 32


class PaintedDetector(Detector):
    """Red is the number of an object, from 1 to 31, green its label, blue its score in 255ths. Its one keypoint is the
    middle of its box."""

    def __init__(self, *, categories: Categories, input: InputSpec | None = None) -> None:
        super().__init__(input=input or InputSpec(min_size=0, divisor=1), categories=categories)
        self.scale = nn.Parameter(torch.ones(()))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.scale}

    def detect(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        masks = images[:, :1] == torch.arange(1, _MOST, device=images.device)[:, None, None]
        rows, columns = masks.any(3), masks.any(2)  # (B, K, H), (B, K, W)
        low = torch.stack([columns.int().argmax(2), rows.int().argmax(2)], 2)
        size = torch.tensor([columns.shape[2], rows.shape[2]], device=images.device)
        high = size - torch.stack([columns.flip(2).int().argmax(2), rows.flip(2).int().argmax(2)], 2)
        seen = torch.where(masks[:, :, None], images[:, None], 0).amax((3, 4))  # (B, K, 3)
        return {
            "boxes": torch.cat([low, high], 2).float(),
            "scores": seen[..., 2] / 255 * self.scale,
            "labels": seen[..., 1].long(),
            "masks": masks,
            "valid": rows.any(2),
        }

    def postprocess(
        self, raw: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]], output_sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        predictions = []
        for index, ((height, width), output_size) in enumerate(zip(sizes, output_sizes, strict=True)):
            keep = raw["valid"][index]
            boxes, scores = raw["boxes"][index][keep], raw["scores"][index][keep]
            middle = (boxes[:, :2] + boxes[:, 2:]) / 2
            found = Prediction(
                output_size,
                boxes=boxes,
                scores=scores,
                labels=raw["labels"][index][keep],
                masks=raw["masks"][index][keep][:, :height, :width],
                keypoints=torch.cat([middle, scores[:, None]], 1)[:, None],
            )
            predictions.append(found.select(scores.argsort(descending=True, stable=True)))
        return predictions
