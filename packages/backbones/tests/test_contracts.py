from detkit.testing.backbone import BackboneContract
from detkit.testing.neck import NeckContract
from detkit.testing.plugin import PluginContract
from detkit.testing.roi_trunk import RoiTrunkContract

REGNET = {"depth": 6, "w_a": 8, "w_0": 8, "w_m": 2, "group_width": 8}

CONVNEXT = {"depths": [1, 2, 1, 1], "dims": [8, 12, 16, 20]}
MVIT = {"embed_dim": 8, "depths": [1, 2, 1, 2], "image_size": 64, "window": 8}
SWIN = {"embed_dim": 8, "depths": [2, 2, 1, 1], "num_heads": [1, 2, 2, 4]}
FBNET = [
    [{"kind": "conv", "channels": 8, "stride": 2}, {"channels": 8}],
    [{"channels": 12, "kernel": 5, "stride": 2, "expansion": 3, "squeeze": True, "repeat": 2}],
    [{"channels": 16, "stride": 2, "expansion": 2}],
]


class TestPlugin(PluginContract):
    distribution = "det-backbones"


class TestBackbones(BackboneContract):
    distribution = "det-backbones"
    arguments = {
        "timm": [
            {"model": "test_resnet", "frozen_bn": True},
            {"model": "test_efficientnet", "freeze_at": "stride4", "out_features": ["stride4", "stride16"]},
            {"model": "test_convnext", "out_features": ["stride8"]},
            {"model": "test_mambaout"},
            {"model": "test_vit"},
            {"model": "test_maxvit"},
        ],
        "torchvision": [
            {"model": "mobilenet_v3_small"},
            {"model": "resnet18", "frozen_bn": True, "out_features": ["stride8", "stride16"]},
            {"model": "regnet_x_400mf", "freeze_at": "stride16"},
        ],
        "vit": [
            {"embed_dim": 32, "depth": 4, "num_heads": 4, "window": 4, "global_blocks": [3], "image_size": 128},
            {"embed_dim": 32, "depth": 3, "num_heads": 2, "window": 3, "residual_blocks": [1, 2], "drop_path": 0.2},
            {
                "embed_dim": 16,
                "depth": 2,
                "num_heads": 1,
                "window": 0,
                "relative_positions": False,
                "checkpointing": True,
            },
            {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch": 8, "absolute_positions": False, "qkv_bias": False},
        ],
        "convnext": [
            {**CONVNEXT, "drop_path": 0.2},
            {**CONVNEXT, "out_features": ["p0", "p2"], "freeze_at": 2, "layer_scale": 1.0},
            {**CONVNEXT, "checkpointing": True, "freeze_at": 1, "out_features": ["p1"]},
            {"depths": [1, 1, 4, 1], "dims": [8, 12, 16, 20]},
        ],
        "mvit": [
            {**MVIT, "drop_path": 0.2},
            {**MVIT, "depths": [2, 2, 3, 1], "num_heads": 2, "window": 16, "checkpointing": True},
            {**MVIT, "window": 0, "kv_stride": 8, "out_features": ["scale2", "scale4"], "qkv_bias": False},
            {**MVIT, "expand": "mlp", "residual_pooling": False, "mlp_ratio": 2.0, "norm_eps": 1e-5},
        ],
        "swin": [
            {**SWIN, "patch_norm": False, "qkv_bias": False},
            {**SWIN, "window": 3, "drop_path": 0.5, "checkpointing": True},
            {**SWIN, "absolute_positions": 6, "freeze_at": 1, "out_features": ["p1", "p3"]},
            {**SWIN, "absolute_positions": 3, "freeze_at": 0, "out_features": ["p0", "p2"], "mlp_ratio": 2.0},
            {**SWIN, "freeze_at": 3, "window": 12},
        ],
        "regnet": [
            {**REGNET, "norm": "bn"},
            {**REGNET, "se_ratio": 0.25, "freeze_at": 3},
            {**REGNET, "se_ratio": 0.5, "norm": "gn", "stem_width": 16, "out_features": ["s2", "s3"]},
            {**REGNET, "norm": "sync_bn", "out_features": ["s1"], "freeze_at": 1},
        ],
        "vgg": [
            {"depth": 11, "width": 8},
            {"depth": 16, "width": 8, "freeze_at": 2},
            {"depth": 19, "width": 8, "out_features": ["conv1", "conv3", "conv4"]},
        ],
        "hrnet": [
            {"width": 8, "modules": [1, 1, 1], "blocks": 1},
            {"width": 4, "modules": [1, 2, 1], "blocks": 2, "norm": "bn"},
            {"width": 4, "modules": [1, 1, 1], "blocks": 1, "norm": "gn", "freeze_at": 3},
        ],
        "fbnet": [
            {"arch": "a_dsmask_tiny"},
            {"arch": "a", "norm": "gn", "width": 0.25, "out_features": ["trunk1", "trunk3"], "freeze_at": 1},
            {"stages": FBNET, "flavour": "imagenet", "norm": "frozen_bn"},
            {"stages": FBNET, "norm": "", "width_divisor": 1, "out_features": ["trunk1"]},
        ],
        "resnet": [
            {"depth": 18, "norm": "bn", "width": 16},
            {"depth": 18, "norm": "sync_bn", "width": 16, "out_features": ["res2"]},
            {"depth": 34, "norm": "gn", "width": 32, "freeze_at": 0},
            {"depth": 50, "stride_in_1x1": True, "freeze_at": 2, "width": 16},
            {"depth": 101, "norm": "gn", "width": 16, "out_features": ["res3", "res4"]},
            {"depth": 152, "width": 16, "norm": "gn", "out_features": ["res5"]},
            {"depth": 50, "width": 8, "groups": 4, "width_per_group": 2, "norm": "gn", "stem_channels": 4},
            {"depth": 50, "width": 8, "output_stride": 16, "norm": "gn"},
            {"depth": 18, "width": 16, "output_stride": 16, "norm": "ln", "squeeze_excite": True},
            {"depth": 50, "width": 8, "output_stride": 8, "multi_grid": [1, 2, 4], "norm": "gn", "stem": "deep"},
            {"depth": 50, "width": 8, "norm": "", "squeeze_excite": True, "non_local": {"res3": [3], "res4": [1, 4]}},
            {"depth": 34, "width": 8, "norm": "gn", "non_local": {"res5": [0]}, "out_features": ["res5"]},
            {"depth": 50, "width": 8, "deform": ["res3", "res5"], "norm": "frozen_bn", "stride_in_1x1": True},
            {
                "depth": 50,
                "width": 8,
                "deform": ["res4", "res5"],
                "modulated": True,
                "deform_groups": 2,
                "groups": 2,
                "output_stride": 16,
                "norm": "gn",
            },
        ],
    }


class TestRoiTrunks(RoiTrunkContract):
    distribution = "det-backbones"
    arguments = {
        "fbnet-layers": [
            {"arch": "a_dsmask_tiny", "part": "mask"},
            {"arch": "a_dsmask_tiny", "part": "box", "norm": "gn", "flavour": "imagenet"},
            {"blocks": [{"channels": 16, "squeeze": True, "repeat": 2}], "norm": "gn"},
        ],
        "resnet-res5": [
            {"depth": 18, "width": 8, "norm": "gn"},
            {"depth": 50, "width": 8, "groups": 2, "width_per_group": 4, "stride_in_1x1": True},
            {"depth": 50, "width": 8, "norm": "ln", "squeeze_excite": True},
        ],
    }


class TestNecks(NeckContract):
    distribution = "det-backbones"
    arguments = {
        "simple-fpn": [
            {"in_feature": "res4", "channels": 16},
            {"in_feature": "res3", "channels": 8, "norm": "", "top": "", "scales": [2, 1]},
            {"in_feature": "res4", "channels": 16, "norm": "gn", "scales": [1, 0.5]},
        ],
        "fpn": [
            {"channels": 16},
            {"channels": 32, "norm": "gn", "top": "", "fuse": "avg"},
            {"channels": 16, "top": "res5"},
            {"channels": 16, "top": "p4", "in_features": ["res3", "res4"]},
            {"channels": 16, "in_features": ["res3", "res4"]},
            {"channels": 16, "norm": "ln", "top": "p5"},
        ],
        "panet": [
            {"channels": 16},
            {"channels": 32, "norm": "gn", "fuse": "avg", "top": ""},
            {"channels": 16, "in_features": ["res3", "res4"], "top": "p4"},
        ],
        "bifpn": [
            {"channels": 16},
            {"channels": 16, "in_features": ["res3", "res4", "res5"], "extra_levels": 2, "layers": 2, "norm": "gn"},
            {"channels": 8, "in_features": ["res4", "res5"], "extra_levels": 0, "layers": 1, "norm": ""},
        ],
        "hrfpn": [
            {"channels": 16},
            {"channels": 16, "levels": 2, "resampling": "max", "norm": "gn"},
            {"channels": 16, "resampling": "learned", "norm": "bn"},
            {"channels": 16, "resampling": "learned", "levels": 1, "in_features": ["res3"]},
        ],
        "identity": [{}, {"in_features": ["res3", "res5"]}],
    }
