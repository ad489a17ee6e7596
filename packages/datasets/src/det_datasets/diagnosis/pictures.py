"""The images whose answers are most wrong, with what is wrong drawn into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from det_datasets.diagnosis.objects import Objects
from det_datasets.diagnosis.outcomes import ERRORS, RIGHT
from det_datasets.diagnosis.summary import Summary
from detkit.drawing import draw
from detkit.interfaces import Dataset
from detkit.report.figures import Picture, Pictures
from detkit.results import ResultLog
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction
from detkit.structures.sample import Sample

_SIDE = 480  # pixels of the longer side of a picture
_MOST = 40  # boxes of each sort in a picture
_RIGHT, _WRONG, _MISSED = (38, 160, 90), (224, 60, 45), (255, 190, 20)
_LEGEND = tuple(
    (name, "#{:02x}{:02x}{:02x}".format(*colour))
    for name, colour in (("found", _RIGHT), ("wrong detection", _WRONG), ("missed object", _MISSED))
)


def worst_images(found: Summary, log: ResultLog, objects: Objects, dataset: Dataset) -> Pictures:
    """Those of `Summary.worst`; what cannot be read is left out."""
    wanted = {objects.image_ids[place]: place for place in found.worst}
    index_of: dict[Any, int] = {}
    if wanted:
        for index in range(len(dataset)):
            if (image_id := dataset.image_id(index)) in wanted:
                index_of[image_id] = index
    pictures = []
    for image_id in wanted:
        record = log[image_id] if image_id in log else _nothing(objects)
        try:
            sample = dataset[index_of[image_id]]
        except ValueError:  # the image is gone since it was evaluated
            continue
        pictures.append(_picture(sample, record, image_id, found, objects, dataset.categories.names))
    least = "of any score" if found.metrics["threshold"][0] is None else "at the threshold of the best F1"
    note = (
        f"The images with the greatest sum of the scores of wrong detections and of what missed objects lack; "
        f"detections {least}. A wrong detection is named with its kind of error."
    )
    return Pictures("Images with most errors", pictures, note, _LEGEND)


def _nothing(objects: Objects) -> Mapping[str, Any]:
    """The record of an image without detections."""
    none = np.zeros(0, np.int64)
    boxes = np.zeros((0, objects.boxes.shape[1]))
    return {"scores": np.zeros(0), "labels": none, "boxes": boxes, "kind": none, "found": none.reshape(0, 1)}


def _picture(
    sample: Sample, record: Mapping[str, Any], image_id: Any, found: Summary, objects: Objects, names: Sequence[str]
) -> Picture:
    threshold, scores, labels, kind = found.metrics["threshold"][0], record["scores"], record["labels"], record["kind"]
    used = scores.astype(np.float64) >= (-np.inf if threshold is None else threshold)
    right, wrong = np.flatnonzero(used & (kind == RIGHT)), np.flatnonzero(used & (kind > RIGHT))
    truth, targets = objects.of_image(image_id), record["found"][used, 0]
    lost = ~truth.ignored
    lost[targets[targets >= 0]] = False
    missed = np.flatnonzero(lost)
    text = f"{len(wrong)} wrong, {len(missed)} missed, {len(right)} right"
    right, wrong, missed = right[:_MOST], wrong[:_MOST], missed[:_MOST]
    titles = [  # those in front first
        *(f"{ERRORS[kind[row] - 1]}: {names[labels[row]]} {scores[row]:.2f}" for row in wrong),
        *(f"missed {names[truth.labels[row]]}" for row in missed),
        *(f"{names[labels[row]]} {scores[row]:.2f}" for row in right),
    ]
    colours = [_WRONG] * len(wrong) + [_MISSED] * len(missed) + [_RIGHT] * len(right)
    own = record["boxes"].astype(np.float64)
    boxes = np.concatenate((own[wrong], truth.boxes[missed].reshape(len(missed), own.shape[1]), own[right]))
    image = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
    scale = _SIDE / max(image.size)
    width, height = (max(round(side * scale), 1) for side in image.size)
    boxes[:, :4] *= scale
    shown = Prediction((height, width), boxes=torch.from_numpy(boxes))
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    drawn = draw(small, shown, Categories(()), enlarge=False, names=titles, colours=colours)
    return Picture(drawn, str(image_id), text, str(sample.info.get("path", "")))
