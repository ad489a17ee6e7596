from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from det_datasets.shapes.make import make_shapes
from detkit.cli.main import main
from detkit.config import Config
from detkit.data.source import open_split
from detkit.evaluation import evaluators_for
from detkit.model_directory import save_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that learned nothing, and data."""
    data, model = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("model") / "model"
    make_shapes(data, images=1, val_images=4, size=64, background_share=0)
    torch.manual_seed(0)
    config = Config.load("mask-rcnn-quickstart", [f"data={data}"])
    built = config.build("model", categories=open_split(data).categories)
    save_model(built, model, config=config.tree["model"], meta={"licence": {"weights": "Apache-2.0"}})
    return model, data


def test_a_report_says_what_was_evaluated_and_draws_the_worst_images(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = folders
    assert main(["eval", str(model), f"data={data}", "--out", str(tmp_path), "--workers", "0"]) == 0
    assert "report.html" in capsys.readouterr().out
    text = (tmp_path / "report.html").read_text("utf-8")
    for part in ("Diagnosis", "COCO", "weights Apache-2.0", "4 images, 5 classes", "data:image/jpeg;base64,"):
        assert part in text
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found.keys() == {"bbox", "segm", "diagnosis"}
    reasons = json.loads((tmp_path / "reasons.json").read_text())
    undefined = {section: {name for name, value in found[section].items() if value is None} for section in found}
    assert {section: set(why) for section, why in reasons.items()} == {
        section: names for section, names in undefined.items() if names
    }


def test_without_a_report_nothing_is_explained(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = folders
    assert main(["eval", str(model), f"data={data}", "--out", str(tmp_path), "--workers", "0", "--no-report"]) == 0
    assert not (tmp_path / "report.html").exists() and not (tmp_path / "diagnosis.json").exists()


def test_evaluators_are_those_of_what_model_and_data_have_in_common(tmp_path: Path) -> None:
    make_shapes(tmp_path, images=1, val_images=1, size=64, semantic=True)
    dataset = open_split(tmp_path)
    given = {"categories": dataset.categories, "semantic_categories": dataset.semantic_categories}
    for recipe, expected in (
        ("mask-rcnn-quickstart", ["COCO", "Diagnosis"]),
        ("panoptic-fpn-r50-1x", ["COCO", "Diagnosis", "Pixels"]),
        ("semantic-fpn-r50-1x", ["Pixels"]),
    ):
        with torch.device("meta"):
            model = Config.load(recipe).build("model", **given)
        assert [evaluator.title for evaluator in evaluators_for(model, dataset)] == expected
    with torch.device("meta"):
        proposing = Config.load("rpn-r50-fpn-1x").build("model", **given)
    with pytest.raises(ValueError, match="answers boxes; none of the evaluators"):
        evaluators_for(proposing, dataset)
