"""The mobile detectors of D2Go: what their heads are made of, and that the recipes say what D2Go's configs say."""

from typing import Any

import pytest
import torch

from det_heads.rpn import RPN
from detkit.config import Config, build
from detkit.detector import Detector
from detkit.interfaces import RoiHead, RoiTrunk
from detkit.structures.shape import Shape
from detkit.testing.inputs import CATEGORIES

C4 = {
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 96, 128, 160]],
    "MODEL.RPN.POST_NMS_TOPK_TEST": 30,
    "MODEL.ROI_HEADS.IN_FEATURES": ["trunk3"],
    "SOLVER.MAX_ITER": 540000,
    "INPUT.MIN_SIZE_TRAIN": [224],
    "INPUT.MAX_SIZE_TRAIN": 320,
    "INPUT.MIN_SIZE_TEST": 224,
    "INPUT.MAX_SIZE_TEST": 320,
}
FPN = {
    "MODEL.FPN.IN_FEATURES": ["trunk1", "trunk2", "trunk3", "trunk4"],
    "MODEL.FPN.OUT_CHANNELS": 128,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.ROI_HEADS.IN_FEATURES": ["p3", "p4", "p5", "p6"],
    "SOLVER.MAX_ITER": 450000,
    "INPUT.MIN_SIZE_TRAIN": [640, 672, 704, 736, 768, 800],
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "faster_rcnn_fbnetv3a_C4": {**C4, "MODEL.FBNET_V2.ARCH": "FBNetV3_A"},
    "faster_rcnn_fbnetv3a_dsmask_C4": {**C4, "MODEL.FBNET_V2.ARCH": "FBNetV3_A_dsmask"},
    "faster_rcnn_fbnetv3g_fpn": {**FPN, "MODEL.FBNET_V2.ARCH": "FBNetV3_G_fpn"},
    "mask_rcnn_fbnetv3a_C4": {**C4, "MODEL.FBNET_V2.ARCH": "FBNetV3_A", "MODEL.MASK_ON": True},
    "mask_rcnn_fbnetv3a_dsmask_C4": {**C4, "MODEL.FBNET_V2.ARCH": "FBNetV3_A_dsmask", "MODEL.MASK_ON": True},
    "mask_rcnn_fbnetv3g_fpn": {**FPN, "MODEL.FBNET_V2.ARCH": "FBNetV3_G_fpn", "MODEL.MASK_ON": True},
}
"""Of D2Go: what differs between its published configs. They share the rest, on top of Detectron2's defaults."""


@pytest.mark.parametrize("name", CONFIGS)
def test_recipes_say_what_d2gos_configs_say(name: str) -> None:
    config, tree = CONFIGS[name], Config.load(name.replace("_", "-").lower()).tree
    assert tree["about"]["published by"] == f"D2Go model zoo, {name}"
    model, arch = tree["model"], config["MODEL.FBNET_V2.ARCH"].removeprefix("FBNetV3_").lower()
    backbone, neck, rpn, heads = (model[part] for part in ("backbone", "neck", "proposal_generator", "heads"))
    assert backbone["arch"] == arch.removesuffix("_fpn")
    assert list(heads) == ["box", "mask"][: 1 + config.get("MODEL.MASK_ON", False)]
    trunks = {"rpn": rpn["trunk"], **{part: head["trunk"] for part, head in heads.items()}}
    for part, trunk in trunks.items():
        assert (trunk["part"], trunk["arch"]) == (part, arch)
    for module in (backbone, *trunks.values()):
        assert (module["norm"], module["flavour"], module["width"], module["width_divisor"]) == (
            "sync_bn",
            "mobile",
            1,
            8,
        )
    if neck is None:
        assert backbone["out_features"] == ["trunk3"]
    else:
        assert backbone["out_features"] == config["MODEL.FPN.IN_FEATURES"]
        assert (neck["channels"], neck["norm"], neck["top"]) == (config["MODEL.FPN.OUT_CHANNELS"], "sync_bn", "pool")
    assert (rpn["sizes"], rpn["post_nms_test"]) == (
        config["MODEL.ANCHOR_GENERATOR.SIZES"],
        config["MODEL.RPN.POST_NMS_TOPK_TEST"],
    )
    assert (rpn["pre_nms_train"], rpn["post_nms_train"], rpn["pre_nms_test"]) == (2000, 2000, 1000)
    assert {tuple(head["in_features"]) for head in heads.values()} == {tuple(config["MODEL.ROI_HEADS.IN_FEATURES"])}
    assert [head["pool_size"] for head in heads.values()] == [6, 14][: len(heads)]
    spec, resize = model["input"], tree["transforms"][0]
    assert (spec["min_size"], spec["max_size"]) == (config["INPUT.MIN_SIZE_TEST"], config["INPUT.MAX_SIZE_TEST"])
    assert (resize["sizes"], resize["max_size"]) == (config["INPUT.MIN_SIZE_TRAIN"], config["INPUT.MAX_SIZE_TRAIN"])
    train = tree["train"]
    assert (train["steps"], train["batch_size"], train["ema"]) == (config["SOLVER.MAX_ITER"], 32, 0.9998)
    assert train["schedule"] == {"name": "cosine", "end": 0, "warmup": 1000, "warmup_factor": 0.001}


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [("mask-rcnn-fbnetv3a-c4", (200, 3, 28)), ("mask-rcnn-fbnetv3g-fpn", (288, 3, 28))],
)
def test_heads_see_what_d2gos_see(recipe: str, expected: tuple[int, int, int]) -> None:
    model = build(Config.load(recipe).tree["model"], Detector, categories=CATEGORIES).eval()
    box, mask = model.heads["box"], model.heads["mask"]
    regions = torch.zeros(1, box.pool.channels, 6, 6)
    with torch.no_grad():
        pooled = box.trunk.trunk(regions)
        masks = mask.predictor(mask.trunk(torch.zeros(1, mask.pool.channels, 14, 14)))
    assert (pooled.shape[1], pooled.shape[2], masks.shape[2]) == expected
    assert box.predictor.scores.in_features == expected[0]
    assert mask.predictor.upsample is None


MAPS = {"p2": Shape(8, 4), "p3": Shape(8, 8)}
BLOCKS = {"name": "fbnet-layers", "blocks": [{"channels": 12, "expansion": 2}]}


def test_a_trunk_comes_in_place_of_an_rpns_convolutions() -> None:
    rpn = RPN(input_shapes=MAPS, sizes=[[32], [64]], trunk=build(BLOCKS, RoiTrunk, input_shapes=MAPS))
    assert rpn.objectness.in_channels == 12
    features = {"p2": torch.randn(1, 8, 16, 16), "p3": torch.randn(1, 8, 8, 8)}
    proposals, _ = rpn.eval()(features, torch.tensor([[64, 64]]), None)
    assert proposals.valid.any()


def test_an_rpns_trunk_keeps_the_size_of_maps() -> None:
    halving = build({**BLOCKS, "blocks": [{"channels": 8, "stride": 2}]}, RoiTrunk, input_shapes=MAPS)
    with pytest.raises(ValueError, match="changes the size of the maps"):
        RPN(input_shapes=MAPS, sizes=[[32], [64]], trunk=halving)


def head_on_p2(**arguments: Any) -> Any:
    return build({"in_features": ["p2"], "trunk": BLOCKS, **arguments}, RoiHead, input_shapes=MAPS, num_classes=3)


def test_what_is_fully_connected_sees_the_mean_after_a_trunk() -> None:
    assert head_on_p2(name="box", layers=1).trunk.linears[0].in_features == 12
    convolved = head_on_p2(name="box", convs=1, conv_channels=4, layers=0)
    assert (convolved.trunk.convs[0].in_channels, convolved.predictor.scores.in_features) == (12, 4)


@pytest.mark.parametrize(("upsample", "size", "channels"), [(True, 28, 256), (False, 14, 12)])
def test_a_mask_head_upsamples_after_a_trunk_unless_told_otherwise(upsample: bool, size: int, channels: int) -> None:
    head = head_on_p2(name="mask", upsample=upsample)
    assert head.predictor.logits.in_channels == channels
    assert head.predictor(head.trunk(torch.zeros(2, 8, 14, 14))).shape == (2, 3, size, size)
