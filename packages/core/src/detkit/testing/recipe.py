"""The contract of recipes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from detkit.config import Config
from detkit.testing.base import KindContract
from detkit.testing.inputs import CATEGORIES, SEMANTIC_CATEGORIES, random_batch


class RecipeContract(KindContract, contract=True):
    """Tests that every recipe passes."""

    kind = "recipe"

    def test_it_says_where_it_comes_from(self, spec: Mapping[str, Any]) -> None:
        """`about` holds a summary and a licence, and for published metrics also who published them. If it fails: add
        them, so that nobody has to guess what may be used and what to expect."""
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
        """Transforms, evaluators and options are accepted by their constructors. If it fails: the message says which
        argument."""
        config = Config.load(spec["name"])
        config.build("train")
        config.build("transforms")
        config.build("evaluators")

    def test_the_model_takes_a_training_step(self, spec: Mapping[str, Any]) -> None:
        """The model, its losses and the recipe's optimizer work together; the step changes weights. If it fails in the
        losses, see the contracts of the parts."""
        config = Config.load(spec["name"])
        torch.manual_seed(0)
        model = config.build("model", categories=CATEGORIES, semantic_categories=SEMANTIC_CATEGORIES).train()
        options = config.build("train")
        optimizer = options.optimizer.build(model, options.optimizer.lr)
        before = [each.detach().clone() for each in model.parameters()]
        losses = model(random_batch(1))
        total = torch.stack(list(losses.values())).sum()
        assert total.isfinite()
        total.backward()
        optimizer.step()
        assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
