"""The guide for plugin authors leaves nothing out."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from detkit.plugins import KINDS, hookspecs
from detkit.structures.prediction import Prediction
from tools.packages import ROOT

GUIDE = ROOT / "docs/plugins.md"
HOOKS = [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("detkit_")]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_signature(hook: str) -> None:
    signature = f"{hook}{inspect.signature(getattr(hookspecs, hook))}".replace("'", "")
    assert signature in GUIDE.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_documented(kind: str) -> None:
    assert f"`{kind}`" in GUIDE.read_text(encoding="utf-8")


@pytest.fixture
def data_plugin() -> dict[str, Any]:
    """What the code of the chapter on data defines, by name."""
    chapter = GUIDE.read_text(encoding="utf-8").partition("## Data: a reader")[2].partition("\n## ")[0]
    names: dict[str, Any] = {"__name__": "acme_data"}
    for block in re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)[1:4]:
        exec(block, names)
    return names


def test_the_reader_and_the_evaluator_and_the_transform_work(data_plugin: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("one.jpg", "two.jpg"):
        Image.new("RGB", (60, 40), (200, 90, 10)).save(tmp_path / "images" / name)
    (tmp_path / "classes.txt").write_text("cat dog")
    (tmp_path / "train.csv").write_text("one.jpg,5,5,25,20,dog\ntwo.jpg\n")
    dataset = data_plugin["CsvDataset"](**data_plugin["CsvDataset"].splits(tmp_path)["train"])
    assert [sample.target["labels"].tolist() for sample in dataset] == [[1], []]

    evaluator = data_plugin["CountEvaluator"]()
    evaluator.start(dataset)
    sample = dataset[0]
    fields = {"boxes": sample.target["boxes"], "labels": sample.target["labels"], "scores": torch.ones(1)}
    evaluator.add(Prediction((40, 60), **fields), sample.info)
    assert evaluator.compute() == {"count": {"accuracy": 1.0}}

    red, green, blue = data_plugin["RandomGrey"](p=1.0)(sample).image
    assert torch.equal(red, green)
    assert torch.equal(green, blue)
