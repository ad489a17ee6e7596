"""Configs of Detectron2's core zoo that differ in the backbone: what is built, and that every array finds its place."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from det_detectron2.architectures import ARCHITECTURES, DERIVED
from det_detectron2.config import Detectron2Config
from detkit.config import build
from detkit.detector import Detector
from detkit.foreign import rename
from detkit.structures.categories import Categories

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
LEAVES = {
    "FrozenBN": ("weight", "bias", "running_mean", "running_var"),
    "SyncBN": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    "GN": ("weight", "bias"),
}
LEAVES["BN"] = LEAVES["SyncBN"]
C4 = {
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res4"],
    "MODEL.FPN.IN_FEATURES": [],
    "MODEL.RPN.IN_FEATURES": ["res4"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["res4"],
    "MODEL.ROI_BOX_HEAD.NAME": "",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 0,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 0,
}
DC5 = {
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res5"],
    "MODEL.RESNETS.RES5_DILATION": 2,
    "MODEL.FPN.IN_FEATURES": [],
    "MODEL.RPN.IN_FEATURES": ["res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
}


def convert(**changes: Any) -> tuple[dict[str, Any], Detector]:
    """The component tree and the model (without memory) of the test's config, as a ResNet-50, with changes by key."""
    tree = yaml.safe_load((Path(__file__).parent / "mask_rcnn.yaml").read_text())
    bottlenecks = {"MODEL.RESNETS.DEPTH": 50, "MODEL.RESNETS.RES2_OUT_CHANNELS": 256}
    for key, value in {**bottlenecks, **changes}.items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node[part]
        node[last] = value
    config = Detectron2Config(tree)
    model_tree = ARCHITECTURES[config.take("MODEL.META_ARCHITECTURE")].tree(config)
    assert config.problems() == []
    for head in model_tree["heads"].values():
        del head["num_classes"]
    with torch.device("meta"):
        model = build(model_tree, Detector, categories=Categories.numbered(3))
    assert isinstance(model, Detector)
    return model_tree, model


def resnet(
    stages: range = range(2, 6), *, depth: int = 50, norm: str = "FrozenBN", groups: int = 1, width: int = 64
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays of Detectron2's stages of bottlenecks."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"] = shape
        shapes.update({f"{name}.norm.{leaf}": () if "num" in leaf else shape[:1] for leaf in LEAVES[norm]})

    for stage in stages:
        inner, outputs = groups * width * 2 ** (stage - 2), 256 * 2 ** (stage - 2)
        inputs = 64 if stage == 2 else outputs // 2
        for block in range(BLOCKS[depth][stage - 2]):
            prefix = f"res{stage}.{block}"
            conv(f"{prefix}.conv1", inner, inputs, 1, 1)
            conv(f"{prefix}.conv2", inner, inner // groups, 3, 3)
            conv(f"{prefix}.conv3", outputs, inner, 1, 1)
            if not block:
                conv(f"{prefix}.shortcut", outputs, inputs, 1, 1)
            inputs = outputs
    return shapes


def assert_fits(model: Detector, shapes: dict[str, tuple[int, ...]], parts: tuple[str, ...] = ("backbone",)) -> None:
    """Assert that these of Detectron2's arrays are, renamed, those of the model's parts (but for the stem)."""
    architecture = ARCHITECTURES["GeneralizedRCNN"]
    arrays = {name: torch.zeros(shape, device="meta") for name, shape in shapes.items()}
    renamed, strangers = rename(arrays, architecture.names, (*DERIVED, *architecture.derived))
    assert strangers == []
    own = {
        name: value.shape
        for name, value in model.state_dict().items()
        if name.startswith(parts) and not name.startswith("backbone.stem") and "num_batches" not in name
    }
    assert {name: value.shape for name, value in renamed.items()} == own


def under(prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {prefix + name: shape for name, shape in shapes.items()}


@pytest.mark.parametrize("norm", ["FrozenBN", "BN", "SyncBN", "GN"])
def test_norms(norm: str) -> None:
    tree, model = convert(**{"MODEL.RESNETS.NORM": norm, "MODEL.FPN.NORM": norm, "MODEL.BACKBONE.FREEZE_AT": 0})
    ours = {"FrozenBN": "frozen_bn", "BN": "bn", "SyncBN": "sync_bn", "GN": "gn"}[norm]
    assert (tree["backbone"]["norm"], tree["neck"]["norm"]) == (ours, ours)
    assert_fits(model, under("backbone.bottom_up.", resnet(norm=norm)))


@pytest.mark.parametrize(("depth", "groups", "width"), [(101, 32, 8), (152, 32, 8), (101, 64, 4)])
def test_resnext(depth: int, groups: int, width: int) -> None:
    keys = {"DEPTH": depth, "NUM_GROUPS": groups, "WIDTH_PER_GROUP": width, "STRIDE_IN_1X1": False}
    tree, model = convert(**{f"MODEL.RESNETS.{key}": value for key, value in keys.items()})
    assert not tree["backbone"]["stride_in_1x1"]
    assert model.backbone.res2[0].conv2.groups == groups
    assert_fits(model, under("backbone.bottom_up.", resnet(depth=depth, groups=groups, width=width)))


def test_dilated_c5() -> None:
    tree, model = convert(**DC5)
    assert tree["neck"] is None
    assert {name: shape.stride for name, shape in model.backbone.output_shapes.items()} == {"res5": 16}
    assert all(block.conv2.dilation == (2, 2) for block in model.backbone.res5)
    assert model.divisor == 1
    assert_fits(model, under("backbone.", resnet()))


@pytest.mark.parametrize("groups", [1, 2])
def test_c4_shares_the_last_stage(groups: int) -> None:
    tree, model = convert(**C4, **{"MODEL.RESNETS.NUM_GROUPS": groups, "MODEL.RESNETS.STRIDE_IN_1X1": True})
    assert tree["roi_pooling"] == {"in_features": ["res4"], "size": 14, "sampling_ratio": 0, "aligned": True}
    first, last = resnet(range(2, 5), groups=groups), resnet(range(5, 6), groups=groups)
    shapes = under("backbone.", first) | under("roi_heads.", last)
    assert_fits(model, shapes, ("backbone", "roi_trunk"))
    assert model.roi_trunk.res5[0].conv1.stride == (2, 2)
    assert model.heads["box"].predictor.scores.weight.shape == (4, 2048)
    width = tree["heads"]["mask"]["channels"]
    assert model.heads["mask"].predictor.upsample.weight.shape == (2048, width, 2, 2)
    assert model.proposal_generator.objectness.weight.shape == (15, 1024, 1, 1)


def test_c4_without_masks() -> None:
    _, model = convert(**C4, **{"MODEL.MASK_ON": False})
    assert list(model.heads) == ["box"]


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("deform_groups", [1, 2])
def test_deformable_stages(modulated: bool, deform_groups: int) -> None:
    stages = {
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, False, True],
        "MODEL.RESNETS.DEFORM_MODULATED": modulated,
        "MODEL.RESNETS.DEFORM_NUM_GROUPS": deform_groups,
    }
    _, model = convert(**stages)
    shapes = resnet()
    channels = deform_groups * (27 if modulated else 18)
    for stage, blocks in ((3, 4), (5, 3)):
        for block in range(blocks):
            prefix = f"res{stage}.{block}.conv2_offset"
            shapes[f"{prefix}.weight"] = (channels, 64 * 2 ** (stage - 2), 3, 3)
            shapes[f"{prefix}.bias"] = (channels,)
    assert_fits(model, under("backbone.bottom_up.", shapes))


def test_widths_of_stem_and_stages() -> None:
    keys = {"RES2_OUT_CHANNELS": 128, "STEM_OUT_CHANNELS": 32, "WIDTH_PER_GROUP": 16}
    _, model = convert(**{f"MODEL.RESNETS.{key}": value for key, value in keys.items()})
    assert model.backbone.stem.conv1.weight.shape == (32, 3, 7, 7)
    assert [model.backbone.output_shapes[f"res{stage}"].channels for stage in (2, 5)] == [128, 1024]
    assert model.backbone.res3[0].conv2.weight.shape == (32, 32, 3, 3)


def test_fusion_and_levels_above_the_pyramid() -> None:
    tree, _ = convert(**{"MODEL.FPN.FUSE_TYPE": "avg"})
    assert (tree["neck"]["fuse"], tree["neck"]["top"]) == ("avg", "pool")
    tree, model = convert(
        **{"MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone", "MODEL.RPN.IN_FEATURES": ["p2"]}
        | {"MODEL.ANCHOR_GENERATOR.SIZES": [[32]], "MODEL.FPN.OUT_CHANNELS": 32}
    )
    assert tree["neck"]["top"] == "res5"
    top = {f"backbone.top_block.p{n}.{leaf}": () for n in (6, 7) for leaf in ("weight", "bias")}
    renamed, _ = rename({name: torch.zeros(1) for name in top}, ARCHITECTURES["GeneralizedRCNN"].names, ())
    assert set(renamed) == {name for name in model.state_dict() if name.startswith("neck.top")}
