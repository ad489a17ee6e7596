"""What the evaluator of LVIS refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from det_datasets.coco.dataset import CocoDataset
from det_datasets.lvis.evaluator import LvisEvaluator


def test_data_that_does_not_say_what_is_absent_is_an_error(coco: Callable[..., CocoDataset]) -> None:
    with pytest.raises(ValueError, match=r"image 1 .* no neg_category_ids .* use the evaluator 'coco'"):
        LvisEvaluator().start(coco([{"bbox": [1, 1, 5, 5]}]))


def test_impossible_numbers_are_errors() -> None:
    with pytest.raises(ValueError, match="fixed is -1"):
        LvisEvaluator(fixed=-1)
    with pytest.raises(ValueError, match="max_dets"):
        LvisEvaluator(max_dets=0)
