"""From Detectron2's files to a detkit model directory."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from det_detectron2 import zoo
from det_detectron2.architectures import architecture, load
from det_detectron2.config import Detectron2Config
from detkit.config import build
from detkit.detector import Detector
from detkit.foreign import read_foreign_checkpoint
from detkit.interfaces import CheckpointFormat
from detkit.model_directory import save_model
from detkit.structures.categories import Categories
from detkit.structures.coco import COCO, COCO_PERSON, COCO_PIXELS


class Detectron2Format(CheckpointFormat):
    """`detkit convert detectron2 CONFIG WEIGHTS --out DIR`; for a model of Detectron2's zoo, without the weights."""

    def convert(self, model: str, weights: Path | None, out: Path, *, sha256: str | None = None) -> Path:
        if weights is not None:
            return convert(Path(model), weights, out)
        if Path(model).is_file():
            raise ValueError(
                f"{model} is a config, whose weights are needed too: detkit convert detectron2 CONFIG WEIGHTS --out DIR"
            )
        return zoo.convert(model, out, sha256)


def convert(config_path: Path, weights: Path, out: Path) -> Path:
    """See `det_detectron2.convert`."""
    config = Detectron2Config.read(config_path)
    datasets = config.take("DATASETS.TRAIN")
    name = config.take("MODEL.META_ARCHITECTURE")
    try:
        whole = architecture(name)
    except ValueError as error:
        raise ValueError(f"{config_path}: {error}") from None
    tree = whole.tree(config)
    if problems := config.problems():
        raise ValueError(f"{config_path} cannot be converted:\n  " + "\n  ".join(problems))
    model = build(
        tree,
        Detector,
        categories=trained_categories(datasets, taken_out(tree, "num_classes")),
        semantic_categories=trained_categories(
            datasets, taken_out(tree, "num_semantic_classes"), noun="class of pixels"
        ),
    )
    assert isinstance(model, Detector)
    arrays = read_foreign_checkpoint(weights)
    refusal = f"{weights} does not fit the model that {config_path} describes"
    load(model, arrays, [*config.mappings, whole], refusal)
    version = metadata.version("det-detectron2")
    about = {"source": f"Detectron2 checkpoint {weights.name}, converted by det-detectron2 {version}"}
    return save_model(model, out, config=tree, meta=about)


def trained_categories(datasets: Sequence[str], counts: set[int], *, noun: str = "class") -> Categories | None:
    """Those of as many classes as all heads have, with names if the datasets are COCO's, else `noun` 1, 2, ...; None
    without heads.

    Raises:
        ValueError: heads differ in their number of classes.
    """
    if not counts:
        return None
    if len(counts) > 1:
        raise ValueError(f"heads differ in their number of classes: {sorted(counts)}; this has no counterpart")
    count = counts.pop()
    known: list[Categories] = []
    if any(name.startswith("keypoints_coco_20") for name in datasets):
        known = [COCO_PERSON]
    elif any(name.startswith("coco_20") for name in datasets):
        known = [COCO, COCO_PIXELS]
    return next((categories for categories in known if len(categories) == count), Categories.numbered(count, noun))


def taken_out(tree: Any, key: str) -> set[Any]:
    """The values of a key anywhere in a tree, which is left without it: the number of classes follows from their
    names."""
    if isinstance(tree, list):
        return set().union(*(taken_out(entry, key) for entry in tree))
    if not isinstance(tree, dict):
        return set()
    found = {tree.pop(key)} if key in tree else set()
    return found.union(*(taken_out(entry, key) for entry in tree.values()))
