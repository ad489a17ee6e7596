from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from detkit.data.mixture import Member, Mixture
from detkit.data.order import BatchOrder
from detkit.data.samplers import RepeatFactor, image_counts, repeats_of
from detkit.data.targets import collate
from detkit.structures.categories import Categories
from detkit.structures.keypoints import Keypoints
from detkit.structures.polygons import Polygons
from detkit.structures.sample import Sample
from detkit.testing.sampler import Labelled


class Boxes(Labelled):
    """Black images with a box, and if asked for an outline, for each label. Ids are 100, 101, ..."""

    def __init__(self, labels: list[list[int]], names: tuple[str, ...], *, outlined: bool = False, **more: Any) -> None:
        super().__init__(labels, names)
        self.categories = Categories(names, **more)
        self.has_masks = outlined

    def __getitem__(self, index: int) -> Sample:
        labels, size = self.labels(index), (16, 16)
        target: dict[str, Any] = {
            "boxes": tv_tensors.BoundingBoxes(
                torch.tensor([[1.0, 1, 9, 9]] * len(labels)).reshape(-1, 4), format="XYXY", canvas_size=size
            ),
            "labels": labels.clone(),
            "crowd": torch.zeros(len(labels), dtype=torch.bool),
        }
        if self.has_masks:
            target["polygons"] = Polygons.from_rings([[[1, 1, 9, 1, 9, 9]]] * len(labels), size)
            target["has_mask"] = torch.ones(len(labels), dtype=torch.bool)
        info = {"image_id": self.image_id(index), "path": f"{index}.jpg", "original_size": size}
        return Sample(tv_tensors.Image(torch.zeros(3, *size, dtype=torch.uint8)), target, info)

    def ground_truth(self) -> Any:
        ids = self.categories.ids
        annotations = [
            {"image_id": 100 + index, "category_id": ids[label], "bbox": [1, 1, 8, 8], "iscrowd": 0}
            for index, labels in enumerate(self._labels)
            for label in labels.tolist()
        ]
        return {
            "images": [{"id": 100 + index, "neg_category_ids": [ids[0]]} for index in range(len(self))],
            "annotations": [{**entry, "id": 100 + number} for number, entry in enumerate(annotations)],
            "categories": [
                {"id": id, "name": name, "frequency": "r"} for id, name in zip(ids, self.categories.names, strict=True)
            ],
        }


def streets() -> Boxes:
    return Boxes([[0, 1], [1], [], [0]], ("car", "person"), ids=(1, 2), supercategories=("vehicle", "human"))


def farms() -> Boxes:
    return Boxes([[0], [1, 2]], ("Person", "cow", "automobile"), ids=(2, 5, 1), outlined=True)


def mixture(**weights: float) -> Mixture:
    return Mixture(
        [
            Member("streets", streets(), weights.get("streets")),
            Member("farms", farms(), weights.get("farms"), {"automobile": "car"}),
        ]
    )


def test_classes_are_merged_by_name() -> None:
    categories = mixture().categories
    assert categories.names == ("car", "person", "cow")
    assert categories.ids == (1, 2, 5)
    assert categories.supercategories == ("vehicle", "human", "")


def test_an_id_that_is_taken_is_replaced() -> None:
    other = Boxes([[0]], ("cow",), ids=(2,))
    assert Mixture([Member("a", streets()), Member("b", other)]).categories.ids == (1, 2, 3)


def test_images_follow_each_other_with_the_labels_of_the_mixture() -> None:
    data = mixture()
    assert len(data) == 6
    assert [data[index].target["labels"].tolist() for index in range(6)] == [[0, 1], [1], [], [0], [1], [2, 0]]
    assert [data.labels(index).tolist() for index in range(6)] == [[0, 1], [1], [], [0], [1], [2, 0]]
    images, labels = data.all_labels()
    assert images.tolist() == [0, 0, 1, 3, 4, 5, 5]
    assert labels.tolist() == [0, 1, 1, 0, 1, 2, 0]
    assert data.sizes().tolist() == [list(data.size(index)) for index in range(6)]
    assert data[-1].info == data[5].info
    with pytest.raises(IndexError):
        data[6]


def test_images_are_known_by_member_and_id() -> None:
    data = mixture()
    ids = [data[index].info["image_id"] for index in range(6)]
    assert ids == [data.image_id(index) for index in range(6)]
    assert ids[0] == "streets/100"
    assert data.own_id("farms/101") == ("farms", 101)
    with pytest.raises(ValueError, match="'fields' is no dataset of this mixture of streets, farms"):
        data.own_id("fields/1")


def test_a_single_member_keeps_its_ids() -> None:
    data = Mixture([Member("farms", farms())], categories=Categories(("cow", "person", "automobile", "sheep")))
    assert data[1].info["image_id"] == data.image_id(1) == 101
    assert data[1].target["labels"].tolist() == [0, 2]
    assert [entry["id"] for entry in data.ground_truth()["images"]] == [100, 101]


def test_what_a_member_does_not_annotate_is_listed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = mixture()
    assert "streets does not annotate cow: such objects count as background" in caplog.text
    assert data.problems == {"streets: classes that it does not annotate: cow": 1}


def test_objects_of_members_without_masks_have_none() -> None:
    data = mixture()
    samples = [data[0], data[5], data[2]]
    assert [sample.target["has_mask"].tolist() for sample in samples] == [[False, False], [True, True], []]
    targets = collate(samples, [0, 1, 2], 16).targets
    assert targets is not None
    assert targets.masks.flatten(2).any(dim=2).tolist() == [[False, False], [True, True], [False, False]]


def test_weights_are_shares_of_the_samples() -> None:
    data = mixture(streets=1, farms=3)
    repeats = repeats_of(data, None)
    assert repeats.sum() == pytest.approx(len(data))
    assert repeats[4:].sum() / repeats[:4].sum() == pytest.approx(3)
    batches = BatchOrder(np.ones(6, bool), 2, 0, repeats).batches()
    seen = np.bincount(np.concatenate([next(batches) for _ in range(3000)]), minlength=6) / 6000
    assert seen[4:].sum() == pytest.approx(0.75, abs=0.01)


def test_samplers_decide_within_a_member() -> None:
    sampler = RepeatFactor(threshold=0.9)
    plain, weighted = repeats_of(mixture(), sampler), repeats_of(mixture(streets=1, farms=1), sampler)
    assert weighted.sum() == pytest.approx(plain.sum())
    assert weighted[:4].sum() == pytest.approx(weighted[4:].sum())
    np.testing.assert_allclose(weighted[:4] / weighted[0], plain[:4] / plain[0])
    assert image_counts(mixture()).tolist() == [3, 3, 1]


def test_without_weights_images_are_alike() -> None:
    assert repeats_of(mixture(), None).tolist() == [1.0] * 6


def test_the_ground_truth_is_merged() -> None:
    truth = mixture().ground_truth()
    assert [entry["id"] for entry in truth["images"]][3:] == ["streets/103", "farms/100", "farms/101"]
    assert [entry["neg_category_ids"] for entry in truth["images"]] == [[1]] * 4 + [[2]] * 2
    annotations = truth["annotations"]
    assert [entry["category_id"] for entry in annotations] == [1, 2, 2, 1, 2, 5, 1]
    assert annotations[-1]["image_id"] == "farms/101"
    assert [(entry["id"], entry.get("own_id")) for entry in annotations] == [
        (100, None), (101, None), (102, None), (103, None), (104, 100), (105, 101), (106, 102)
    ]  # fmt: skip
    assert truth["categories"] == [
        {"id": 1, "name": "car", "frequency": "r"},
        {"id": 2, "name": "person", "frequency": "r"},
        {"id": 5, "name": "cow", "frequency": "r"},
    ]


def test_ground_truth_of_another_form_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="b cannot be merged with others"):
        Mixture([Member("a", streets()), Member("b", Labelled())]).ground_truth()


def pixels(names: tuple[str, ...]) -> Boxes:
    data = streets()
    data.semantic_categories = Categories(names)
    data.semantic_map = lambda image_id: torch.tensor(image_id)  # type: ignore[method-assign]
    return data


def test_maps_of_pixels_come_from_the_member() -> None:
    data = Mixture([Member("a", pixels(("sky",))), Member("b", pixels(("sky",)))])
    assert data.semantic_categories is not None
    found: Tensor = data.semantic_map("b/103")
    assert found == 103


def turned() -> Boxes:
    data = streets()
    data.rotated = True
    return data


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "at least one dataset"),
        ([Member("a", streets()), Member("a", farms())], "names must differ"),
        ([Member("a/b", streets())], "have no '/'"),
        ([Member("a", streets(), 1.0), Member("b", farms())], "give it to all or to none"),
        ([Member("a", streets(), 0.0), Member("b", farms(), 1.0)], "each must be above 0"),
        ([Member("a", streets(), rename={"lorry": "car"})], "a: rename has lorry, which are not among its classes"),
        ([Member("a", Boxes([[0]], ("Cow", "cow")))], "Cow and cow have one name but for upper and lower case"),
        ([Member("a", streets()), Member("b", pixels(("sky",)))], "do not have the same classes of pixels"),
        ([Member("a", streets()), Member("b", turned())], "do not have the same kind of boxes"),
        (
            [Member("a", streets()), Member("b", Boxes([[0]], ("cow",), keypoints=Keypoints(("nose",))))],
            "do not have the same keypoints",
        ),
    ],
)
def test_what_does_not_go_together_is_explained(members: list[Member], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(members)


def test_classes_outside_those_that_are_given_are_an_error() -> None:
    with pytest.raises(ValueError, match="a has the class person, which is not among car"):
        Mixture([Member("a", streets())], categories=Categories(("car",)))


def test_a_weight_needs_an_image_that_is_seen() -> None:
    with pytest.raises(ValueError, match="farms has a weight, and none of its images is seen"):
        mixture(streets=1, farms=1).weighted(np.array([1.0, 1, 1, 1, 0, 0]))
