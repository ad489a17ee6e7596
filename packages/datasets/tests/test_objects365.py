from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from det_datasets.objects365.dataset import Objects365Dataset
from det_datasets.objects365.layout import find_splits
from det_datasets.objects365.make import Objects365Writer, make_objects365
from detkit.data.source import open_split


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_objects365(tmp_path, images=12, val_images=2, size=48)
    return tmp_path


def changed(folder: Path, **entries: Any) -> Objects365Dataset:
    """The training images, with other entries at the top of their file: name -> function of what is there."""
    file = folder / "annotations/zhiyuan_objv2_train.json"
    data = json.loads(file.read_text())
    for name, change in entries.items():
        data[name] = change(data[name])
    file.write_text(json.dumps(data))
    return Objects365Dataset(images=folder / "train", annotations=file)


def test_images_lie_in_patches(folder: Path) -> None:
    dataset = open_split(folder)
    assert isinstance(dataset, Objects365Dataset)
    places = [str(Path(dataset.place(index)).relative_to(folder)) for index in (0, 5, 11)]
    assert places == [f"train/patch{patch}/objects365_v1_{n:08}.jpg" for patch, n in ((0, 1), (1, 6), (2, 12))]
    assert dataset.ground_truth()["images"][5]["file_name"] == "patch1/objects365_v1_00000006.jpg"
    assert open_split(folder, "val").image_id(0) == 13


@pytest.mark.parametrize("kind", ["images/v1", "v1", ""], ids=["as in the names", "without images/", "one folder"])
def test_images_may_lie_in_other_folders(folder: Path, kind: str) -> None:
    before = open_split(folder)[7]
    for patch in sorted((folder / "train").glob("patch*")):
        target = folder / "train" / kind / (patch.name if kind else "")
        target.mkdir(parents=True, exist_ok=True)
        for image in sorted(patch.iterdir()):
            image.rename(target / image.name)
        patch.rmdir()
    after = open_split(folder)[7]
    assert torch.equal(after.image, before.image)


def test_flags_are_kept_and_choose_objects(folder: Path) -> None:
    flags = [{"isfake": 1}, {"isreflected": 1}, {"iscrowd": 1}]
    plain = changed(
        folder,
        annotations=lambda them: [{**entry, **flag} for entry, flag in zip(them, [*flags, *[{}] * 99], strict=False)],
    )
    kinds: list[tuple[Any, int]] = [((), 0), (("fake",), 1), (("reflected", "fake"), 2)]
    total = len(plain.ground_truth()["annotations"])
    for without, fewer in kinds:
        dataset = Objects365Dataset(plain.folder, plain.annotation_file, without=without)
        assert len(dataset.all_labels()[1]) == total - fewer
        assert len(dataset.ground_truth()["annotations"]) == total - fewer
    assert plain.ground_truth()["annotations"][0]["isfake"] == 1
    crowds = sum(int(plain[index].target["crowd"].sum()) for index in range(len(plain)))
    assert crowds == sum(entry["iscrowd"] for entry in plain.ground_truth()["annotations"])
    with pytest.raises(ValueError, match="without has drawn; there are fake, reflected"):
        Objects365Dataset(plain.folder, plain.annotation_file, without=["drawn"])  # type: ignore[list-item]


def test_images_that_are_in_no_archive_are_left_out(folder: Path) -> None:
    def rename(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
        images[2]["file_name"] = "images/v1/patch6/objects365_v1_00320532.jpg"
        return images

    whole = open_split(folder)
    dataset = changed(folder, images=rename)
    assert len(dataset) == len(whole) - 1
    assert dataset.problems == {"images are in none of the archives: left out": 1}
    assert len(dataset.all_labels()[1]) == len(whole.all_labels()[1]) - len(whole.labels(2))
    assert len(dataset.ground_truth()["images"]) == len(dataset)


def test_an_annotation_of_another_type_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected `int`, got `str` - at `\$\.annotations\[1\]\.category_id`"):
        changed(folder, annotations=lambda them: [them[0], {**them[1], "category_id": "chair"}])


def test_the_first_version_is_written_and_read(folder: Path, tmp_path: Path) -> None:
    splits = {name: open_split(folder, name) for name in ("train", "val")}
    Objects365Writer(version="v1").write(splits, tmp_path / "v1")
    found = find_splits(tmp_path / "v1")
    assert found is not None
    assert found["val"] == {
        "images": tmp_path / "v1/val",
        "annotations": tmp_path / "v1/annotations/objects365_val.json",
    }
    dataset = open_split(tmp_path / "v1")
    assert isinstance(dataset, Objects365Dataset)
    assert Path(dataset.place(0)).name == "obj365_train_000000000001.jpg"
    for index in range(len(dataset)):
        one, two = dataset[index], splits["train"][index]
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.target["boxes"], two.target["boxes"])
        assert torch.equal(one.target["crowd"], two.target["crowd"])


def test_annotations_may_lie_with_the_images(tmp_path: Path) -> None:
    for name in ("train/zhiyuan_objv2_train.json", "zhiyuan_objv2_val.json", "images/val/patch0/0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert find_splits(tmp_path) == {
        "train": {"images": tmp_path / "train", "annotations": tmp_path / "train/zhiyuan_objv2_train.json"},
        "val": {"images": tmp_path / "images/val", "annotations": tmp_path / "zhiyuan_objv2_val.json"},
    }
