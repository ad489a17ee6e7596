"""The contract of mappings, for the projects that bring them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch

from det_detectron2.architectures import architecture, load
from det_detectron2.config import Detectron2Config
from det_detectron2.conversion import taken_out
from det_detectron2.mapping import KIND, Detectron2Mapping
from detkit.config import build
from detkit.detector import Detector
from detkit.plugins import registry
from detkit.structures.categories import Categories
from detkit.testing.base import KindContract, plugin


class Model(NamedTuple):
    """A model of Detectron2: its whole config, as `cfg.dump()` writes it, and the names and shapes of its arrays."""

    config: Mapping[str, Any]
    arrays: Mapping[str, tuple[int, ...]]


def converted(model: Model) -> tuple[Detector, Detectron2Config]:
    """The model with all arrays loaded, without memory for them, and the config as it was read.

    Raises:
        ValueError: a key, a value or an array has no counterpart.
    """
    config = Detectron2Config(model.config)
    whole = architecture(config.take("MODEL.META_ARCHITECTURE"))
    tree = whole.tree(config)
    if problems := config.problems():
        raise ValueError("\n".join(problems))
    classes, pixels = (taken_out(tree, key) for key in ("num_classes", "num_semantic_classes"))
    named = Categories.numbered(*classes) if classes else None
    labelled = Categories.numbered(max(pixels), "class of pixels") if pixels else None
    with torch.device("meta"):
        detector = build(tree, Detector, categories=named, semantic_categories=labelled)
        arrays = {name: torch.empty(shape) for name, shape in model.arrays.items()}
    assert isinstance(detector, Detector)
    load(detector, arrays, [*config.mappings, whole], "the arrays do not fit")
    return detector, config


class MappingContract(KindContract, contract=True):
    """Tests that the mappings of Detectron2's names pass, each in the models of `models`."""

    kind: ClassVar[str] = KIND

    def models(self) -> Iterable[Model]:
        """Models that have all parts which the distribution maps, at least one for each."""
        raise NotImplementedError

    def test_it_is_a_mapping_whose_rules_can_be_applied(self, spec: Mapping[str, Any]) -> None:
        """Names of arrays are regular expressions, and what replaces them uses groups that they have."""
        mapping = registry().load(KIND, spec["name"])
        assert isinstance(mapping, Detectron2Mapping)
        for pattern, new in mapping.names:
            groups = re.compile(pattern).groups
            assert all(int(number) <= groups for number in re.findall(r"\\(\d+)", new)), (pattern, new)
        for pattern in mapping.derived:
            re.compile(pattern)

    def test_models_are_converted_whole(self) -> None:
        """Every key of each config and every array of its model has a counterpart, and no array of ours is left
        without; every mapping of the distribution is used."""
        used: list[Detectron2Mapping] = []
        for model in self.models():
            config = converted(model)[1]
            used += [*config.mappings, architecture(config.take("MODEL.META_ARCHITECTURE"))]
        for component in plugin(self.distribution).components:
            if component.kind == KIND:
                assert registry().load(KIND, component.name) in used, f"no model has a {component.name}"
