import torch

from detkit.structures.batch import Targets
from detkit.testing.detector import DetectorContract
from detkit.testing.plugin import PluginContract
from detkit.testing.roi_head import RoiHeadContract
from detkit.testing.semantic_head import SemanticHeadContract

BACKBONE = {"name": "resnet", "depth": 18, "norm": "gn", "width": 32}
NECK = {"name": "fpn", "channels": 32}
RPN = {"name": "rpn", "pre_nms_test": 50, "pre_nms_train": 50, "post_nms_test": 30, "post_nms_train": 30}
SAMPLING, SUBDIVISION = {"count": 20}, {"steps": 3, "points": 49}
POINTREND = {
    "coarse_channels": 16,
    "coarse_width": 32,
    "point_channels": 16,
    "sampling": SAMPLING,
    "subdivision": SUBDIVISION,
}
IMPLICIT = {
    "channels": 16,
    "width": 32,
    "point_layers": 2,
    "point_channels": 8,
    "position_channels": 8,
    "train_points": 20,
    "subdivision": SUBDIVISION,
}
SEMANTIC = {
    "coarse": {"name": "semantic-fpn", "channels": 16},
    "point_channels": 16,
    "sampling": {"count": 64},
    "subdivision": {"steps": 2, "points": 256},
}
AGNOSTIC = {"class_agnostic": True, "point_features": ["p2", "p3"]}


class TestPlugin(PluginContract):
    distribution = "det-pointrend"


def with_points(targets: Targets) -> Targets:
    """Ground truth with four labelled points of each instance, of one of which nothing is known."""
    low, high = targets.boxes[..., None, :2], targets.boxes[..., None, 2:]
    places = low + (high - low) * torch.tensor([[0.2, 0.3], [0.5, 0.5], [0.9, 0.1], [0.0, 0.0]])
    labels = torch.tensor([1.0, 1.0, 0.0, -1.0]).expand(places.shape[:-1])[..., None]
    targets.extra["points"] = torch.cat((places, labels), dim=-1) * targets.valid[..., None, None]
    return targets


class TestRoiHeads(RoiHeadContract):
    distribution = "det-pointrend"
    arguments = {
        "pointrend": [
            POINTREND,
            {**POINTREND, **AGNOSTIC, "coarse_channels": 64, "coarse_layers": 1, "coarse_each_layer": False},
            {**POINTREND, "point_layers": 0, "in_features": ["p2", "p4"], "pool_size": 8, "coarse_size": 4},
        ],
        "implicit-pointrend": [
            IMPLICIT,
            {**IMPLICIT, **AGNOSTIC, "position_channels": 0, "parameter_decay": 0.1},
            {**IMPLICIT, "point_features": [], "layers": 1, "weight": 0.5},
            {**IMPLICIT, "train_points": None},
        ],
        "mask-point-sup": [{"channels": 16, "layers": 1}, {"channels": 16, "layers": 0, "class_agnostic": True}],
    }

    def complete(self, targets: Targets) -> Targets:
        return with_points(targets)


class TestSemanticHeads(SemanticHeadContract):
    distribution = "det-pointrend"
    arguments = {
        "pointrend": [
            SEMANTIC,
            {**SEMANTIC, "point_features": ["p2", "p3"], "subdivision": {"steps": 1, "points": 99_999}},
        ]
    }


class TestDetectors(DetectorContract):
    distribution = "det-heads"
    names = ["rcnn", "semantic"]
    arguments = {
        "semantic": [{"backbone": BACKBONE, "neck": NECK, "semantic_head": {"name": "pointrend", **SEMANTIC}}],
        "rcnn": [
            {
                "backbone": BACKBONE,
                "neck": NECK,
                "proposal_generator": RPN,
                "heads": {"box": {"name": "box", "channels": 32, "train_on_predicted": True}, "mask": mask},
            }
            for mask in ({"name": "pointrend", **POINTREND}, {"name": "implicit-pointrend", **IMPLICIT})
        ],
    }
