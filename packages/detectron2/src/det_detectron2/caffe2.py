"""From files of Detectron (Caffe2) to a detkit model directory."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor

from det_detectron2.caffe2_config import DetectronConfig
from det_detectron2.caffe2_names import our_arrays
from det_detectron2.caffe2_tree import model_tree
from det_detectron2.conversion import taken_out, trained_categories
from detkit.config import build
from detkit.detector import Detector
from detkit.foreign import load_arrays, read_foreign_checkpoint
from detkit.interfaces import CheckpointFormat
from detkit.model_directory import save_model


class DetectronFormat(CheckpointFormat):
    """`detkit convert detectron CONFIG WEIGHTS --out DIR`: a YAML config and a .pkl checkpoint of Detectron (2017)."""

    def convert(self, model: str, weights: Path | None, out: Path, *, sha256: str | None = None) -> Path:
        if weights is None:
            raise ValueError("Detectron's format needs two files: detkit convert detectron CONFIG WEIGHTS --out DIR")
        detector, tree = converted(Path(model), read_foreign_checkpoint(weights), str(weights))
        version = metadata.version("det-detectron2")
        about = {"source": f"Detectron checkpoint {weights.name}, converted by det-detectron2 {version}"}
        return save_model(detector, out, config=tree, meta=about)


def converted(path: Path, blobs: Mapping[str, Tensor], source: str) -> tuple[Detector, dict[str, Any]]:
    """The model that a config describes, with the arrays of a checkpoint, and the `model` section that builds it.

    Args:
        path: of the config.
        blobs: Caffe2's arrays.
        source: what they are of, for messages.

    Raises:
        ValueError: lists keys and arrays without counterpart.
    """
    config = DetectronConfig.read(path)
    try:
        tree = model_tree(config)
    except ValueError as error:
        raise ValueError(f"{path} cannot be converted: {error}") from error
    datasets = config.take("TRAIN.DATASETS")
    if problems := config.problems():
        raise ValueError(f"{path} cannot be converted:\n  " + "\n  ".join(problems))
    num_classes = config.take("MODEL.NUM_CLASSES") - 1
    state, strangers = our_arrays(blobs, num_classes, shared_res5=tree.get("roi_trunk") is not None)
    categories = trained_categories(datasets, taken_out(tree, "num_classes"))
    model = build(tree, Detector, categories=categories)
    assert isinstance(model, Detector)
    load_arrays(
        model, state, strangers, f"{source} does not fit the model that {path} describes", initial=("normalizer",)
    )
    return model.eval(), tree
