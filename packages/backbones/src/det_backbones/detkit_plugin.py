"""What det-backbones provides."""

from __future__ import annotations

from detkit.plugins import Component, hookimpl

# Module of `det_backbones.weights` -> its weights and what they are
WEIGHTS = {
    "resnet": {
        **{
            f"resnet{depth}-torchvision": f"ResNet-{depth} trained on ImageNet, torchvision's IMAGENET1K_V1 (RGB)"
            for depth in (18, 34, 50, 101, 152)
        },
        "resnet50-msra": "ResNet-50 trained on ImageNet, the original weights (BGR, stride in 1x1)",
        "resnet101-msra": "ResNet-101 trained on ImageNet, the original weights (BGR, stride in 1x1)",
        "resnet50-gn-fair": "ResNet-50 with group norm trained on ImageNet, Detectron's (BGR)",
        "resnet101-gn-fair": "ResNet-101 with group norm trained on ImageNet, Detectron's (BGR)",
        "resnext101-32x8d-fair": "ResNeXt-101 32x8d trained on ImageNet, Detectron2's (BGR)",
        "resnext152-32x8d-fair": "ResNeXt-152 32x8d trained on ImageNet-5k, Detectron's (BGR)",
    },
}


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
                name=name,
                target=f"det_backbones.weights.{module}:{name.replace('-', '_')}",
                summary=summary,
            )
            for module, weights in WEIGHTS.items()
            for name, summary in weights.items()
        ),
        Component(kind="neck", name="fpn", target="det_backbones.fpn:FPN", summary="Feature pyramid network"),
    ]
