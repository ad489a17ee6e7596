"""Masks of two models in one picture."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from det_datasets.shapes.make import make_shapes
from detkit.config import build
from detkit.detector import Detector
from detkit.model_directory import save_model
from detkit.structures.categories import Categories
from tools.masks_side_by_side import GAP, main

MODEL = {
    "name": "rcnn",
    "backbone": {"name": "resnet", "depth": 18, "norm": "gn", "width": 16},
    "neck": {"name": "fpn", "channels": 16},
    "proposal_generator": {"name": "rpn", "pre_nms_test": 50, "post_nms_test": 10},
    "heads": {
        "box": {"name": "box", "channels": 16, "score_threshold": 0.0, "detections_per_image": 4},
        "mask": {"name": "mask", "channels": 16, "layers": 1},
    },
    "input": {"min_size": 0, "max_size": 1333},
}


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_a_row_for_each_image_and_a_column_for_each_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(MODEL, Detector, categories=Categories(("a", "b", "c")))
    save_model(model, tmp_path / "model", config=MODEL)
    make_shapes(tmp_path / "shapes", images=2, val_images=1, size=64)
    images = sorted((tmp_path / "shapes/train").rglob("*.jpg"))
    given = [str(tmp_path / "model")] * 2
    out = tmp_path / "masks.png"
    main([*given, "--images", *map(str, images), "--out", str(out), "--zoom", "2", "--score", "0"])
    sizes = [size_of(image) for image in images]
    expected = (2 * 2 * max(width for width, _ in sizes) + GAP, 2 * sum(height for _, height in sizes) + GAP)
    assert size_of(out) == expected
