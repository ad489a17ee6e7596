"""COCO's metrics of boxes, rotated boxes, masks, their boundaries, and keypoints."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from hotcoco import mask as rle
from numpy.typing import NDArray
from torch import Tensor

from det_datasets.coco import engines, summary
from det_datasets.coco.keypoints import PIXEL_CENTRE
from det_datasets.coco.matching import Curves
from det_datasets.evaluating import checked_id, checked_labels, coco_truth, warn_of_missing
from detkit.atomic import whole_file, write_whole
from detkit.interfaces import Dataset, Evaluator
from detkit.report.figures import Figure
from detkit.results import ResultLog, State
from detkit.structures.placed_masks import PlacedMasks, encode_masks
from detkit.structures.prediction import Prediction

Record = tuple[Any, dict[str, Any]]
"""An image's id, and what is kept of its predictions."""

AREAS: Mapping[str, tuple[float, float]] = {"s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
"""COCO's sizes of objects in square pixels, both ends included."""
SECTIONS = ("bbox", "segm", "boundary", "keypoints")
OUT_OF_RANGE = 1e12  # square pixels, in no range: such objects are ignored


class CocoEvaluator(Evaluator):
    """Average precision and recall as COCO defines them.

    Sections "bbox" and, where predictions have them, "segm" and "keypoints"; metrics `METRICS`, `KEYPOINT_METRICS` of
    keypoints, from 0 to 1, None where the dataset has nothing to measure them on (`tables` says why). In "segm" an
    object without a usable mask is ignored, in "keypoints" one without labelled keypoints, everywhere one that is
    difficult: finding it and missing it are neither right nor wrong. (pycocotools itself overwrites `ignore` with
    `iscrowd`.) The sigmas of keypoints are those of the dataset's categories. As in Detectron2, the size of a detection
    in "keypoints" is that of its box.

    If the dataset or the model has rotated boxes, "bbox" compares rotated ones, as Detectron2's RotatedCOCOEvaluator
    does: upright ones are turned by 0 degrees.

    Predictions are kept on disk (`detkit.results`), so that memory does not grow while a model predicts. Masks may also
    be a list of compressed RLE dicts, as result files have them.

    Args:
        max_dets: so many of the best detections of each class count in an image. There is an AR for each of these
            numbers; all other metrics have the last one. LVIS has 300. Keypoints always have 20, as in COCO.
        areas: letter -> least and greatest size of objects in square pixels; COCO's small, medium and large (`AREAS`)
            by default. Metrics AP and AR of each have its name behind them. Keypoints always have COCO's.
        boundary: also the section "boundary" of Boundary IoU (Cheng et al., 2021), where predictions have masks: that
            of masks, but an overlap is never more than the IoU of the masks' boundaries, which are 0.02 of the image's
            diagonal wide. Takes about as long as encoding the masks.
        sections: only these; all that predictions have by default.
        engine: "hotcoco", or "pycocotools", which defines the numbers and is slower: they are the same to the last
            digit. Rotated boxes and boundaries are not for either.

    Raises:
        ValueError: an engine, numbers or sizes that there cannot be.
    """

    title: ClassVar[str] = "COCO"

    name: ClassVar[str] = "coco"
    """Of the evaluator and of the files it writes."""

    kinds: ClassVar[Mapping[str, str]] = summary.SIZES
    """What comes behind AP or AR in a metric's name -> which objects those are."""

    federated: ClassVar[bool] = False
    """See `engines.Task`."""

    def __init__(
        self,
        *,
        max_dets: Sequence[int] = (1, 10, 100),
        areas: Mapping[str, Sequence[float]] | None = None,
        boundary: bool = False,
        sections: Sequence[str] | None = None,
        engine: str = "hotcoco",
    ) -> None:
        if unknown := sorted(set(sections or ()) - set(SECTIONS)):
            raise ValueError(f"sections has {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
        if engine not in engines.ENGINES:
            raise ValueError(f"engine is {engine!r}; there are {', '.join(engines.ENGINES)}")
        if not max_dets or any(not isinstance(number, int) or number < 1 for number in max_dets):
            raise ValueError(f"max_dets is {list(max_dets)}; whole numbers from 1 are needed")
        areas = AREAS if areas is None else areas
        for name, each in areas.items():
            if len(each) != 2 or not 0 <= each[0] < each[1] or not name.isidentifier():
                raise ValueError(
                    f"areas has {name}: {list(each)}; a name and the least and greatest number of square pixels are "
                    "needed, as m: [1024, 9216]"
                )
        self._limits = tuple(sorted(set(max_dets)))
        most = engines.EVERYTHING[1]
        self._areas = {name: (float(each[0]), min(float(each[1]), most)) for name, each in areas.items()}
        self._boundary = boundary or "boundary" in (sections or ())
        self._wanted = SECTIONS if sections is None else tuple(sections)
        self._engine = engines.ENGINES[engine]
        self._log = ResultLog()

    def start(self, dataset: Dataset) -> None:
        truth = coco_truth(dataset, self.name)
        self._log = ResultLog()
        self._truth = truth
        self._rotated = any(len(entry["bbox"]) == 5 for entry in truth["annotations"])
        self._ids = np.asarray(dataset.categories.ids, np.int64)
        self._names = dataset.categories.names
        self._keypoints = dataset.categories.keypoints
        self._images = {entry["id"] for entry in truth["images"]}
        self._sections: dict[str, dict[str, float | None]] = {}
        self._classes: dict[str, dict[str, list[float | None]]] = {}
        self._figures: list[Figure] = []

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        image_id = checked_id(info, self._images)
        if "labels" not in prediction:
            raise ValueError(
                f"the evaluator {self.name!r} compares classes, and these predictions have none; use the evaluator "
                "'proposals'"
            )
        record = {
            "boxes": prediction.boxes.numpy(force=True).astype(np.float32),
            "scores": prediction.scores.numpy(force=True).astype(np.float32),
            "labels": checked_labels(prediction, image_id, len(self._ids)).astype(np.int32),
            "size": prediction.image_size,
        }
        if "masks" in prediction:
            record.update(_mask_fields(prediction.masks, boundary=self._boundary))
        if "keypoints" in prediction:
            record["keypoints"] = self._points(prediction)
        self._log.append(image_id, record)

    def _points(self, prediction: Prediction) -> NDArray[np.float32]:
        if self._keypoints is None or not self._keypoints.sigmas:
            lacks = "annotates no keypoints" if self._keypoints is None else "does not say how exact its keypoints are"
            raise ValueError(
                f"predictions have keypoints, but the dataset {lacks}; in the data YAML give the split keypoints: "
                "{sigmas: [...]}, one for each, as COCO has for persons"
            )
        points = prediction.keypoints.numpy(force=True).astype(np.float32)
        if points.shape[1:] != (len(self._keypoints), 3):
            raise ValueError(f"predictions have {points.shape[1]} keypoints, the dataset {len(self._keypoints)}")
        return points - np.array((PIXEL_CENTRE, PIXEL_CENTRE, 0), np.float32)

    def state(self) -> State:
        return self._log.state()

    def merge(self, states: Iterable[State]) -> None:
        self._log.merge(states)

    def compute(self) -> dict[str, dict[str, Any]]:
        warn_of_missing(len(self._images), len(self._log), "their objects count as missed")
        self._sections, self._classes, self._figures = {}, {}, []
        with _collector_paused():
            self._compute()
        return {section: dict(values) for section, values in self._sections.items()}

    def _compute(self) -> None:
        """Fill in `_sections` and `_classes`."""
        self._add_sections(self._log.items(), self._limits)

    def _add_sections(self, records: Iterable[Record], limits: tuple[int, ...], suffix: str = "") -> None:
        """Add the sections of what is in these records, with a suffix to their names."""
        numbers = self._image_numbers()
        found, rotated = self._found(numbers, records)
        there = {
            "bbox": True,
            "segm": found.masks is not None,
            "boundary": found.boundaries is not None,
            "keypoints": found.points is not None,
        }
        places = np.searchsorted(sorted(entry["id"] for entry in self._truth["categories"]), self._ids).tolist()
        for section in SECTIONS:
            if section not in self._wanted or not there[section]:
                continue
            points = section == "keypoints"
            areas = {name: AREAS[name] for name in "ml"} if points else self._areas
            most = (engines.KEYPOINT_LIMIT,) if points else limits
            curves = self._curves(section, found, rotated, areas, most, numbers)
            values = summary.metrics(curves, tuple(areas), most, keypoints=points)
            each = [summary.metrics(curves, tuple(areas), most, keypoints=points, label=place) for place in places]
            self._classes[section + suffix] = {name: [of_class[name] for of_class in each] for name in values}
            self._sections[section + suffix] = self._with_groups(values, curves)
            self._figures.append(summary.precision_figure(section + suffix, curves.precision[..., 0]))

    def _with_groups(self, values: dict[str, float | None], curves: Curves) -> dict[str, float | None]:
        """Metric -> value, with those of groups of classes, where a format has some."""
        return values

    def _image_numbers(self) -> dict[Any, int]:
        """What images are called in the computation: libraries need whole numbers, in the order of ids."""
        if all(isinstance(image_id, int) for image_id in self._images):
            return {image_id: image_id for image_id in self._images}
        return {image_id: number for number, image_id in enumerate(sorted(self._images), start=1)}

    def _found(self, numbers: Mapping[Any, int], records: Iterable[Record]) -> tuple[engines.Found, bool]:
        """All detections of records, and whether their boxes are compared as rotated ones."""
        columns: list[NDArray[np.float64]] = []
        areas, points = [np.zeros(0)], []
        masks: list[dict[str, Any]] = []
        boundaries: list[dict[str, Any]] = []
        missing = set() if len(self._log) else {"masks", "boundaries", "keypoints"}
        rotated = self._rotated
        for image_id, record in records:
            missing.update({"masks", "boundaries", "keypoints"} - record.keys())
            boxes = record["boxes"].astype(np.float64)
            rotated = rotated or boxes.shape[1] == 5
            ids = np.full(len(boxes), numbers[image_id], np.float64)
            columns.append(np.column_stack((ids, _as_coco(boxes), record["scores"], self._ids[record["labels"]])))
            if "masks" not in missing:
                areas.append(record["areas"])
                masks += [{"size": record["size"], "counts": counts} for counts in record["masks"]]
            if "boundaries" not in missing:
                boundaries += [{"size": record["size"], "counts": counts} for counts in record["boundaries"]]
            if "keypoints" not in missing:
                points.append(record["keypoints"].astype(np.float64))
        width = 8 if rotated else 7
        columns = [np.zeros((0, width)), *(_with_angles(rows) if rotated else rows for rows in columns)]
        found = engines.Found(
            np.concatenate(columns),
            None if "masks" in missing else masks,
            None if "masks" in missing else np.concatenate(areas),
            None if "keypoints" in missing else np.concatenate(points),
            None if "boundaries" in missing else boundaries,
        )
        return found, rotated

    def _curves(
        self,
        section: str,
        found: engines.Found,
        rotated: bool,
        areas: Mapping[str, tuple[float, float]],
        limits: tuple[int, ...],
        numbers: Mapping[Any, int],
    ) -> Curves:
        truth = {**self._truth, "images": [{**entry, "id": numbers[entry["id"]]} for entry in self._truth["images"]]}
        truth["annotations"] = [
            {**self._comparable(entry, section), "image_id": numbers[entry["image_id"]]}
            for entry in self._truth["annotations"]
        ]
        sigmas = self._keypoints.sigmas if self._keypoints is not None else ()
        task = engines.Task(section, truth, limits, (engines.EVERYTHING, *areas.values()), sigmas, self.federated)
        own = section == "boundary" or (section == "bbox" and rotated)
        return (engines.with_own_rules if own else self._engine)(task, found)

    def _comparable(self, entry: dict[str, Any], section: str) -> dict[str, Any]:
        """An annotation as a section compares it. Without a mask it is a crowd that fills its box, for masks: COCO
        ignores it. One that is difficult has a size that is in no range, or no keypoints that count: COCO ignores it
        too, and pairs it with one detection at most."""
        if section in ("segm", "boundary") and "segmentation" not in entry:
            x, y, width, height = entry["bbox"]
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            entry = {**entry, "iscrowd": 1, "segmentation": [corners]}
        if entry.get("ignore"):
            entry = {**entry, **({"num_keypoints": 0} if section == "keypoints" else {"area": OUT_OF_RANGE})}
        return entry

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        return summary.tables(self._sections, self._classes, self._counts())

    def reasons(self) -> Mapping[str, Mapping[str, str]]:
        return summary.reasons(self._sections, self._counts(), self.kinds)

    def figures(self) -> Sequence[Figure]:
        return tuple(self._figures)

    def _counts(self) -> dict[str, int]:
        """Class -> number of objects that count."""
        counts = dict.fromkeys(self._ids.tolist(), 0)
        for entry in self._truth["annotations"]:
            counts[entry["category_id"]] += not (entry["iscrowd"] or entry.get("ignore"))
        return dict(zip(self._names, counts.values(), strict=True))

    def save(self, folder: Path) -> None:
        """Write `NAME_instances_results.json`, which the dataset's own tools read, and `NAME_per_class.json`: section
        -> metric -> class -> value. NAME is that of the evaluator."""
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / f"{self.name}_instances_results.json") as file:
            before = b"["
            for entry in self._entries():
                file.write(before + msgspec.json.encode(entry))
                before = b",\n"
            file.write(b"]" if before == b",\n" else b"[]")
        named = {
            section: {name: dict(zip(self._names, values, strict=True)) for name, values in metrics.items()}
            for section, metrics in self._classes.items()
        }
        write_whole(folder / f"{self.name}_per_class.json", msgspec.json.encode(named).decode())

    def _entries(self) -> Iterator[dict[str, Any]]:
        """Detections in COCO's results form, one after the other, with what was compared."""
        for image_id, record in self._log.items():
            boxes = _as_coco(record["boxes"].astype(np.float64)).tolist()
            scores, ids = record["scores"].astype(np.float64).tolist(), self._ids[record["labels"]].tolist()
            for number, (box, score, category_id) in enumerate(zip(boxes, scores, ids, strict=True)):
                entry = {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}
                if "segm" in self._sections:
                    counts = record["masks"][number]
                    text = counts.decode() if isinstance(counts, bytes) else counts
                    entry["segmentation"] = {"size": record["size"], "counts": text}
                if "keypoints" in self._sections:
                    entry["keypoints"] = record["keypoints"][number].astype(np.float64).ravel().tolist()
                yield entry


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Without the collector of cycles, which would go through half a million new dicts, none of them in a cycle, again
    and again: a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _mask_fields(masks: Tensor | PlacedMasks | list[dict[str, Any]], *, boundary: bool) -> dict[str, Any]:
    """What is kept of masks: (N, H, W), or compressed RLE, as result files have it."""
    codes = masks if isinstance(masks, list) else encode_masks(masks)
    fields = {
        "masks": [code["counts"] for code in codes],
        "areas": np.asarray(rle.area(codes) if codes else (), np.float64),
    }
    if boundary:
        fields["boundaries"] = [code["counts"] for code in engines.boundary_codes(codes)]
    return fields


def _as_coco(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (N, 4) xyxy as x, y, width, height; rotated ones (N, 5) as they are."""
    if boxes.shape[1] == 5:
        return boxes
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)


def _with_angles(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Detections (D, 7 or 8) with rotated boxes (D, 8)."""
    if columns.shape[1] == 8:
        return columns
    sizes = columns[:, 3:5]
    upright = (columns[:, :1], columns[:, 1:3] + sizes / 2, sizes, np.zeros((len(columns), 1)), columns[:, 5:])
    return np.concatenate(upright, axis=1)
