"""What det-core itself provides, through the same door as everybody else."""

from __future__ import annotations

from detkit.plugins import Component, hookimpl

ENGINE = [
    Component(kind="optimizer", name="sgd", target="detkit.engine.optimizers:SGD", summary="SGD with momentum"),
    Component(kind="optimizer", name="adamw", target="detkit.engine.optimizers:AdamW", summary="Adam, decoupled decay"),
    Component(kind="schedule", name="multistep", target="detkit.engine.schedules:MultiStep", summary="falls in steps"),
    Component(kind="schedule", name="cosine", target="detkit.engine.schedules:Cosine", summary="falls as a cosine"),
    Component(kind="schedule", name="constant", target="detkit.engine.schedules:Constant", summary="stays the same"),
    Component(kind="tracker", name="tensorboard", target="detkit.engine.tensorboard:TensorBoard", summary="curves"),
]

SAMPLERS = [
    Component(
        kind="sampler",
        name="repeat-factor",
        target="detkit.data.samplers:RepeatFactor",
        summary="repeats images of rare classes, as for LVIS",
    ),
    Component(
        kind="sampler",
        name="class-balanced",
        target="detkit.data.samplers:ClassBalanced",
        summary="all classes equally often",
    ),
    Component(
        kind="sampler", name="weighted", target="detkit.data.samplers:Weighted", summary="weights of classes or images"
    ),
    Component(kind="sampler", name="subset", target="detkit.data.samplers:Subset", summary="a part of the images"),
]

TRANSFORMS = [
    Component(kind="transform", name="flip", target="detkit.data.transforms.flip:Flip", summary="mirrors at random"),
    Component(
        kind="transform",
        name="resize_shortest_edge",
        target="detkit.data.transforms.resize:ResizeShortestEdge",
        summary="random size",
    ),
    Component(
        kind="transform",
        name="random_crop",
        target="detkit.data.transforms.crop:RandomCrop",
        summary="cuts out a random part",
    ),
    Component(
        kind="transform",
        name="large_scale_jitter",
        target="detkit.data.transforms.crop:LargeScaleJitter",
        summary="random scale, then a square",
    ),
    Component(
        kind="transform",
        name="random_apply",
        target="detkit.data.transforms.chance:RandomApply",
        summary="others, on some samples",
    ),
    Component(
        kind="transform",
        name="color_jitter",
        target="detkit.data.transforms.colour:ColorJitter",
        summary="brightness, contrast, ...",
    ),
    Component(
        kind="transform",
        name="photometric_distort",
        target="detkit.data.transforms.colour:PhotometricDistort",
        summary="SSD's colours",
    ),
    Component(
        kind="transform",
        name="torchvision",
        target="detkit.data.transforms.torchvision:Torchvision",
        summary="any other of torchvision",
    ),
]


@hookimpl
def detkit_components() -> list[Component]:
    """Samplers, transforms, optimizers, schedules, callbacks and trackers."""
    return [*SAMPLERS, *TRANSFORMS, *ENGINE]
