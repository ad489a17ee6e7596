"""Metrics of instances on Cityscapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from hotcoco import mask as rle
from numpy.typing import NDArray
from PIL import Image

from det_datasets.cityscapes.dataset import CityscapesDataset
from det_datasets.cityscapes.labels import LABELS, WHOLE
from det_datasets.cityscapes.maps import regions
from det_datasets.cityscapes.precision import OVERLAPS, SMALLEST, Found, average_precision
from det_datasets.evaluating import Table, checked_labels, defined, percent, undefined_table, warn_of_missing
from detkit.atomic import write_whole
from detkit.interfaces import Dataset, Evaluator
from detkit.results import ResultLog, State
from detkit.structures.prediction import Prediction

METRICS = ("AP", "AP50")
_VOID = [label.id for label in LABELS if not label.evaluated]


class CityscapesInstanceEvaluator(Evaluator):
    """Average precision of instance masks as Cityscapes defines it, to the numbers of its own scripts.

    Section "cityscapes_instances": `AP`, over intersections over union of 0.5, 0.55, ... 0.95, and `AP50`, on average
    over the classes that have objects; from 0 to 1, None where no class has. Unlike in
    COCO's, precision may rise with recall, and answers are not wrong that lie mostly where nothing is labelled, on
    groups of objects of their class, or on objects below 100 pixels.

    Args:
        results: `save` writes the masks too, as Cityscapes' server takes them.
    """

    title: ClassVar[str] = "Cityscapes: instances"
    needs: ClassVar[Sequence[str]] = ("masks", "labels")

    def __init__(self, results: bool = True) -> None:
        self._keeps = results

    def start(self, dataset: Dataset) -> None:
        if not isinstance(dataset, CityscapesDataset):
            raise ValueError(
                f"{type(dataset).__name__} is not read as Cityscapes, whose groups and unlabelled pixels the evaluator "
                "'cityscapes-instances' needs; use 'coco' or 'panoptic'"
            )
        self._dataset = dataset
        self._ids, self._names = dataset.categories.ids, dataset.categories.names
        self._log = ResultLog()
        self._values = np.full((len(self._ids), len(OVERLAPS)), np.nan)
        self._objects = [0] * len(self._ids)

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        if "masks" not in prediction:
            raise ValueError("the model answers no masks, which the evaluator 'cityscapes-instances' measures")
        masks = prediction.masks.numpy(force=True)
        used = masks.any(axis=(1, 2)) if len(masks) else np.zeros(0, bool)
        masks, labels = masks[used], checked_labels(prediction, info["image_id"], len(self._ids))[used]
        truth = self._dataset.instance_map(info["image_id"]).numpy()
        overlap, target, ignored, objects = self._compare(masks, labels, truth)
        record: dict[str, Any] = {
            "scores": prediction.scores.numpy(force=True)[used].astype(np.float64),
            "labels": labels,
            "overlap": overlap,
            "target": target,
            "ignored": ignored,
            "objects": objects,
        }
        if self._keeps:
            record["size"] = list(prediction.image_size)
            codes = rle.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))) if len(masks) else []
            record["masks"] = [code["counts"] for code in codes]
        self._log.append(info["image_id"], record)

    def _compare(
        self, masks: NDArray[np.bool_], labels: NDArray[np.int64], truth: NDArray[np.int32]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], list[int]]:
        """What `Found` has of the masks (P, H, W) of an image, targets counted from 0 in each class; and how many
        objects of each class are asked for."""
        values, areas, _ = regions(truth)
        table = np.zeros(values[-1] + 1, np.intp)
        table[values] = np.arange(len(values))
        numbers = table[truth]
        shared = np.zeros((len(masks), len(values)), np.int64)
        for row, mask in zip(shared, masks, strict=True):
            row += np.bincount(numbers[mask], minlength=len(values))
        sizes = shared.sum(axis=1)
        ids = np.where(values >= WHOLE, values // WHOLE, values)
        asked = (values >= WHOLE) & (areas >= SMALLEST)
        places = np.full(len(values), -1)
        objects = []
        for id in self._ids:
            rows = np.flatnonzero(asked & (ids == id))
            places[rows] = range(len(rows))
            objects.append(len(rows))
        same = np.asarray(self._ids)[labels][:, None] == ids
        overlap = np.where(same, shared / (sizes[:, None] + areas - shared), 0.0)
        best = overlap.argmax(axis=1)
        # As in Cityscapes' scripts, what is both a group and small counts twice.
        unwanted = (values < WHOLE).astype(np.int64) + (areas < SMALLEST)
        free = (shared * np.isin(values, _VOID)).sum(axis=1) + (shared * same * unwanted).sum(axis=1)
        return overlap.max(axis=1, initial=0.0), places[best], free / sizes, objects

    def state(self) -> State:
        return self._log.state()

    def merge(self, states: Iterable[State]) -> None:
        self._log.merge(states)

    def compute(self) -> dict[str, dict[str, Any]]:
        warn_of_missing(len(self._dataset), len(self._log), "their objects count nowhere")
        rows: list[tuple[NDArray[Any], ...]] = []
        totals = np.zeros(len(self._ids), np.int64)
        for _, record in self._log.items():
            labels = record["labels"]
            target = np.where(record["target"] >= 0, record["target"] + totals[labels], -1)
            rows.append((labels, record["scores"], record["overlap"], target, record["ignored"]))
            totals += record["objects"]
        self._objects = totals.tolist()
        if not rows:
            return {"cityscapes_instances": dict.fromkeys(METRICS)}
        labels, *columns = (np.concatenate(column) for column in zip(*rows, strict=True))
        self._values = np.stack(
            [
                average_precision(Found(*(column[labels == label] for column in columns)), objects)
                for label, objects in enumerate(self._objects)
            ]
        )
        there = self._values[~np.isnan(self._values[:, 0])]
        if not len(there):
            return {"cityscapes_instances": dict.fromkeys(METRICS)}
        return {"cityscapes_instances": {"AP": float(there.mean()), "AP50": float(there[:, 0].mean())}}

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        rows = [
            (name, str(objects), *map(percent, values))
            for name, objects, values in zip(self._names, self._objects, self._by_class(), strict=True)
        ]
        table: Table = ("Cityscapes' AP of masks (%)", ("class", "objects", *METRICS), rows)
        lacking = [name for name, objects in zip(self._names, self._objects, strict=True) if not objects]
        return [
            table,
            *undefined_table(((name, f"no object of at least {SMALLEST} pixels") for name in lacking), "class"),
        ]

    def _by_class(self) -> list[tuple[float, float]]:
        return [(float(values.mean()), float(values[0])) for values in self._values]

    def reasons(self) -> Mapping[str, Mapping[str, str]]:
        return {"cityscapes_instances": dict.fromkeys(METRICS, f"no class has an object of at least {SMALLEST} pixels")}

    def save(self, folder: Path) -> None:
        """Write `cityscapes_instances_per_class.json`, and into `cityscapes_instances/` what Cityscapes' tools read:
        for each image a text with the files of masks, their classes (Cityscapes' ids) and scores."""
        folder.mkdir(parents=True, exist_ok=True)
        values = {
            name: dict(zip(METRICS, map(defined, row), strict=True))
            for name, row in zip(self._names, self._by_class(), strict=True)
        }
        write_whole(folder / "cityscapes_instances_per_class.json", msgspec.json.encode(values).decode())
        if not self._keeps:
            return
        out = folder / "cityscapes_instances"
        out.mkdir(exist_ok=True)
        for image_id, record in self._log.items():
            lines = []
            answers = zip(record["masks"], record["labels"].tolist(), record["scores"].tolist(), strict=True)
            for number, (counts, label, score) in enumerate(answers):
                name = f"{image_id}_{number}_{self._names[label]}.png"
                mask = rle.decode({"size": record["size"], "counts": counts})
                Image.fromarray(mask * np.uint8(255)).save(out / name)
                lines.append(f"{name} {self._ids[label]} {score}\n")
            (out / f"{image_id}_pred.txt").write_text("".join(lines))
