"""From Detectron2's files to a detkit model directory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor

from det_detectron2.architectures import ARCHITECTURES, DERIVED
from det_detectron2.config import Detectron2Config
from detkit.config import build
from detkit.detector import Detector
from detkit.foreign import read_foreign_checkpoint
from detkit.interfaces import CheckpointFormat
from detkit.model_directory import save_model
from detkit.structures.categories import Categories
from detkit.structures.coco import COCO, COCO_PIXELS
from detkit.weights import differences


class Detectron2Format(CheckpointFormat):
    """`detkit convert detectron2 CONFIG WEIGHTS --out DIR`."""

    def convert(self, config: Path | None, weights: Path | None, out: Path) -> Path:
        if config is None or weights is None:
            raise ValueError("Detectron2's format needs both files: detkit convert detectron2 CONFIG WEIGHTS --out DIR")
        return convert(config, weights, out)


def convert(config_path: Path, weights: Path, out: Path) -> Path:
    """See `det_detectron2.convert`."""
    config = Detectron2Config.read(config_path)
    datasets = config.take("DATASETS.TRAIN")
    name = config.take("MODEL.META_ARCHITECTURE")
    if name not in ARCHITECTURES:
        raise ValueError(
            f"{config_path}: MODEL.META_ARCHITECTURE is {name!r}; there is a mapping for {', '.join(ARCHITECTURES)}"
        )
    architecture = ARCHITECTURES[name]
    tree = architecture.tree(config)
    if problems := config.problems():
        raise ValueError(f"{config_path} cannot be converted:\n  " + "\n  ".join(problems))
    on_coco = any(str(name).startswith("coco_20") for name in datasets)
    model = build(
        tree,
        Detector,
        categories=_categories(taken_out(tree, "num_classes"), COCO if on_coco else None),
        semantic_categories=_categories(taken_out(tree, "num_semantic_classes"), COCO_PIXELS if on_coco else None),
    )
    assert isinstance(model, Detector)
    state, strangers = rename(read_foreign_checkpoint(weights), architecture.names, (*DERIVED, *architecture.derived))
    state = {name: value for name, value in model.state_dict().items() if name in architecture.initial} | state
    problems = [f"{name} has no counterpart" for name in strangers] + differences(model, state)
    if problems:
        raise ValueError(f"{weights} does not fit the model that {config_path} describes:\n  " + "\n  ".join(problems))
    model.load_state_dict(state)
    version = metadata.version("det-detectron2")
    about = {"source": f"Detectron2 checkpoint {weights.name}, converted by det-detectron2 {version}"}
    return save_model(model, out, config=tree, meta=about)


def _categories(counts: set[int], known: Categories | None) -> Categories | None:
    """Those of as many classes as all heads have: with names if they are `known`."""
    if not counts:
        return None
    if len(counts) > 1:
        raise ValueError(f"heads differ in their number of classes: {sorted(counts)}; this has no counterpart")
    count = counts.pop()
    return known if known is not None and len(known) == count else Categories.numbered(count)


def taken_out(tree: Any, key: str) -> set[Any]:
    """The values of a key anywhere in a tree, which is left without it: the number of classes follows from their
    names."""
    if isinstance(tree, list):
        return set().union(*(taken_out(entry, key) for entry in tree))
    if not isinstance(tree, dict):
        return set()
    found = {tree.pop(key)} if key in tree else set()
    return found.union(*(taken_out(entry, key) for entry in tree.values()))


def rename(
    state: Mapping[str, Tensor], names: tuple[tuple[str, str], ...], derived: tuple[str, ...]
) -> tuple[dict[str, Tensor], list[str]]:
    """Arrays under our names, and the names that no rule knows. `{N-1}` in a rule counts from 0 what Detectron2 counts
    from 1; arrays that match `derived` follow from the config and are left out."""
    renamed: dict[str, Tensor] = {}
    strangers = []
    for name, value in state.items():
        if any(re.fullmatch(pattern, name) for pattern in derived):
            continue
        for pattern, ours in names:
            if match := re.fullmatch(pattern, name):
                target = re.sub(r"\{(\d+)-1\}", lambda number: str(int(number[1]) - 1), match.expand(ours))
                renamed[target] = value
                break
        else:
            strangers.append(name)
    return renamed, strangers
