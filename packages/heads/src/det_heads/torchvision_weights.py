"""torchvision's detectors: their published weights on COCO, and files fine-tuned from them, as detkit models."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detkit.config import build
from detkit.detector import Detector
from detkit.download import digits_in_name, fetch
from detkit.foreign import load_arrays, read_foreign_checkpoint, rename
from detkit.foreign_resnet import EPS, TORCHVISION, folded
from detkit.interfaces import CheckpointFormat
from detkit.model_directory import save_model
from detkit.structures.categories import Categories
from detkit.structures.coco import COCO, COCO_PERSON
from detkit.structures.keypoints import Keypoints

COCO_ROWS = 91  # of a model that counts classes by COCO's ids, of which ten are of no class, and 0 for background

INPUT = {"channel_order": "rgb", "min_size": 800, "max_size": 1333, "antialias": False}
_BETA = 1 / 9  # of smooth L1
_ALIGN = {"sampling_ratio": 2, "aligned": False}

# Names up to 0.12 (2022), in which the published files still are, lack the number of a layer's part
_PYRAMID = (
    *((rf"backbone\.body\.{theirs}", rf"backbone.{ours}") for theirs, ours in TORCHVISION),
    (r"backbone\.fpn\.extra_blocks\.(p\d)\.(weight|bias)", r"neck.top.\1.\2"),
)
_R_CNN = (
    *_PYRAMID,
    (r"backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?(weight|bias)", r"neck.lateral.p{\1+2}.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?(weight|bias)", r"neck.output.p{\1+2}.\2"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.1\.(.+)", r"neck.lateral.p{\1+2}.norm.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.1\.(.+)", r"neck.output.p{\1+2}.norm.\2"),
    (r"rpn\.head\.conv\.(weight|bias)", r"proposal_generator.trunk.0.\1"),
    (r"rpn\.head\.conv\.(\d)\.0\.(weight|bias)", r"proposal_generator.trunk.\1.\2"),
    (r"rpn\.head\.cls_logits\.(weight|bias)", r"proposal_generator.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(weight|bias)", r"proposal_generator.deltas.\1"),
    (r"roi_heads\.box_head\.fc6\.(weight|bias)", r"heads.box.trunk.linears.0.\1"),
    (r"roi_heads\.box_head\.fc7\.(weight|bias)", r"heads.box.trunk.linears.1.\1"),
    (r"roi_heads\.box_head\.(\d)\.0\.weight", r"heads.box.trunk.convs.\1.weight"),
    (r"roi_heads\.box_head\.(\d)\.1\.(.+)", r"heads.box.trunk.convs.\1.norm.\2"),
    (r"roi_heads\.box_head\.5\.(weight|bias)", r"heads.box.trunk.linears.0.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(weight|bias)", r"heads.box.predictor.scores.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(weight|bias)", r"heads.box.predictor.deltas.\1"),
    (r"roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)", r"heads.mask.trunk.{\1-1}.\2"),
    (r"roi_heads\.mask_head\.(\d)\.0\.(weight|bias)", r"heads.mask.trunk.\1.\2"),
    (r"roi_heads\.mask_head\.(\d)\.1\.(.+)", r"heads.mask.trunk.\1.norm.\2"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(weight|bias)", r"heads.mask.predictor.upsample.\1"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(weight|bias)", r"heads.mask.predictor.logits.\1"),
    (r"roi_heads\.keypoint_head\.(\d+)\.(weight|bias)", r"heads.keypoint.trunk.{\1/2}.\2"),
    (r"roi_heads\.keypoint_predictor\.kps_score_lowres\.(weight|bias)", r"heads.keypoint.upsample.\1"),
)
_DENSE = (
    *_PYRAMID,
    (r"backbone\.fpn\.inner_blocks\.(\d)\.(?:0\.)?(weight|bias)", r"neck.lateral.p{\1+3}.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.(?:0\.)?(weight|bias)", r"neck.output.p{\1+3}.\2"),
    (r"head\.classification_head\.cls_logits\.(weight|bias)", r"head.logits.\1"),
    (r"head\.regression_head\.bbox_reg\.(weight|bias)", r"head.deltas.\1"),
    (r"head\.regression_head\.bbox_ctrness\.(weight|bias)", r"head.centerness.\1"),
)
# Layers of detkit's towers are counted with their norms and ReLUs, as in the older names
_TOWER = (
    (r"head\.classification_head\.conv\.(\d+)\.(weight|bias)", r"head.class_tower.\1.\2"),
    (r"head\.regression_head\.conv\.(\d+)\.(weight|bias)", r"head.box_tower.\1.\2"),
)


def _newer_tower(stride: int) -> tuple[tuple[str, str], ...]:
    """Names of a tower whose layers are groups of a convolution and a norm; `stride` parts of a detkit tower each."""
    return tuple(
        (
            rf"head\.{theirs}_head\.conv\.{layer}\.{part}\.(weight|bias)",
            rf"head.{ours}_tower.{stride * layer + part}.\1",
        )
        for theirs, ours in (("classification", "class"), ("regression", "box"))
        for layer in range(4)
        for part in range(stride - 1)
    )


@dataclass(frozen=True)
class _Model:
    """How one of torchvision's functions that build a detector is converted.

    model: the `model` section of a config, without what depends on a file.
    names: torchvision's names of arrays and ours; see `detkit.foreign.rename`.
    eps: of the frozen batch norms that it builds for its published weights.
    categories: those that it was published with.
    """

    model: Mapping[str, Any]
    names: tuple[tuple[str, str], ...]
    eps: float
    categories: Categories = COCO


def cell_anchors(sizes: list[list[float]], ratios: tuple[float, ...] = (0.5, 1.0, 2.0)) -> list[list[list[float]]]:
    """torchvision's anchors for each level, whose corners it rounds to pixels; all sizes of the first ratio come
    first."""
    levels = []
    for level in sizes:
        heights = torch.as_tensor(ratios, dtype=torch.float32).sqrt()
        widths = 1 / heights
        scales = torch.as_tensor(level, dtype=torch.float32)
        w, h = ((side[:, None] * scales).flatten() for side in (widths, heights))
        levels.append((torch.stack([-w, -h, w, h], dim=1) / 2).round().tolist())
    return levels


def _backbone(norm: str = "frozen_bn") -> dict[str, Any]:
    return {"name": "resnet", "depth": 50, "norm": norm, "freeze_at": 2}


def _rcnn(heads: Mapping[str, Any], *, second: bool = False) -> dict[str, Any]:
    """The R-CNNs: of 2017, and the `second` version (Li et al., Benchmarking Detection Transfer Learning with Vision
    Transformers, 2021), with more convolutions and batch norms."""
    box = {"convs": 4, "norm": "frozen_bn", "layers": 1} if second else {}
    return {
        "name": "rcnn",
        "backbone": _backbone(),
        "neck": {"name": "fpn", "norm": "frozen_bn" if second else ""},
        "proposal_generator": {
            "name": "rpn",
            "anchor_boxes": cell_anchors([[size] for size in (32, 64, 128, 256, 512)]),
            "channels": [None, None] if second else [None],
            "post_nms_train": 2000,
            "min_size": 1e-3,
            "smooth_l1_beta": _BETA,
        },
        "heads": {"box": {"name": "box", **_ALIGN, **box, "smooth_l1_beta": _BETA}, **heads},
        "input": INPUT,
    }


def _dense(name: str, top: str, **arguments: Any) -> dict[str, Any]:
    backbone = {**_backbone(), "out_features": ["res3", "res4", "res5"]}
    return {"name": name, "backbone": backbone, "neck": {"name": "fpn", "top": top}, **arguments, "input": INPUT}


def _retinanet(top: str, **arguments: Any) -> dict[str, Any]:
    sizes = [[size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))] for size in (32, 64, 128, 256, 512)]
    boxes = cell_anchors([[float(size) for size in level] for level in sizes])
    return _dense("retinanet", top, anchor_boxes=boxes, clip_before_nms=True, detections_per_image=300, **arguments)


_MASK = {"mask": {"name": "mask", **_ALIGN}}
_KEYPOINT = {"keypoint": {"name": "keypoint", **_ALIGN, "pixel_numbers": True}}

MODELS: Mapping[str, _Model] = {
    "fasterrcnn_resnet50_fpn": _Model(_rcnn({}), _R_CNN, 0.0),
    "fasterrcnn_resnet50_fpn_v2": _Model(_rcnn({}, second=True), _R_CNN, EPS),
    "fcos_resnet50_fpn": _Model(_dense("fcos", "p5", offset=0.0, clip_before_nms=True), (*_DENSE, *_TOWER), EPS),
    "keypointrcnn_resnet50_fpn": _Model(_rcnn(_KEYPOINT), _R_CNN, 0.0, COCO_PERSON),
    "maskrcnn_resnet50_fpn": _Model(_rcnn(_MASK), _R_CNN, 0.0),
    "maskrcnn_resnet50_fpn_v2": _Model(
        _rcnn({"mask": {**_MASK["mask"], "norm": "frozen_bn"}}, second=True), _R_CNN, EPS
    ),
    "retinanet_resnet50_fpn": _Model(_retinanet("p5"), (*_DENSE, *_newer_tower(2), *_TOWER), 0.0),
    "retinanet_resnet50_fpn_v2": _Model(
        _retinanet("res5", norm="gn", box_loss="giou"), (*_DENSE, *_newer_tower(3)), EPS
    ),
}
"""torchvision's function -> how its models are converted."""


class TorchvisionFormat(CheckpointFormat):
    """`detkit convert torchvision NAME --out DIR`: the weights that torchvision publishes for COCO. With a file, a
    state dict of such a model, perhaps of other classes: `detkit convert torchvision NAME FILE.pth --out DIR`.

    Its answers are torchvision's, but for what has to be in detkit's terms: labels count from 0, masks are binary, and
    the coordinates of keypoints are those of points rather than of pixels, half a pixel more.
    """

    def convert(self, model: str, weights: Path | None, out: Path, *, sha256: str | None = None) -> Path:
        if model not in MODELS:
            near = difflib.get_close_matches(model, MODELS, n=3)
            raise ValueError(
                f"torchvision's format has no model {model!r}; "
                + (f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(MODELS)}")
            )
        version = metadata.version("det-heads")
        if weights is not None:
            source = f"torchvision's {model}, {weights.name}, converted by det-heads {version}"
            return self._write(model, read_foreign_checkpoint(weights), str(weights), out, {"source": source})
        fetched = fetch(url(model), sha256 or digits_in_name(url(model)))
        meta = {
            "source": f"torchvision's {model}, COCO_V1, converted by det-heads {version}",
            "weights": {"url": fetched.url, "sha256": fetched.sha256},
            "licence": {"code": "BSD-3-Clause", "data": "CC-BY-4.0"},
        }
        return self._write(model, read_foreign_checkpoint(fetched.path), fetched.url, out, meta)

    def _write(self, name: str, arrays: Mapping[str, Tensor], source: str, out: Path, meta: Mapping[str, Any]) -> Path:
        model = converted(name, arrays, source)
        return save_model(model, out, config=MODELS[name].model, meta=meta)


def converted(name: str, arrays: Mapping[str, Tensor], source: str) -> Detector:
    """The model with the arrays of one of torchvision's.

    Args:
        name: of `MODELS`.
        arrays: torchvision's state dict; the number of classes follows from it.
        source: what the arrays are of, for messages.

    Raises:
        ValueError: lists arrays that do not fit.
    """
    known = MODELS[name]
    state, strangers = rename(arrays, known.names, (r".+\.num_batches_tracked",))
    # A file with counts of batches is of batch norms that were not frozen, whose eps is the usual one
    if known.eps != EPS and not any(array.endswith(".num_batches_tracked") for array in arrays):
        state = folded(state, known.eps)
    try:
        rows, anchors = _class_rows(state)
    except KeyError as missing:
        raise ValueError(f"{source} is not a state dict of torchvision's {name}: it lacks {missing}") from None
    classes = COCO.ids if rows == COCO_ROWS else tuple(range(1, rows))
    categories = _categories(state, known.categories if len(known.categories) == len(classes) else None, classes)
    model = build(known.model, Detector, categories=categories)
    assert isinstance(model, Detector)
    state = {key: _of_classes(key, value, rows, anchors, classes) for key, value in state.items()}
    refusal = f"{source} does not fit torchvision's {name}"
    load_arrays(model, _with_biases(state), strangers, refusal, initial=("normalizer",))
    return model.eval()


def url(name: str) -> str:
    """Where torchvision publishes the weights of one of `MODELS`."""
    from torchvision.models import get_model_weights  # takes a second to import

    published: str = get_model_weights(name)["COCO_V1"].url
    return published


def _class_rows(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many classes there are, with background, and for how many anchors each; KeyError without a classifier."""
    if "head.deltas.bias" in state:
        anchors = len(state["head.deltas.bias"]) // 4
        return len(state["head.logits.bias"]) // anchors, anchors
    return len(state["heads.box.predictor.scores.bias"]), 1


def _categories(state: Mapping[str, Tensor], known: Categories | None, classes: tuple[int, ...]) -> Categories:
    """Those that are known, where the file has as many classes and keypoints."""
    maps = state.get("heads.keypoint.upsample.bias")
    if known is not None and (maps is None or (known.keypoints and len(known.keypoints) == len(maps))):
        return known
    categories = Categories.numbered(len(classes))
    if maps is None:
        return categories
    return replace(categories, keypoints=Keypoints(tuple(f"keypoint {number + 1}" for number in range(len(maps)))))


# Arrays with rows for classes -> rows for each class, whether background has one at the end
_ROWS = {
    "heads.box.predictor.scores": (1, True),
    "heads.box.predictor.deltas": (4, False),
    "heads.mask.predictor.logits": (1, False),
    "head.logits": (1, False),
}


def _of_classes(name: str, value: Tensor, rows: int, anchors: int, classes: tuple[int, ...]) -> Tensor:
    """The rows of an array that belong to `classes`, then those of background, which torchvision counts as class 0."""
    per_class, background = _ROWS.get(name.rpartition(".")[0], (0, False))
    if not per_class or len(value) != anchors * rows * per_class:
        return value  # an array of no class, or of another shape, which will be reported
    order = [*classes, *([0] if background else [])]
    return value.unflatten(0, (anchors, rows, per_class))[:, order].flatten(0, 2)


def _with_biases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With zeros for the biases of convolutions in towers, which torchvision leaves out where a norm follows."""
    for name in [name for name in state if re.fullmatch(r"head\.(class|box)_tower\.\d+\.weight", name)]:
        if state[name].ndim == 4:
            state.setdefault(name.removesuffix("weight") + "bias", torch.zeros(len(state[name])))
    return state
