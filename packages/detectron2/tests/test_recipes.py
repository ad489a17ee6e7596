"""Recipes say what the configs say that they stand for: the same components with the same arguments, trained alike."""

import ast
import copy
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from det_detectron2 import dense
from det_detectron2.architectures import ARCHITECTURES
from det_detectron2.caffe2_config import DetectronConfig
from det_detectron2.caffe2_tree import model_tree
from det_detectron2.config import Detectron2Config
from det_detectron2.conversion import taken_out
from det_detectron2.lazy import resolved as lazy_resolved
from det_detectron2.lazy_targets import TARGETS, as_keys
from detkit.config import Config, build
from detkit.config.check import Checker
from detkit.detector import Detector
from detkit.interfaces import Backbone, Neck
from detkit.plugins import registry
from detkit.structures.coco import COCO_PIXELS

HERE = Path(__file__).parent
DEFAULTS = yaml.safe_load((HERE / "detectron2_defaults.yaml").read_text())
CONFIGS: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "detectron2_configs.yaml").read_text())["configs"]
OCTAVES = [[side * 2 ** (octave / 3) for octave in range(3)] for side in (32, 64, 128, 256, 512)]
CLASSES = {"coco": 80, "coco-keypoints": 1, "lvis-v0.5": 1230, "lvis-v1": 1203, "cityscapes": 8, "voc": 20}
WEIGHTS = {
    "": None,
    "detectron2://ImageNetPretrained/MSRA/R-50.pkl": "resnet50-msra",
    "detectron2://ImageNetPretrained/MSRA/R-101.pkl": "resnet101-msra",
    "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl": "resnext101-32x8d-fair",
    "catalog://ImageNetPretrained/FAIR/X-152-32x8d-IN5k": "resnext152-32x8d-fair",
    "catalog://ImageNetPretrained/FAIR/R-50-GN": "resnet50-gn-fair",
    "catalog://ImageNetPretrained/FAIR/R-101-GN": "resnet101-gn-fair",
    "detectron2://ImageNetPretrained/swin/swin_base_patch4_window7_224_22k.pth": "swin-b-in22k-microsoft",
    "detectron2://ImageNetPretrained/swin/swin_large_patch4_window7_224_22k.pth": "swin-l-in22k-microsoft",
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_base.pth": "vit-b16-mae",
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_large.pth": "vit-l16-mae",
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_huge_p14to16.pth": "vit-h16-mae",
    "https://dl.fbaipublicfiles.com/pycls/dds_baselines/160906383/RegNetX-4.0GF_dds_8gpu.pyth": "regnetx-4gf-dds",
    "https://dl.fbaipublicfiles.com/pycls/dds_baselines/160906838/RegNetY-4.0GF_dds_8gpu.pyth": "regnety-4gf-dds",
}
WEIGHTS |= {
    f"detectron2://ImageNetPretrained/mvitv2/MViTv2_{size.upper()}_{data}.pyth": f"mvitv2-{size}-{data}-fair"
    for data, sizes in (("in1k", "tsb"), ("in21k", "blh"))
    for size in sizes
}
PATHS = pytest.mark.parametrize("path", CONFIGS)
PYTHON_CONFIGS = [
    path for path in yaml.safe_load((HERE / "lazy_configs.yaml").read_text())["configs"] if path in CONFIGS
]
BASELINES: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "detectron_configs.yaml").read_text())["configs"]
"""Of Detectron, by the name of the config."""


def config(path: str) -> dict[str, Any]:
    """The config with all of Detectron2's defaults."""
    tree: dict[str, Any] = copy.deepcopy(DEFAULTS)
    for key, value in CONFIGS[path].items():
        if key == "recipe":
            continue
        node = tree
        *sections, last = key.split(".")
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = copy.deepcopy(value)
    if tree["MODEL"]["ANCHOR_GENERATOR"]["SIZES"] == "octaves":
        tree["MODEL"]["ANCHOR_GENERATOR"]["SIZES"] = OCTAVES
    if tree["MODEL"]["META_ARCHITECTURE"] == "FCOS":  # of python configs, which say nothing of other models
        for key in (*dense.OF_OTHERS, "MODEL.ANCHOR_GENERATOR", "MODEL.RETINANET"):
            del tree["MODEL"][key.removeprefix("MODEL.")]
    return tree


@cache
def recipe(path: str) -> Config:
    return Config.load(CONFIGS[path]["recipe"])


def resolved(tree: dict[str, Any]) -> dict[str, Any]:
    """A model's tree with all defaults."""
    checker = Checker()
    found: dict[str, Any] = checker.value(tree, Detector, "model")
    assert checker.problems == []
    return found


@cache
def maps(backbone: str, neck: str) -> tuple[list[str], list[str], int]:
    """The maps of a backbone and of what follows it, and what the sides of images must be multiples of; from their
    trees as JSON."""
    with torch.device("meta"):
        first = build(json.loads(backbone), Backbone)
        shapes = first.output_shapes
        second = build(json.loads(neck), Neck, input_shapes=shapes) if neck != "null" else first
    return list(shapes), list(second.output_shapes), math.lcm(first.divisor, second.divisor)


def explicit(tree: dict[str, Any]) -> dict[str, Any]:
    """A resolved tree in which nothing is left to follow from something else: which maps a part sees, how wide a
    ResNet's groups are, what images are padded to."""
    tree = copy.deepcopy(tree)
    stages, levels, divisor = maps(json.dumps(tree["backbone"]), json.dumps(tree["neck"]))
    if tree["backbone"]["name"] == "vit":
        quarters = [tree["backbone"]["depth"] * number // 4 - 1 for number in range(1, 5)]
        tree["backbone"]["global_blocks"] = tree["backbone"]["global_blocks"] or quarters
    if tree["neck"] and "in_feature" in tree["neck"]:
        (tree["neck"]["in_feature"],) = stages
    for part, seen in ((tree.get("neck"), stages), (tree.get("proposal_generator"), levels), (tree, levels)):
        if part and "in_features" in part:
            part["in_features"] = part["in_features"] or seen
    for part in (tree["backbone"], tree.get("roi_trunk")):
        if part and part["name"].startswith("resnet"):
            part["width_per_group"] = part["width_per_group"] or part["width"]
    if tree["backbone"]["name"] == "resnet":
        tree["backbone"]["stem_channels"] = tree["backbone"]["stem_channels"] or tree["backbone"]["width"]
    tree["input"]["divisor"] = math.lcm(tree["input"]["divisor"], divisor)
    return tree


@PATHS
def test_the_model_is_the_same(path: str) -> None:
    source = Detectron2Config(config(path))
    theirs = ARCHITECTURES[source.take("MODEL.META_ARCHITECTURE")].tree(source)
    assert source.problems() == []
    about, ours = recipe(path).tree["about"], recipe(path).tree["model"]
    counts = taken_out(theirs, "num_classes")
    assert counts <= {CLASSES.get(about["dataset"], 80)}
    assert taken_out(theirs, "num_semantic_classes") <= {len(COCO_PIXELS)}
    assert taken_out(theirs, "num_keypoints") <= {17}
    assert explicit(resolved(ours)) == explicit(resolved(theirs))


@pytest.mark.parametrize("path", PYTHON_CONFIGS)
def test_the_python_config_means_the_same(path: str, python_config: Callable[[str], dict[str, Any]]) -> None:
    lazy = Detectron2Config(*as_keys(lazy_resolved(python_config(path)), TARGETS))
    plain = Detectron2Config(config(path))
    architecture = ARCHITECTURES[lazy.take("MODEL.META_ARCHITECTURE")]
    assert architecture.tree(lazy) == architecture.tree(plain)
    assert lazy.problems() == []


@PATHS
def test_it_is_trained_alike(path: str) -> None:
    solver, ours = config(path)["SOLVER"], recipe(path)
    train = ours.tree["train"]
    assert train["steps"] == solver["MAX_ITER"]
    assert train["batch_size"] == solver["IMS_PER_BATCH"]
    optimizer, schedule = train["optimizer"], train["schedule"]
    assert optimizer["lr"] * train["batch_size"] / train["lr_batch_size"] == pytest.approx(solver["BASE_LR"])
    assert optimizer["name"] == solver.get("OPTIMIZER", "sgd")
    assert optimizer["layer_decay"] == solver.get("LAYER_DECAY")
    assert optimizer["position_weight_decay"] == solver.get("WEIGHT_DECAY_POSITIONS", 0)
    own = (
        (("betas", "BETAS"),) if optimizer["name"] == "adamw" else (("momentum", "MOMENTUM"), ("nesterov", "NESTEROV"))
    )
    for ours_, theirs in (
        *own,
        ("weight_decay", "WEIGHT_DECAY"),
        ("norm_weight_decay", "WEIGHT_DECAY_NORM"),
        ("bias_weight_decay", "WEIGHT_DECAY_BIAS"),
        ("bias_lr_factor", "BIAS_LR_FACTOR"),
    ):
        assert optimizer[ours_] == solver[theirs]
    assert [round(mark * train["steps"]) for mark in schedule["milestones"]] == solver["STEPS"]
    assert schedule["gamma"] == solver["GAMMA"]
    assert (schedule["warmup"], schedule["warmup_factor"]) == (solver["WARMUP_ITERS"], solver["WARMUP_FACTOR"])


@PATHS
def test_images_are_repeated_alike(path: str) -> None:
    loader = config(path).get("DATALOADER")
    if loader is None:  # the configs of data without rare classes do not speak of it
        assert recipe(path).tree["train"]["sampler"] is None
    else:
        assert loader["SAMPLER_TRAIN"] == "RepeatFactorTrainingSampler"
        wanted = {"name": "repeat-factor", "threshold": loader["REPEAT_THRESHOLD"], "sqrt": True}
        assert recipe(path).tree["train"]["sampler"] == wanted


@PATHS
def test_it_starts_from_the_same_weights(path: str) -> None:
    assert recipe(path).tree["init"] == WEIGHTS[config(path)["MODEL"]["WEIGHTS"]]


@PATHS
def test_images_are_augmented_alike(path: str) -> None:
    wanted = config(path)["INPUT"]
    flip = {"name": "flip", "horizontal": 0.5, "vertical": 0.0}
    if wanted["MIN_SIZE_TRAIN"] == "LSJ without padding":
        jitter = {"name": "large_scale_jitter", "size": 1024, "min_scale": 0.1, "max_scale": 2.0, "fill": None}
        assert recipe(path).tree["transforms"] == [flip, jitter]
        return
    if wanted["MIN_SIZE_TRAIN"] == "LSJ":
        expected = [{"name": "large_scale_jitter", "size": 1024, "min_scale": 0.1, "max_scale": 2.0, "fill": 128}]
    else:
        expected = [
            {
                "name": "resize_shortest_edge",
                "sizes": wanted["MIN_SIZE_TRAIN"],
                "max_size": wanted["MAX_SIZE_TRAIN"],
                "draw": wanted["MIN_SIZE_TRAIN_SAMPLING"],
            }
        ]
    if wanted["CROP"]["ENABLED"]:
        crop = {"name": "random_crop", "crop_size": wanted["CROP"]["SIZE"], "crop_type": wanted["CROP"]["TYPE"]}
        crop |= {"contain_instance": False, "single_category_max_area": 1.0}
        if sizes := wanted["CROP"].get("MIN_SIZES"):  # of python configs: for half of the images, made small before
            resize = {"name": "resize_shortest_edge", "sizes": sizes, "max_size": 1_000_000, "draw": "choice"}
            crop = {"name": "random_apply", "transforms": [resize, crop], "p": 0.5}
        expected.insert(0, crop)
    assert recipe(path).tree["transforms"] == [*expected, flip]


def test_every_recipe_of_the_zoo_is_compared() -> None:
    names = registry().names("recipe")
    published = {name: Config.load(name).tree["about"].get("published by", "") for name in names}
    zoo = {name: by.partition(", ")[2] for name, by in published.items() if by.startswith("Detectron2 model zoo")}
    compared = {entry["recipe"]: path for path, entry in CONFIGS.items()}
    assert zoo.items() <= compared.items()


def same(found: Any, expected: Any) -> bool:
    """Whether two trees are equal, numbers to as many digits as recipes have."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == (pytest.approx(expected, rel=1e-5) if isinstance(expected, float) else expected))


@pytest.mark.parametrize("name", BASELINES)
def test_the_model_is_detectrons(name: str, tmp_path: Path) -> None:
    given = dict(BASELINES[name])
    ours = Config.load(given.pop("recipe")).tree
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(given))
    source = DetectronConfig.read(tmp_path / "config.yaml")
    theirs = model_tree(source)
    assert source.problems() == []
    assert taken_out(theirs, "num_classes") == {CLASSES[ours["about"]["dataset"]]}
    assert taken_out(theirs, "num_keypoints") <= {17}
    for tree in (theirs, ours["model"]):
        if generator := tree.get("proposal_generator"):
            # Detectron's number is of the two images of a GPU where there is a pyramid
            assert generator.pop("post_nms_train") == 2000 or tree["neck"]
            for followed in ("sizes", "aspect_ratios"):
                generator.pop(followed, None)
    assert same(explicit(resolved(ours["model"])), explicit(resolved(theirs)))


@pytest.mark.parametrize("name", BASELINES)
def test_it_is_trained_as_detectron_does(name: str) -> None:
    given, ours = BASELINES[name], Config.load(BASELINES[name]["recipe"]).tree
    train, solver = ours["train"], given["SOLVER"]
    assert train["steps"] == solver["MAX_ITER"]
    assert train["batch_size"] == 8 * given["TRAIN"].get("IMS_PER_BATCH", 2)
    optimizer, schedule = train["optimizer"], train["schedule"]
    assert optimizer["lr"] * train["batch_size"] / train["lr_batch_size"] == pytest.approx(solver["BASE_LR"])
    assert optimizer["weight_decay"] == solver["WEIGHT_DECAY"]
    assert (optimizer["bias_lr_factor"], optimizer["bias_weight_decay"]) == (2, 0)
    assert [0, *(round(mark * train["steps"]) for mark in schedule["milestones"])] == solver["STEPS"]
    assert (schedule["warmup"], schedule["warmup_factor"]) == (500, pytest.approx(1 / 3, abs=1e-6))
    assert tuple(ours["transforms"][0]["sizes"]) == ast.literal_eval(given["TRAIN"]["SCALES"])
    assert ours["about"]["published by"] == f"Detectron model zoo, 12_2017_baselines/{name}"
