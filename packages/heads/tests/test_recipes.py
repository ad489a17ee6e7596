import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import det_heads
from detkit.config import Config
from detkit.config.sources import layers
from detkit.plugins import registry
from detkit.structures.batch import Batch
from detkit.structures.proposals import Proposals
from detkit.testing.inputs import random_batch, random_boxes
from detkit.testing.recipe import RecipeContract

NAMES = sorted(file.stem for file in (Path(det_heads.__file__).parent / "recipes").glob("*.yaml"))
CONFIGS = {name: Config.load(name) for name in NAMES}
BACKBONES: dict[str, dict[str, Any]] = {
    "r50": {"name": "resnet", "depth": 50, "groups": 1},
    "r101": {"name": "resnet", "depth": 101, "groups": 1},
    "x101-32x8d": {"name": "resnet", "depth": 101, "groups": 32},
    "x152-32x8d": {"name": "resnet", "depth": 152, "groups": 32},
    "regnetx-4gf": {"name": "regnet", "depth": 23, "w_a": 38.65, "se_ratio": 0.0},
    "regnety-4gf": {"name": "regnet", "depth": 22, "w_a": 31.41, "se_ratio": 0.25},
    "mvitv2-t": {"name": "mvit", "embed_dim": 96, "depths": [1, 2, 5, 2], "num_heads": 1},
    "mvitv2-s": {"name": "mvit", "embed_dim": 96, "depths": [1, 2, 11, 2], "num_heads": 1},
    "mvitv2-b": {"name": "mvit", "embed_dim": 96, "depths": [2, 3, 16, 3], "num_heads": 1},
    "mvitv2-l": {"name": "mvit", "embed_dim": 144, "depths": [2, 6, 36, 4], "num_heads": 2},
    "mvitv2-h": {"name": "mvit", "embed_dim": 192, "depths": [4, 8, 60, 8], "num_heads": 3},
    "swin-b": {"name": "swin", "embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]},
    "swin-l": {"name": "swin", "embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48]},
    "vitdet-b": {"name": "vit", "embed_dim": 768, "depth": 12, "num_heads": 12},
    "vitdet-l": {"name": "vit", "embed_dim": 1024, "depth": 24, "num_heads": 16},
    "vitdet-h": {"name": "vit", "embed_dim": 1280, "depth": 32, "num_heads": 16},
    "fbnetv3a-dsmask": {"name": "fbnet", "arch": "a_dsmask"},
    "fbnetv3a": {"name": "fbnet", "arch": "a"},
    "fbnetv3g": {"name": "fbnet", "arch": "g"},
}
STYLE = re.compile(
    r"((?:scratch-|rotated-)?(?:cascade-)?(?:(?:fast|faster|mask|keypoint)-rcnn)|retinanet|fcos|rpn|rfcn|panoptic-fpn|semantic-fpn)"
    rf"-({'|'.join(BACKBONES)})(-fpn|-c4|-dc5)?(?:-.+)?"
)
METRIC = {
    "detection": "box AP",
    "instance segmentation": "mask AP",
    "keypoints": "keypoint AP",
    "panoptic segmentation": "PQ",
    "proposals": "AR@1000",
    "rotated detection": "box AP",
    "semantic segmentation": "mIoU",
}
"""Task -> the metric by which its models are compared."""

WELL_KNOWN = {
    "faster-rcnn-r50-c4-1x": {"box AP": 35.7},
    "faster-rcnn-x101-32x8d-fpn-3x": {"box AP": 43.0},
    "retinanet-r101-fpn-3x": {"box AP": 40.4},
    "rpn-r50-fpn-1x": {"AR@1000": 58.0},
    "mask-rcnn-r50-fpn-3x": {"box AP": 41.0, "mask AP": 37.2},
    "mask-rcnn-r101-c4-3x": {"box AP": 42.6, "mask AP": 36.7},
    "keypoint-rcnn-r50-fpn-3x": {"box AP": 55.4, "keypoint AP": 65.5},
    "panoptic-fpn-r50-3x": {"box AP": 40.0, "mask AP": 36.5, "PQ": 41.5},
    "cascade-mask-rcnn-r50-fpn-3x": {"box AP": 44.3, "mask AP": 38.5},
    "mask-rcnn-r50-fpn-100ep-lsj": {"box AP": 44.6, "mask AP": 40.3},
    "mask-rcnn-regnetx-4gf-fpn-400ep-lsj": {"box AP": 48.6, "mask AP": 43.5},
    "mask-rcnn-regnety-4gf-fpn-200ep-lsj": {"box AP": 47.8, "mask AP": 43.0},
    "mask-rcnn-mvitv2-t-fpn-3x": {"box AP": 48.3, "mask AP": 43.8},
    "cascade-mask-rcnn-mvitv2-h-fpn-3x-lsj-in21k": {"box AP": 56.1, "mask AP": 48.5},
    "cascade-mask-rcnn-mvitv2-b-fpn-100ep-lsj-ln": {"box AP": 55.6, "mask AP": 48.1},
    "cascade-mask-rcnn-mvitv2-l-fpn-50ep-lsj-ln-lvis-v1": {"box AP": 49.4, "mask AP": 44.2},
    "cascade-mask-rcnn-swin-b-fpn-50ep-lsj-ln": {"box AP": 53.9, "mask AP": 46.2},
    "cascade-mask-rcnn-swin-l-fpn-50ep-lsj-ln": {"box AP": 55.0, "mask AP": 47.2},
    "cascade-mask-rcnn-swin-l-fpn-50ep-lsj-ln-lvis-v1": {"box AP": 46.0, "mask AP": 41.4},
    "mask-rcnn-vitdet-b-100ep": {"box AP": 51.6, "mask AP": 45.9},
    "cascade-mask-rcnn-vitdet-h-75ep": {"box AP": 58.7, "mask AP": 51.0},
    "mask-rcnn-vitdet-l-100ep-lvis-v1": {"box AP": 46.1, "mask AP": 43.6},
    "mask-rcnn-r50-fpn-1x-lvis-v0.5": {"box AP": 23.6, "mask AP": 24.4},
    "faster-rcnn-r50-c4-voc": {"box AP": 51.9, "box AP50": 80.3},
    "mask-rcnn-r50-fpn-1x-detectron": {"box AP": 37.7, "mask AP": 33.9},
    "faster-rcnn-fbnetv3g-fpn": {"box AP": 43.13},
    "mask-rcnn-fbnetv3a-c4": {"box AP": 23.05, "mask AP": 20.71},
}
FALLS = {
    "faster-rcnn-r50-fpn-1x": [60000, 80000],
    "mask-rcnn-r50-fpn-3x": [210000, 250000],
    "scratch-mask-rcnn-r50-fpn-9x-gn": [187500, 197500],
    "panoptic-fpn-r101-dconv-cascade-gn-3x": [105000, 125000],
    "cascade-mask-rcnn-x152-32x8d-fpn-dconv": [35000, 45000],
    "mask-rcnn-r50-fpn-100ep-lsj": [163889, 177546],
    "mask-rcnn-r50-fpn-cityscapes": [18000],
    "cascade-mask-rcnn-mvitv2-l-fpn-50ep-lsj-in21k": [81944, 88773],
    "cascade-mask-rcnn-vitdet-h-75ep": [122916, 133159],
    "mask-rcnn-vitdet-b-100ep-lvis-v1": [138889, 150463],
    "cascade-mask-rcnn-swin-b-fpn-50ep-lsj-ln": [81944, 88773],
    "cascade-mask-rcnn-swin-l-fpn-50ep-lsj-ln-lvis-v1": [69444, 75231],
    "faster-rcnn-r50-c4-voc": [12000, 16000],
}
"""The steps at which Detectron2 divides the learning rate by 10."""

NARROW = ("model.backbone.width=8",)
PYRAMID = (*NARROW, "model.neck.channels=32")
VIT = (
    *("model.backbone.embed_dim=32", "model.backbone.depth=4", "model.backbone.num_heads=2"),
    "model.neck.channels=32",
)
MVIT = ("model.backbone.embed_dim=8", "model.backbone.depths=[1,1,1,1]", "model.neck.channels=32")
SWIN = (
    *("model.backbone.embed_dim=8", "model.backbone.depths=[2,1,1,1]", "model.backbone.num_heads=[1,2,2,4]"),
    "model.neck.channels=32",
)
SAMPLES = ("model.sampling.batch_size_per_image=32",)
BOX = (*SAMPLES, "model.heads.box.channels=32")
MASK = ("model.heads.mask.channels=16",)
KEYPOINT = ("model.heads.keypoint.channels=[16]",)
SEMANTIC = ("model.semantic_head.channels=32",)
TRUNK = (*SAMPLES, "model.roi_trunk.width=8", "model.roi_pooling.size=8")
DENSE = ("model.channels=32",)
FBNET = (
    *(*SAMPLES, "model.backbone.width=0.25", "model.heads.box.trunk.width=0.25"),
    "model.proposal_generator.trunk.width=0.25",
)


class TestRecipes(RecipeContract):
    distribution = "det-heads"
    trained: ClassVar = {
        "cascade-mask-rcnn-r50-fpn-1x": (*PYRAMID, *BOX, *MASK),
        "cascade-mask-rcnn-mvitv2-b-fpn-100ep-lsj-ln": (*MVIT, *BOX, *MASK, "model.heads.box.conv_channels=16"),
        "mask-rcnn-mvitv2-t-fpn-3x": (*MVIT, *BOX, *MASK),
        "cascade-mask-rcnn-swin-b-fpn-50ep-lsj-ln": (*SWIN, *BOX, *MASK, "model.heads.box.conv_channels=16"),
        "cascade-mask-rcnn-vitdet-b-100ep": (*VIT, *BOX, *MASK, "model.heads.box.conv_channels=16"),
        "mask-rcnn-vitdet-b-100ep": (*VIT, *BOX, *MASK, "model.heads.box.conv_channels=16"),
        "fast-rcnn-r50-fpn-1x": (*PYRAMID, *BOX),
        "faster-rcnn-fbnetv3a-c4": FBNET,
        "faster-rcnn-fbnetv3g-fpn": (*FBNET, "model.neck.channels=32"),
        "faster-rcnn-r50-c4-1x": (*NARROW, *TRUNK),
        "faster-rcnn-r50-dc5-1x": (*NARROW, *BOX),
        "faster-rcnn-r50-fpn-1x": (*PYRAMID, *BOX),
        "fcos-r50-fpn-1x": (*PYRAMID, *DENSE),
        "keypoint-rcnn-r50-fpn-1x": (*PYRAMID, *BOX, *KEYPOINT),
        "mask-rcnn-fbnetv3a-c4": (*FBNET, "model.heads.mask.trunk.width=0.25"),
        "mask-rcnn-fbnetv3g-fpn": (*FBNET, "model.neck.channels=32", "model.heads.mask.trunk.width=0.25"),
        "mask-rcnn-quickstart": (),
        "mask-rcnn-r50-c4-1x": (*NARROW, *TRUNK, *MASK),
        "mask-rcnn-r50-dc5-1x": (*NARROW, *BOX, *MASK),
        "mask-rcnn-regnetx-4gf-fpn-1x": (
            *(f"model.backbone.{size}" for size in ("depth=6", "w_a=8", "w_0=8", "w_m=2", "group_width=8")),
            *("model.neck.channels=32", *BOX, *MASK),
        ),
        "mask-rcnn-r50-fpn-3x-syncbn": (*PYRAMID, *BOX, *MASK, "model.heads.box.conv_channels=16"),
        "panoptic-fpn-r101-dconv-cascade-gn-3x": (
            *(*PYRAMID, *BOX, *SEMANTIC),
            *("model.backbone.depth=50", "model.backbone.width=32", "model.heads.mask.channels=32"),
        ),
        "panoptic-fpn-r50-1x": (*PYRAMID, *BOX, *MASK, *SEMANTIC),
        "retinanet-r50-fpn-1x": (*PYRAMID, *DENSE),
        "rfcn-r50-1x": (*NARROW, *BOX),
        "rotated-faster-rcnn-r50-fpn-1x": (*PYRAMID, *BOX),
        "rpn-r50-c4-1x": NARROW,
        "rpn-r50-fpn-1x": PYRAMID,
        "semantic-fpn-r50-1x": (*PYRAMID, *SEMANTIC),
    }

    def batch(self, name: str) -> Batch:
        batch = random_batch(1)
        if name.startswith("fast-rcnn"):
            boxes = random_boxes(1, 20)
            batch.proposals = Proposals(boxes, torch.zeros(boxes.shape[:2]), torch.ones(boxes.shape[:2]).bool())
        if name.startswith("rotated"):
            assert batch.targets is not None
            low, high = batch.targets.boxes.split(2, dim=-1)
            batch.targets.boxes = torch.cat([(low + high) / 2, high - low, torch.full_like(low[..., :1], 30)], dim=-1)
        return batch


def about(name: str) -> dict[str, Any]:
    return dict(CONFIGS[name].tree["about"])


@pytest.mark.parametrize("name", NAMES)
def test_its_name_is_of_one_style_and_says_what_the_backbone_is(name: str) -> None:
    if name.endswith("-quickstart"):
        return
    match = STYLE.fullmatch(name)
    assert match
    backbone = BACKBONES[match[2]]
    model = CONFIGS[name].tree["model"]
    assert backbone.items() <= {key: value for key, value in model["backbone"].items() if key in backbone}.items()
    assert (model["neck"] is None) == (match[3] in ("-c4", "-dc5") or match[1] == "rfcn")
    if model.get("roi_trunk"):
        assert (match[3], model["roi_trunk"]["depth"]) == ("-c4", backbone["depth"])
    init = CONFIGS[name].tree["init"]
    if name.startswith("scratch") or name.endswith("lsj") or backbone["name"] == "fbnet":
        assert init is None
        assert model["backbone"]["freeze_at"] == 0
    elif backbone["name"] == "regnet":
        assert init == f"{match[2]}-dds"
    elif backbone["name"] == "mvit":
        assert re.fullmatch(rf"{match[2]}-(in1k|in21k)-fair", init)
        assert ("in21k" in init) == ("lsj" in name or name.endswith("in21k"))
    elif backbone["name"] == "swin":
        assert init == f"{match[2]}-in22k-microsoft"
    elif backbone["name"] == "vit":
        assert init == f"{match[2].replace('det', '')}16-mae"
    else:
        assert re.fullmatch(rf"res(net|next){backbone['depth']}-(msra|gn-fair|32x8d-fair)", init)
        assert ("next" in init) == (backbone["groups"] > 1)
        assert ("-gn-" in init) == (model["backbone"]["norm"] == "gn")


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_task_and_numbers_of_that_task(name: str) -> None:
    assert about(name)["task"] in METRIC
    if published := about(name).get("published"):
        assert METRIC[about(name)["task"]] in published
        assert all(0 < value < 100 for value in published.values())
        assert about(name)["model id"].isdigit()
        zoo = "Detectron" if name.endswith("-detectron") else "D2Go" if "-fbnet" in name else "Detectron2"
        assert about(name)["published by"].startswith(f"{zoo} model zoo, ")
    else:
        assert "model id" not in about(name)
        assert "published by" not in about(name)


def test_no_two_recipes_are_of_the_same_published_model() -> None:
    for key in ("model id", "published by", "summary"):
        values = [about(name)[key] for name in NAMES if key in about(name)]
        assert len(values) == len(set(values))


@pytest.mark.parametrize("name", NAMES)
def test_lists_show_the_summary_of_its_file(name: str) -> None:
    assert registry().find("recipe", name).summary == layers(name)[-1].tree["about"]["summary"]


@pytest.mark.parametrize("name", WELL_KNOWN)
def test_published_numbers_are_those_of_the_zoo(name: str) -> None:
    assert about(name)["published"] == WELL_KNOWN[name]


@pytest.mark.parametrize("name", NAMES)
def test_its_name_says_how_long_it_trains(name: str) -> None:
    train = CONFIGS[name].tree["train"]
    images = train["steps"] * train["batch_size"]
    if match := re.search(r"-(\d)x", name):
        twice = 2 if name.endswith("lvis-v1") else 1  # "1x" of more images
        assert images == int(match[1]) * twice * 90_000 * 16
    if match := re.search(r"-(\d+)ep", name):
        epoch = 100_000 if name.endswith("lvis-v1") else 118_000
        assert images / epoch == pytest.approx(int(match[1]), rel=1e-4)


@pytest.mark.parametrize("name", FALLS)
def test_the_learning_rate_falls_where_detectron2s_does(name: str) -> None:
    train = CONFIGS[name].tree["train"]
    schedule = CONFIGS[name].build("train").schedule
    for number, step in enumerate(FALLS[name]):
        assert schedule.factor(step - 1, train["steps"]) == pytest.approx(0.1**number)
        assert schedule.factor(step, train["steps"]) == pytest.approx(0.1 ** (number + 1))


@pytest.mark.parametrize(
    ("name", "lr"),
    [
        ("faster-rcnn-r50-fpn-1x", 0.02),
        ("retinanet-r50-fpn-1x", 0.01),
        ("mask-rcnn-r50-fpn-cityscapes", 0.01),
        ("panoptic-fpn-r101-dconv-cascade-gn-3x", 0.04),
        ("scratch-mask-rcnn-r50-fpn-9x-gn", 0.08),
        ("mask-rcnn-r50-fpn-100ep-lsj", 0.1),
        ("cascade-mask-rcnn-x152-32x8d-fpn-dconv", 0.16),
        ("mask-rcnn-mvitv2-t-fpn-3x", 1.6e-4),
        ("cascade-mask-rcnn-mvitv2-h-fpn-50ep-lsj-ln-lvis-v1", 2e-5),
        ("mask-rcnn-vitdet-l-100ep", 1e-4),
        ("cascade-mask-rcnn-swin-l-fpn-50ep-lsj-ln", 4e-5),
        ("cascade-mask-rcnn-swin-b-fpn-50ep-lsj-ln-lvis-v1", 1e-4),
        ("cascade-mask-rcnn-vitdet-l-100ep-lvis-v1", 2e-4),
        ("cascade-mask-rcnn-vitdet-h-100ep-lvis-v1", 1e-4),
        ("faster-rcnn-fbnetv3a-c4", 0.16),
    ],
)
def test_the_learning_rate_is_detectron2s(name: str, lr: float) -> None:
    train = CONFIGS[name].tree["train"]
    assert train["optimizer"]["lr"] * train["batch_size"] / train["lr_batch_size"] == pytest.approx(lr)


def detectrons_anchors(stride: int, sizes: list[float], ratios: list[float]) -> list[list[float]]:
    """As Detectron makes them, around the middle of a cell: a square of the stride is given each ratio, rounded to
    pixels, and then each size."""
    found = []
    for ratio in ratios:
        width = round((stride**2 / ratio) ** 0.5)
        height = round(width * ratio)
        for size in sizes:
            sides = torch.tensor([width, height]) * size / stride / 2
            found.append([*(-sides).tolist(), *sides.tolist()])
    return found


def test_detectrons_anchors_are_rounded() -> None:
    ratios = [0.5, 1.0, 2.0]
    c4 = [detectrons_anchors(16, [32, 64, 128, 256, 512], ratios)]
    pyramid = [detectrons_anchors(2**level, [8 * 2**level], ratios) for level in range(2, 7)]
    dense = [
        [
            anchor
            for octave in range(3)
            for anchor in detectrons_anchors(2**level, [4 * 2 ** (level + octave / 3)], [1.0, 2.0, 0.5])
        ]
        for level in range(3, 8)
    ]
    for name, part, expected in (
        ("rpn-r50-c4-1x-detectron", "proposal_generator", c4),
        ("faster-rcnn-r50-c4-1x-detectron", "proposal_generator", c4),
        ("rpn-r50-fpn-1x-detectron", "proposal_generator", pyramid),
        ("faster-rcnn-r50-fpn-1x-detectron", "proposal_generator", pyramid),
        ("retinanet-r50-fpn-1x-detectron", None, dense),
    ):
        model = CONFIGS[name].tree["model"]
        given = model[part] if part else model
        assert given["offset"] == 0.5
        torch.testing.assert_close(torch.tensor(given["anchor_boxes"]), torch.tensor(expected), rtol=1e-5, atol=1e-3)
