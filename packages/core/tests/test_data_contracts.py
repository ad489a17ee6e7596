from __future__ import annotations

from typing import ClassVar

from detkit.testing.sampler import SamplerContract
from detkit.testing.transform import TransformContract


class TestSamplers(SamplerContract):
    distribution = "det-core"
    arguments: ClassVar = {
        "repeat-factor": [{"threshold": 0.5}, {"threshold": 0.5, "sqrt": False}],
        "weighted": [{"categories": {"rare": 3, "frequent": 0.5}}],
        "subset": [{"fraction": 0.5}, {"count": 3}, {"images": [101, 104]}],
    }


class TestTransforms(TransformContract):
    distribution = "det-core"
    arguments: ClassVar = {
        "flip": [{"horizontal": 0.5, "vertical": 0.5}],
        "resize_shortest_edge": [{"sizes": [64, 96], "max_size": 200}, {"sizes": [64, 160], "draw": "range"}],
        "random_crop": [
            {"crop_size": [0.5, 0.5]},
            {"crop_size": [0.5, 0.7], "crop_type": "relative"},
            {"crop_size": [90, 300], "crop_type": "absolute"},
            {"crop_size": [40, 150], "crop_type": "absolute_range"},
        ],
        "large_scale_jitter": [{"size": 128}, {"size": 128, "fill": None}],
        "random_apply": [{"transforms": [{"name": "random_crop"}, "flip"]}, {"transforms": ["flip"], "p": 1.0}],
        "torchvision": [
            {"transform": "RandomRotation", "arguments": {"degrees": 20, "expand": True}},
            {"transform": "RandomAffine", "arguments": {"degrees": 20, "shear": 10}},
            {"transform": "RandomPerspective", "arguments": {"p": 1.0}},
            {"transform": "RandomZoomOut"},
            {"transform": "RandomResizedCrop", "arguments": {"size": [96, 96]}},
            {"transform": "GaussianBlur", "arguments": {"kernel_size": 5}},
            {"transform": "RandomIoUCrop"},
        ],
    }
