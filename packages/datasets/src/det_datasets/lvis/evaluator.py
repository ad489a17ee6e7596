"""LVIS's metrics of boxes, masks and their boundaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from det_datasets.coco import summary
from det_datasets.coco.evaluator import OUT_OF_RANGE, CocoEvaluator
from det_datasets.coco.matching import Curves
from det_datasets.lvis.federated import BestOfClasses, best_of_images, judged, judged_classes
from det_datasets.lvis.synsets import LISTS
from detkit.interfaces import Dataset
from detkit.structures.prediction import Prediction

FREQUENCIES: Mapping[str, str] = {"r": "rare", "c": "common", "f": "frequent"}
"""Classes that 1 to 10, 11 to 100, or more images of the training set have."""


class LvisEvaluator(CocoEvaluator):
    """Average precision and recall as LVIS defines them (Gupta, Dollar, Girshick, 2019): those of COCO, but

    - in each image those detections count that have the best scores of all, whatever their classes;
    - a detection is left out where it is not known whether the image has its class, which it has if an object is
      annotated, and has not if the class is in `neg_category_ids`;
    - one that finds nothing is not wrong where its class is in `not_exhaustive_category_ids`.

    Sections "bbox" and, where predictions have masks, "segm"; metrics AP, AP50, AP75, APs, APm, APl, those of rare,
    common and frequent classes (APr, APc, APf; `frequency` of a category), AR300 of all and ARs, ARm, ARl. They are
    from 0 to 1, None where the dataset has nothing to measure them on (`tables` says why). Objects that are crowds,
    which LVIS does not have, and those that are difficult, are ignored, as are those without a usable mask in "segm".

    Args:
        max_dets: so many of the best detections of an image count.
        fixed: also sections "bbox_fixed", ... of Fixed AP (Dave et al., 2021, "Evaluating large-vocabulary object
            detectors: the devil is in the details"), in which so many of the best detections of each class in all
            images count, 10,000 in the paper, instead of those of an image: models then need not know how scores of
            different classes compare. Give them a large `detections_per_image`. 0 for none.
        boundary: also the section "boundary", see `CocoEvaluator`.
        sections: only these, and with `fixed` those of the same name.

    Raises:
        ValueError: numbers that there cannot be.
    """

    name: ClassVar[str] = "lvis"
    title: ClassVar[str] = "LVIS"
    kinds: ClassVar[Mapping[str, str]] = {
        **summary.SIZES,
        **{letter: f"of a {name} class" for letter, name in FREQUENCIES.items()},
    }
    federated: ClassVar[bool] = True

    def __init__(
        self, *, max_dets: int = 300, fixed: int = 0, boundary: bool = False, sections: Sequence[str] | None = None
    ) -> None:
        if fixed < 0:
            raise ValueError(f"fixed is {fixed}; a number of detections of each class is needed, or 0")
        super().__init__(max_dets=(max_dets,), boundary=boundary, sections=sections)
        self._fixed = fixed

    def start(self, dataset: Dataset) -> None:
        super().start(dataset)
        for image in self._truth["images"]:
            if lacking := [name for name in LISTS if name not in image]:
                raise ValueError(
                    f"image {image['id']} of the dataset has no {' and no '.join(lacking)}, which the evaluator 'lvis' "
                    "needs; use the evaluator 'coco' for data whose images are annotated completely"
                )
        self._judged = judged_classes(self._truth, self._ids.tolist())
        by_id = sorted(self._truth["categories"], key=lambda entry: entry["id"])
        self._frequencies = np.array([entry.get("frequency", "") for entry in by_id])

    def add(self, prediction: Prediction, info: Mapping[str, Any]) -> None:
        if prediction.boxes.shape[-1] == 5 or self._rotated:
            raise ValueError("the evaluator 'lvis' compares upright boxes, and these are rotated; use 'coco'")
        super().add(prediction, info)

    def _compute(self) -> None:
        records = best_of_images(self._log.items(), self._limits[-1])
        self._add_sections(judged(records, self._judged), self._limits)
        if self._fixed:
            best = BestOfClasses(self._log.items(), self._fixed)
            self._add_sections(judged(best.of(self._log.items()), self._judged), (self._fixed,), "_fixed")

    def _with_groups(self, values: dict[str, float | None], curves: Curves) -> dict[str, float | None]:
        groups = {
            f"AP{letter}": summary.mean(curves.precision[:, :, self._frequencies == letter, 0])
            for letter in FREQUENCIES
        }
        precisions = {name: value for name, value in values.items() if name.startswith("AP")}
        return {**precisions, **groups, **values}

    def _comparable(self, entry: dict[str, Any], section: str) -> dict[str, Any]:
        entry = super()._comparable(entry, section)
        return {**entry, "iscrowd": 0, "area": OUT_OF_RANGE} if entry["iscrowd"] else entry

    def tables(self) -> Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
        """As those of COCO, but for those by class, of which there are too many: `lvis_per_class.json` has them."""
        counts = self._counts()
        found = summary.tables(self._sections, {}, counts, title="LVIS metrics (%)", kinds=self.kinds)
        places = np.searchsorted(np.sort(self._ids), self._ids)
        of_class, objects = self._frequencies[places], np.array(list(counts.values()))
        rows = []
        for letter, name in FREQUENCIES.items():
            these = objects[of_class == letter]
            rows.append((name, str(len(these)), str(np.count_nonzero(these)), str(these.sum())))
        return [*found, ("Classes by frequency", ("frequency", "classes", "with objects", "objects"), rows)]
