from detkit.testing.backbone import BackboneContract
from detkit.testing.neck import NeckContract
from detkit.testing.plugin import PluginContract
from detkit.testing.roi_trunk import RoiTrunkContract


class TestPlugin(PluginContract):
    distribution = "det-backbones"


class TestBackbones(BackboneContract):
    distribution = "det-backbones"
    arguments = {
        "resnet": [
            {"depth": 18, "norm": "bn", "width": 16},
            {"depth": 18, "norm": "sync_bn", "width": 16, "out_features": ["res2"]},
            {"depth": 34, "norm": "gn", "width": 32, "freeze_at": 0},
            {"depth": 50, "stride_in_1x1": True, "freeze_at": 2, "width": 16},
            {"depth": 101, "norm": "gn", "width": 16, "out_features": ["res3", "res4"]},
            {"depth": 152, "width": 16, "norm": "gn", "out_features": ["res5"]},
            {"depth": 50, "width": 8, "groups": 4, "width_per_group": 2, "norm": "gn", "stem_channels": 4},
            {"depth": 50, "width": 8, "res5_dilation": 2, "norm": "gn"},
            {"depth": 18, "width": 16, "res5_dilation": 2, "norm": "gn"},
            {"depth": 50, "width": 8, "deform": ["res3", "res5"], "norm": "frozen_bn", "stride_in_1x1": True},
            {
                "depth": 50,
                "width": 8,
                "deform": ["res4", "res5"],
                "modulated": True,
                "deform_groups": 2,
                "groups": 2,
                "res5_dilation": 2,
                "norm": "gn",
            },
        ]
    }


class TestRoiTrunks(RoiTrunkContract):
    distribution = "det-backbones"
    arguments = {
        "resnet-res5": [
            {"depth": 18, "width": 8, "norm": "gn"},
            {"depth": 50, "width": 8, "groups": 2, "width_per_group": 4, "stride_in_1x1": True},
        ]
    }


class TestNecks(NeckContract):
    distribution = "det-backbones"
    arguments = {
        "fpn": [
            {"channels": 16},
            {"channels": 32, "norm": "gn", "top": "", "fuse": "avg"},
            {"channels": 16, "top": "res5"},
            {"channels": 16, "top": "p4", "in_features": ["res3", "res4"]},
            {"channels": 16, "in_features": ["res3", "res4"]},
        ]
    }
