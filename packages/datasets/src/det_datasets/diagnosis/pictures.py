"""The images whose answers are most wrong: what is annotated beside what is predicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from hotcoco import mask as rle
from numpy.typing import NDArray
from PIL import Image

from det_datasets.coco.ground_truth import encode
from det_datasets.coco.keypoints import PIXEL_CENTRE
from det_datasets.diagnosis.objects import Objects
from det_datasets.diagnosis.outcomes import ERRORS, IN_WORDS, RIGHT
from det_datasets.diagnosis.summary import Summary
from detkit.drawing import draw
from detkit.interfaces import Dataset
from detkit.report.figures import Picture, Pictures, View
from detkit.results import ResultLog
from detkit.structures.categories import Categories
from detkit.structures.placed_masks import encode_masks
from detkit.structures.prediction import Prediction

MOST = 60
"""So many detections, the best, and so many objects are drawn into an image."""

_SIDE = 480  # pixels of the longer side of a picture
_OPACITY = 0.3  # of masks
_RIGHT, _WRONG, _MISSED, _ASIDE = (38, 160, 90), (224, 60, 45), (255, 190, 20), (150, 150, 150)
_LEGEND = tuple(
    (name, "#{:02x}{:02x}{:02x}".format(*colour))
    for name, colour in (
        ("found", _RIGHT),
        ("wrong detection", _WRONG),
        ("object that is not found", _MISSED),
        ("not counted", _ASIDE),
    )
)


def codes_of(prediction: Prediction, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The masks of some detections of an image as compressed RLE, which they may be already."""
    masks = prediction.masks
    return [masks[row] for row in rows] if isinstance(masks, list) else encode_masks(masks[rows])


def shapes_of(prediction: Prediction, rows: NDArray[np.int64]) -> dict[str, Any]:
    """What is kept of some detections of an image to be drawn, besides boxes."""
    kept: dict[str, Any] = {}
    if "masks" in prediction:
        codes = codes_of(prediction, rows)
        kept |= {"size": prediction.image_size, "masks": [code["counts"] for code in codes]}
    if "keypoints" in prediction:
        kept["keypoints"] = prediction.keypoints.numpy(force=True)[rows].astype(np.float32)
    return kept


def worst_images(found: Summary, log: ResultLog, objects: Objects, dataset: Dataset) -> Pictures:
    """Those of `Summary.worst`; what cannot be read is left out."""
    wanted = [objects.image_ids[place] for place in found.worst]
    index_of: dict[Any, int] = {}
    if wanted:
        index_of = {dataset.image_id(index): index for index in range(len(dataset))}
    pictures = []
    for image_id in wanted:
        try:
            sample = dataset[index_of[image_id]]
        except ValueError:  # the image is gone since it was evaluated
            continue
        image = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
        annotated, predicted, text = _layers(log, image_id, found.confidence, objects, dataset.categories)
        views = [
            View(name, layer.drawn(image, dataset.categories))
            for name, layer in (("annotated", annotated), ("predicted", predicted))
        ]
        pictures.append(Picture(views, str(image_id), text, str(sample.info.get("path", ""))))
    least = "of any score" if found.confidence == -np.inf else f"with scores from {found.confidence:.3f}"
    note = (
        "The images with the greatest sum of the scores of wrong detections and of what the scores of objects that are "
        f"not found lack to 1; detections {least}. An object that is not found is named with what happened to it, a "
        "wrong detection with what is wrong."
    )
    return Pictures("Images with most errors", pictures, note, _LEGEND)


@dataclass
class _Layer:
    """What is drawn into an image.

    Args:
        boxes: (N, 4 or 5) in pixels of the image.
        names, colours, masks: of each; a mask is compressed RLE, or None.
        keypoints: (N, K, 3), if there are any.
    """

    boxes: NDArray[np.float64]
    names: list[str] = field(default_factory=list)
    colours: list[tuple[int, int, int]] = field(default_factory=list)
    masks: list[Any] = field(default_factory=list)
    keypoints: NDArray[np.float64] | None = None

    def drawn(self, image: Image.Image, categories: Categories) -> Image.Image:
        """A small copy of an image with all this."""
        scale = _SIDE / max(image.size)
        width, height = (max(round(side * scale), 1) for side in image.size)
        boxes = self.boxes.copy()
        boxes[:, :4] *= scale
        fields: dict[str, Any] = {"boxes": torch.from_numpy(boxes)}
        if any(code is not None for code in self.masks):
            masks = [_small_mask(code, width, height) for code in self.masks]
            fields["masks"] = torch.from_numpy(np.stack(masks))
        if self.keypoints is not None:
            fields["keypoints"] = torch.from_numpy(self.keypoints * (scale, scale, 1))
        return draw(
            image.resize((width, height), Image.Resampling.BICUBIC),
            Prediction((height, width), **fields),
            categories,
            mask_opacity=_OPACITY,
            line_width=2,
            enlarge=False,
            names=self.names,
            colours=self.colours,
        )


def _layers(
    log: ResultLog, image_id: Any, least: float, objects: Objects, categories: Categories
) -> tuple[_Layer, _Layer, str]:
    """The objects and the detections of an image, and in words what is wrong."""
    truth, names = objects.of_image(image_id), categories.names
    state = np.where(truth.ignored, "not counted", "missed").astype(object)
    predicted, wrong, right = _Layer(truth.boxes[:0]), Counter[str](), 0
    if image_id in log:
        record = log[image_id]
        used = np.flatnonzero(record["scores"].astype(np.float64) >= least)
        kinds, found, targets = record["kind"][used], record["found"][used, 0], record["target"][used]
        for kind, target in zip(kinds[::-1].tolist(), targets[::-1].tolist(), strict=True):  # the best one last
            if target >= 0:
                state[target] = IN_WORDS[ERRORS[kind - 1]]
        hit = found[found >= 0]
        state[hit[~truth.ignored[hit]]] = "found"
        wrong.update(IN_WORDS[ERRORS[kind - 1]] for kind in kinds.tolist() if kind > RIGHT)
        right = int((kinds == RIGHT).sum())
        predicted = _predicted(record, used[used < MOST], names)
    wrong["missed"] = int((state == "missed").sum())
    text = ", ".join(f"{wrong[words]} {words}" for words in ("missed", *IN_WORDS.values()) if wrong[words])
    return _annotated(objects, image_id, state.tolist(), names), predicted, f"{text or 'nothing wrong'}; {right} right"


def _predicted(record: Mapping[str, Any], rows: NDArray[np.int64], names: Sequence[str]) -> _Layer:
    layer = _Layer(record["boxes"][rows].astype(np.float64))
    for row in rows.tolist():
        kind, name = int(record["kind"][row]), f"{names[record['labels'][row]]} {record['scores'][row]:.2f}"
        layer.names.append(f"{IN_WORDS[ERRORS[kind - 1]]}: {name}" if kind > RIGHT else name)
        layer.colours.append(_WRONG if kind > RIGHT else _RIGHT if kind == RIGHT else _ASIDE)
    if "masks" in record:
        layer.masks = [{"size": record["size"], "counts": record["masks"][row]} for row in rows.tolist()]
    if "keypoints" in record:
        layer.keypoints = record["keypoints"][rows].astype(np.float64)
    return layer


def _annotated(objects: Objects, image_id: Any, state: Sequence[str], names: Sequence[str]) -> _Layer:
    truth = objects.of_image(image_id)
    drawn = sorted(range(len(state)), key=lambda row: state[row] in ("found", "not counted"))[:MOST]
    layer, points = _Layer(truth.boxes[drawn]), []
    for row in drawn:
        name, words = names[truth.labels[row]], state[row]
        layer.names.append(name if words == "found" else f"{words}: {name}")
        layer.colours.append({"found": _RIGHT, "not counted": _ASIDE}.get(words, _MISSED))
        shape = objects.shape(image_id, row)
        layer.masks.append(encode(shape.get("segmentation"), *objects.sizes[image_id]))
        points.append(shape.get("keypoints", ()))
    if count := max(map(len, points), default=0):
        filled = [row if len(row) == count else [0] * count for row in points]
        layer.keypoints = np.array(filled, np.float64).reshape(len(points), -1, 3)
        layer.keypoints[..., :2] += PIXEL_CENTRE
    return layer


def _small_mask(code: Any, width: int, height: int) -> NDArray[np.bool_]:
    """A mask (height, width) of compressed RLE; an empty one of None."""
    if code is None:
        return np.zeros((height, width), bool)
    mask = Image.fromarray(rle.decode(code) * np.uint8(255)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(mask) > 127
