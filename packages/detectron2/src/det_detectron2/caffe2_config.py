"""Detectron's (Caffe2) YAML configs, which say only what differs from its defaults."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from det_detectron2.config import Detectron2Config, below, flatten

DEFAULTS: Mapping[str, Any] = {
    "BBOX_XFORM_CLIP": math.log(1000 / 16),
    "FAST_RCNN": {
        "CONV_HEAD_DIM": 256,
        "MLP_HEAD_DIM": 1024,
        "NUM_STACKED_CONVS": 4,
        "ROI_BOX_HEAD": "",
        "ROI_XFORM_METHOD": "RoIPoolF",
        "ROI_XFORM_RESOLUTION": 14,
        "ROI_XFORM_SAMPLING_RATIO": 0,
    },
    "FPN": {
        "COARSEST_STRIDE": 32,
        "DIM": 256,
        "EXTRA_CONV_LEVELS": False,
        "FPN_ON": False,
        "MULTILEVEL_ROIS": False,
        "MULTILEVEL_RPN": False,
        "ROI_CANONICAL_LEVEL": 4,
        "ROI_CANONICAL_SCALE": 224,
        "ROI_MAX_LEVEL": 5,
        "ROI_MIN_LEVEL": 2,
        "RPN_ANCHOR_START_SIZE": 32,
        "RPN_ASPECT_RATIOS": [0.5, 1, 2],
        "RPN_MAX_LEVEL": 6,
        "RPN_MIN_LEVEL": 2,
        "USE_GN": False,
        "ZERO_INIT_LATERAL": False,
    },
    "GROUP_NORM": {"DIM_PER_GP": -1, "EPSILON": 1e-5, "NUM_GROUPS": 32},
    "KRCNN": {
        "CONV_HEAD_DIM": 256,
        "CONV_HEAD_KERNEL": 3,
        "CONV_INIT": "GaussianFill",
        "DECONV_DIM": 256,
        "DECONV_KERNEL": 4,
        "DILATION": 1,
        "HEATMAP_SIZE": -1,
        "INFERENCE_MIN_SIZE": 0,
        "KEYPOINT_CONFIDENCE": "bbox",
        "LOSS_WEIGHT": 1.0,
        "MIN_KEYPOINT_COUNT_FOR_VALID_MINIBATCH": 20,
        "NMS_OKS": False,
        "NORMALIZE_BY_VISIBLE_KEYPOINTS": True,
        "NUM_KEYPOINTS": -1,
        "NUM_STACKED_CONVS": 8,
        "ROI_KEYPOINTS_HEAD": "",
        "ROI_XFORM_METHOD": "RoIAlign",
        "ROI_XFORM_RESOLUTION": 7,
        "ROI_XFORM_SAMPLING_RATIO": 0,
        "UP_SCALE": -1,
        "USE_DECONV": False,
        "USE_DECONV_OUTPUT": False,
    },
    "MODEL": {
        "BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
        "CLS_AGNOSTIC_BBOX_REG": False,
        "CONV_BODY": "",
        "FASTER_RCNN": False,
        "KEYPOINTS_ON": False,
        "MASK_ON": False,
        "NUM_CLASSES": -1,
        "RPN_ONLY": False,
        "TYPE": "",
    },
    "MRCNN": {
        "CLS_SPECIFIC_MASK": True,
        "CONV_INIT": "GaussianFill",
        "DILATION": 2,
        "DIM_REDUCED": 256,
        "RESOLUTION": 14,
        "ROI_MASK_HEAD": "",
        "ROI_XFORM_METHOD": "RoIAlign",
        "ROI_XFORM_RESOLUTION": 7,
        "ROI_XFORM_SAMPLING_RATIO": 0,
        "THRESH_BINARIZE": 0.5,
        "UPSAMPLE_RATIO": 1,
        "USE_FC_OUTPUT": False,
        "WEIGHT_LOSS_MASK": 1.0,
    },
    "PIXEL_MEANS": [[[102.9801, 115.9465, 122.7717]]],
    "RESNETS": {
        "NUM_GROUPS": 1,
        "RES5_DILATION": 1,
        "SHORTCUT_FUNC": "basic_bn_shortcut",
        "STEM_FUNC": "basic_bn_stem",
        "STRIDE_1X1": True,
        "TRANS_FUNC": "bottleneck_transformation",
        "WIDTH_PER_GROUP": 64,
    },
    "RETINANET": {
        "ANCHOR_SCALE": 4,
        "ASPECT_RATIOS": [0.5, 1.0, 2.0],
        "BBOX_REG_BETA": 0.11,
        "BBOX_REG_WEIGHT": 1.0,
        "CLASS_SPECIFIC_BBOX": False,
        "INFERENCE_TH": 0.05,
        "LOSS_ALPHA": 0.25,
        "LOSS_GAMMA": 2.0,
        "NEGATIVE_OVERLAP": 0.4,
        "NUM_CONVS": 4,
        "POSITIVE_OVERLAP": 0.5,
        "PRE_NMS_TOP_N": 1000,
        "PRIOR_PROB": 0.01,
        "RETINANET_ON": False,
        "SCALES_PER_OCTAVE": 3,
        "SHARE_CLS_BBOX_TOWER": False,
        "SOFTMAX": False,
    },
    "RFCN": {"PS_GRID_SIZE": 3},
    "RPN": {"ASPECT_RATIOS": [0.5, 1, 2], "SIZES": [64, 128, 256, 512], "STRIDE": 16},
    "TEST": {
        "BBOX_REG": True,
        "BBOX_VOTE": {"ENABLED": False, "SCORING_METHOD": "ID", "SCORING_METHOD_BETA": 1.0, "VOTE_TH": 0.8},
        "DETECTIONS_PER_IM": 100,
        "MAX_SIZE": 1000,
        "NMS": 0.3,
        "RPN_MIN_SIZE": 0,
        "RPN_NMS_THRESH": 0.7,
        "RPN_POST_NMS_TOP_N": 2000,
        "RPN_PRE_NMS_TOP_N": 12000,
        "SCALE": 600,
        "SCORE_THRESH": 0.05,
        "SOFT_NMS": {"ENABLED": False, "METHOD": "linear", "SIGMA": 0.5},
    },
    "TRAIN": {
        "BATCH_SIZE_PER_IM": 64,
        "BG_THRESH_HI": 0.5,
        "BG_THRESH_LO": 0.0,
        "DATASETS": [],
        "FG_FRACTION": 0.25,
        "FG_THRESH": 0.5,
        "RPN_BATCH_SIZE_PER_IM": 256,
        "RPN_FG_FRACTION": 0.5,
        "RPN_NEGATIVE_OVERLAP": 0.3,
        "RPN_NMS_THRESH": 0.7,
        "RPN_POSITIVE_OVERLAP": 0.7,
        "RPN_POST_NMS_TOP_N": 2000,
        "RPN_PRE_NMS_TOP_N": 12000,
        "RPN_STRADDLE_THRESH": 0,
    },
}
"""What Detectron assumes for keys that a file leaves out, where a model depends on them."""

# Keys that describe training, data or the machine, and such as Detectron has given up
CANNOT_MATTER = (
    "CLUSTER",
    "DATA_LOADER",
    "DEDUP_BOXES",
    "DOWNLOAD_CACHE",
    "EPS",
    "EXPECTED_RESULTS",
    "EXPECTED_RESULTS_ATOL",
    "EXPECTED_RESULTS_EMAIL",
    "EXPECTED_RESULTS_RTOL",
    "FINAL_MSG",
    "MATLAB",
    "MEMONGER",
    "MEMONGER_SHARE_ACTIVATIONS",
    "MODEL.DILATION",
    "MODEL.EXECUTION_TYPE",
    "NUM_GPUS",
    "OUTPUT_DIR",
    "RNG_SEED",
    "ROOT_DIR",
    "ROOT_GPU_ID",
    "RPN.ON",
    "RPN.RPN_ON",
    "SOLVER",
    "TEST.BBOX_AUG",  # test-time augmentation is asked for when predicting, not a property of the model
    "TEST.COMPETITION_MODE",
    "TEST.DATASETS",
    "TEST.FORCE_JSON_DATASET_EVAL",
    "TEST.KPS_AUG",
    "TEST.MASK_AUG",
    "TEST.NUM_TEST_IMAGES",
    "TEST.PRECOMPUTED_PROPOSALS",
    "TEST.PROPOSAL_FILES",
    "TEST.PROPOSAL_LIMIT",
    "TEST.WEIGHTS",
    "TRAIN.ASPECT_GROUPING",
    "TRAIN.AUTO_RESUME",
    "TRAIN.BBOX_NORMALIZE_TARGETS_PRECOMPUTED",
    "TRAIN.BBOX_THRESH",
    "TRAIN.CROWD_FILTER_THRESH",
    "TRAIN.DROPOUT",
    "TRAIN.FREEZE_CONV_BODY",
    "TRAIN.GT_MIN_AREA",
    "TRAIN.IMS_PER_BATCH",
    "TRAIN.MAX_SIZE",
    "TRAIN.PROPOSAL_FILES",
    "TRAIN.RPN_MIN_SIZE",
    "TRAIN.SCALES",
    "TRAIN.SNAPSHOT_ITERS",
    "TRAIN.USE_FLIPPED",
    "TRAIN.WEIGHTS",
    "USE_GPU_NMS",
    "USE_NCCL",
    "VIS",
    "VIS_TH",
)
_OF_TRAINING = (
    "FPN.ZERO_INIT_LATERAL",
    "KRCNN.CONV_INIT",
    "KRCNN.MIN_KEYPOINT_COUNT_FOR_VALID_MINIBATCH",
    "MRCNN.CONV_INIT",
    "TRAIN.BG_THRESH_HI",
    "TRAIN.BG_THRESH_LO",
)

# Keys that have been renamed, as some files of the zoo still have them
_RENAMED = {
    "MODEL.PS_GRID_SIZE": "RFCN.PS_GRID_SIZE",
    "MODEL.ROI_HEAD": "FAST_RCNN.ROI_BOX_HEAD",
    "MRCNN.MASK_HEAD_NAME": "MRCNN.ROI_MASK_HEAD",
    "TEST.SCALES": "TEST.SCALE",
}


class DetectronConfig(Detectron2Config):
    """A config of Detectron, with its defaults. What a file says has to be known and used; a default need not be.

    Args:
        tree: nested mappings, as in a YAML file of Detectron.

    Raises:
        ValueError: a value is of another type than Detectron wants.
    """

    def __init__(self, tree: Mapping[str, Any]) -> None:
        defaults = dict(flatten(DEFAULTS))
        given = {_RENAMED.get(key, key): _decoded(value) for key, value in flatten(tree)}
        if isinstance(given.get("TEST.SCALE"), list) and len(given["TEST.SCALE"]) == 1:
            (given["TEST.SCALE"],) = given["TEST.SCALE"]
        for key, value in given.items():
            if key in defaults and not _alike(value, defaults[key]):
                raise ValueError(f"{key} is {value!r}; Detectron wants something like {defaults[key]!r}")
        self._unknown = {
            key: given.pop(key) for key in list(given) if key not in defaults and not below(key, CANNOT_MATTER)
        }
        super().__init__({**defaults, **given})
        self.unused(*_OF_TRAINING, *CANNOT_MATTER, *(key for key in defaults if key not in given))

    @classmethod
    def read(cls, path: Path) -> DetectronConfig:
        """Read a file, safely.

        Raises:
            ValueError: not YAML, or not a config of Detectron.
        """
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}; give a YAML config of Detectron") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not plain YAML: {error}") from error
        model = tree.get("MODEL") if isinstance(tree, dict) else None
        if isinstance(model, dict) and "META_ARCHITECTURE" in model:
            raise ValueError(f"{path} is a config of Detectron2: detkit convert detectron2 CONFIG WEIGHTS --out DIR")
        if not isinstance(model, dict) or "TYPE" not in model or "CONV_BODY" not in model:
            raise ValueError(f"{path} is not a config of Detectron: it has no MODEL.TYPE and MODEL.CONV_BODY")
        try:
            return cls(tree)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @staticmethod
    def default(key: str) -> Any:
        """What Detectron assumes for a key."""
        return dict(flatten(DEFAULTS))[key]

    def problems(self) -> list[str]:
        """Values without counterpart, keys that nobody took, and keys that Detectron does not have."""
        unknown = [f"{key} (= {value!r}) is no key of Detectron" for key, value in sorted(self._unknown.items())]
        return super().problems() + unknown


def _decoded(value: Any) -> Any:
    """Texts such as "(0.5, 1, 2)" are Python literals in Detectron's files."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return list(value) if isinstance(value, tuple) else value


def _alike(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, int | float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))
