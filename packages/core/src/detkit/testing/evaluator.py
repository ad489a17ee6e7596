"""The contract of evaluators."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar
from zlib import crc32

import pytest
import torch

from detkit.config import build
from detkit.data.targets import rasterized, without_crowds
from detkit.engine import processes
from detkit.interfaces import Dataset, Evaluator
from detkit.structures.prediction import Prediction
from detkit.structures.sample import Sample
from detkit.testing.base import ContractBase
from detkit.testing.inputs import generator
from detkit.testing.processes import forking


class EvaluatorContract(ContractBase, contract=True):
    """Tests that an evaluator passes. The subclass sets `name`, that of the component, its `arguments` where they are
    not to be the defaults, and gives a dataset."""

    name: ClassVar[str]
    arguments: ClassVar[Mapping[str, Any]] = {}

    def spec(self) -> dict[str, Any]:
        """The evaluator as a config has it."""
        return {"name": self.name, **self.arguments}

    def make_dataset(self, folder: Path) -> Dataset:
        """Write a dataset that the evaluator can judge into an empty folder and open it: at least three images."""
        raise NotImplementedError

    def predict(self, sample: Sample) -> Prediction:
        """What a fairly good model would answer: the annotations, moved by about two pixels."""
        size = (sample.image.shape[-2], sample.image.shape[-1])
        plain = rasterized(without_crowds(sample))
        source, count = generator(crc32(str(sample.info["image_id"]).encode())), len(plain["labels"])
        fields: dict[str, Any] = {
            "boxes": plain["boxes"] + 2 * torch.randn(plain["boxes"].shape, generator=source),
            "scores": torch.rand(count, generator=source).sort(descending=True).values,
            "labels": plain["labels"],
        }
        if "keypoints" in plain:
            fields["keypoints"] = plain["keypoints"] + torch.randn(plain["keypoints"].shape, generator=source)
        if "masks" in plain:
            fields["masks"] = plain["masks"].bool().roll(1, dims=2)
        return Prediction(size, **fields)

    def find_nothing(self, sample: Sample) -> Prediction:
        """What a model would answer that finds nothing, as in the first steps of training."""
        return self.predict(sample).select(torch.zeros(0, dtype=torch.int64))

    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
        """What `make_dataset` makes."""
        return cls().make_dataset(tmp_path_factory.mktemp("dataset"))

    def evaluated(self, dataset: Dataset, indices: Sequence[int]) -> Evaluator:
        """A new evaluator to which the predictions for these images were added."""
        evaluator = build(self.spec(), Evaluator)
        evaluator.start(dataset)
        for index in indices:
            sample = dataset[index]
            evaluator.add(self.predict(sample), sample.info)
        return evaluator

    def test_values_are_scores_or_undefined(self, dataset: Dataset) -> None:
        """Sections of metrics, each a float or None; some score of a fairly good prediction is above 0."""
        sections = self.evaluated(dataset, range(len(dataset))).compute()
        values = [value for section in sections.values() for value in section.values()]
        assert all(value is None or type(value) is float for value in values)
        assert max(value for value in values if value is not None) > 0

    def test_order_does_not_matter(self, dataset: Dataset) -> None:
        """The same predictions in another order give the same numbers. If it fails: sort before summing."""
        order = range(len(dataset))
        assert self.evaluated(dataset, order[::-1]).compute() == self.evaluated(dataset, order).compute()

    def test_parts_add_up(self, dataset: Dataset) -> None:
        """Predictions gathered from other processes, in any order, give the same numbers as all in one."""
        whole = self.evaluated(dataset, range(len(dataset))).compute()
        parts = [self.evaluated(dataset, range(start, len(dataset), 3)) for start in range(3)]
        for states in permutations(part.state() for part in parts):
            merged = self.evaluated(dataset, ())
            merged.merge(pickle.loads(pickle.dumps(states)))
            assert merged.compute() == whole

    def test_two_processes_give_the_same_numbers(self, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        """What two processes of a run have added, gathered as `detkit.evaluation.evaluate` does it."""
        samples = [dataset[index] for index in range(len(dataset))]
        added = [(self.predict(sample), sample.info) for sample in samples]
        monkeypatch.setattr(processes, "_TIMEOUT", timedelta(seconds=120))
        with second_process(self.spec(), dataset, added[1::2]), processes.Processes("cpu") as both:
            evaluator = build(self.spec(), Evaluator)
            evaluator.start(dataset)
            for prediction, info in added[::2]:
                evaluator.add(prediction, info)
            evaluator.merge(both.gather(evaluator.state()))
            both.share(None)
        assert evaluator.compute() == self.evaluated(dataset, range(len(dataset))).compute()

    def test_starting_again_forgets(self, dataset: Dataset) -> None:
        """After `start` only what is added from then on counts."""
        evaluator = self.evaluated(dataset, range(len(dataset)))
        whole = evaluator.compute()
        evaluator.start(dataset)
        for index in range(len(dataset)):
            sample = dataset[index]
            evaluator.add(self.predict(sample), sample.info)
        assert evaluator.compute() == whole

    def test_finding_nothing_is_no_error(self, dataset: Dataset) -> None:
        """A model that finds nothing has metrics too."""
        evaluator = self.evaluated(dataset, ())
        for index in range(len(dataset)):
            sample = dataset[index]
            evaluator.add(self.find_nothing(sample), sample.info)
        assert all(value is None or value == 0 for values in evaluator.compute().values() for value in values.values())

    def test_tables_are_rectangular_text(self, dataset: Dataset) -> None:
        """`tables` gives titles, column names and rows of as many strings."""
        evaluator = self.evaluated(dataset, range(len(dataset)))
        evaluator.compute()
        for title, columns, rows in evaluator.tables():
            assert title
            assert all(len(row) == len(columns) and all(isinstance(cell, str) for cell in row) for row in rows)

    def test_saves_into_a_folder(self, dataset: Dataset, tmp_path: Path) -> None:
        """`save` writes into the folder alone, and twice gives the same files."""
        evaluator = self.evaluated(dataset, range(len(dataset)))
        evaluator.compute()
        contents = []
        for name in ("first", "second"):
            folder = tmp_path / name
            folder.mkdir()
            evaluator.save(folder)
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            contents.append({path.relative_to(folder): path.read_bytes() for path in files})
        assert contents[0] == contents[1]


@contextmanager
def second_process(
    spec: Mapping[str, Any], dataset: Dataset, added: Sequence[tuple[Prediction, Any]]
) -> Iterator[None]:
    """This process is the first of two, and the second one evaluates these predictions with their infos."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    given = pickle.dumps((spec, dataset, added))
    other = forking().Process(target=_evaluate_part, args=({**common, "RANK": "1", "LOCAL_RANK": "1"}, given))
    other.start()
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in {**common, "RANK": "0", "LOCAL_RANK": "0"}.items():
            patch.setenv(variable, value)
        try:
            yield
            other.join(timeout=60)
            assert other.exitcode == 0
        finally:
            other.kill()
            other.join()


def _evaluate_part(environment: Mapping[str, str], given: bytes) -> None:
    """What the second process does."""
    os.environ.update(environment)
    spec, dataset, added = pickle.loads(given)
    evaluator = build(spec, Evaluator)
    with processes.Processes("cpu") as both:
        evaluator.start(dataset)
        for prediction, info in added:
            evaluator.add(prediction, info)
        both.gather(evaluator.state())
        both.share(None)  # its results are read until then
