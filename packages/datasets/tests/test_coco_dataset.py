from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hotcoco import mask as rle

from det_datasets.coco.dataset import CocoDataset
from det_datasets.coco.evaluator import CocoEvaluator
from det_datasets.shapes.make import run_lengths
from detkit.data.targets import rasterized
from detkit.structures.prediction import Prediction

Write = Callable[..., CocoDataset]
HEIGHT, WIDTH = 30, 40
MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[5:15, 10:30] = 1
BOX = [10, 5, 20, 10]
SQUARE = [10, 5, 30, 5, 30, 15, 10, 15]


def compressed() -> dict[str, Any]:
    code = rle.encode(MASK)
    return {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}


def uncompressed() -> dict[str, Any]:
    return {"size": [HEIGHT, WIDTH], "counts": run_lengths(MASK)}


@pytest.mark.parametrize(
    "segmentation", [[SQUARE], compressed(), uncompressed()], ids=["polygon", "rle", "uncompressed"]
)
@pytest.mark.parametrize(
    "bbox", [{"bbox": BOX}, {}, {"bbox": []}, {"bbox": None}], ids=["box", "none", "empty", "null"]
)
def test_every_kind_of_mask_is_read_and_gives_the_box(coco: Write, segmentation: Any, bbox: dict[str, Any]) -> None:
    target = coco([{"segmentation": segmentation, **bbox}])[0].target
    assert torch.equal(rasterized_masks(target)[0], torch.from_numpy(MASK))
    assert target["boxes"].tolist() == [[10, 5, 30, 15]]
    assert target["has_mask"].tolist() == [True]


def rasterized_masks(target: dict[str, Any]) -> torch.Tensor:
    masks = target["polygons"].rasterize()
    return masks | target["masks"] if "masks" in target else masks


def test_kinds_of_masks_go_together_in_order(coco: Write) -> None:
    triangle = [[0, 0, 8, 0, 0, 8]]
    dataset = coco(
        [
            {"bbox": BOX, "segmentation": compressed()},
            {"bbox": [0, 0, 8, 8], "segmentation": triangle, "category_id": 1},
            {"bbox": [1, 1, 2, 2]},
            {"image_id": 3, "bbox": BOX, "segmentation": [SQUARE, triangle[0]]},
            {"image_id": 2, "bbox": BOX, "segmentation": uncompressed(), "iscrowd": 1},
        ],
        images=4,
    )
    first, second, third, fourth = (sample.target for sample in dataset)
    assert first["labels"].tolist() == [1, 0, 1]
    assert first["has_mask"].tolist() == [True, True, False]
    assert [int(mask.sum()) for mask in rasterized_masks(first)] == [200, int(third_area(triangle)), 0]
    assert second["crowd"].tolist() == [True]
    assert len(third["polygons"].ring_ends) == 2
    assert fourth["boxes"].shape == (0, 4)
    assert rasterized_masks(fourth).shape == (0, HEIGHT, WIDTH)


def third_area(rings: list[list[float]]) -> int:
    return int(rle.area(rle.merge(rle.frPyObjects(rings, HEIGHT, WIDTH))))


def test_categories_are_ordered_by_id_whatever_the_file_does(coco: Write) -> None:
    dataset = coco([{"bbox": BOX, "category_id": 1}, {"bbox": BOX, "category_id": 3}])
    assert dataset.categories.names == ("dog", "cat")
    assert dataset.categories.ids == (1, 3)
    assert dataset[0].target["labels"].tolist() == [0, 1]


def test_images_without_annotations_are_kept(coco: Write) -> None:
    dataset = coco([{"bbox": BOX}], images=3)
    assert len(dataset) == 3
    assert dataset[2].target["boxes"].shape == (0, 4)
    assert "polygons" not in dataset[2].target


def test_images_come_in_the_order_of_their_ids(coco: Write, tmp_path: Path) -> None:
    coco([{"image_id": 40, "bbox": BOX}])
    file = tmp_path / "annotations.json"
    data = json.loads(file.read_text())
    data["images"] = [{**data["images"][0], "id": id} for id in (900, 5, 40)]
    file.write_text(json.dumps(data))
    dataset = CocoDataset(tmp_path / "images", file)
    assert [sample.info["image_id"] for sample in dataset] == [5, 40, 900]
    assert [len(sample.target["boxes"]) for sample in dataset] == [0, 1, 0]
    data["images"][0]["id"] = 5
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="image id 5 is given to more than one image"):
        CocoDataset(tmp_path / "images", file)


@pytest.mark.parametrize("bbox", [[5, 5, 0, 3], [5, 5, 3, 0], [5, 5, -3, 4], [50, 5, 8, 8], [-9, 0, 9, 9]])
def test_empty_boxes_are_left_out_and_counted(coco: Write, bbox: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = coco([{"bbox": bbox}, {"bbox": BOX}, {"bbox": bbox}])
    assert len(dataset[0].target["boxes"]) == 1
    assert "annotations.json: 2 have an empty box: left out" in caplog.text


def test_boxes_are_cut_at_the_border(coco: Write) -> None:
    target = coco([{"bbox": [-5, 20, 60, 60]}])[0].target
    assert target["boxes"].tolist() == [[0, 20, WIDTH, HEIGHT]]


def test_without_box_and_mask_there_is_nothing(coco: Write) -> None:
    dataset = coco([{}])
    assert len(dataset[0].target["boxes"]) == 0
    assert dataset.problems["have neither a usable box nor a usable mask: left out"] == 1


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[]],
        "mask",
        [[1, None, 3, 4, 5, 6]],
        {"size": [HEIGHT, WIDTH], "counts": "garbage"},
        {"size": [HEIGHT, WIDTH], "counts": [5, 3]},
        {"size": [HEIGHT, WIDTH], "counts": [-5, HEIGHT * WIDTH + 5]},
        {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]},
        {"size": [WIDTH, HEIGHT], "counts": compressed()["counts"]},
        {"size": [HEIGHT, WIDTH]},
    ],
)
def test_a_bad_mask_leaves_the_box_and_is_counted(coco: Write, segmentation: Any) -> None:
    dataset = coco([{"bbox": BOX, "segmentation": segmentation}, {"bbox": BOX, "segmentation": [SQUARE]}])
    target = dataset[0].target
    assert target["has_mask"].tolist() == [False, True]
    assert len(target["boxes"]) == 2
    assert any("kept with their boxes alone" in problem for problem in dataset.problems)


def test_a_bad_polygon_among_good_ones_is_left_out(coco: Write) -> None:
    dataset = coco([{"bbox": BOX, "segmentation": [[1, 2, 3, 4], SQUARE]}])
    assert len(dataset[0].target["polygons"].ring_ends) == 1
    assert sum(dataset.problems.values()) == 2  # and a category without annotations


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("place", ["bbox", "segmentation"])
def test_numbers_that_are_none_name_the_annotation(coco: Write, tmp_path: Path, number: str, place: str) -> None:
    coco([{"id": 77, "bbox": [1, 2, 3, 4], "segmentation": [SQUARE]}])
    file = tmp_path / "annotations.json"
    before, after = {"bbox": ("[1, 2, 3, 4]", f"[1, {number}, 3, 4]"), "segmentation": ("[[10, 5", f"[[{number}, 5")}[
        place
    ]
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(ValueError, match=rf"annotations\.json.*annotation 77 of image 1 has {place}"):
        CocoDataset(tmp_path / "images", file)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"category_id": 2}, "annotation 1 of image 1 has category_id 2, which 'categories' does not define"),
        ({"bbox": [1, 2, 3]}, r"annotation 1 of image 1 has bbox \[1.0, 2.0, 3.0\]; four finite numbers"),
        ({"bbox": [1, 2, 3, 1e999]}, "annotation 1 of image 1 has bbox"),
        ({"bbox": "box"}, r"Expected `array \| null`, got `str` - at `\$.annotations\[0\].bbox`"),
        ({"image_id": None}, r"at `\$.annotations\[0\].image_id`"),
    ],
)
def test_an_annotation_that_makes_no_sense_is_named(coco: Write, annotation: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coco([{"bbox": BOX, **annotation}])


def test_annotations_of_unlisted_images_are_left_out_and_counted(coco: Write) -> None:
    dataset = coco([{"bbox": BOX, "image_id": 9}, {"bbox": BOX}])
    assert dataset.problems["belong to images that the file does not list: left out"] == 1
    assert len(dataset.ground_truth()["annotations"]) == 1


@pytest.mark.parametrize(("value", "difficult"), [(1, True), (0, False), (True, True), (None, False), (1.0, True)])
def test_ignore_makes_an_object_difficult_in_training_and_evaluation(coco: Write, value: Any, difficult: bool) -> None:
    dataset = coco([{"bbox": BOX, "ignore": value}, {"bbox": BOX}])
    assert len(dataset.labels(0)) == 2  # it is trained with
    assert dataset.difficult(0).tolist() == [difficult, False]
    evaluator = CocoEvaluator()
    evaluator.start(dataset)
    x, y, width, height = BOX
    boxes = torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32)
    found = Prediction((HEIGHT, WIDTH), boxes=boxes, labels=dataset.labels(0)[:1], scores=torch.ones(1))
    evaluator.add(found, {"image_id": 1})
    recall = evaluator.compute()["bbox"]["AR100"]
    assert recall == pytest.approx(1.0 if difficult else 0.5)  # of one object, or of two


def test_categories_without_annotations_are_named(coco: Write) -> None:
    assert coco([{"bbox": BOX}]).problems == {"categories without annotations: dog": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the annotation file .*annotations.json: No such file"),
        ("", "annotations.json is not JSON"),
        ("{'images': 1}", "annotations.json is not JSON"),
        ("[]", "not a COCO instances file.*is this a file of results?"),
        ("{}", "not a COCO instances file.*'images', 'annotations' and 'categories' are needed"),
        ('{"version": 1, "shapes": []}', "it has 'version', 'shapes'"),
        ('{"images": [], "categories": [], "annotations": []}', "lists no images"),
        ('{"images": [{"id": 1, "file_name": "a", "height": 2, "width": 2}], "categories": []}', "no categories"),
        ('{"images": [{"id": 1, "height": 2, "width": 2}], "categories": []}', "missing required field `file_name`"),
    ],
)
def test_a_file_that_is_not_coco_is_explained(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "annotations.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        CocoDataset(tmp_path, tmp_path / "annotations.json")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]}, "category id given more than once: 3"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 4, "name": "a"}]}, "category name given more than once: a"),
    ],
)
def test_repeated_categories_are_errors(coco: Write, entries: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"annotations\.json: {message}"):
        coco([], **entries)


def test_ground_truth_is_the_file_with_what_evaluators_need(coco: Write, tmp_path: Path) -> None:
    dataset = coco([{"bbox": BOX, "area": 7.5}, {"segmentation": [SQUARE]}, {"bbox": [0, 0, 3, 4], "segmentation": []}])
    given = json.loads((tmp_path / "annotations.json").read_text())
    truth = dataset.ground_truth()
    assert truth["categories"] == given["categories"]
    assert truth["annotations"][0] == given["annotations"][0]
    assert truth["annotations"][1] == {**given["annotations"][1], "bbox": BOX, "area": 200.0}
    assert truth["annotations"][2]["area"] == 12
    assert "segmentation" not in truth["annotations"][2]


def test_a_transformed_batch_has_the_masks_of_every_kind(coco: Write) -> None:
    plain = rasterized(coco([{"segmentation": compressed()}, {"segmentation": [SQUARE]}])[0])
    assert torch.equal(plain["masks"][0], plain["masks"][1])
