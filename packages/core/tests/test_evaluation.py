from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detkit.config import Config
from detkit.detector import Detector
from detkit.engine.train import train
from detkit.evaluation import PixelRelabelling, Relabelling, evaluate
from detkit.interfaces import Dataset, Evaluator
from detkit.structures.batch import UNLABELLED
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def model(toy: None) -> Detector:
    from toy_engine.detector import ToyDetector

    torch.manual_seed(0)
    return ToyDetector(categories=Categories(("red", "green"), (3, 7))).eval()


@pytest.fixture
def dataset(toy: None) -> Dataset:
    from toy_engine.dataset import ToyDataset

    return ToyDataset(images=5)


@pytest.fixture
def evaluator(toy: None) -> Evaluator:
    from toy_engine.evaluator import ToyEvaluator

    return ToyEvaluator()


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 0), (8, 2)])
def test_each_image_is_evaluated_once(
    model: Detector, dataset: Dataset, evaluator: Evaluator, batch_size: int, workers: int
) -> None:
    found = evaluate(model, dataset, [evaluator], batch_size=batch_size, workers=workers)
    assert (found["bbox"]["images"], found["bbox"]["distinct"]) == (5, 5)
    assert found["bbox"]["AP"] == pytest.approx(evaluate(model, dataset, [evaluator], workers=0)["bbox"]["AP"])


def test_evaluators_start_once(
    model: Detector, dataset: Dataset, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Dataset] = []
    start = type(evaluator).start
    monkeypatch.setattr(type(evaluator), "start", lambda self, given: (started.append(given), start(self, given)))
    evaluate(model, dataset, [evaluator])
    assert started == [dataset]


def test_losses_are_means_over_images(model: Detector, dataset: Dataset) -> None:
    from detkit.data.loader import eval_loader

    found = evaluate(model, dataset, [], workers=0, losses=True)["validation"]
    with torch.no_grad():
        each = [model.losses(batch) for batch in eval_loader(dataset, model.input, batch_size=1, workers=0)]
    assert found["loss_box"] == pytest.approx(sum(float(losses["loss_box"]) for losses in each) / 5)
    assert found["loss"] == pytest.approx(found["loss_box"] + found["loss_class"])


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_in_its_mode(model: Detector, dataset: Dataset, evaluator: Evaluator, training: bool) -> None:
    model.train(training)
    evaluate(model, dataset, [evaluator], workers=0)
    assert model.training is training


def test_sections_must_not_collide(model: Detector, dataset: Dataset, evaluator: Evaluator) -> None:
    with pytest.raises(ValueError, match="two evaluators report the section 'bbox'"):
        evaluate(model, dataset, [evaluator, type(evaluator)()], workers=0)


def test_labels_are_matched_by_name() -> None:
    relabelling = Relabelling(Categories(("cat", "dog", "cow")), Categories(("emu", "cow", "cat"), (5, 6, 9)))
    prediction = Prediction((8, 8), scores=torch.rand(3), labels=torch.tensor([0, 1, 2]), boxes=torch.rand(3, 4))
    found = relabelling(prediction)
    assert found.labels.tolist() == [2, 1]
    assert torch.equal(found.boxes, prediction.boxes[[0, 2]])
    assert relabelling.missing == ("emu",)


def test_labels_of_pixels_are_matched_by_name() -> None:
    relabelling = PixelRelabelling(Categories(("things", "sky", "sea")), Categories(("sky", "things")))
    prediction = Prediction((1, 4), semantic=torch.tensor([[0, 1, 2, 0]]))
    assert relabelling(prediction).semantic.tolist() == [[1, 0, UNLABELLED, 1]]


def test_segments_get_the_labels_of_the_dataset() -> None:
    things = Relabelling(Categories(("cat", "dog", "cow")), Categories(("cow", "cat")))
    pixels = PixelRelabelling(Categories(("things", "sky", "sea")), Categories(("sky", "things")))
    given = [(1, True, 2), (2, True, 1), (3, False, 1), (4, False, 2)]
    segments = [{"id": id, "isthing": thing, "label": label} for id, thing, label in given]
    found = pixels(things(Prediction((1, 4), panoptic=torch.tensor([[1, 2, 3, 4]]), segments=segments)))
    assert [tuple(segment.values()) for segment in found.segments] == [(1, True, 0), (3, False, 0)]
    assert found.panoptic.tolist() == [[1, 2, 3, 4]]


def test_no_class_in_common_is_an_error() -> None:
    with pytest.raises(ValueError, match="no class in common: cat; dog, cow"):
        Relabelling(Categories(("cat",)), Categories(("dog", "cow")))


def test_losses_of_other_classes_are_refused(model: Detector, dataset: Dataset) -> None:
    dataset.categories = Categories(("green", "red"))
    with pytest.raises(ValueError, match="need a dataset with the model's own classes"):
        evaluate(model, dataset, [], losses=True)


@pytest.mark.xdist_group("processes")  # forked from one
def test_the_command_repeats_what_training_measured(
    toy_config: Callable[..., Config], toy_data: Path, detkit: Command, tmp_path: Path
) -> None:
    run = train(toy_config(), tmp_path / "run")
    arguments = (f"data={toy_data}", "--out", tmp_path / "eval", "--losses", "--processes", 2, "--workers", 0)
    done = detkit("eval", tmp_path / "run" / "last", *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert found["bbox"] == pytest.approx(run.metrics["bbox"])
    assert "on 6 images" in done.stdout and "Boxes" in done.stdout and "loss_box" in done.stdout


def test_a_run_that_measured_nothing_is_evaluated_as_suits_the_data(
    model: Detector,
    dataset: Dataset,
    evaluator: Evaluator,
    toy_tree: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from detkit.cli.evaluate import _evaluators

    monkeypatch.setattr(type(dataset), "instance_evaluators", ("toy/toy",))
    Config.load({**toy_tree(), "evaluators": []}).save(tmp_path / "config.yaml")
    (tmp_path / "checkpoints").mkdir()
    (found,) = _evaluators(str(tmp_path), None, model, dataset, report=False)
    assert type(found) is type(evaluator)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give data=PATH"),
        (["data={data}", "split=test"], "has no split 'test'; it has: train, val"),
        (["data={data}", "splt=val"], "does not know splt; there are data, split, evaluators, tta and tile"),
    ],
)
def test_wrong_usage_of_the_command(
    capsys: pytest.CaptureFixture[str], toy: None, toy_data: Path, arguments: list[str], message: str
) -> None:
    from detkit.cli.main import main

    code: Any = main(["eval", "somewhere", *(argument.format(data=toy_data) for argument in arguments)])
    assert code == 2
    assert message in capsys.readouterr().err
