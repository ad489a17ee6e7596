"""Plugins say what further names in Detectron2's configs mean."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from det_detectron2.architectures import architecture, renamed
from det_detectron2.config import Detectron2Config
from det_detectron2.lazy import Reader
from det_detectron2.lazy_targets import TARGETS
from detkit.plugins import Registry, discovery, use_registry

PLUGIN = """
from detkit.plugins import Component, hookimpl

NAMES = ("AcmeNet", "build_acme_backbone", "AcmeRPN", "AcmeROIHeads", "AcmeMaskHead")

@hookimpl
def detkit_components():
    return [
        Component(kind="detectron2_mapping", name=name.lower(), target=f"acme_heads.mapping:MAPPINGS.{name}")
        for name in NAMES
    ]
"""
MAPPING = r"""
from types import SimpleNamespace

from det_detectron2 import rcnn, roi_heads
from det_detectron2.mapping import Detectron2Mapping

def take(key):
    return lambda config: {"name": "acme", "taken": config.take(key)}

def heads(config):
    return {"heads": {"mask": take("MODEL.ACME.WIDTH")(config)}, "sampling": roi_heads.sampling(config)}

MAPPINGS = SimpleNamespace(
    AcmeNet=Detectron2Mapping(tree=rcnn.model_tree, target=lambda call: {"MODEL.WIDTH": call.take("width")}),
    build_acme_backbone=Detectron2Mapping(tree=lambda config: {"backbone": {"name": "acme"}, "neck": None}),
    AcmeRPN=Detectron2Mapping(tree=take("MODEL.RPN.NMS_THRESH")),
    AcmeROIHeads=Detectron2Mapping(tree=heads),
    AcmeMaskHead=Detectron2Mapping(
        tree=take("MODEL.ACME.WIDTH"),
        names=((r"roi_heads\.mask_head\.acme(\d)\.weight", r"heads.mask.layers.{\1-1}.weight"),),
        derived=(r"roi_heads\.mask_head\.table",),
        keys=("MODEL.ACME",),
    ),
)
"""


@pytest.fixture
def acme(install_plugin: Callable[..., Path]) -> Iterator[None]:
    install_plugin("acme-heads", PLUGIN, files={"acme_heads/mapping.py": MAPPING})
    with use_registry(Registry(discovery.installed())):
        yield


def config(**changes: Any) -> Detectron2Config:
    tree = yaml.safe_load((Path(__file__).parent / "mask_rcnn.yaml").read_text())
    for key, value in changes.items():
        node = tree
        *sections, last = key.split(".")
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return Detectron2Config(tree)


def tree(given: Detectron2Config) -> dict[str, Any]:
    found: dict[str, Any] = architecture(given.take("MODEL.META_ARCHITECTURE")).tree(given)
    return found


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("key", "name", "path", "taken"),
    [
        ("MODEL.ROI_MASK_HEAD.NAME", "AcmeMaskHead", "heads.mask.taken", 7),
        ("MODEL.ROI_HEADS.NAME", "AcmeROIHeads", "heads.mask.taken", 7),
        ("MODEL.PROPOSAL_GENERATOR.NAME", "AcmeRPN", "proposal_generator.taken", 0.7),
        ("MODEL.BACKBONE.NAME", "build_acme_backbone", "backbone.name", "acme"),
        ("MODEL.META_ARCHITECTURE", "AcmeNet", "name", "rcnn"),
    ],
)
def test_a_part_of_a_plugin_is_read_by_its_mapping(key: str, name: str, path: str, taken: Any) -> None:
    given = config(**{key: name, "MODEL.ACME.WIDTH": 7})
    found: Any = tree(given)
    for part in path.split("."):
        found = found[part]
    assert found == taken
    assert not any(name in problem for problem in given.problems())


@pytest.mark.usefixtures("acme")
def test_arrays_of_the_part_come_before_those_around_it() -> None:
    given = config(**{"MODEL.ROI_MASK_HEAD.NAME": "AcmeMaskHead", "MODEL.ACME.WIDTH": 7})
    tree(given)
    arrays = dict.fromkeys(
        ["roi_heads.mask_head.acme1.weight", "roi_heads.mask_head.table", "roi_heads.box_head.fc1.bias", "stranger"]
    )
    state, strangers = renamed(arrays, [*given.mappings, architecture("GeneralizedRCNN")])  # type: ignore[arg-type]
    assert set(state) == {"heads.mask.layers.0.weight", "heads.box.trunk.linears.0.bias"}
    assert strangers == ["stranger"]


@pytest.mark.usefixtures("acme")
def test_keys_of_a_part_mean_nothing_where_it_is_absent_and_something_where_it_is() -> None:
    absent = config(**{"MODEL.ACME.DEPTH": 3})
    tree(absent)
    assert not any("ACME" in problem for problem in absent.problems())
    present = config(**{"MODEL.ROI_MASK_HEAD.NAME": "AcmeMaskHead", "MODEL.ACME.WIDTH": 7, "MODEL.ACME.DEPTH": 3})
    tree(present)
    assert [problem for problem in present.problems() if "ACME" in problem] == [
        "MODEL.ACME.DEPTH (= 3) has no counterpart"
    ]


@pytest.mark.usefixtures("acme")
def test_calls_in_python_configs_are_read_too() -> None:
    reader = Reader(TARGETS)
    assert reader.keys("model", {"_target_": "acme.modeling.AcmeNet", "width": 9, "depth": 1}) == {"MODEL.WIDTH": 9}
    assert reader.problems() == ["model.depth (= 1) has no counterpart"]
    with pytest.raises(ValueError, match="there is a mapping for"):
        reader.keys("model", {"_target_": "acme.modeling.AcmeMaskHead"})


@pytest.mark.parametrize("key", ["MODEL.ROI_MASK_HEAD.NAME", "MODEL.META_ARCHITECTURE"])
def test_what_to_install_is_said_where_a_known_plugin_is_missing(plugins: Registry, key: str) -> None:
    given = config(**{key: "PointRendMaskHead"})
    try:
        tree(given)
        problems = given.problems()
    except ValueError as error:
        problems = [str(error)]
    assert any("'PointRendMaskHead'" in problem and "pip install det-pointrend" in problem for problem in problems)
    with pytest.raises(ValueError, match="pip install det-pointrend"):
        Reader(TARGETS).keys("model", {"_target_": "detectron2.projects.point_rend.PointRendMaskHead"})
