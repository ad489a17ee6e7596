"""What computes COCO's precision and recall: hotcoco, pycocotools, or the rules themselves."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
import torch
from hotcoco import mask as rle
from numpy.typing import NDArray

from det_datasets.coco.boundary import boundaries_of, boundary_overlaps
from det_datasets.coco.matching import Curves, Matches
from detkit.ops.rotated_iou import rotated_iou
from detkit.structures.placed_masks import encode_masks

KEYPOINT_LIMIT = 20
EVERYTHING = (0.0, 1e10)
"""The range of sizes of all objects."""


@dataclass(frozen=True)
class Task:
    """What is compared and how.

    Args:
        section: "bbox", "segm" or "keypoints"; "boundary" and rotated boxes are not for libraries.
        truth: COCO dict; ids of images are numbers.
        limits: so many of the best detections of an image and class count, rising.
        ranges: least and greatest size of objects, the first that of all.
        sigmas: of keypoints.
        federated: by the rules of LVIS: a detection counts where its class is annotated or among `neg_category_ids` of
            the image, and one of `not_exhaustive_category_ids` is not wrong when it finds nothing. For hotcoco, and for
            own rules, which get only detections that count.
    """

    section: str
    truth: dict[str, Any]
    limits: tuple[int, ...]
    ranges: tuple[tuple[float, float], ...]
    sigmas: tuple[float, ...] = ()
    federated: bool = False


@dataclass(frozen=True)
class Found:
    """D detections, in the order of their images.

    Args:
        columns: (D, 7) image id, x, y, width, height, score, category id; rotated boxes (D, 8).
        masks: compressed RLE of each.
        areas: (D,) of the masks.
        points: (D, K, 3) keypoints.
        boundaries: compressed RLE of each mask's boundary.
    """

    columns: NDArray[np.float64]
    masks: list[Any] | None = None
    areas: NDArray[np.float64] | None = None
    points: NDArray[np.float64] | None = None
    boundaries: list[Any] | None = None


def with_hotcoco(task: Task, found: Found) -> Curves:
    """Of boxes, masks and keypoints; the numbers are those of pycocotools."""
    truth = hotcoco.COCO(task.truth)
    if task.section == "keypoints":
        detections = truth.load_res(_entries(task, found))
    elif task.section == "segm":
        detections = truth.load_res(found.columns, segmentation=found.masks)
        # Sizes are those of masks, not of boxes, as for official results, which have masks alone.
        detections.update_anns(ids=np.arange(1, len(found.columns) + 1), area=found.areas)
    else:
        detections = truth.load_res(found.columns)
    if task.federated:
        detections = detections.cap_detections_per_image(None)  # the cap of an image was applied before
    return _evaluated(hotcoco.COCOeval(truth, detections, task.section, lvis_style=task.federated), task)


def with_pycocotools(task: Task, found: Found) -> Curves:
    """The same with the library that defines the numbers.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ValueError("the engine pycocotools is not installed: pip install 'det-datasets[pycocotools]'") from error

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        # It takes an object with the id 0 for none, and writes into what it is given
        annotations = [{**entry, "id": number} for number, entry in enumerate(task.truth["annotations"], start=1)]
        truth.dataset = {**task.truth, "annotations": annotations}
        truth.createIndex()
        detections = truth.loadRes(found.columns if task.section == "bbox" else _entries(task, found))
        return _evaluated(COCOeval(truth, detections, task.section), task)


def _evaluated(evaluation: Any, task: Task) -> Curves:
    parameters = evaluation.params
    parameters.maxDets, parameters.areaRng = list(task.limits), [list(each) for each in task.ranges]
    parameters.areaRngLbl = ["all", *(str(number) for number in range(1, len(task.ranges)))]
    if task.section == "keypoints":
        parameters.kpt_oks_sigmas = np.array(task.sigmas)
    evaluation.evaluate()
    evaluation.accumulate()
    return Curves(np.asarray(evaluation.eval["precision"])[..., -1], np.asarray(evaluation.eval["recall"]))


def _entries(task: Task, found: Found) -> list[dict[str, Any]]:
    """Detections in COCO's results form, with what the section compares. Those of masks have no box, so that their size
    is that of the mask."""
    entries: list[dict[str, Any]] = []
    for number, row in enumerate(found.columns.tolist()):
        entry = {"image_id": int(row[0]), "score": row[5], "category_id": int(row[6])}
        if task.section == "segm":
            assert found.masks is not None
            entry["segmentation"] = found.masks[number]
        else:
            entry["bbox"] = row[1:5]
        if task.section == "keypoints":
            assert found.points is not None
            entry["keypoints"] = found.points[number].ravel().tolist()
        entries.append(entry)
    return entries


def with_own_rules(task: Task, found: Found) -> Curves:
    """Of rotated boxes, as Detectron2's RotatedCOCOEvaluator compares them but for crowds, which are what they are for
    upright ones, and of "boundary"."""
    classes = {entry["id"]: label for label, entry in enumerate(sorted(task.truth["categories"], key=_id))}
    objects: dict[int, list[dict[str, Any]]] = {}
    for entry in task.truth["annotations"]:
        objects.setdefault(entry["image_id"], []).append(entry)
    images = {entry["id"]: entry for entry in task.truth["images"]}
    overlaps = _boundary_overlaps if task.section == "boundary" else _rotated_overlaps
    matches = Matches(task.ranges, task.limits)
    for image_id, rows in _images(found.columns[:, 0], objects):
        entries = objects.get(image_id, [])
        crowd = np.array([entry["iscrowd"] for entry in entries], bool)
        image = images[image_id]
        incomplete = image["not_exhaustive_category_ids"] if task.federated else ()
        matches.add(
            overlaps(found, rows, entries, crowd, (image.get("height"), image.get("width"))),
            labels=np.array([classes[id] for id in found.columns[rows, -1].tolist()], np.int64),
            scores=found.columns[rows, -2],
            areas=found.columns[rows, 3:5].prod(axis=1) if found.areas is None else found.areas[rows],
            object_labels=np.array([classes[entry["category_id"]] for entry in entries], np.int64),
            object_areas=np.array([entry["area"] for entry in entries], np.float64),
            ignored=crowd,
            crowd=crowd,
            pardoned=np.isin(found.columns[rows, -1], incomplete),
        )
    return matches.curves(len(classes))


def _id(entry: dict[str, Any]) -> int:
    id: int = entry["id"]
    return id


def _images(column: NDArray[np.float64], objects: dict[int, Any]) -> Iterator[tuple[int, slice]]:
    """Ids of images that have detections or objects, rising, and the rows of their detections."""
    for image_id in sorted({*np.unique(column).astype(np.int64).tolist(), *objects}):
        yield image_id, slice(*np.searchsorted(column, (image_id, image_id + 1)).tolist())


def _rotated_overlaps(
    found: Found, rows: slice, entries: list[dict[str, Any]], crowd: NDArray[np.bool_], size: tuple[int, int]
) -> NDArray[np.float64]:
    """(D, G): IoU, or of a crowd the share of the detection that it covers."""
    objects = np.array([_rotated(entry["bbox"]) for entry in entries], np.float64).reshape(-1, 5)
    boxes, others = torch.from_numpy(found.columns[rows, 1:-2]), torch.from_numpy(objects)
    iou = rotated_iou(boxes, others).numpy().astype(np.float64)
    if not crowd.any():
        return iou
    areas, others_areas = (each[:, 2:4].prod(dim=1).numpy() for each in (boxes, others))
    shared = iou / (1 + iou) * (areas[:, None] + others_areas)
    return np.where(crowd, shared / np.maximum(areas, np.spacing(1))[:, None], iou)


def _boundary_overlaps(
    found: Found, rows: slice, entries: list[dict[str, Any]], crowd: NDArray[np.bool_], size: tuple[int, int]
) -> NDArray[np.float64]:
    assert found.masks is not None and found.boundaries is not None
    masks = [_code(entry["segmentation"], *size) for entry in entries]
    return boundary_overlaps(found.masks[rows], found.boundaries[rows], masks, boundary_codes(masks), crowd)


def _code(segmentation: Any, height: int, width: int) -> Any:
    """Polygons or RLE as compressed RLE."""
    if isinstance(segmentation, list):
        return rle.merge(rle.fr_py_objects(segmentation, height, width))
    return rle.fr_py_objects(segmentation, height, width) if isinstance(segmentation["counts"], list) else segmentation


def boundary_codes(masks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of masks in compressed RLE."""
    return encode_masks(boundaries_of(rle.decode(masks).transpose(2, 0, 1).astype(bool))) if masks else []


def _rotated(box: Sequence[float]) -> Sequence[float]:
    """A box of COCO's form, (x, y, width, height) or rotated, as a rotated one."""
    return box if len(box) == 5 else (box[0] + box[2] / 2, box[1] + box[3] / 2, box[2], box[3], 0.0)


ENGINES: dict[str, Callable[[Task, Found], Curves]] = {"hotcoco": with_hotcoco, "pycocotools": with_pycocotools}
