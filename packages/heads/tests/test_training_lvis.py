from __future__ import annotations

import json
from pathlib import Path

import pytest

import det_heads
import detkit
from det_datasets.lvis.make import make_lvis
from detkit.cli.main import main
from detkit.config import Config

RECIPES = Path(det_heads.__file__).parent / "recipes"

SMALL = {
    "mask-rcnn-vitdet-b-100ep-lvis-v1": (
        "model.backbone={embed_dim: 32, depth: 4, num_heads: 2}",
        "model.neck.channels=16",
        "model.heads.box.channels=16",
        "model.heads.box.convs=1",
        "model.heads.box.detections_per_image=30",
        "model.heads.mask.channels=16",
        "model.input={min_size: 64, max_size: 64, square: 64}",
        "transforms=[flip]",
    ),
    "mask-rcnn-r50-fpn-1x-lvis-v1": (
        "model.backbone={depth: 18, width: 8}",
        "model.neck.channels=16",
        "model.heads.mask.channels=16",
        "model.input={min_size: 64, max_size: 96}",
        "transforms=[flip]",
    ),
}


@pytest.mark.parametrize("recipe", SMALL)
def test_recipes_are_trained_on_lvis_and_evaluated_as_lvis_is(recipe: str, tmp_path: Path) -> None:
    """With the sampler and the loss for rare classes, which take what they need from the annotations."""
    make_lvis(tmp_path / "lvis", images=6, val_images=3, size=64)
    steps = ("init=null", "train.steps=1", "train.batch_size=2", "train.precision=float32", "train.schedule=constant")
    out = tmp_path / "run"
    run = detkit.train(recipe, out, data=tmp_path / "lvis", changes=(*SMALL[recipe], *steps))
    assert run.config.tree["train"]["sampler"]["name"] == "repeat-factor"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    evaluated = next(line for line in lines if "bbox/AP" in line)
    assert {"bbox/APr", "segm/APr", "segm/AR300"} <= evaluated.keys()
    arguments = ["eval", str(out), f"data={tmp_path / 'lvis'}", "--out", str(tmp_path / "eval"), "--workers", "0"]
    assert main([*arguments, "--losses", "--no-report"]) == 0
    measured = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert measured["validation"]["loss"] > 0


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*lvis*.yaml")))
def test_recipes_for_lvis_detect_and_evaluate_as_lvis_does(recipe: str) -> None:
    tree = Config.load(recipe).tree
    assert [evaluator["name"] for evaluator in tree["evaluators"]] == ["lvis"]
    assert tree["model"]["heads"]["box"]["detections_per_image"] == 300
    assert tree["train"]["sampler"]["threshold"] == 0.001
