"""The contract of recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from detkit.config import Config
from detkit.structures.batch import Batch
from detkit.testing.base import KindContract
from detkit.testing.inputs import CATEGORIES, SEMANTIC_CATEGORIES, random_batch

if TYPE_CHECKING:
    import pytest


class RecipeContract(KindContract, contract=True):
    """Tests that every recipe passes.

    Class attributes and methods for the subclass to set:

        trained     recipe -> the changes that make it small enough to be trained in a test, as on the command line:
                    "model.backbone.width=8". The recipes left out are built, but not trained; each must be made of the
                    same components as one that is trained. Unless given, all are trained as they are.
        batch       name -> what a recipe is trained on, where `random_batch(1)` does not fit: proposals, rotated boxes
    """

    kind = "recipe"
    trained: ClassVar[Mapping[str, Sequence[str]] | None] = None

    @classmethod
    def trainings(cls) -> Mapping[str, Sequence[str]]:
        """The recipes that are trained, with their changes."""
        names = [spec["name"] for spec in cls.specs()]
        if cls.trained is None:
            return dict.fromkeys(names, ())
        stale = sorted(cls.trained.keys() - set(names))
        assert not stale, f"{cls.__name__}.trained has {', '.join(stale)}, which {cls.distribution} does not register"
        return cls.trained

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test that takes a `spec` over all recipes, and each that takes a `training` over those trained."""
        super().pytest_generate_tests(metafunc)
        if "training" in metafunc.fixturenames:
            trainings = self.trainings()
            metafunc.parametrize("training", trainings.items(), ids=trainings)

    def batch(self, name: str) -> Batch:
        """What a recipe is trained on: an image with boxes, masks, keypoints and labels of pixels."""
        return random_batch(1)

    def test_it_says_where_it_comes_from(self, spec: Mapping[str, Any]) -> None:
        """`about` holds a summary and a licence, and for published metrics also who published them. If it
        fails: add them, so that nobody has to guess what may be used and what to expect."""
        about = Config.load(spec["name"]).tree["about"]
        assert about.get("summary")
        assert about.get("licence")
        assert "published" not in about or about.get("published by")

    def test_the_resolved_config_reads_back_equal(self, spec: Mapping[str, Any], tmp_path: Path) -> None:
        """What a run stores gives the same config. If it fails: a component changes its arguments' defaults, or a
        default is not plain."""
        config = Config.load(spec["name"])
        config.save(tmp_path / "config.yaml")
        assert Config.load(tmp_path / "config.yaml") == config

    def test_everything_in_it_can_be_built(self, spec: Mapping[str, Any]) -> None:
        """The model (without memory for its weights), transforms, evaluators and options are accepted by their
        constructors. If it fails: the message says which argument."""
        config = Config.load(spec["name"])
        config.build("train")
        config.build("transforms")
        config.build("evaluators")
        with torch.device("meta"):
            config.build("model", categories=CATEGORIES, semantic_categories=SEMANTIC_CATEGORIES)

    def test_two_training_steps_change_its_weights(self, training: tuple[str, Sequence[str]]) -> None:
        """The model, its losses and the recipe's optimizer and schedule work together: losses stay finite, weights
        change. If it fails in the losses, see the contracts of the parts."""
        name, changes = training
        config = Config.load(name, changes)
        torch.manual_seed(0)
        model = config.build("model", categories=CATEGORIES, semantic_categories=SEMANTIC_CATEGORIES).train()
        options = config.build("train")
        optimizer = options.optimizer.build(model, options.optimizer.lr)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: options.schedule.factor(step, options.steps or 1000)
        )
        before = [each.detach().clone() for each in model.parameters()]
        for _ in range(2):
            optimizer.zero_grad()
            total = torch.stack(list(model(self.batch(name)).values())).sum()
            assert total.isfinite()
            total.backward()
            optimizer.step()
            scheduler.step()
        assert all(each.isfinite().all() for each in model.parameters())
        assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))

    def test_every_kind_of_model_is_trained(self) -> None:
        """Each recipe is made of the same components as one in `trained`. If it fails: add the recipe that it names to
        `trained`, with changes that make it small."""
        covered = {_architecture(name) for name in self.trainings()}
        names = [spec["name"] for spec in self.specs() if spec["name"] not in self.trainings()]
        assert [name for name in names if _architecture(name) not in covered] == []


def _architecture(recipe: str) -> frozenset[tuple[str, str]]:
    """Where in a recipe's model which component is."""
    return frozenset(_components(Config.load(recipe).tree["model"], "model"))


def _components(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    if "name" in tree:
        yield path, tree["name"]
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _components(value, f"{path}.{key}")
