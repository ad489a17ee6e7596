"""Detectors on R50-FPN on a CPU against torchvision's: the same weights, sizes, sampling ratio and detections."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import det_heads.cascade
import det_heads.rcnn
import det_heads.retinanet
import det_heads.rpn
from benchmarks.measure import Stages, interleaved, peak_memory, ratio, timed
from det_heads.torchvision_weights import converted
from detkit.config import build
from detkit.detector import Detector
from detkit.structures.batch import Batch
from detkit.structures.coco import COCO

INFERENCE = (640, 800)
TRAINING = (480, 640)
OBJECTS = 10  # in each training image
THREADS = 2
MATCHING: list[tuple[Any, str]] = [
    (module, "match_boxes") for module in (det_heads.cascade, det_heads.rcnn, det_heads.retinanet, det_heads.rpn)
]


@dataclass(frozen=True)
class Subject:
    """A detector that is measured.

    title: its name in print.
    peer: torchvision's function that builds it, if it has one.
    options: of that function, so that random weights answer as many detections as trained ones do.
    heads: for a detector without a peer, the heads of our R-CNN.
    """

    title: str
    peer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    heads: Mapping[str, Any] = field(default_factory=dict)


SUBJECTS = {
    "faster_rcnn": Subject("Faster R-CNN", "fasterrcnn_resnet50_fpn", {"box_score_thresh": 0.0}),
    "mask_rcnn": Subject("Mask R-CNN", "maskrcnn_resnet50_fpn", {"box_score_thresh": 0.0}),
    "keypoint_rcnn": Subject("Keypoint R-CNN", "keypointrcnn_resnet50_fpn", {"box_score_thresh": 0.0}),
    "cascade_rcnn": Subject("Cascade R-CNN", heads={"box": {"name": "cascade", "score_threshold": 0.0}}),
    "retinanet": Subject("RetinaNet", "retinanet_resnet50_fpn", {"score_thresh": 0.0}),
    "fcos": Subject("FCOS", "fcos_resnet50_fpn", {"score_thresh": 0.0, "detections_per_img": 100}),
}


def torchvision_model(subject: Subject) -> Any:
    """torchvision's model with random weights under which activations neither grow nor vanish."""
    assert subject.peer is not None
    torch.manual_seed(0)
    model = getattr(torchvision.models.detection, subject.peer)(
        weights=None, weights_backbone=None, min_size=INFERENCE[0], max_size=INFERENCE[1], **subject.options
    )
    for name, buffer in model.named_buffers():
        if name.endswith("bn3.weight"):
            buffer.fill_(0.2)
    for name, parameter in model.backbone.body.named_parameters():
        parameter.requires_grad_(not name.startswith(("conv1", "layer1")))  # as with pretrained weights, on both sides
        if name.endswith("bn3.weight"):
            parameter.data.fill_(0.2)
    freeze_norms(model)
    return model


def freeze_norms(model: nn.Module) -> None:
    """Batch norms of a model without weights are trained by torchvision; with weights they are frozen, as ours are."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                frozen = torchvision.ops.FrozenBatchNorm2d(child.num_features, child.eps)
                state = {key: value for key, value in child.state_dict().items() if key != "num_batches_tracked"}
                frozen.load_state_dict(state)
                setattr(parent, name, frozen)


def our_model(subject: Subject, theirs: Any) -> Any:
    """detkit's model, with torchvision's weights where there are any."""
    if subject.peer is None:
        torch.manual_seed(0)
        backbone = {"name": "resnet", "depth": 50, "freeze_at": 2}
        spec = {
            "name": "rcnn",
            "backbone": backbone,
            "neck": "fpn",
            "proposal_generator": {"name": "rpn", "post_nms_train": 2000},
            "heads": subject.heads,
        }
        return build(spec, Detector, categories=COCO)
    model: Any = converted(subject.peer, theirs.state_dict(), "the benchmark")
    (model.heads["box"] if "rcnn" in subject.peer else model).score_threshold = 0.0
    return model


def scene(height: int, width: int, seed: int, classes: int) -> tuple[Tensor, dict[str, Tensor]]:
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
    points = low[:, None] + torch.rand(OBJECTS, 17, 2, generator=generator) * size[:, None]
    return image, {
        "boxes": boxes,
        "labels": torch.randint(0, classes, (OBJECTS,), generator=generator),
        "masks": masks,
        "keypoints": torch.cat([points, torch.full((OBJECTS, 17, 1), 2.0)], dim=2),
    }


Sides = tuple[dict[str, Callable[[], Any]], dict[str, Stages]]


def inference_sides(subject: Subject) -> Sides:
    """One image through both."""
    theirs = None if subject.peer is None else torchvision_model(subject).eval()
    ours = our_model(subject, theirs).eval()
    image, _ = scene(*INFERENCE, seed=1, classes=len(ours.categories))
    sides: dict[str, Callable[[], Any]] = {"detkit": torch.no_grad()(lambda: ours([image]))}
    stages = {"detkit": _our_stages(ours, "detect")}
    if theirs is not None:
        sides["torchvision"] = torch.no_grad()(lambda: theirs([image.float() / 255]))
        stages["torchvision"] = _their_stages(theirs)
    return sides, stages


def training_sides(subject: Subject) -> Sides:
    """Losses and gradients of two images through both."""
    theirs = None if subject.peer is None else torchvision_model(subject).train()
    ours = our_model(subject, theirs).train()
    images, targets = zip(*(scene(*TRAINING, seed=seed, classes=len(ours.categories)) for seed in (1, 2)), strict=True)
    batch = Batch.collate(images, targets, ours.divisor)

    def our_step() -> None:
        ours.zero_grad()
        torch.stack(list(ours(batch).values())).sum().backward()

    sides: dict[str, Callable[[], Any]] = {"detkit": our_step}
    stages: dict[str, Stages] = {"detkit": {**_our_stages(ours, "losses"), "of it matching": MATCHING}}
    if theirs is not None:
        theirs.transform.min_size, theirs.transform.max_size = (TRAINING[0],), TRAINING[1]
        floats = [image.float() / 255 for image in images]
        their_targets = [{**target, "labels": target["labels"] + 1} for target in targets]

        def their_step() -> None:
            theirs.zero_grad()
            torch.stack(list(theirs(floats, their_targets).values())).sum().backward()

        sides["torchvision"] = their_step
        stages["torchvision"] = _their_stages(theirs)
    return sides, stages


def _our_stages(model: Any, method: str) -> Stages:
    if not hasattr(model, "heads"):
        parts = [(model, "normalize"), (model.backbone, "forward"), (model.neck, "forward")]
        return {"backbone": parts, "head": [(model.head, "forward")], "answer": [(model, "postprocess")]}
    others = [(head, method) for role, head in model.heads.items() if role != "box"]
    return {
        "backbone": [(model, "features")],
        "RPN": [(model.proposal_generator, "forward")],
        "box": [(model, "sample"), (model.heads["box"], method)],
        **({"mask, points": others} if others else {}),
        "answer": [(model, "postprocess")],
    }


def _their_stages(model: Any) -> Stages:
    backbone = [(model.transform, "forward"), (model.backbone, "forward")]
    answer = [(model.transform, "postprocess")]
    if not hasattr(model, "roi_heads"):
        return {"backbone": backbone, "head": [(model.head, "forward")], "answer": answer}
    heads = model.roi_heads
    box = [(heads.box_roi_pool, "forward"), (heads.box_head, "forward"), (heads.box_predictor, "forward")]
    others = [
        (getattr(heads, f"{kind}_{part}"), "forward")
        for kind in ("mask", "keypoint")
        for part in ("roi_pool", "head", "predictor")
        if getattr(heads, f"{kind}_{part}") is not None
    ]
    return {
        "backbone": backbone,
        "RPN": [(model.rpn, "forward")],
        "box": [*box, (heads, "select_training_samples"), (heads, "postprocess_detections")],
        **({"mask, points": others} if others else {}),
        "answer": answer,
    }


def _timed_call(call: Callable[[], Any], stages: Stages, spent: list[dict[str, float]]) -> None:
    with timed(stages) as parts:
        call()
    spent.append(parts)


def _prepare(name: str, job: str, side: str) -> Callable[[], Any]:
    torch.set_num_threads(THREADS)
    return JOBS[job][0](SUBJECTS[name])[0][side]


JOBS: Mapping[str, tuple[Callable[[Subject], Sides], str]] = {
    "inference": (inference_sides, f"one image of {INFERENCE[0]}x{INFERENCE[1]}"),
    "training": (training_sides, f"losses and gradients of two images of {TRAINING[0]}x{TRAINING[1]}"),
}


def main(rounds: int, name: str) -> dict[str, Any]:
    """Run both jobs with one detector, print them, and return the figures. In training, stages are of the forward
    pass; their order is that of the cost."""
    torch.set_num_threads(THREADS)
    figures: dict[str, Any] = {}
    for job, (make_sides, title) in JOBS.items():
        sides, stages = make_sides(SUBJECTS[name])
        spent: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        seconds = interleaved(
            {side: partial(_timed_call, call, stages[side], spent[side]) for side, call in sides.items()}, rounds
        )
        columns = list(stages["detkit"])
        print(f"\n{SUBJECTS[name].title} R50-FPN, {job}: {title}, float32, {THREADS} threads, medians of {rounds}")
        print(f"{'':12}{'total s':>9}" + "".join(f"{stage:>15}" for stage in columns) + f"{'peak MB':>10}")
        figures[job] = {}
        for side in sides:
            total, memory = statistics.median(seconds[side]), peak_memory(partial(_prepare, name, job, side))
            parts = {
                stage: statistics.median(call.get(stage, 0.0) for call in spent[side][1:]) for stage in stages[side]
            }
            figures[job][side] = {"seconds": total, "stages": parts, "peak MB": memory}
            cells = (f"{parts[stage]:15.3f}" if stage in parts else f"{'':15}" for stage in columns)
            print(f"{side:12}{total:9.3f}" + "".join(cells) + f"{memory:10.0f}")
        if "torchvision" in sides:
            figures[job]["ratio"] = ratio(seconds, "detkit", "torchvision")
            print(f"detkit is {figures[job]['ratio']:.2f} times as fast (median of the rounds' ratios)")
    return figures
