"""Batch norms folded into convolutions for inference, against norms by themselves and norms folded at each call.

Faster R-CNN on ResNet-50 and on ResNeXt-101 32x8d with a pyramid, with the same random weights on all sides.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.detectors import INFERENCE, THREADS, scene
from benchmarks.measure import Stages, interleaved, ratio, timed
from detkit.config import build
from detkit.detector import Detector
from detkit.layers import freeze
from detkit.structures.coco import COCO

BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "R50": {"depth": 50},
    "X101 32x8d": {"depth": 101, "groups": 32, "width_per_group": 8},
}


def unfused_model(backbone: Mapping[str, Any]) -> Detector:
    """A detector whose batch norms run by themselves, with random weights under which activations neither grow nor
    vanish."""
    torch.manual_seed(0)
    spec = {
        "name": "rcnn",
        "backbone": {"name": "resnet", "norm": "bn", **backbone},
        "neck": "fpn",
        "proposal_generator": "rpn",
        "heads": {"box": {"name": "box", "score_threshold": 0.0}},
    }
    model: Detector = build(spec, Detector, categories=COCO)
    for name, parameter in model.named_parameters():
        if name.endswith("conv3.norm.weight"):
            nn.init.constant_(parameter, 0.2)
    return model.eval()


def frozen_model(model: Detector) -> Detector:
    """The model with frozen batch norms, which `Conv` folds whenever it runs: as recipes have it."""
    frozen = copy.deepcopy(model)
    freeze(frozen)
    return frozen.eval()


def sides(backbone: Mapping[str, Any]) -> dict[str, Detector]:
    """The models that are compared."""
    unfused = unfused_model(backbone)
    return {"unfused": unfused, "frozen": frozen_model(unfused), "fused": copy.deepcopy(unfused).optimize()}


def difference(models: Mapping[str, Detector], images: Tensor) -> float:
    """By how much the fused backbone and neck answer differently, as a part of the largest value of each map."""
    found, expected = (
        models[side].neck(models[side].backbone(images))  # type: ignore[operator]
        for side in ("fused", "unfused")
    )
    return max(float((found[name] - each).abs().max() / each.abs().max()) for name, each in expected.items())


def _timed_call(call: Callable[[], Any], stages: Stages, spent: list[float]) -> None:
    with timed(stages) as parts:
        call()
    spent.append(parts["backbone"])


@torch.no_grad()
def main(rounds: int) -> dict[str, Any]:
    """Run both detectors on one image, print seconds, and return the figures."""
    torch.set_num_threads(THREADS)
    figures: dict[str, Any] = {}
    image, _ = scene(*INFERENCE, seed=1, classes=len(COCO))
    for title, backbone in BACKBONES.items():
        models = sides(backbone)
        spent: dict[str, list[float]] = {side: [] for side in models}
        calls = {
            side: partial(
                _timed_call, partial(model, [image]), {"backbone": [(model.backbone, "forward")]}, spent[side]
            )
            for side, model in models.items()
        }
        seconds = interleaved(calls, rounds)
        size = " x ".join(map(str, INFERENCE))
        print(f"\nFaster R-CNN {title} FPN, one image of {size}, float32, {THREADS} threads, medians of {rounds}")
        print(f"{'':12}{'total s':>9}{'backbone s':>12}{'times as fast':>15}{'backbone':>10}")
        figures[title] = {"difference": difference(models, models["fused"].normalize(image[None], _size(image)))}
        backbones = {side: parts[1:] for side, parts in spent.items()}  # the first call does not count
        for side in models:
            total, part = statistics.median(seconds[side]), statistics.median(backbones[side])
            ratios = ratio(seconds, side, "unfused"), ratio(backbones, side, "unfused")
            figures[title][side] = {"seconds": total, "backbone": part, "ratio": ratios[0], "backbone ratio": ratios[1]}
            print(f"{side:12}{total:9.3f}{part:12.3f}{ratios[0]:15.2f}{ratios[1]:10.2f}")
        print(f"fused differs from unfused by {figures[title]['difference']:.1e} of the largest value of a map")
    return figures


def _size(image: Tensor) -> Tensor:
    return torch.tensor([image.shape[1:]])
