from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from det_datasets import cache
from det_datasets.annotated import AnnotatedImages
from det_datasets.lvis.dataset import LvisDataset
from det_datasets.lvis.layout import find_splits
from det_datasets.lvis.make import LvisWriter, make_lvis
from det_datasets.lvis.synsets import COCO_IDS
from det_datasets.objects365.make import make_objects365
from detkit.data.source import open_split
from detkit.structures.coco import COCO

HEIGHT, WIDTH = 30, 40
Write = Callable[..., LvisDataset]


@pytest.fixture
def lvis(tmp_path: Path) -> Write:
    """Writes a file with three categories, one of them COCO's cow, and the images that it is given, and opens it."""

    def write(images: list[dict[str, Any]], annotations: list[dict[str, Any]], **options: Any) -> LvisDataset:
        pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        for folder in ("train2017", "val2017"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / "000000000007.jpg")
        categories = [
            {"id": 1, "name": "acorn", "synset": "acorn.n.01", "frequency": "r"},
            {"id": 2, "name": "cow", "synset": "beef.n.01", "frequency": "f", "synonyms": ["cow"]},
            {"id": 3, "name": "cap", "synset": "cap.n.01", "frequency": "c"},
        ]
        full = [
            {
                "id": number,
                "height": HEIGHT,
                "width": WIDTH,
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
                **image,
            }
            for number, image in enumerate(images, start=1)
        ]
        data = {
            "images": full,
            "annotations": [
                {"id": number, "image_id": 1, "bbox": [1, 2, 10, 12], "area": 60, **entry}
                for number, entry in enumerate(annotations, start=1)
            ],
            "categories": options.pop("listed", categories),
        }
        file = tmp_path / "lvis.json"
        file.write_text(json.dumps(data))
        return LvisDataset(images=tmp_path, annotations=file, **options)

    return write


def test_images_lie_where_their_address_ends(lvis: Write) -> None:
    """Those of v0.5 have names of COCO 2014 besides."""
    url = "http://images.cocodataset.org/val2017/000000000007.jpg"
    names = [{"coco_url": url}, {"coco_url": url, "file_name": "COCO_val2014_000000000007.jpg"}]
    dataset = lvis([*names, {"file_name": "train2017/000000000007.jpg"}], [])
    places = [Path(dataset.place(index)).relative_to(dataset.annotation_file.parent) for index in range(3)]
    assert [str(place) for place in places] == [*["val2017/000000000007.jpg"] * 2, "train2017/000000000007.jpg"]
    assert dataset[0].image.shape == (3, HEIGHT, WIDTH)
    assert dataset.ground_truth()["images"][0]["file_name"] == "val2017/000000000007.jpg"


def test_old_names_lose_their_prefix(lvis: Write) -> None:
    dataset = lvis([{"file_name": "COCO_val2014_000000000007.jpg"}, {"file_name": "COCO_of_mine.jpg"}], [])
    assert [Path(dataset.place(index)).name for index in range(2)] == ["000000000007.jpg", "COCO_of_mine.jpg"]


def test_an_image_without_name_is_an_error(lvis: Write) -> None:
    with pytest.raises(ValueError, match=r"image 1 has neither coco_url nor file_name.*images\[0\]"):
        lvis([{}], [])


def test_ground_truth_says_what_the_file_says(lvis: Write) -> None:
    image = {"file_name": "a.jpg", "neg_category_ids": [3], "not_exhaustive_category_ids": [1, 2]}
    dataset = lvis([image], [{"category_id": 2}])
    truth = dataset.ground_truth()
    assert truth["images"][0]["neg_category_ids"] == [3]
    assert truth["images"][0]["not_exhaustive_category_ids"] == [1, 2]
    assert [entry["frequency"] for entry in truth["categories"]] == ["r", "f", "c"]
    assert truth["annotations"][0]["area"] == 60
    assert dataset.categories.names == ("acorn", "cow", "cap")


def test_categories_of_one_name_are_told_apart(lvis: Write) -> None:
    listed = [
        {"id": 1, "synonyms": ["cap", "lid"], "synset": "cap.n.02"},
        {"id": 2, "name": "cap", "synset": "cap.n.01"},
        {"id": 3, "synset": "cow.n.01"},
    ]
    dataset = lvis([{"file_name": "a.jpg"}], [], listed=listed)
    assert dataset.categories.names == ("cap (cap.n.02)", "cap (cap.n.01)", "cow.n.01")
    assert [entry["name"] for entry in dataset.ground_truth()["categories"]] == list(dataset.categories.names)


def test_annotations_are_those_of_cocos_categories(lvis: Write) -> None:
    image = {"file_name": "a.jpg", "neg_category_ids": [1, 2], "not_exhaustive_category_ids": [2, 3]}
    dataset = lvis([image], [{"category_id": 1}, {"category_id": 2}], categories="coco")
    assert dataset.categories.names == COCO.names
    assert dataset.categories.ids == COCO.ids
    assert dataset.labels(0).tolist() == [COCO.names.index("cow")]
    truth = dataset.ground_truth()
    assert [entry["category_id"] for entry in truth["annotations"]] == [21]
    assert truth["images"][0]["neg_category_ids"] == truth["images"][0]["not_exhaustive_category_ids"] == [21]
    assert len(truth["categories"]) == 80
    assert [entry["id"] for entry in truth["categories"] if "frequency" in entry] == [21]


def test_every_category_of_coco_has_a_synset() -> None:
    names = dict(zip(COCO.ids, COCO.names, strict=True))
    assert sorted(COCO_IDS.values()) == sorted(COCO.ids)
    same = [synset for synset, id in COCO_IDS.items() if synset.partition(".")[0] == names[id].replace(" ", "_")]
    assert len(same) > 50
    assert {names[COCO_IDS[synset]] for synset in ("frank.n.02", "pot.n.04", "bag.n.06")} == {
        "hot dog",
        "potted plant",
        "suitcase",
    }


def test_other_categories_are_an_error(lvis: Write) -> None:
    with pytest.raises(ValueError, match=r"lvis\.json: none of its categories has a synset"):
        lvis([{"file_name": "a.jpg"}], [], listed=[{"id": 1, "name": "cow"}], categories="coco")
    with pytest.raises(ValueError, match="there are 'lvis' and 'coco'"):
        lvis([{"file_name": "a.jpg"}], [], categories="voc")


@pytest.mark.parametrize(
    ("files", "images", "expected"),
    [
        (
            ["lvis/lvis_v0.5_train.json", "lvis/lvis_v1_train.json", "lvis/lvis_v1_val.json", "lvis/other.json"],
            ["coco/train2017"],
            {"train": ("coco", "lvis/lvis_v1_train.json"), "val": ("coco", "lvis/lvis_v1_val.json")},
        ),
        (
            ["lvis_v1_image_info_test_challenge.json", "lvis_v1_image_info_test_dev.json"],
            ["test2017"],
            {"test": (".", "lvis_v1_image_info_test_dev.json")},
        ),
        (["annotations/lvis_v1_val.json"], ["val2017"], {"val": (".", "annotations/lvis_v1_val.json")}),
        (["annotations/lvis_v1_val.json", "annotations/instances_val2017.json"], ["val2017"], None),
        (["lvis/lvis_v0.5_val_cocofied.json"], ["coco/val2017"], None),
    ],
    ids=["Detectron2", "test", "MMDetection", "COCO", "others"],
)
def test_layouts_are_recognised(
    tmp_path: Path, files: list[str], images: list[str], expected: dict[str, tuple[str, str]] | None
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    for name in images:
        (tmp_path / name).mkdir(parents=True)
    if expected is not None:
        expected = {
            split: {"images": tmp_path / folder, "annotations": tmp_path / file}
            for split, (folder, file) in expected.items()
        }
    assert find_splits(tmp_path) == expected


def test_images_may_lie_beside_the_annotations(tmp_path: Path) -> None:
    make_lvis(tmp_path, images=2, val_images=1)
    splits = find_splits(tmp_path / "lvis")
    assert splits is not None
    assert splits["val"]["images"] == tmp_path / "coco"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Crowds become classes that are not annotated completely, and classes are counted in the images of train."""
    make_lvis(tmp_path / "one", images=12, val_images=4)
    train, val = open_split(tmp_path / "one"), open_split(tmp_path / "one", "val")
    data = json.loads((tmp_path / "one/lvis/lvis_v1_train.json").read_text())
    assert not any("iscrowd" in entry for entry in data["annotations"])
    assert any(image["not_exhaustive_category_ids"] for image in data["images"])
    assert {entry["frequency"] for entry in data["categories"]} == {"r"}
    here = {(entry["image_id"], entry["category_id"]) for entry in data["annotations"]}
    assert not any((image["id"], id) in here for image in data["images"] for id in image["neg_category_ids"])
    for entry in data["categories"]:
        assert entry["image_count"] == sum(id == entry["id"] for _, id in here)
    LvisWriter(version="v0.5").write({"train": train, "val": val}, tmp_path / "two")
    again = open_split(tmp_path / "two")
    assert isinstance(again, LvisDataset)
    assert again.annotation_file.name == "lvis_v0.5_train.json"
    assert json.loads(again.annotation_file.read_text())["images"][0]["file_name"] == "COCO_train2014_000000000001.jpg"
    assert len(again) == len(train)
    for index in range(len(train)):
        one, two = train[index], again[index]
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.target["boxes"], two.target["boxes"])
        assert torch.equal(one.target["labels"], two.target["labels"])
    lists = ("neg_category_ids", "not_exhaustive_category_ids")
    for one, two in zip(train.ground_truth()["images"], again.ground_truth()["images"], strict=True):
        assert [one[name] for name in lists] == [two[name] for name in lists]


def test_practice_data_have_classes_of_coco(tmp_path: Path) -> None:
    make_lvis(tmp_path, images=12)
    splits = find_splits(tmp_path)
    assert splits is not None
    dataset = LvisDataset(**splits["train"], categories="coco")
    _, labels = dataset.all_labels()
    assert {dataset.categories.names[label] for label in labels.tolist()} == {"sports ball", "book", "pizza"}


@pytest.mark.parametrize("make", [make_lvis, make_objects365])
def test_annotations_are_cached_by_what_is_read_of_them(
    make: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SMALL", 0)
    make(tmp_path, images=4, val_images=1)
    first, second = open_split(tmp_path), open_split(tmp_path)
    assert isinstance(second, AnnotatedImages)
    assert second._columns.file is not None
    for index in range(len(first)):
        assert torch.equal(first[index].target["boxes"], second[index].target["boxes"])
    if isinstance(second, LvisDataset):
        other = LvisDataset(second.folder, second.annotation_file, categories="coco")
        assert len(other.categories) == 80
        assert other._columns.file != second._columns.file
