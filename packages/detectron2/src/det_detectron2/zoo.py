"""Detectron2's model zoo: its models by name, built from detkit's recipes for them, with the published weights."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from det_detectron2.architectures import ARCHITECTURES, load, renamed
from det_detectron2.mapping import of_plugin
from detkit.config import Config
from detkit.config.sources import layers
from detkit.detector import Detector
from detkit.download import fetch
from detkit.foreign import read_foreign_checkpoint
from detkit.model_directory import save_model
from detkit.plugins import registry
from detkit.structures.categories import Categories
from detkit.structures.coco import COCO, COCO_PERSON, COCO_PIXELS

URL = "https://dl.fbaipublicfiles.com/detectron2"
URL_VARIABLE = "DETKIT_DETECTRON2_URL"
"""The environment variable that names another place with the same files, such as a mirror."""

WEIGHTS_LICENCE = "CC-BY-SA-3.0"
"""Of all files of the zoo, says its MODEL_ZOO.md; but for models that began from weights of another licence, which the
recipe names then."""

# Folder of configs -> config -> "model id/digits in the name of its checkpoint"
_FILES: Mapping[str, Mapping[str, str]] = {
    "COCO-Detection": {
        "fast_rcnn_R_50_FPN_1x": "137635226/e5f7ce",
        "faster_rcnn_R_101_C4_3x": "138204752/298dad",
        "faster_rcnn_R_101_DC5_3x": "138204841/3e0943",
        "faster_rcnn_R_101_FPN_3x": "137851257/f6e8b1",
        "faster_rcnn_R_50_C4_1x": "137257644/721ade",
        "faster_rcnn_R_50_C4_3x": "137849393/f97cb7",
        "faster_rcnn_R_50_DC5_1x": "137847829/51d356",
        "faster_rcnn_R_50_DC5_3x": "137849425/68d202",
        "faster_rcnn_R_50_FPN_1x": "137257794/b275ba",
        "faster_rcnn_R_50_FPN_3x": "137849458/280758",
        "faster_rcnn_X_101_32x8d_FPN_3x": "139173657/68b088",
        "retinanet_R_101_FPN_3x": "190397697/971ab9",
        "retinanet_R_50_FPN_1x": "190397773/bfca0b",
        "retinanet_R_50_FPN_3x": "190397829/5bd44e",
        "rpn_R_50_C4_1x": "137258005/450694",
        "rpn_R_50_FPN_1x": "137258492/02ce48",
    },
    "COCO-InstanceSegmentation": {
        "mask_rcnn_R_101_C4_3x": "138363239/a2914c",
        "mask_rcnn_R_101_DC5_3x": "138363294/0464b7",
        "mask_rcnn_R_101_FPN_3x": "138205316/a3ec72",
        "mask_rcnn_R_50_C4_1x": "137259246/9243eb",
        "mask_rcnn_R_50_C4_3x": "137849525/4ce675",
        "mask_rcnn_R_50_DC5_1x": "137260150/4f86c3",
        "mask_rcnn_R_50_DC5_3x": "137849551/84107b",
        "mask_rcnn_R_50_FPN_1x": "137260431/a54504",
        "mask_rcnn_R_50_FPN_3x": "137849600/f10217",
        "mask_rcnn_X_101_32x8d_FPN_3x": "139653917/2d9806",
    },
    "COCO-Keypoints": {
        "keypoint_rcnn_R_101_FPN_3x": "138363331/997cc7",
        "keypoint_rcnn_R_50_FPN_1x": "137261548/04e291",
        "keypoint_rcnn_R_50_FPN_3x": "137849621/a6e10b",
        "keypoint_rcnn_X_101_32x8d_FPN_3x": "139686956/5ad38f",
    },
    "COCO-PanopticSegmentation": {
        "panoptic_fpn_R_101_3x": "139514519/cafdb1",
        "panoptic_fpn_R_50_1x": "139514544/dbfeb4",
        "panoptic_fpn_R_50_3x": "139514569/c10459",
    },
    "Cityscapes": {"mask_rcnn_R_50_FPN": "142423278/af9cf5"},
    "Detectron1-Comparisons": {
        "faster_rcnn_R_50_FPN_noaug_1x": "137781054/7ab50c",
        "keypoint_rcnn_R_50_FPN_1x": "137781195/cce136",
        "mask_rcnn_R_50_FPN_noaug_1x": "137781281/62ca52",
    },
    "LVISv0.5-InstanceSegmentation": {
        "mask_rcnn_R_101_FPN_1x": "144219035/824ab5",
        "mask_rcnn_R_50_FPN_1x": "144219072/571f7c",
        "mask_rcnn_X_101_32x8d_FPN_1x": "144219108/5e3439",
    },
    "Misc": {
        "cascade_mask_rcnn_R_50_FPN_1x": "138602847/e9d89b",
        "cascade_mask_rcnn_R_50_FPN_3x": "144998488/480dd8",
        "cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv": "18131413/e76410",
        "mask_rcnn_R_50_FPN_1x_dconv_c3-c5": "138602867/65c703",
        "mask_rcnn_R_50_FPN_3x_dconv_c3-c5": "144998336/821d0b",
        "mask_rcnn_R_50_FPN_3x_gn": "138602888/dc5d9e",
        "mask_rcnn_R_50_FPN_3x_syncbn": "169527823/3b3c51",
        "panoptic_fpn_R_101_dconv_cascade_gn_3x": "139797668/be35db",
        "scratch_mask_rcnn_R_50_FPN_3x_gn": "138602908/01ca85",
        "scratch_mask_rcnn_R_50_FPN_9x_gn": "183808979/da7b4c",
        "scratch_mask_rcnn_R_50_FPN_9x_syncbn": "184226666/5ce33e",
    },
    "MViTv2": {
        "cascade_mask_rcnn_mvitv2_b_3x": "308109448/421a91",
        "cascade_mask_rcnn_mvitv2_b_in21k_3x": "309003202/be5168",
        "cascade_mask_rcnn_mvitv2_h_in21k_lsj_3x": "309013744/30d36b",
        "cascade_mask_rcnn_mvitv2_l_in21k_lsj_50ep": "308099658/c41c5a",
        "cascade_mask_rcnn_mvitv2_s_3x": "308344647/279baf",
        "cascade_mask_rcnn_mvitv2_t_3x": "308344828/c6967a",
        "mask_rcnn_mvitv2_t_3x": "307611773/1a1c30",
    },
    "PascalVOC-Detection": {"faster_rcnn_R_50_C4": "142202221/b1acc2"},
    "ViTDet/COCO": {
        "cascade_mask_rcnn_mvitv2_b_in21k_100ep": "325820315/8c3da3",
        "cascade_mask_rcnn_mvitv2_h_in21k_36ep": "326187358/2234d7",
        "cascade_mask_rcnn_mvitv2_l_in21k_50ep": "325607715/2141b0",
        "cascade_mask_rcnn_swin_b_in21k_50ep": "342979038/246a82",
        "cascade_mask_rcnn_swin_l_in21k_50ep": "342979186/7c897e",
        "cascade_mask_rcnn_vitdet_b_100ep": "325358525/435fa9",
        "cascade_mask_rcnn_vitdet_h_75ep": "328730692/f05665",
        "cascade_mask_rcnn_vitdet_l_100ep": "328021305/1a9f28",
        "mask_rcnn_vitdet_b_100ep": "325346929/61ccd1",
        "mask_rcnn_vitdet_h_75ep": "329145471/7224f1",
        "mask_rcnn_vitdet_l_100ep": "325599698/6146ed",
    },
    "ViTDet/LVIS": {
        "cascade_mask_rcnn_mvitv2_b_in21k_100ep": "329477206/a00567",
        "cascade_mask_rcnn_mvitv2_h_in21k_50ep": "330445165/ad4220",
        "cascade_mask_rcnn_mvitv2_l_in21k_50ep": "329661552/7838a5",
        "cascade_mask_rcnn_swin_b_in21k_50ep": "329222304/a3a348",
        "cascade_mask_rcnn_swin_l_in21k_50ep": "329222724/2b94db",
        "cascade_mask_rcnn_vitdet_b_100ep": "329226874/df306f",
        "cascade_mask_rcnn_vitdet_h_100ep": "332552778/11bbb7",
        "cascade_mask_rcnn_vitdet_l_100ep": "329042206/3e81c2",
        "mask_rcnn_vitdet_b_100ep": "329225748/5251c5",
        "mask_rcnn_vitdet_h_100ep": "332434656/866730",
        "mask_rcnn_vitdet_l_100ep": "329211570/021b3a",
    },
    "PointRend/InstanceSegmentation": {
        "pointrend_rcnn_R_101_FPN_3x_coco": "28119983/3f4d2a",
        "pointrend_rcnn_R_50_FPN_1x_cityscapes": "164255101/115bfb",
        "pointrend_rcnn_R_50_FPN_1x_coco": "164254221/736f5a",
        "pointrend_rcnn_R_50_FPN_3x_coco": "164955410/edd263",
        "pointrend_rcnn_X_101_32x8d_FPN_3x_coco": "28119989/ba17b9",
    },
    "PointRend/SemanticSegmentation": {"pointrend_semantic_R_101_FPN_1x_cityscapes": "202576688/cf6ac1"},
    "new_baselines": {
        "mask_rcnn_R_101_FPN_100ep_LSJ": "42025812/4f7b58",
        "mask_rcnn_R_101_FPN_200ep_LSJ": "42131867/0bb7ae",
        "mask_rcnn_R_101_FPN_400ep_LSJ": "42073830/f96b26",
        "mask_rcnn_R_50_FPN_100ep_LSJ": "42047764/bb69de",
        "mask_rcnn_R_50_FPN_200ep_LSJ": "42047638/89a8d3",
        "mask_rcnn_R_50_FPN_400ep_LSJ": "42019571/14d201",
        "mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ": "42047771/b7fbab",
        "mask_rcnn_regnetx_4gf_dds_FPN_200ep_LSJ": "42132721/5d87c1",
        "mask_rcnn_regnetx_4gf_dds_FPN_400ep_LSJ": "42025447/f1362d",
        "mask_rcnn_regnety_4gf_dds_FPN_100ep_LSJ": "42047784/6ba57e",
        "mask_rcnn_regnety_4gf_dds_FPN_200ep_LSJ": "42047642/27b9c1",
        "mask_rcnn_regnety_4gf_dds_FPN_400ep_LSJ": "42045954/ef3a80",
    },
}
_NAMES = {
    "cityscapes": {
        "categories": "person, rider, car, truck, bus, train, motorcycle, bicycle",
        "semantic_categories": "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, "
        "terrain, sky, person, rider, car, truck, bus, train, motorcycle, bicycle",
    },
    "voc": {
        "categories": "aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, "
        "motorbike, person, pottedplant, sheep, sofa, train, tvmonitor",
    },
}  # of the classes that models were trained on
_NOT_FINAL = {"18131413": "model_0039999"}  # the name of a checkpoint that is not a training's last

ZOO: Mapping[str, str] = {
    f"{folder}/{config}": file for folder, configs in _FILES.items() for config, file in configs.items()
}
"""Config path -> "model id/digits in the name of its checkpoint"."""


def url(config: str) -> str:
    """Where the checkpoint of a config of the zoo is."""
    model_id, digits = ZOO[config].split("/")
    prefix = os.environ.get(URL_VARIABLE, URL).rstrip("/")
    folder = f"{config}/{model_id}"
    if config.startswith("ViTDet/"):  # folders without the length of the training, and ids of COCO with a letter
        letter = "f" if "/COCO/" in config else ""
        folder = f"{re.sub(r'_[0-9]+ep$', '', config)}/{letter}{model_id}"
    elif config.startswith("MViTv2/"):
        folder = f"{config.replace('_in21k_', '_in12k_')}/f{model_id}"
    return f"{prefix}/{folder}/{_NOT_FINAL.get(model_id, 'model_final')}_{digits}.pkl"


def find(model: str) -> tuple[str, str]:
    """(config path, name of detkit's recipe) of a model, given by either or by its id.

    Raises:
        ValueError: it is not in the zoo, or there is no recipe for it.
    """
    recipes = _recipes()
    configs = {file.split("/")[0]: config for config, file in ZOO.items()}  # by id
    known = {name: config for id, name in recipes.items() if (config := configs.get(id)) is not None}
    config = known.get(model) or configs.get(model) or _path(model)
    if config not in ZOO:
        near = difflib.get_close_matches(model, [*known, *ZOO], n=3, cutoff=0.5)
        raise ValueError(
            f"{model!r} is neither a file nor in Detectron2's zoo; "
            + (f"did you mean {', '.join(near)}?" if near else "give a config's path there, a model id or a recipe")
        )
    model_id = ZOO[config].split("/")[0]
    if model_id not in recipes:
        raise ValueError(
            f"no installed recipe builds {config} (model id {model_id}). Download {url(config)}, and convert it with "
            "the config.yaml that Detectron2 writes for it: detkit convert detectron2 CONFIG WEIGHTS --out DIR"
        )
    return config, recipes[model_id]


def convert(model: str, out: Path, sha256: str | None = None) -> Path:
    """Write the model directory of a model of the zoo.

    Args:
        model: "COCO-Detection/faster_rcnn_R_50_FPN_3x", its id "137849458", or the name of detkit's recipe for it.
        sha256: the checksum that the checkpoint has to have; Detectron2 publishes none.

    Raises:
        ValueError: there is no such model, its checkpoint cannot be downloaded, or it does not fit.
    """
    config_path, recipe = find(model)
    fetched = fetch(url(config_path), sha256)
    arrays = read_foreign_checkpoint(fetched.path)
    config = Config.load(recipe)
    about = config.tree["about"]
    detector = config.build("model", **_classes(about.get("dataset"), arrays))
    assert isinstance(detector, Detector)
    _load(detector, arrays, str(fetched.path), recipe)
    meta = {
        "recipe": recipe,
        "source": f"Detectron2 model zoo, {config_path}",
        "weights": {"url": fetched.url, "sha256": fetched.sha256},
        "licence": {"weights": WEIGHTS_LICENCE, **(about.get("licence") or {})},
    }
    return save_model(detector, out, config=config.tree["model"], meta=meta)


def _path(model: str) -> str:
    """A config's path without its suffix, however much of it was given."""
    path = model.removesuffix(".yaml").removesuffix(".py")
    return path.rsplit("configs/", 1)[-1]


def _recipes() -> dict[str, str]:
    """Model id -> the recipe whose own `about` has it."""
    found = {}
    for component in registry().components("recipe"):
        about = layers(component.name)[-1].tree.get("about")
        if isinstance(about, dict) and "model id" in about:
            found[str(about["model id"])] = component.name
    return found


def _load(model: nn.Module, arrays: Mapping[str, Tensor], source: str, recipe: str) -> None:
    """With the architecture whose names the arrays have: the one that leaves the fewest strangers. Parts of the
    recipe's plugin have the names that it says."""
    brought = [mapping for info in registry().providers("recipe", recipe) for mapping in of_plugin(info)]
    choices = [[*brought, architecture] for architecture in ARCHITECTURES.values()]
    best = min(choices, key=lambda mappings: len(renamed(arrays, mappings)[1]))
    load(model, arrays, best, f"{source} does not fit the model")


def _classes(dataset: Any, arrays: Mapping[str, Tensor]) -> dict[str, Categories]:
    """The classes of instances and of pixels, with their names unless there are hundreds."""
    if dataset == "coco":
        return {"categories": COCO, "semantic_categories": COCO_PIXELS}
    if dataset == "coco-keypoints":
        return {"categories": COCO_PERSON}
    if dataset in _NAMES:
        return {kind: Categories(tuple(re.split(r", ?", names))) for kind, names in _NAMES[dataset].items()}
    rows = next((len(value) for name, value in arrays.items() if name.endswith("cls_score.bias")), 0)
    if not rows:
        raise ValueError(f"the recipe is for the dataset {dataset!r}, whose classes are not known here")
    return {"categories": Categories.numbered(rows - 1)}
