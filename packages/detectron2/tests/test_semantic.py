from pathlib import Path
from typing import Any

import pytest
import yaml

from det_detectron2 import panoptic, semantic
from det_detectron2.config import Detectron2Config
from det_detectron2.conversion import taken_out
from detkit.foreign import rename


def config(**changes: Any) -> Detectron2Config:
    tree = yaml.safe_load((Path(__file__).parent / "mask_rcnn.yaml").read_text())
    tree["MODEL"]["SEM_SEG_HEAD"] = {
        "NAME": "SemSegFPNHead",
        "IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "IGNORE_VALUE": 255,
        "NUM_CLASSES": 54,
        "CONVS_DIM": 128,
        "COMMON_STRIDE": 4,
        "NORM": "GN",
        "LOSS_WEIGHT": 0.5,
    }
    tree["MODEL"]["PANOPTIC_FPN"] = {
        "INSTANCE_LOSS_WEIGHT": 0.75,
        "COMBINE": {
            "ENABLED": True,
            "OVERLAP_THRESH": 0.4,
            "STUFF_AREA_LIMIT": 1024,
            "INSTANCES_CONFIDENCE_THRESH": 0.6,
        },
    }
    for key, value in changes.items():
        node = tree
        *path, last = key.split(".")
        for part in path:
            node = node[part]
        node[last] = value
    return Detectron2Config(tree)


def test_every_value_of_the_semantic_head_is_taken_over() -> None:
    given = config(**{"MODEL.SEM_SEG_HEAD.NORM": "SyncBN"})
    assert semantic.model_tree(given)["semantic_head"] == {
        "name": "semantic-fpn",
        "num_semantic_classes": 54,
        "in_features": ["p2", "p3", "p4", "p5"],
        "channels": 128,
        "norm": "sync_bn",
        "stride": 4,
        "weight": 0.5,
    }
    assert not [problem for problem in given.problems() if "SEM_SEG" in problem]


def test_panoptic_models_have_merging_and_weights() -> None:
    given = config()
    tree = panoptic.model_tree(given)
    assert tree["panoptic"] == {"overlap": 0.4, "stuff_area": 1024, "score": 0.6}
    assert tree["instance_weight"] == 0.75
    assert list(tree).index("semantic_head") < list(tree).index("heads")
    assert not [problem for problem in given.problems() if "PANOPTIC" in problem]


def test_where_detectron2_does_not_combine_nothing_is_merged() -> None:
    given = config(**{"MODEL.PANOPTIC_FPN.COMBINE.ENABLED": False})
    assert panoptic.model_tree(given)["panoptic"] is None
    assert not [problem for problem in given.problems() if "PANOPTIC" in problem]


@pytest.mark.parametrize(("key", "value"), [("NAME", "HeadOfNobody"), ("IGNORE_VALUE", 0), ("NORM", "naiveSyncBN")])
def test_what_has_no_counterpart_is_named(key: str, value: Any) -> None:
    given = config(**{f"MODEL.SEM_SEG_HEAD.{key}": value})
    semantic.model_tree(given)
    assert any(f"MODEL.SEM_SEG_HEAD.{key} is {value!r}" in problem for problem in given.problems())


def test_arrays_of_levels_and_predictor_get_our_names() -> None:
    given = {f"sem_seg_head.{name}": None for name in ("p5.4.norm.bias", "p2.0.weight", "predictor.bias")}
    renamed, strangers = rename(given, semantic.NAMES, ())  # type: ignore[arg-type]
    assert set(renamed) == {
        "semantic_head.levels.p5.4.norm.bias",
        "semantic_head.levels.p2.0.weight",
        "semantic_head.predictor.bias",
    }
    assert not strangers


def test_numbers_of_classes_are_taken_out_of_a_tree_wherever_they_are() -> None:
    tree = {"heads": {"box": [{"num_classes": 3, "x": 1}, {"num_classes": 3}]}, "num_classes": 4}
    assert taken_out(tree, "num_classes") == {3, 4}
    assert tree == {"heads": {"box": [{"x": 1}, {}]}}
