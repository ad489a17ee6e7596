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
    Component(kind="transform", name=name, target=f"detkit.data.transforms.{target}", summary=summary)
    for name, target, summary in (
        ("flip", "flip:Flip", "mirrors at random"),
        ("resize_shortest_edge", "resize:ResizeShortestEdge", "random size"),
        ("random_resize", "resize:RandomResize", "one of several shapes"),
        ("resize_scale", "resize:ResizeScale", "random scale of a target"),
        ("large_scale_jitter", "resize:LargeScaleJitter", "random scale, then a square"),
        ("random_crop", "crop:RandomCrop", "cuts out a random part"),
        ("fixed_size_crop", "crop:FixedSizeCrop", "cuts or pads to a size"),
        ("pad_to_square", "crop:PadToSquare", "adds what a square lacks"),
        ("random_instance_crop", "crop:RandomInstanceCrop", "what is around an instance"),
        ("min_iou_random_crop", "crop:MinIoURandomCrop", "SSD's crops"),
        ("keep_visible", "visibility:KeepVisible", "drops what is cut too much"),
        ("random_rotation", "affine:RandomRotation", "turns"),
        ("random_extent", "affine:RandomExtent", "a part, or more than all"),
        ("random_affine", "affine:RandomAffine", "turns, scales, shears, shifts"),
        ("random_pivot_scaling", "affine:RandomPivotScaling", "scales about a random place"),
        ("color_jitter", "colour:ColorJitter", "brightness, contrast, ..."),
        ("photometric_distort", "colour:PhotometricDistort", "SSD's colours"),
        ("color_aug_ssd", "colour:ColorAugSSD", "SSD's colours in Detectron2"),
        ("random_brightness", "colour:RandomBrightness", "darker or brighter"),
        ("random_contrast", "colour:RandomContrast", "flatter or harder"),
        ("random_saturation", "colour:RandomSaturation", "greyer or more colourful"),
        ("random_lighting", "colour:RandomLighting", "AlexNet's shifts of colour"),
        ("random_motion_blur", "blur:RandomMotionBlur", "smears along a line"),
        ("mosaic", "mixing:Mosaic", "four images around a centre"),
        ("mixup", "mixing:MixUp", "two images blended"),
        ("copy_paste", "mixing:CopyPaste", "instances of another image"),
        ("random_apply", "chance:RandomApply", "others, on some samples"),
        ("random_choice", "chance:RandomChoice", "one of several"),
        ("torchvision", "torchvision:Torchvision", "any other of torchvision"),
    )
]


@hookimpl
def detkit_components() -> list[Component]:
    """Samplers, transforms, optimizers, schedules, callbacks and trackers."""
    return [*SAMPLERS, *TRANSFORMS, *ENGINE]
