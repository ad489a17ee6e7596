from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from det_datasets.coco.dataset import CocoDataset
from det_datasets.coco.evaluator import CocoEvaluator
from det_datasets.coco.summary import KEYPOINT_METRICS
from det_datasets.shapes.make import make_shapes
from detkit.data.source import open_split
from detkit.structures.coco import COCO_PERSON
from detkit.structures.prediction import Prediction

Write = Callable[..., CocoDataset]
BOX = [5, 5, 20, 20]
NAMES = ["nose", "left_eye", "right_eye"]
FACE: list[dict[str, Any]] = [{"id": 3, "name": "face", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}]


def opened(dataset: CocoDataset, **options: Any) -> CocoDataset:
    return CocoDataset(images=dataset.folder, annotations=dataset.annotation_file, **options)


def test_keypoints_lie_at_the_centres_of_their_pixels(coco: Write) -> None:
    dataset = coco([{"bbox": BOX, "keypoints": [7, 8, 2, 9, 10, 1, 3, 3, 0]}, {"bbox": BOX}], categories=FACE)
    keypoints = dataset[0].target["keypoints"]
    assert keypoints.tolist() == [[[7.5, 8.5, 2], [9.5, 10.5, 1], [0, 0, 0]], [[0, 0, 0]] * 3]
    assert keypoints.flipped == (0, 2, 1)
    assert keypoints.canvas_size == (30, 40)


def test_images_without_annotations_have_no_keypoints_of_the_same_kind(coco: Write) -> None:
    assert coco([{"bbox": BOX}], categories=FACE, images=2)[1].target["keypoints"].shape == (0, 3, 3)
    assert "keypoints" not in coco([{"bbox": BOX}])[0].target


def test_what_they_are_called_comes_from_the_categories(coco: Write) -> None:
    found = coco([{"bbox": BOX}], categories=FACE).categories.keypoints
    assert found is not None
    assert (found.names, found.swaps, found.skeleton, found.sigmas) == (
        tuple(NAMES),
        ((1, 2),),
        ((0, 1), (0, 2)),
        (),
    )


@pytest.mark.parametrize("names", [("Left Ear", "Right Ear"), ("ear-left", "ear-right"), ("LEFT", "RIGHT")])
def test_sides_are_found_in_any_spelling(coco: Write, names: tuple[str, str]) -> None:
    found = coco([], categories=[{"id": 1, "name": "a", "keypoints": ["left_out", *names]}]).categories.keypoints
    assert found is not None
    assert found.swaps == ((1, 2),)


def test_persons_have_cocos_sigmas_and_swaps(coco: Write) -> None:
    person = COCO_PERSON.keypoints
    assert person is not None
    found = coco([], categories=[{"id": 1, "name": "person", "keypoints": list(person.names)}]).categories.keypoints
    assert found == person
    assert len(person.sigmas) == len(person) == 17
    assert found.flipped == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


def test_what_is_given_wins(coco: Write) -> None:
    dataset = coco([{"bbox": BOX}], categories=FACE)
    given = {"sigmas": [0.1, 0.2, 0.3], "swaps": [[0, 1]], "skeleton": []}
    found = opened(dataset, keypoints=given).categories.keypoints
    assert found is not None
    assert (found.sigmas, found.swaps, found.skeleton) == ((0.1, 0.2, 0.3), ((0, 1),), ())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma": [0.1]}, "keypoints has sigma; names, swaps, skeleton and sigmas can be given"),
        ({"sigmas": [0.1]}, "3 keypoints but 1 sigmas"),
        ({"swaps": [[0, 5]]}, "swaps holds"),
    ],
)
def test_what_is_given_wrongly_is_explained(coco: Write, given: dict[str, Any], message: str) -> None:
    dataset = coco([{"bbox": BOX}], categories=FACE)
    with pytest.raises(ValueError, match=message):
        opened(dataset, keypoints=given)


def test_names_can_be_given_to_a_file_without(coco: Write) -> None:
    dataset = coco([{"bbox": BOX, "keypoints": [7, 8, 2]}])
    assert dataset.categories.keypoints is None
    assert opened(dataset, keypoints={"names": ["tip"]})[0].target["keypoints"].tolist() == [[[7.5, 8.5, 2]]]
    with pytest.raises(ValueError, match="names must be given too"):
        opened(dataset, keypoints={"sigmas": [0.1]})


def test_different_keypoints_are_not_read_and_said(coco: Write) -> None:
    other = {"id": 4, "name": "hand", "keypoints": ["thumb"]}
    dataset = coco([{"bbox": BOX, "keypoints": [1, 1, 2]}], categories=[*FACE, other])
    assert dataset.categories.keypoints is None
    assert dataset.problems["categories with different keypoints, none of which are read: face, hand"] == 2


@pytest.mark.parametrize(
    "keypoints", [[1, 2, 2], "face", [1, 2, 2, 3, 4, 2, 5, 6, 7], [1, 2, 2, 3, None, 2, 5, 6, 2], {}]
)
def test_malformed_keypoints_leave_the_box_and_are_counted(coco: Write, keypoints: Any) -> None:
    dataset = coco([{"bbox": BOX, "keypoints": keypoints}], categories=FACE)
    assert dataset.problems["have malformed keypoints: kept without them"] == 1
    assert dataset[0].target["keypoints"].abs().sum() == 0
    assert dataset.ground_truth()["annotations"][0]["num_keypoints"] == 0


def test_images_with_too_few_keypoints_are_left_out_when_asked(coco: Write) -> None:
    points = [5, 5, 2, 6, 6, 1, 0, 0, 0]
    some = [{"bbox": BOX, "keypoints": points, "image_id": id} for id in (2, 3, 3)]
    dataset = coco([{"bbox": BOX}, *some], categories=FACE, images=4)
    assert [len(opened(dataset, min_keypoints=least)) for least in (0, 1, 3, 4)] == [4, 2, 1, 1]
    kept = opened(dataset, min_keypoints=1)
    assert [sample.info["image_id"] for sample in kept] == [2, 3]
    truth = kept.ground_truth()
    assert [entry["id"] for entry in truth["images"]] == [2, 3]
    assert {entry["image_id"] for entry in truth["annotations"]} == {2, 3}
    with pytest.raises(ValueError, match="no image with 9 labelled keypoints"):
        opened(dataset, min_keypoints=9)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    folder = tmp_path_factory.mktemp("data")
    make_shapes(folder, images=40, val_images=1, crowd_share=0.3, seed=3, keypoints=True)
    dataset = open_split(folder)
    assert isinstance(dataset, CocoDataset)
    return dataset


def evaluated(dataset: CocoDataset) -> CocoEvaluator:
    evaluator, source = CocoEvaluator(), torch.Generator().manual_seed(0)
    evaluator.start(dataset)
    for sample in dataset:
        kept = ~sample.target["crowd"]
        points = sample.target["keypoints"].as_subclass(Tensor)[kept].clone()
        points[..., :2] += 3 * torch.randn(points[..., :2].shape, generator=source)
        height, width = sample.image.shape[-2:]
        prediction = Prediction(
            (height, width),
            boxes=sample.target["boxes"].as_subclass(Tensor)[kept],
            scores=torch.rand(len(points), generator=source),
            labels=sample.target["labels"][kept],
            keypoints=points,
        )
        evaluator.add(prediction, sample.info)
    return evaluator


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools under numpy 2.4
def test_numbers_are_those_of_pycocotools(shapes: CocoDataset, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    evaluator = evaluated(shapes)
    found = evaluator.compute()["keypoints"]
    evaluator.save(tmp_path)
    results = json.loads((tmp_path / "coco_instances_results.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(shapes.annotation_file))
        oracle = COCOeval(truth, truth.loadRes(results), "keypoints")
        oracle.params.kpt_oks_sigmas = np.full(4, 0.05)
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    expected = dict(zip(KEYPOINT_METRICS, (None if value < 0 else value for value in oracle.stats), strict=True))
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0.1 < expected["AP"] < 0.9


def test_results_count_pixels_as_coco_does(coco: Write, tmp_path: Path) -> None:
    given = [7, 8, 2, 9, 10, 1, 3, 3, 2]
    dataset = coco([{"bbox": BOX, "keypoints": given}], categories=[{**FACE[0], "sigmas": [0.1] * 3}])
    sample, evaluator = dataset[0], CocoEvaluator()
    evaluator.start(dataset)
    fields = {name: sample.target[name].as_subclass(Tensor) for name in ("boxes", "labels", "keypoints")}
    evaluator.add(Prediction((30, 40), scores=torch.ones(1), **fields), sample.info)
    assert evaluator.compute()["keypoints"]["AP"] == pytest.approx(1)
    evaluator.save(tmp_path)
    assert json.loads((tmp_path / "coco_instances_results.json").read_text())[0]["keypoints"] == given


def test_without_labelled_keypoints_nothing_is_measured_and_the_tables_say_why(coco: Write) -> None:
    dataset = coco([{"bbox": BOX}], categories=[{**FACE[0], "sigmas": [0.1] * 3}])
    sample, evaluator = dataset[0], CocoEvaluator()
    evaluator.start(dataset)
    fields = {name: sample.target[name].as_subclass(Tensor) for name in ("boxes", "labels", "keypoints")}
    evaluator.add(Prediction((30, 40), scores=torch.ones(1), **fields), sample.info)
    assert set(evaluator.compute()["keypoints"].values()) == {None}
    reasons = dict(evaluator.tables()[-1][2])
    assert reasons["AR75"] == "the dataset has no object with what is compared"


def test_sigmas_that_nobody_gave_are_an_error_only_where_they_are_needed(coco: Write) -> None:
    dataset = coco([{"bbox": BOX}], categories=FACE)
    sample, evaluator = dataset[0], CocoEvaluator()
    evaluator.start(dataset)
    fields: dict[str, Any] = {"boxes": torch.zeros(1, 4), "scores": torch.ones(1), "labels": torch.zeros(1).long()}
    evaluator.add(Prediction((30, 40), **fields), sample.info)
    with pytest.raises(ValueError, match=r"does not say how exact its keypoints are; in the data YAML .*sigmas"):
        evaluator.add(Prediction((30, 40), **fields, keypoints=torch.zeros(1, 3, 3)), sample.info)
    evaluator.start(opened(dataset, keypoints={"sigmas": [0.1] * 3}))
    with pytest.raises(ValueError, match="predictions have 2 keypoints, the dataset 3"):
        evaluator.add(Prediction((30, 40), **fields, keypoints=torch.zeros(1, 2, 3)), sample.info)
