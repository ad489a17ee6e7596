"""A detector that finds the box around all pixels of each primary colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from detkit.detector import Detector
from detkit.structures.batch import Batch
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.prediction import Prediction


class Head(nn.Module):
    """One score for each class and one for background; two offsets for each class."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.scores = nn.Linear(channels, classes + 1)
        self.offsets = nn.Linear(channels, 2 * classes)
        self.rows_per_class = {"scores.weight": 1, "scores.bias": 1, "offsets.weight": 2, "offsets.bias": 2}


class ColourDetector(Detector):
    """Class 0 is red, 1 green, 2 blue; the score of a class is the sigmoid of the head's bias."""

    def __init__(self, *, categories: Categories, input: InputSpec | None = None, channels: int = 4) -> None:
        super().__init__(input=replace(input or InputSpec(min_size=0), divisor=8), categories=categories)
        self.backbone = nn.Conv2d(3, channels, 1)
        self.head = Head(channels, len(categories))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.head.scores(self.backbone(self.normalize(batch.images, batch.sizes)).mean((2, 3))).sum()}

    def detect(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        count = min(3, len(self.categories))
        value = images[:, :count].int() - (images.sum(1, keepdim=True) - images[:, :count]) // 2
        inside = value > 128  # (B, C, H, W)
        rows, columns = inside.any(3), inside.any(2)
        low = torch.stack([columns.int().argmax(2), rows.int().argmax(2)], 2)
        size = torch.tensor([columns.shape[2], rows.shape[2]], device=images.device)
        high = size - torch.stack([columns.flip(2).int().argmax(2), rows.flip(2).int().argmax(2)], 2)
        return {
            "boxes": torch.cat([low, high], 2).float(),
            "scores": self.head.scores.bias[:count].sigmoid().expand(len(images), -1),
            "labels": torch.arange(count, device=images.device).expand(len(images), -1),
            "valid": rows.any(2),
        }

    def postprocess(
        self, raw: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]], output_sizes: Sequence[tuple[int, int]]
    ) -> list[Prediction]:
        predictions = []
        for index, ((height, width), (new_height, new_width)) in enumerate(zip(sizes, output_sizes, strict=True)):
            keep = raw["valid"][index]
            scale = raw["boxes"].new_tensor([new_width / width, new_height / height] * 2)
            boxes = raw["boxes"][index][keep] * scale
            y = torch.arange(new_height, device=boxes.device) + 0.5
            x = torch.arange(new_width, device=boxes.device) + 0.5
            inside_y = (y > boxes[:, 1:2]) & (y < boxes[:, 3:4])
            inside_x = (x > boxes[:, 0:1]) & (x < boxes[:, 2:3])
            prediction = Prediction(
                (new_height, new_width),
                boxes=boxes,
                scores=raw["scores"][index][keep],
                labels=raw["labels"][index][keep],
                masks=inside_y[:, :, None] & inside_x[:, None],
            )
            predictions.append(prediction.select(prediction.scores.argsort(descending=True)))
        return predictions
