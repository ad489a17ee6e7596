from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torchvision.ops import box_iou

from detkit.interfaces import Dataset, Evaluator
from detkit.structures.prediction import Prediction


class ToyEvaluator(Evaluator):
    """`AP` is the mean IoU of each image's most confident box; `images` counts predictions, `distinct` image ids."""

    def start(self, dataset: Dataset) -> None:
        self._truth = dataset.ground_truth()
        self._seen: list[tuple[int, float]] = []

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        truth = self._truth[info["image_id"]]
        self._seen.append((info["image_id"], float(box_iou(prediction.boxes[:1], truth[None]))))

    def state(self) -> list[tuple[int, float]]:
        return self._seen

    def merge(self, states: Iterable[Any]) -> None:
        self._seen = [entry for state in states for entry in state]

    def compute(self) -> dict[str, dict[str, Any]]:
        values = [value for _, value in sorted(self._seen)]
        distinct = len({image for image, _ in self._seen})
        return {"bbox": {"AP": sum(values) / len(values), "AP75": None, "images": len(values), "distinct": distinct}}

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        return [("Boxes", ["metric", "value"], [["AP", f"{self.compute()['bbox']['AP']:.3f}"]])]
