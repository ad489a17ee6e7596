"""What det-backbones provides."""

from __future__ import annotations

from detkit.plugins import Component, hookimpl


@hookimpl
def detkit_components() -> list[Component]:
    return [
        Component(
            kind="backbone",
            name="resnet",
            target="det_backbones.resnet:ResNet",
            summary="ResNet-18 to 152, ResNeXt, dilated or deformable",
        ),
        Component(
            kind="roi_trunk",
            name="resnet-res5",
            target="det_backbones.resnet:ResNetRes5",
            summary="The last stage of a ResNet on pooled regions (C4 models)",
        ),
        *(
            Component(
                kind="weights",
                name=f"resnet{depth}-{origin}",
                target=f"det_backbones.pretrained:resnet{depth}_{origin}",
                summary=f"ResNet-{depth} trained on ImageNet, {words}",
            )
            for origin, depths, words in (
                ("msra", (50, 101), "the original weights (BGR, stride in 1x1)"),
                ("torchvision", (18, 34, 50, 101, 152), "torchvision's IMAGENET1K_V1 (RGB)"),
            )
            for depth in depths
        ),
        Component(kind="neck", name="fpn", target="det_backbones.fpn:FPN", summary="Feature pyramid network"),
    ]
