from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detkit.drawing import draw
from detkit.drawing.palette import colour
from detkit.drawing.regions import middle, regions
from detkit.predict.results import ResultFiles
from detkit.structures.batch import UNLABELLED
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction

THINGS = Categories(("cat", "dog"), ids=(7, 9))
PIXELS = Categories(("things", "grass", "sky"), ids=(0, 20, 30))
SIZE = (40, 60)
GREY = torch.full((3, *SIZE), 120, dtype=torch.uint8)


def semantic() -> Prediction:
    labels = torch.full(SIZE, 1)
    labels[:, 30:] = 2
    labels[:5] = UNLABELLED
    return Prediction(SIZE, semantic=labels, semantic_logits=torch.zeros(3, *SIZE))


def panoptic() -> Prediction:
    ids = torch.zeros(SIZE, dtype=torch.int32)
    ids[:, 20:] = 300
    ids[10:30, 5:25] = 1
    segments = [
        {"id": 1, "isthing": True, "label": 1, "score": 0.875, "area": 400},
        {"id": 300, "isthing": False, "label": 2, "area": 1500},
    ]
    instances = {"boxes": torch.tensor([[5.0, 10, 25, 30]]), "scores": torch.tensor([0.875]), "labels": torch.ones(1)}
    instances["labels"] = instances["labels"].long()
    return Prediction(SIZE, **instances, semantic=semantic().semantic, panoptic=ids, segments=segments)


def test_segments_are_regions_with_names_and_scores() -> None:
    thing, stuff = regions(panoptic(), THINGS, PIXELS)
    assert (thing.name, thing.score, thing.colour) == ("dog", "0.88", colour(1))
    assert (stuff.name, stuff.score, stuff.colour) == ("sky", "", colour(4))
    assert thing.mask.sum() == 400
    assert stuff.mask.sum() == 1500


def test_classes_of_pixels_are_regions() -> None:
    found = list(regions(semantic(), PIXELS, PIXELS))
    assert [region.name for region in found] == ["grass", "sky"]
    assert [region.mask.sum() for region in found] == [35 * 30] * 2


def test_things_are_left_to_their_instances() -> None:
    prediction = Prediction(SIZE, semantic=torch.zeros(SIZE, dtype=torch.int64))
    assert len(list(regions(prediction, THINGS, PIXELS))) == 1
    prediction.set("boxes", torch.zeros(0, 4))
    assert not list(regions(prediction, THINGS, PIXELS))


@pytest.mark.parametrize("height", [40, 400])
def test_the_middle_is_inside_and_far_from_the_border(height: int) -> None:
    mask = np.zeros((height, height), bool)
    mask[height // 4 :, height // 2 :] = True
    mask[height - 2 :] = True
    x, y = middle(mask)
    assert abs(x - 0.75 * height) < 0.15 * height
    assert height * 0.4 < y < height * 0.85
    mask[:] = False
    mask[3, 7] = True
    assert middle(mask) == (7.5, 3.5)


def test_regions_are_filled_outlined_and_named() -> None:
    plain = np.asarray(draw(GREY, semantic(), PIXELS, semantic_categories=PIXELS, enlarge=False))
    assert (plain[:5] == 120).all()  # not labelled
    assert tuple(plain[20, 29]) == colour(3 + 1)  # the outline between the regions
    blended = 120 * 0.55 + np.array(colour(3 + 1)) * 0.45
    assert (np.abs(plain[8, 3] - blended) <= 1).all()
    assert len(np.unique(plain[15:30, 5:25].reshape(-1, 3), axis=0)) > 2  # the name


def test_segments_are_drawn_instead_of_instances() -> None:
    prediction = panoptic()
    picture = draw(GREY, prediction, THINGS, semantic_categories=PIXELS)
    moved = Prediction(SIZE, **{name: getattr(prediction, name) for name in prediction})
    moved.set("boxes", torch.tensor([[0.0, 0, 3, 3]]))
    assert draw(GREY, moved, THINGS, semantic_categories=PIXELS).tobytes() == picture.tobytes()


def test_without_the_classes_of_pixels_nothing_is_drawn() -> None:
    with pytest.raises(ValueError, match="the prediction labels pixels; give semantic_categories"):
        draw(GREY, semantic(), PIXELS)


def test_segments_are_written_in_cocos_panoptic_form(tmp_path: Path) -> None:
    prediction = panoptic()
    prediction.path = "folder/photo.jpg"
    with ResultFiles(tmp_path, ["images", "json", "csv"], THINGS, PIXELS) as files:
        files.add(GREY, prediction)
    written = json.loads((tmp_path / "panoptic.json").read_text())
    dog = {"id": 1, "category_id": 9, "category_name": "dog", "isthing": 1, "area": 400, "score": 0.875}
    sky = {"id": 300, "category_id": 30, "category_name": "sky", "isthing": 0, "area": 1500}
    assert written == {"annotations": [{"image_id": 1, "file_name": "photo.png", "segments_info": [dog, sky]}]}
    colours = np.asarray(Image.open(tmp_path / "panoptic" / "photo.png")).astype(int)
    assert np.array_equal(colours @ (1, 256, 65536), prediction.panoptic.numpy())
    assert [entry["category_name"] for entry in json.loads((tmp_path / "predictions.json").read_text())] == ["dog"]
    assert (tmp_path / "photo.png").is_file()


def test_semantic_maps_are_written_as_grey_values(tmp_path: Path) -> None:
    with ResultFiles(tmp_path, ["images", "json", "csv"], PIXELS, PIXELS) as files:
        files.add(GREY, semantic())
    picture = Image.open(tmp_path / "semantic" / "image-1.png")
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), semantic().semantic.numpy())
    assert json.loads((tmp_path / "predictions.json").read_text()) == []
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1
    assert not (tmp_path / "panoptic.json").exists()
