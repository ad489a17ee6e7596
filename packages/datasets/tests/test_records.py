from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hotcoco import mask as rle
from PIL import Image
from torch import Tensor

from det_datasets.records.dataset import Records
from det_datasets.shapes.make import make_shapes
from detkit.data.python_source import python_splits
from detkit.data.source import open_split
from detkit.data.targets import rasterized
from detkit.interfaces import Dataset
from detkit.structures.categories import Categories
from detkit.structures.keypoints import Keypoints
from detkit.testing.dataset import DatasetContract


def as_records(folder: Path) -> tuple[list[dict[str, Any]], Dataset]:
    """A COCO dataset as Detectron2's `load_coco_json` gives it, and the dataset."""
    dataset = open_split(folder)
    truth = dataset.ground_truth()
    label = {id: number for number, id in enumerate(dataset.categories.ids)}
    records = [
        {
            "file_name": dataset[index].info["path"],
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": [
                {
                    **{key: entry[key] for key in ("bbox", "iscrowd", "segmentation")},
                    "bbox_mode": 1,
                    "category_id": label[entry["category_id"]],
                    **({"keypoints": [number + 0.5 * (i % 3 < 2) for i, number in enumerate(entry["keypoints"])]}
                       if "keypoints" in entry else {}),
                }
                for entry in truth["annotations"]
                if entry["image_id"] == image["id"]
            ],
        }
        for index, image in enumerate(truth["images"])
    ]  # fmt: skip
    return records[::-1], dataset


class TestRecords(DatasetContract):
    name = "records"

    def make(self, folder: Path) -> Dataset:
        make_shapes(folder, images=12, val_images=1, background_share=0.2, crowd_share=0.4)
        records, dataset = as_records(folder)
        return Records(records, dataset.categories.names)


@pytest.mark.parametrize("keypoints", [False, True])
def test_a_coco_dataset_is_the_same_as_a_list_of_dicts(tmp_path: Path, keypoints: bool) -> None:
    make_shapes(tmp_path, images=5, val_images=1, crowd_share=0.5 * (not keypoints), keypoints=keypoints)
    records, expected = as_records(tmp_path)
    found = Records(records, expected.categories)
    for index in range(len(expected)):
        first, second = found[index], expected[index]
        assert torch.equal(first.image, second.image)
        assert first.info["image_id"] == second.info["image_id"]
        ours, theirs = rasterized(first), rasterized(second)
        assert ours.keys() == theirs.keys()
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key])
    for ours, theirs in zip(found.ground_truth()["annotations"], expected.ground_truth()["annotations"], strict=True):
        assert ours["category_id"] == theirs["category_id"]
        for key in ("bbox", "keypoints") if keypoints else ("bbox",):
            assert ours[key] == pytest.approx(theirs[key], abs=1e-3)


def record(annotations: Any = (), **more: Any) -> dict[str, Any]:
    return {"file_name": "a.png", "height": 10, "width": 20, "annotations": list(annotations), **more}


def annotation(**more: Any) -> dict[str, Any]:
    return {"bbox": [2, 2, 8, 6], "bbox_mode": 0, "category_id": 0, **more}


def target(*annotations: dict[str, Any], categories: Any = ("a", "b")) -> dict[str, Any]:
    return Records([record(annotations)], categories).target(0)


@pytest.mark.parametrize(
    ("mode", "box"), [(0, [2, 2, 8, 6]), (1, [2, 2, 6, 4]), (2, [0.1, 0.2, 0.4, 0.6]), (3, (0.1, 0.2, 0.3, 0.4))]
)
def test_boxes_come_in_detectron2s_modes(mode: int, box: Any) -> None:
    found = target(annotation(bbox=np.array(box), bbox_mode=mode))["boxes"]
    torch.testing.assert_close(found.as_subclass(Tensor), torch.tensor([[2.0, 2, 8, 6]]))


def test_one_rotated_box_makes_all_of_them_rotated() -> None:
    data = Records([record([annotation(), annotation(bbox=[10, 5, 6, 2, 30], bbox_mode=4)])], ["a"])
    assert data.rotated
    assert data.target(0)["boxes"].tolist() == [[5, 4, 6, 4, 0], [10, 5, 6, 2, 30]]


def test_masks_are_polygons_or_either_kind_of_rle() -> None:
    mask = np.zeros((10, 20), np.uint8, order="F")
    mask[2:6, 2:8] = 1
    compressed = rle.encode(mask)
    runs = [2 * 10 + 2, *[4, 6] * 5, 4, 200 - 22 - 54]
    found = target(
        annotation(segmentation=[[2, 2, 8, 2, 8, 6, 2, 6]]),
        annotation(segmentation=compressed),
        annotation(segmentation={**compressed, "counts": bytes(compressed["counts"])}),
        annotation(segmentation={"size": [10, 20], "counts": runs}),
        annotation(),
    )
    assert found["has_mask"].tolist() == [True] * 4 + [False]
    for number in (1, 2, 3):
        assert torch.equal(found["masks"][number].as_subclass(Tensor), torch.from_numpy(np.ascontiguousarray(mask)))


def test_keypoints_need_names() -> None:
    points = [3.5, 3.5, 2, 0, 0, 0]
    named = Categories(("a",), keypoints=Keypoints(("left", "right")))
    assert target(annotation(keypoints=points), annotation(), categories=named)["keypoints"].tolist() == [
        [[3.5, 3.5, 2], [0, 0, 0]], [[0, 0, 0]] * 2
    ]  # fmt: skip
    data = Records([record([annotation(keypoints=points)])], ["a"])
    assert data.problems["have keypoints that the categories do not name: not read"] == 1


def test_images_are_in_the_order_of_their_numbers_or_of_the_list() -> None:
    ids = lambda *given: [  # noqa: E731
        data.image_id(index)
        for data in [Records([record(image_id=id) for id in given], ["a"])]
        for index in range(len(given))
    ]
    assert ids(7, 3, np.int64(5)) == [3, 5, 7]
    assert ids("b", "a", 3) == ["b", "a", "3"]


def test_empty_boxes_are_left_out_and_counted() -> None:
    data = Records([record([annotation(bbox=[30, 2, 40, 6]), annotation()])], ["a"])
    assert len(data.labels(0)) == 1
    assert data.problems["have an empty box, or one outside the image: left out"] == 1


def test_pixels_and_proposals_are_read(tmp_path: Path) -> None:
    labels = np.arange(200, dtype=np.uint8).reshape(10, 20) % 2
    Image.fromarray(labels).save(tmp_path / "labels.png")
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(tmp_path / "a.png")
    entry = record(
        sem_seg_file_name="labels.png",
        image_id=4,
        proposal_boxes=np.array([[1.0, 1, 5, 5], [2, 2, 3, 3]]),
        proposal_objectness_logits=np.array([0.5, 2.0]),
    )
    data = Records([entry], ["a"], images=tmp_path, semantic_categories=["ground", "sky"])
    sample = data[0]
    assert torch.equal(sample.target["semantic"].as_subclass(Tensor), torch.from_numpy(labels))
    assert torch.equal(data.semantic_map(4), torch.from_numpy(labels))
    assert sample.target["proposals"].tolist() == [[2, 2, 3, 3], [1, 1, 5, 5]]
    assert sample.target["proposal_scores"].tolist() == [2.0, 0.5]


def test_python_lists_are_data(tmp_path: Path) -> None:
    splits = python_splits({"train": lambda: [record([annotation()])], "val": [record()]}, ["a", "b"])
    assert [len(split.open().categories) for split in splits.values()] == [2, 2]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "empty"),
        ([{"file_name": "a.png"}], "record 0 has no height, width; it has file_name"),
        ([record(image_id=1), record(image_id=1)], "more than one record: 1"),
        ([record(image_id=1.5)], "image_id is 1.5"),
        ([record([annotation(category_id=2)])], "an annotation of a.png: category_id is 2; from 0 to 1"),
        ([record([{"bbox": [1, 2, 3, 4], "category_id": 0}])], "an annotation of a.png: it has no 'bbox_mode'"),
        ([record([annotation(bbox=[1, 2, 3])])], "four numbers"),
        ([record([annotation(bbox=[1, 2, 3, float("nan")])])], "four numbers"),
        ([record([annotation(segmentation={"size": [3, 3], "counts": [9]})])], "an RLE of the size"),
        ([record([annotation(segmentation={"size": [10, 20], "counts": [9]})])], "not as many pixels"),
        ([record([annotation(segmentation=[[1, 2, 3, 4, 5, float("inf")]])])], "not finite"),
    ],
)
def test_what_makes_no_sense_is_explained(records: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Records(records, ["a", "b"])


def test_each_image_needs_labels_and_proposals_if_others_have_them() -> None:
    with pytest.raises(ValueError, match="has no sem_seg_file_name, as 1 of 1 images"):
        Records([record()], ["a"], semantic_categories=["sky"])
    with pytest.raises(ValueError, match="has no proposal_boxes, which others have"):
        Records([record(image_id=1), record(image_id=2, proposal_boxes=np.zeros((0, 4)))], ["a"])
    with pytest.raises(ValueError, match="need numbers as their image_id"):
        Records([record(image_id="x", proposal_boxes=np.zeros((0, 4)))], ["a"])


def test_files_that_are_not_read_are_named() -> None:
    data = Records([record(sem_seg_file_name="a.png", pan_seg_file_name="b.png")], ["a"])
    said = " ".join(data.problems)
    assert "semantic_categories=NAMES" in said
    assert "pan_seg_file_name" in said


def test_segments_instead_of_annotations_are_an_error() -> None:
    alone = {"file_name": "a.png", "height": 10, "width": 20, "pan_seg_file_name": "b.png", "segments_info": []}
    with pytest.raises(ValueError, match="pan_seg_file_name and segments_info instead of annotations"):
        Records([alone], ["a"])
