"""What det-backbones provides."""

from __future__ import annotations

from detkit.plugins import Component, hookimpl

# Module of `det_backbones.weights` -> its weights and what they are
WEIGHTS = {
    "hrnet": {
        f"hrnet-w{width}-microsoft": f"HRNetV2-W{width} trained on ImageNet, the authors' weights (RGB)"
        for width in (18, 32, 40, 48)
    },
    "resnet": {
        **{
            f"resnet{depth}-torchvision": f"ResNet-{depth} trained on ImageNet, torchvision's IMAGENET1K_V1 (RGB)"
            for depth in (18, 34, 50, 101, 152)
        },
        **{
            f"{name}-torchvision": f"{title} trained on ImageNet, torchvision's IMAGENET1K_V1 (RGB)"
            for name, title in (
                ("resnext50-32x4d", "ResNeXt-50 32x4d"),
                ("resnext101-32x8d", "ResNeXt-101 32x8d"),
                ("resnext101-64x4d", "ResNeXt-101 64x4d"),
                ("wide-resnet50-2", "Wide ResNet-50-2"),
                ("wide-resnet101-2", "Wide ResNet-101-2"),
            )
        },
        "seresnet50-timm": "SE-ResNet-50 trained on ImageNet, timm's ra2_in1k (RGB)",
        "resnet52-deeplab": "ResNet-50 with a deep stem trained on ImageNet, Detectron2's for Panoptic-DeepLab (RGB)",
        "resnet103-deeplab": "ResNet-101 with a deep stem trained on ImageNet, Detectron2's for DeepLab (RGB)",
        "resnet50-msra": "ResNet-50 trained on ImageNet, the original weights (BGR, stride in 1x1)",
        "resnet101-msra": "ResNet-101 trained on ImageNet, the original weights (BGR, stride in 1x1)",
        "resnet50-gn-fair": "ResNet-50 with group norm trained on ImageNet, Detectron's (BGR)",
        "resnet101-gn-fair": "ResNet-101 with group norm trained on ImageNet, Detectron's (BGR)",
        "resnext101-32x8d-fair": "ResNeXt-101 32x8d trained on ImageNet, Detectron2's (BGR)",
        "resnext101-64x4d-fair": "ResNeXt-101 64x4d trained on ImageNet, Detectron's (BGR)",
        "resnext152-32x8d-fair": "ResNeXt-152 32x8d trained on ImageNet-5k, Detectron's (BGR)",
    },
    "mvit": {
        f"mvitv2-{size}-{data}-fair": f"MViTv2-{size.upper()} trained on {images}, the authors' (RGB)"
        for data, images, sizes in (("in1k", "ImageNet", "tsbl"), ("in21k", "ImageNet-21k", "blh"))
        for size in sizes
    },
    "regnet": {
        **{
            f"regnet{kind.lower()}-{size.lower().replace('.', '-')}-torchvision": (
                f"RegNet{kind}-{size} trained on ImageNet, torchvision's IMAGENET1K_V1 (RGB)"
            )
            for kind, sizes in (("X", "800MF 1.6GF 3.2GF 8GF 16GF 32GF"), ("Y", "400MF 1.6GF 3.2GF 16GF 32GF"))
            for size in sizes.split()
        },
        **{
            f"regnet{kind.lower()}-{size.lower().replace('.', '-')}-dds": (
                f"RegNet{kind}-{size} trained on ImageNet, the paper's weights, from pycls (BGR)"
            )
            for kind in "XY"
            for size in (
                *("200MF", "400MF", "600MF", "800MF", "1.6GF", "3.2GF"),
                *("4GF", "6.4GF", "8GF", "12GF", "16GF", "32GF"),
            )
        },
    },
    "vit": {
        "vit-b16-mae": "ViT-B trained on ImageNet as a masked autoencoder, MAE's (RGB)",
        "vit-l16-mae": "ViT-L trained on ImageNet as a masked autoencoder, MAE's (RGB)",
        "vit-h14-mae": "ViT-H/14 trained on ImageNet as a masked autoencoder, MAE's (RGB)",
        "vit-h16-mae": "ViT-H/14 of MAE with patches and positions resized to 16 pixels, Detectron2's (RGB)",
        "vit-b16-torchvision": "ViT-B/16 trained on ImageNet, torchvision's IMAGENET1K_V1 (RGB)",
        "vit-l16-torchvision": "ViT-L/16 trained on ImageNet, torchvision's IMAGENET1K_V1 (RGB)",
    },
    "vgg": {
        **{
            f"vgg{depth}-torchvision": f"VGG-{depth} trained on ImageNet, torchvision's IMAGENET1K_V1 (RGB)"
            for depth in (11, 13, 16, 19)
        },
        "vgg16-caffe": "VGG-16 trained on ImageNet, the original weights (RGB, pixels less 123, 117, 104)",
    },
    "convnext": {
        **{
            f"convnext-{size}-{data}-fair": f"ConvNeXt-{size.upper()} trained on {images}, the authors' (RGB)"
            for data, images, sizes in (("in1k", "ImageNet", "t s b l"), ("in22k", "ImageNet-22k", "t s b l xl"))
            for size in sizes.split()
        },
        **{
            f"convnext-{size}-torchvision": (
                f"ConvNeXt-{size.upper()} trained on ImageNet, torchvision's IMAGENET1K_V1 (RGB)"
            )
            for size in "tsbl"
        },
    },
    "swin": {
        **{
            f"swin-{size}-{data}-microsoft": f"Swin-{size.upper()} trained on {images}, the authors' (RGB)"
            for data, images, sizes in (("in1k", "ImageNet", "tsb"), ("in22k", "ImageNet-22k", "tsbl"))
            for size in sizes
        },
        **{
            f"swin-{size}-window12-{data}-microsoft": (
                f"Swin-{size.upper()} with windows of 12, trained on {images}, the authors' (RGB)"
            )
            for data, images, sizes in (("in1k", "ImageNet", "b"), ("in22k", "ImageNet-22k", "bl"))
            for size in sizes
        },
        **{
            f"swin-{size}-torchvision": f"Swin-{size.upper()} trained on ImageNet, torchvision's IMAGENET1K_V1 (RGB)"
            for size in "tsb"
        },
    },
    "fbnet": {
        **{
            f"fbnetv3-{arch}-timm": f"FBNetV3-{arch.upper()} trained on ImageNet, timm's (RGB)"
            for arch in ("b", "d", "g")
        },
        **{
            f"fbnetv3-{arch}-mobile-cv": f"FBNetV3-{arch.upper()} trained on ImageNet, the authors' (RGB)"
            for arch in ("d", "g")
        },
    },
}


@hookimpl
def detkit_components() -> list[Component]:
    return [
        Component(
            kind="backbone",
            name="resnet",
            target="det_backbones.resnet:ResNet",
            summary="ResNet-18 to 152, ResNeXt, SE-ResNet, DeepLab's, dilated or deformable",
        ),
        Component(
            kind="backbone",
            name="regnet",
            target="det_backbones.regnet:RegNet",
            summary="RegNetX, and RegNetY with squeeze-and-excitation",
        ),
        Component(kind="backbone", name="vgg", target="det_backbones.vgg:VGG", summary="VGG-11, 13, 16 and 19"),
        Component(
            kind="backbone",
            name="hrnet",
            target="det_backbones.hrnet:HRNet",
            summary="HRNetV2-W18 to W48, which keep a map of stride 4 throughout",
        ),
        Component(
            kind="backbone",
            name="mvit",
            target="det_backbones.mvit:MViT",
            summary="MViTv2: attention between pooled maps, in windows and everywhere",
        ),
        Component(
            kind="backbone",
            name="swin",
            target="det_backbones.swin:SwinTransformer",
            summary="Swin Transformer: attention within shifted windows",
        ),
        Component(
            kind="backbone",
            name="convnext",
            target="det_backbones.convnext:ConvNeXt",
            summary="ConvNeXt: depthwise convolutions and layer norms",
        ),
        Component(
            kind="backbone",
            name="fbnet",
            target="det_backbones.fbnet:FBNet",
            summary="FBNetV3 for mobile detectors, as D2Go has it, and MobileNetV2",
        ),
        Component(
            kind="backbone",
            name="vit",
            target="det_backbones.vit:ViT",
            summary="Plain vision transformer with attention in windows: ViT-B, L and H of ViTDet",
        ),
        *(
            Component(
                kind=kind,
                name=library,
                target=f"det_backbones.{library}_bridge:{attribute}",
                summary=summary,
                member="model",
            )
            for library in ("timm", "torchvision")
            for kind, attribute, summary in (
                ("backbone", f"{library.capitalize()}Backbone", f"Any classifier of {library}: {library}/NAME"),
                ("weights", "weights", f"Those of {library}: {library}/NAME"),
            )
        ),
        Component(
            kind="roi_trunk",
            name="fbnet-layers",
            target="det_backbones.fbnet:FBNetLayers",
            summary="The blocks of a head in D2Go's mobile detectors",
        ),
        Component(
            kind="roi_trunk",
            name="resnet-res5",
            target="det_backbones.resnet:ResNetRes5",
            summary="The last stage of a ResNet on pooled regions (C4 models)",
        ),
        Component(
            kind="neck",
            name="simple-fpn",
            target="det_backbones.simple_fpn:SimpleFPN",
            summary="Pyramid of one map, each level by itself, for plain vision transformers",
        ),
        Component(kind="neck", name="fpn", target="det_backbones.fpn:FPN", summary="Feature pyramid network"),
        Component(
            kind="neck",
            name="panet",
            target="det_backbones.panet:PANet",
            summary="Feature pyramid with a second, short path from fine to coarse levels",
        ),
        Component(
            kind="neck",
            name="bifpn",
            target="det_backbones.bifpn:BiFPN",
            summary="Weighted bidirectional pyramid of EfficientDet",
        ),
        Component(
            kind="neck",
            name="hrfpn",
            target="det_backbones.hrfpn:HRFPN",
            summary="Pyramid of all maps joined at the finest size, for HRNet",
        ),
        Component(
            kind="neck",
            name="identity",
            target="det_backbones.identity:Identity",
            summary="The backbone's maps, or some of them, as they are",
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
    ]
