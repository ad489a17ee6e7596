"""Panoptic quality of a dataset."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from det_datasets.evaluating import defined, percent, undefined_table, warn_of_missing
from det_datasets.panoptic.classes import category_entries, stuff_labels
from det_datasets.panoptic.quality import Quality, SegmentedImage, mean_quality
from det_datasets.pixels import picture_of_ids
from detkit.atomic import write_whole
from detkit.interfaces import Dataset, Evaluator
from detkit.results import ResultLog, State
from detkit.structures.prediction import Prediction

METRICS = ("PQ", "SQ", "RQ")
UNDEFINED_CLASSES = "no such class is annotated or predicted"
_State = tuple[set[Any], Quality, State]


class PanopticEvaluator(Evaluator):
    """Panoptic quality (Kirillov et al., Panoptic Segmentation, 2019; https://arxiv.org/abs/1801.00868) by the rules of
    COCO's panopticapi: `PQ`, the product of segmentation quality `SQ` and recognition quality `RQ` in each class, on
    average over classes.

    Section "panoptic": PQ, SQ, RQ of all classes, `PQ_th`, ... of things and `PQ_st`, ... of stuff, from 0 to 1; None
    where no class is annotated or predicted (`tables` says so). Sums are exact, so that the order of images changes
    nothing.

    Args:
        results: keep the predicted segments, in a file on disk, so that `save` can write them.
    """

    title: ClassVar[str] = "Panoptic segments"
    needs: ClassVar[Sequence[str]] = ("panoptic",)

    def __init__(self, results: bool = True) -> None:
        self._keeps = results
        self._images: set[Any] = set()

    def start(self, dataset: Dataset) -> None:
        if not dataset.has_panoptic:
            raise ValueError(
                "the dataset has no panoptic segments, which the evaluator 'panoptic' compares with; leave it out, or "
                "give the data its panoptic files"
            )
        assert dataset.semantic_categories is not None
        self._dataset = dataset
        things, pixels = dataset.categories, dataset.semantic_categories
        stuff = list(stuff_labels(things, pixels))
        self._things = len(things)
        self._names = (*things.names, *(pixels.names[label] for label in stuff))
        # Labels of pixels, as the classes that are counted: things first, as which what is labelled so counts too.
        self._class_of_pixel = np.full(len(pixels), -1)
        self._class_of_pixel[stuff] = range(len(things), len(self._names))
        for label, name in enumerate(pixels.names):
            if (thing := things.label_of_name(name)) is not None:
                self._class_of_pixel[label] = thing
        self._categories, ids_of = category_entries(things, pixels)
        self._ids = list(ids_of.values())
        self._images = set()
        self._quality = Quality.of(len(self._names))
        self._log = ResultLog()
        self._by_class = np.full((len(self._names), 3), np.nan)
        self._values: dict[str, float | None] = {}

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        if "panoptic" not in prediction:
            raise ValueError(
                "the model answers no panoptic segments, which the evaluator 'panoptic' measures; leave it out, or "
                "give the model `panoptic`"
            )
        image_id = info["image_id"]
        ids, segments = self._dataset.panoptic_map(image_id)
        truth = self._image(ids.numpy(), segments)
        answer = self._image(prediction.panoptic.numpy(force=True), prediction.segments)
        self._quality.add(truth, answer)
        self._images.add(image_id)
        if self._keeps:
            self._log.append(image_id, self._record(answer, prediction.segments))

    def _image(self, pixels: NDArray[np.int32], segments: Sequence[Mapping[str, Any]]) -> SegmentedImage:
        labels = [
            segment["label"] if segment["isthing"] else self._class_of_pixel[segment["label"]] for segment in segments
        ]
        classes = np.array(labels, np.int64)
        counted = classes >= 0  # not, say, a rest that the model calls "things"
        ids = np.array([segment["id"] for segment in segments], np.int64)
        crowd = np.array([segment.get("iscrowd", False) for segment in segments], bool)
        return SegmentedImage(pixels, ids[counted], classes[counted], crowd[counted])

    def _record(self, answer: SegmentedImage, segments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        pixels = np.where(np.isin(answer.pixels, answer.ids), answer.pixels, 0)
        picture = io.BytesIO()
        picture_of_ids(pixels.astype(np.int32)).save(picture, "PNG", compress_level=1)
        areas = np.bincount(pixels.ravel())
        scores = {segment["id"]: segment["score"] for segment in segments if "score" in segment}
        infos = [
            {
                "id": id,
                "category_id": self._ids[label],
                "area": int(areas[id]),
                **({"score": scores[id]} if id in scores else {}),
            }
            for id, label in zip(answer.ids.tolist(), answer.classes.tolist(), strict=True)
        ]
        return {"picture": picture.getvalue(), "segments": infos}

    def state(self) -> _State:
        return self._images, self._quality, self._log.state()

    def merge(self, states: Iterable[_State]) -> None:
        self._images, self._quality = set(), Quality.of(len(self._names))
        logs = []
        for images, quality, results in states:
            self._images |= images
            self._quality.join(quality)
            logs.append(results)
        self._log.merge(logs)

    def compute(self) -> dict[str, dict[str, Any]]:
        warn_of_missing(len(self._dataset), len(self._images), "their segments count nowhere")
        self._by_class = self._quality.by_class()
        everything = range(len(self._names))
        groups = {"": everything, "_th": everything[: self._things], "_st": everything[self._things :]}
        self._values = {
            metric + ending: value
            for ending, classes in groups.items()
            for metric, value in zip(METRICS, mean_quality(self._by_class, classes), strict=True)
        }
        return {"panoptic": dict(self._values)}

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        summary = [
            (name, *(percent(self._values.get(metric + ending)) for metric in METRICS))
            for name, ending in (("all", ""), ("things", "_th"), ("stuff", "_st"))
        ]
        classes = [
            (name, kind, *map(str, counts), *(percent(value) for value in values))
            for name, kind, counts, values in zip(
                self._names,
                ["thing"] * self._things + ["stuff"] * (len(self._names) - self._things),
                self._quality.counts.tolist(),
                _defined(self._by_class),
                strict=True,
            )
        ]
        columns = ("class", "kind", "found", "made up", "missed", *METRICS)
        lacking = [name for name, *values in summary if "n/a" in values]
        lacking += [self._names[label] for label in np.flatnonzero(np.isnan(self._by_class[:, 0]))]
        return [
            ("Panoptic quality (%)", ("classes", *METRICS), summary),
            ("By class (%)", columns, classes),
            *undefined_table(((name, "neither annotated nor predicted") for name in lacking), "classes"),
        ]

    def reasons(self) -> Mapping[str, Mapping[str, str]]:
        return {"panoptic": dict.fromkeys(self._values, UNDEFINED_CLASSES)}

    def save(self, folder: Path) -> None:
        """Write `panoptic_results.json` with the pictures in `panoptic_results/`, which COCO's and Cityscapes' own
        tools read, and `panoptic_per_class.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        values = {
            name: dict(zip(METRICS, row, strict=True))
            for name, row in zip(self._names, _defined(self._by_class), strict=True)
        }
        write_whole(folder / "panoptic_per_class.json", msgspec.json.encode(values).decode())
        if not self._keeps:
            return
        pictures = folder / "panoptic_results"
        pictures.mkdir(exist_ok=True)
        annotations = []
        for image_id, record in self._log.items():
            name = f"{image_id:012}.png" if isinstance(image_id, int) else f"{image_id.replace('/', '_')}.png"
            (pictures / name).write_bytes(record["picture"])
            annotations.append({"image_id": image_id, "file_name": name, "segments_info": record["segments"]})
        data = {"annotations": annotations, "categories": self._categories}
        write_whole(folder / "panoptic_results.json", msgspec.json.encode(data).decode())


def _defined(rows: NDArray[np.float64]) -> list[list[float | None]]:
    return [[defined(value) for value in row] for row in rows.tolist()]
