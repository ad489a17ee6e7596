"""Mask R-CNN R50-FPN on a CPU against torchvision's, with the same weights, sizes, sampling ratio and detections."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from benchmarks.measure import Stages, interleaved, peak_memory, ratio, timed
from det_backbones.pretrained import from_torchvision
from detkit.config import build
from detkit.detector import Detector
from detkit.structures.batch import Batch
from detkit.structures.categories import Categories

CLASSES = 90
INFERENCE = (640, 800)
TRAINING = (480, 640)
OBJECTS = 10  # in each training image
ROUNDS = 7


def torchvision_model() -> nn.Module:
    """torchvision's model with random weights under which activations neither grow nor vanish."""
    torch.manual_seed(0)
    model = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES + 1,
        min_size=INFERENCE[0],
        max_size=INFERENCE[1],
        box_score_thresh=0.0,
    )
    for name, buffer in model.named_buffers():
        if name.endswith("bn3.weight"):
            buffer.fill_(0.2)
    for name, parameter in model.backbone.body.named_parameters():
        parameter.requires_grad_(not name.startswith(("conv1", "layer1")))  # as with pretrained weights, on both sides
    return model


def our_model(theirs: nn.Module) -> Detector:
    """detkit's model with those weights, taking images as they come."""
    spec = {
        "name": "rcnn",
        "backbone": {"name": "resnet", "depth": 50, "freeze_at": 2},
        "neck": {"name": "fpn"},
        "proposal_generator": {"name": "rpn", "pre_nms_train": 2000, "post_nms_train": 2000},
        "heads": {
            "box": {"name": "box", "sampling_ratio": 2, "score_threshold": 0.0},
            "mask": {"name": "mask", "sampling_ratio": 2},
        },
        "input": {"min_size": 0},
    }
    model = build(spec, Detector, categories=Categories.numbered(CLASSES))
    model.load_state_dict(renamed(theirs.state_dict()), strict=True)
    return model


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's Mask R-CNN under our names; its background class comes first, ours last."""
    body = {name.removeprefix("backbone.body."): value for name, value in state.items() if ".body." in name}
    out = {f"backbone.{name}": value for name, value in from_torchvision(body).items()}
    for kind in ("weight", "bias"):
        for level in range(4):
            out[f"neck.lateral.p{level + 2}.{kind}"] = state[f"backbone.fpn.inner_blocks.{level}.0.{kind}"]
            out[f"neck.output.p{level + 2}.{kind}"] = state[f"backbone.fpn.layer_blocks.{level}.0.{kind}"]
            out[f"heads.mask.trunk.{level}.{kind}"] = state[f"roi_heads.mask_head.{level}.0.{kind}"]
        out[f"proposal_generator.conv.{kind}"] = state[f"rpn.head.conv.0.0.{kind}"]
        out[f"proposal_generator.objectness.{kind}"] = state[f"rpn.head.cls_logits.{kind}"]
        out[f"proposal_generator.deltas.{kind}"] = state[f"rpn.head.bbox_pred.{kind}"]
        out[f"heads.box.trunk.0.{kind}"] = state[f"roi_heads.box_head.fc6.{kind}"]
        out[f"heads.box.trunk.1.{kind}"] = state[f"roi_heads.box_head.fc7.{kind}"]
        out[f"heads.box.predictor.scores.{kind}"] = state[f"roi_heads.box_predictor.cls_score.{kind}"].roll(-1, 0)
        out[f"heads.box.predictor.deltas.{kind}"] = state[f"roi_heads.box_predictor.bbox_pred.{kind}"][4:]
        out[f"heads.mask.predictor.upsample.{kind}"] = state[f"roi_heads.mask_predictor.conv5_mask.{kind}"]
        out[f"heads.mask.predictor.logits.{kind}"] = state[f"roi_heads.mask_predictor.mask_fcn_logits.{kind}"][1:]
    return out


def scene(height: int, width: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """An image (3, H, W) uint8 with rectangles, and its targets."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    size = 30 + torch.rand(OBJECTS, 2, generator=generator) * 150
    low = torch.rand(OBJECTS, 2, generator=generator) * (torch.tensor([width, height]) - size)
    boxes = torch.cat([low, low + size], dim=1)
    masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.long().tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
        image[:, y0:y1, x0:x1] //= 2
    return image, {"boxes": boxes, "labels": torch.randint(0, CLASSES, (OBJECTS,), generator=generator), "masks": masks}


def inference_sides() -> tuple[dict[str, Callable[[], Any]], dict[str, Stages]]:
    """One image through both."""
    theirs = torchvision_model().eval()
    ours = our_model(theirs).eval()
    image, _ = scene(*INFERENCE, seed=1)
    sides = {
        "detkit": torch.no_grad()(lambda: ours([image])),
        "torchvision": torch.no_grad()(lambda: theirs([image.float() / 255])),
    }
    return sides, {"detkit": _our_stages(ours, "detect"), "torchvision": _their_stages(theirs)}


def training_sides() -> tuple[dict[str, Callable[[], Any]], dict[str, Stages]]:
    """Losses and gradients of two images through both."""
    theirs = torchvision_model().train()
    theirs.transform.min_size, theirs.transform.max_size = (TRAINING[0],), TRAINING[1]  # type: ignore[union-attr]
    ours = our_model(theirs).train()
    images, targets = zip(*(scene(*TRAINING, seed=seed) for seed in (1, 2)), strict=True)
    batch = Batch.collate(images, targets, ours.divisor)
    floats = [image.float() / 255 for image in images]
    their_targets = [{**target, "labels": target["labels"] + 1} for target in targets]

    def our_step() -> None:
        ours.zero_grad()
        torch.stack(list(ours(batch).values())).sum().backward()

    def their_step() -> None:
        theirs.zero_grad()
        torch.stack(list(theirs(floats, their_targets).values())).sum().backward()

    stages = {"detkit": _our_stages(ours, "losses"), "torchvision": _their_stages(theirs)}
    return {"detkit": our_step, "torchvision": their_step}, stages


def _our_stages(model: Any, method: str) -> Stages:
    return {
        "backbone": [(model, "features")],
        "RPN": [(model.proposal_generator, "forward")],
        "box": [(model, "sample"), (model.heads["box"], method)],
        "mask": [(model.heads["mask"], method)],
        "paste": [(model, "postprocess")],
    }


def _their_stages(model: Any) -> Stages:
    heads = model.roi_heads
    mask = [(heads.mask_roi_pool, "forward"), (heads.mask_head, "forward"), (heads.mask_predictor, "forward")]
    box = [(heads.box_roi_pool, "forward"), (heads.box_head, "forward"), (heads.box_predictor, "forward")]
    return {
        "backbone": [(model.transform, "forward"), (model.backbone, "forward")],
        "RPN": [(model.rpn, "forward")],
        "box": [*box, (heads, "select_training_samples"), (heads, "postprocess_detections")],
        "mask": mask,
        "paste": [(model.transform, "postprocess")],
    }


def _timed_call(call: Callable[[], Any], stages: Stages, spent: list[dict[str, float]]) -> None:
    with timed(stages) as parts:
        call()
    spent.append(parts)


def _prepare(job: str, side: str) -> Callable[[], Any]:
    torch.set_num_threads(THREADS)
    return JOBS[job][0]()[0][side]


THREADS = 2
JOBS = {
    "inference": (inference_sides, f"one image of {INFERENCE[0]}x{INFERENCE[1]}"),
    "training": (training_sides, f"losses and gradients of two images of {TRAINING[0]}x{TRAINING[1]}"),
}


def main(rounds: int = ROUNDS) -> dict[str, Any]:
    """Run both jobs, print them, and return the figures. In training, stages are of the forward pass."""
    torch.set_num_threads(THREADS)
    figures: dict[str, Any] = {}
    for job, (make_sides, title) in JOBS.items():
        sides, stages = make_sides()
        spent: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        seconds = interleaved(
            {side: partial(_timed_call, call, stages[side], spent[side]) for side, call in sides.items()}, rounds
        )
        print(f"\nMask R-CNN R50-FPN, {job}: {title}, float32, {THREADS} threads, medians of {rounds}")
        print(f"{'':14}{'total s':>9}" + "".join(f"{stage:>10}" for stage in stages["detkit"]) + f"{'peak MB':>10}")
        figures[job] = {"ratio": ratio(seconds, "detkit", "torchvision")}
        for side in sides:
            total, memory = statistics.median(seconds[side]), peak_memory(partial(_prepare, job, side))
            parts = {
                stage: statistics.median(call.get(stage, 0.0) for call in spent[side][1:]) for stage in stages[side]
            }
            figures[job][side] = {"seconds": total, "stages": parts, "peak MB": memory}
            print(f"{side:14}{total:9.3f}" + "".join(f"{value:10.3f}" for value in parts.values()) + f"{memory:10.0f}")
        print(f"detkit is {figures[job]['ratio']:.2f} times as fast (median of the rounds' ratios)")
    return figures
