from detkit.testing.backbone import BackboneContract
from detkit.testing.neck import NeckContract
from detkit.testing.plugin import PluginContract


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
