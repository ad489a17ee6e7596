"""Mixtures of COCO-style datasets, from the YAML file to the evaluator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from det_datasets.shapes.make import make_shapes
from detkit.config import build
from detkit.data.check import check
from detkit.data.loader import train_loader
from detkit.data.mixture import Mixture
from detkit.data.proposals import write_proposals
from detkit.data.python_source import Given
from detkit.data.samplers import RepeatFactor, repeats_of
from detkit.data.source import open_split
from detkit.data.subset import Subset
from detkit.data.targets import rasterized, without_crowds
from detkit.interfaces import Dataset, Evaluator
from detkit.structures.prediction import Prediction
from detkit.testing.dataset import DatasetContract
from detkit.testing.evaluator import EvaluatorContract


def rename(folder: Path, names: dict[str, str]) -> None:
    for file in folder.rglob("annotations.json"):
        data = json.loads(file.read_text())
        for entry in data["categories"]:
            entry["name"] = names.get(entry["name"], entry["name"])
        file.write_text(json.dumps(data))


def mixture(folder: Path, weights: Sequence[float] | None = None, *, images: int = 6) -> Mixture:
    """Two sets of shapes, of which the second calls one class otherwise, and writes another in capitals."""
    for name, seed in (("one", 0), ("two", 1)):
        make_shapes(
            folder / name, images=images, val_images=1, seed=seed, background_share=0.3, crowd_share=0.3, size=96
        )
    first, second, *_ = open_split(folder / "one").categories.names
    rename(folder / "two", {first: first.upper(), second: "other"})
    shares = ("", "") if weights is None else [f", weight: {weight}" for weight in weights]
    (folder / "data.yaml").write_text(
        f"train: [{{data: one{shares[0]}}}, {{data: two{shares[1]}, rename: {{other: {second}}}}}]\n"
    )
    found = open_split(folder / "data.yaml")
    assert isinstance(found, Mixture)
    return found


class TestMixture(DatasetContract):
    def make(self, folder: Path) -> Dataset:
        return mixture(folder)


class TestEvaluationOfAMixture(EvaluatorContract):
    name = "coco"

    def make_dataset(self, folder: Path) -> Dataset:
        return mixture(folder, images=3)


def test_classes_of_both_datasets_are_one(tmp_path: Path) -> None:
    data = mixture(tmp_path)
    assert data.categories.names == open_split(tmp_path / "one").categories.names


def test_a_perfect_model_has_a_perfect_score(tmp_path: Path) -> None:
    data = mixture(tmp_path)
    evaluator = build("coco", Evaluator)
    evaluator.start(data)
    for index in range(len(data)):
        sample = data[index]
        plain = rasterized(without_crowds(sample))
        prediction = Prediction(
            data.size(index),
            boxes=plain["boxes"],
            labels=plain["labels"],
            scores=torch.ones(len(plain["labels"])),
            masks=plain["masks"].bool(),
        )
        evaluator.add(prediction, sample.info)
    metrics = evaluator.compute()
    assert metrics["bbox"]["AP"] == pytest.approx(1)
    folder = tmp_path / "results"
    folder.mkdir()
    evaluator.save(folder)
    text = "".join(path.read_text() for path in folder.glob("*.json"))
    assert '"two/' in text


@pytest.mark.parametrize("workers", [0, 2])
def test_training_draws_as_the_weights_say(tmp_path: Path, workers: int) -> None:
    data = mixture(tmp_path, (1, 3))
    repeats = repeats_of(data, RepeatFactor(threshold=0.5))
    loader = train_loader(data, [], batch_size=4, divisor=32, seed=0, workers=workers, repeats=repeats, start=5)
    batches = list(islice(loader, 30))
    members = [info["image_id"].partition("/")[0] for batch in batches for info in batch.info]
    assert members.count("two") / len(members) == pytest.approx(0.75, abs=0.06)
    for batch in batches:
        for row, info in enumerate(batch.info):
            own = data.own_id(info["image_id"])
            index = next(index for index in range(len(data)) if data.own_id(data.image_id(index)) == own)
            kept = ~data[index].target["crowd"]
            expected: Tensor = data.labels(index)[kept]
            assert batch.targets is not None
            assert torch.equal(batch.targets.labels[row][batch.targets.valid[row]], expected)


def test_a_mixture_can_be_checked(tmp_path: Path) -> None:
    reports, _ = check({"train": Given(mixture(tmp_path))})
    assert reports["train"].images == 12
    assert not reports["train"].findings.errors


def test_all_members_have_proposals_or_none(tmp_path: Path) -> None:
    mixture(tmp_path)
    annotated = open_split(tmp_path / "one")
    count = len(annotated)
    write_proposals(
        tmp_path / "proposals.npz",
        [int(annotated.image_id(index)) for index in range(count)],
        [np.array([[1, 2, 30, 40]], np.float32)] * count,
        [np.ones(1, np.float32)] * count,
        [Path(annotated.place(index)).name for index in range(count)],
    )
    entries = [f"images: {name}/train/images, annotations: {name}/train/annotations.json" for name in ("one", "two")]
    given = ", proposals: proposals.npz"
    file = tmp_path / "proposals.yaml"
    file.write_text(f"train: [{{{entries[0]}{given}}}, {{{entries[1]}}}]")
    with pytest.raises(ValueError, match=r"coco-1 has proposals and coco-2 has none; give a file of `proposals` to"):
        open_split(file)
    file.write_text(f"train: [{{{entries[0]}{given}}}, {{{entries[1]}{given}}}]")
    assert open_split(file).has_proposals
    assert Subset(open_split(file), [3]).has_proposals
    assert not open_split(tmp_path / "data.yaml").has_proposals
