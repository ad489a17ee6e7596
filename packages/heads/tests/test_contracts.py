from detkit.testing.detector import DetectorContract
from detkit.testing.plugin import PluginContract
from detkit.testing.proposal_generator import ProposalGeneratorContract
from detkit.testing.roi_head import RoiHeadContract
from detkit.testing.semantic_head import SemanticHeadContract

BACKBONE = {"name": "resnet", "depth": 18, "norm": "gn", "width": 32}
RPN = {"name": "rpn", "pre_nms_test": 50, "pre_nms_train": 50, "post_nms_test": 30, "post_nms_train": 30}
RRPN = {**RPN, "name": "rrpn"}
BOX = {"name": "box", "channels": 32}
FBNET = {"name": "fbnet-layers", "norm": "gn", "blocks": [{"channels": 8, "expansion": 2}]}
ENLARGING = {**FBNET, "blocks": [{"channels": 8, "expansion": 2, "squeeze": True}, {"channels": 8, "stride": -2}]}
FEDERATED = {"classes": 2, "class_frequencies": [5, 0, 10]}
PYRAMID = {"name": "fpn", "channels": 32, "in_features": ["res3", "res4", "res5"], "top": "res5"}
SEMANTIC = {"name": "semantic-fpn", "channels": 32}


class TestPlugin(PluginContract):
    distribution = "det-heads"


class TestProposalGenerators(ProposalGeneratorContract):
    distribution = "det-heads"
    arguments = {
        "rpn": [
            {},
            {"channels": [8], "aspect_ratios": [1.0], "pre_nms_test": 20, "smooth_l1_beta": 0.1, "boundary": 0},
            {"channels": [None, 8], "aspect_ratios": [[1.0, 2.0]] * 5, "box_loss": "giou"},
            {"in_features": ["p4"], "sizes": [[32, 64, 128]], "box_loss": "ciou"},
            {"trunk": FBNET},
            {"in_features": ["p4"], "anchor_boxes": [[[-16, -16, 16, 16], [-9, -20, 9, 20]]], "offset": 0.5},
        ],
        "rrpn": [{"pre_nms_test": 50}, {"angles": [0, 30], "aspect_ratios": [1.0], "sizes": [[32, 64]] * 5}],
    }


class TestRoiHeads(RoiHeadContract):
    distribution = "det-heads"
    arguments = {
        "rotated_box": [
            {"channels": 32},
            {"channels": 32, "sampling_ratio": 2, "class_agnostic": True, "class_loss": "sigmoid"},
        ],
        "box": [
            {"channels": 32},
            {"channels": 32, "sampling_ratio": 2, "smooth_l1_beta": 1.0, "layers": 1},
            {"channels": 32, "sampling_ratio": 2, "aligned": False, "inclusive": True},
            {"channels": 32, "convs": 1, "conv_channels": 8, "norm": "gn", "layers": 1, "class_agnostic": True},
            {"channels": 32, "class_loss": "sigmoid", "box_loss": "giou", "train_on_predicted": True},
            {"channels": 32, "class_loss": "sigmoid", "federated": FEDERATED, "box_loss": "ciou"},
            {"layers": 0, "trunk": FBNET, "pool_size": 6},
        ],
        "cascade": [
            {"channels": 32},
            {
                "channels": 32,
                "convs": 1,
                "conv_channels": 8,
                "norm": "gn",
                "layers": 0,
                "ious": [0.7],
                "box_weights": [[10, 10, 5, 5], [20, 20, 10, 10]],
                "class_loss": "sigmoid",
                "federated": FEDERATED,
                "box_loss": "diou",
            },
        ],
        "keypoint": [
            {"channels": [8], "sampling_ratio": 2},
            {"channels": [8, 16], "pool_size": 7, "keypoints_per_image": 12.0, "weight": 0.25},
            {"channels": [8], "aligned": False, "inclusive": True, "pixel_numbers": True},
        ],
        "mask": [
            {"channels": 16},
            {"channels": 32, "layers": 1, "norm": "gn", "sampling_ratio": 2, "class_agnostic": True},
            {"channels": 16, "aligned": False, "inclusive": True},
            {"trunk": FBNET, "channels": 16, "pool_size": 7},
            {"trunk": ENLARGING, "upsample": False, "pool_size": 7},
            {"layers": 1, "channels": 8, "upsample": False},
        ],
        "rfcn": [{"in_feature": "p4", "channels": 8}, {"in_feature": "p5", "grid": 2, "class_agnostic": False}],
    }


class TestSemanticHeads(SemanticHeadContract):
    distribution = "det-heads"
    arguments = {
        "semantic-fpn": [
            {"channels": 32},
            {"channels": 8, "norm": "", "stride": 8, "in_features": ["p3", "p5"], "weight": 0.5},
        ]
    }


class TestDetectors(DetectorContract):
    distribution = "det-heads"
    arguments = {
        "semantic": [
            {"backbone": BACKBONE, "neck": {"name": "fpn", "channels": 32}, "semantic_head": SEMANTIC},
            {"backbone": BACKBONE, "semantic_head": {**SEMANTIC, "in_features": ["res4", "res5"]}},
        ],
        "retinanet": [
            {"backbone": BACKBONE, "neck": PYRAMID, "channels": 32, "layers": 1},
            {"backbone": BACKBONE, "neck": PYRAMID, "channels": 32, "layers": 2, "norm": "bn", "box_loss": "giou"},
            {"backbone": {**BACKBONE, "out_features": ["res4"]}, "sizes": [[32, 64]], "layers": 0},
            {
                "backbone": {**BACKBONE, "out_features": ["res4"]},
                "anchor_boxes": [[[-16, -16, 16, 16]]],
                "offset": 0.5,
                "clip_before_nms": True,
                "layers": 0,
            },
        ],
        "fcos": [
            {"backbone": BACKBONE, "neck": {**PYRAMID, "top": "p5"}, "channels": 32, "layers": 1},
            {"backbone": BACKBONE, "in_features": ["res5"], "layers": 0, "focal_alpha": -1, "focal_gamma": 1.5},
            {"backbone": BACKBONE, "in_features": ["res5"], "offset": 0.0, "clip_before_nms": True, "layers": 0},
        ],
        "proposal-network": [
            {"backbone": BACKBONE, "neck": {"name": "fpn", "channels": 32}, "proposal_generator": RPN},
            {"backbone": {**BACKBONE, "out_features": ["res4"]}, "proposal_generator": {**RPN, "sizes": [[32, 64]]}},
            {"backbone": {**BACKBONE, "out_features": ["res4"]}, "proposal_generator": {**RRPN, "sizes": [[32, 64]]}},
        ],
        "rcnn": [
            {
                "backbone": {"name": "fbnet", "arch": "a_dsmask_tiny", "norm": "gn", "out_features": ["trunk3"]},
                "proposal_generator": {**RPN, "sizes": [[32, 64]], "trunk": FBNET},
                "heads": {
                    "box": {"name": "box", "in_features": ["trunk3"], "pool_size": 6, "trunk": FBNET, "layers": 0},
                    "mask": {"name": "mask", "in_features": ["trunk3"], "trunk": ENLARGING, "upsample": False},
                },
            },
            {
                "backbone": BACKBONE,
                "neck": {"name": "fpn", "channels": 32},
                "proposal_generator": RRPN,
                "heads": {"box": {"name": "rotated_box", "channels": 32}},
            },
            {
                "backbone": BACKBONE,
                "neck": {"name": "fpn", "channels": 32},
                "semantic_head": SEMANTIC,
                "panoptic": {"stuff_area": 64, "score": 0.0},
                "proposal_generator": RPN,
                "heads": {"box": BOX, "mask": {"name": "mask", "channels": 16, "layers": 1}},
            },
        ]
        + [
            {"backbone": BACKBONE, "neck": {"name": "fpn", "channels": 32}, "proposal_generator": RPN, "heads": heads}
            for heads in (
                {"box": BOX},
                {"box": {**BOX, "sampling_ratio": 2}, "mask": {"name": "mask", "channels": 16, "layers": 1}},
                {
                    "box": {"name": "cascade", "channels": 32},
                    "mask": {"name": "mask", "channels": 16, "layers": 1},
                    "keypoint": {"name": "keypoint", "channels": [16]},
                },
                {
                    "box": {**BOX, "class_loss": "sigmoid", "class_agnostic": True, "train_on_predicted": True},
                    "keypoint": {"name": "keypoint", "channels": [16]},
                },
            )
        ]
        + [
            {
                "backbone": {**BACKBONE, "out_features": ["res4"]},
                "proposal_generator": {**RPN, "sizes": [[32, 64, 128]]},
                "roi_pooling": {"size": 8},
                "roi_trunk": {"name": "resnet-res5", "depth": 18, "norm": "gn", "width": 32},
                "heads": {"box": {**BOX, "layers": 0}, "mask": {"name": "mask", "channels": 16, "layers": 0}},
            },
            {
                "backbone": {**BACKBONE, "output_stride": 16, "out_features": ["res4", "res5"]},
                "proposal_generator": {**RPN, "in_features": ["res4"], "sizes": [[32, 64]]},
                "heads": {"box": {"name": "rfcn", "channels": 32}},
            },
        ],
    }
