"""Rotated boxes in result files."""

import csv
import json
from pathlib import Path

import torch
from PIL import Image

from detkit.predict.results import ResultFiles
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction

BOX = [40.0, 30.0, 20.0, 10.0, 30.0]


def test_result_files_have_the_five_numbers_of_rotated_boxes(tmp_path: Path) -> None:
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    prediction = Prediction((60, 80), boxes=torch.tensor([BOX]), scores=torch.tensor([0.75]), labels=torch.tensor([1]))
    with ResultFiles(tmp_path, ("images", "json", "csv"), Categories(("ship", "plane"), ids=(3, 7))) as results:
        results.add(image, prediction)
    [entry] = json.loads((tmp_path / "predictions.json").read_text())
    assert (entry["bbox"], entry["category_id"], entry["score"]) == (BOX, 7, 0.75)
    [row] = csv.DictReader((tmp_path / "predictions.csv").read_text().splitlines())
    assert [float(row[name]) for name in ("x_center", "y_center", "width", "height", "degrees")] == BOX
    with Image.open(tmp_path / "image-1.png") as picture:
        assert picture.getbbox() is not None
