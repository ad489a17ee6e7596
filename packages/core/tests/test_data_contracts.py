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
            {"crop_size": [40, 60], "crop_type": "absolute", "contain_instance": True},
            {"crop_size": [0.5, 0.5], "crop_type": "relative", "single_category_max_area": 0.6},
        ],
        "random_resize": [{"shapes": [[64, 96], [100, 100]]}],
        "resize_scale": [{"min_scale": 0.3, "max_scale": 2.0, "target_height": 100, "target_width": 120}],
        "fixed_size_crop": [
            {"crop_size": [100, 150]},
            {"crop_size": [200, 90]},
            {"crop_size": [200, 90], "pad": False},
        ],
        "keep_visible": [{"min_visible": 0.5, "min_size": 2, "min_area": 20}],
        "random_rotation": [
            {"angle": [-30, 30]},
            {"angle": [90, 180, 15], "sample_style": "choice"},
            {"angle": [-30, 30], "expand": False, "center": [[0.2, 0.2], [0.8, 0.8]]},
            {"angle": [45], "expand": False, "center": [[0.5, 0.2]], "sample_style": "choice", "fill": 128},
        ],
        "random_extent": [{"scale_range": [0.5, 1.5], "shift_range": [0.5, 0.5]}],
        "random_affine": [{}, {"degrees": 20, "shear": 10, "size": [90, 110], "p": 0.7}],
        "random_pivot_scaling": [{"scales": [0.5, 1.4]}],
        "min_iou_random_crop": [{}, {"only_centers": True}],
        "color_jitter": [{}, {"hue": 0.1}],
        "random_brightness": [{"intensity_min": 0.5, "intensity_max": 1.5}],
        "random_contrast": [{"intensity_min": 0.5, "intensity_max": 1.5}],
        "random_saturation": [{"intensity_min": 0.5, "intensity_max": 1.5}],
        "random_motion_blur": [{"p": 1.0}, {"kernel_size": [1, 15], "only_instances": True}],
        "mosaic": [{"size": 96}, {"size": 64, "p": 0.5}],
        "copy_paste": [{}, {"max_pasted": 1, "min_visible": 0.5, "p": 0.7}],
        "random_choice": [{"transforms": ["flip", {"name": "random_crop"}], "weights": [1, 3]}],
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
