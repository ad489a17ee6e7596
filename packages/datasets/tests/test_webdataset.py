from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from det_datasets.coco.write import CocoWriter
from det_datasets.shapes.make import make_shapes
from det_datasets.webdataset import samples
from det_datasets.webdataset.command import main, make_webdataset
from det_datasets.webdataset.dataset import WebDataset
from det_datasets.webdataset.writer import WebDatasetWriter
from detkit.data.source import find_splits, open_split
from detkit.interfaces import Dataset
from detkit.testing.dataset import DatasetContract


class TestWebDataset(DatasetContract):
    name = "webdataset"

    def make(self, folder: Path) -> Dataset:
        make_webdataset(folder)
        return open_split(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_shard(path: Path, files: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(buffer, "JPEG")
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            data = buffer.getvalue() if data == b"image" else data
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    (path.parent / "categories.json").write_text('[{"id": 3, "name": "cat"}]')


def sample(**changes: Any) -> dict[str, Any]:
    box = {"bbox": [1, 2, 10, 10], "category_id": 3}
    return {"height": 30, "width": 40, "annotations": [box], **changes}


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", images=7, val_images=2, size=64, seed=3, keypoints=True)
    plain = {name: split.open() for name, split in find_splits(tmp_path / "shapes").items()}
    WebDatasetWriter(shard_size=3).write(plain, tmp_path / "shards")
    assert sorted(path.name for path in (tmp_path / "shards").glob("train*.tar")) == [
        f"train-00000{number}.tar" for number in range(3)
    ]
    for split, expected in plain.items():
        found = open_split(tmp_path / "shards", split)
        assert isinstance(found, WebDataset)
        assert found.categories == expected.categories
        assert len(found) == len(expected)
        for index in range(len(expected)):
            ours, theirs = found[index], expected[index]
            assert ours.info["image_id"] == theirs.info["image_id"]
            assert torch.equal(ours.image, theirs.image)
            for key in ("boxes", "labels", "crowd", "polygons", "keypoints"):
                assert torch.equal(ours.target[key], theirs.target[key])
        truth = found.ground_truth()
        names = {image["id"]: image["file_name"] for image in truth["images"]}
        assert set(names.values()) == {str(found.place(index)).rpartition("::")[2] for index in range(len(found))}
        assert truth["annotations"] == expected.ground_truth()["annotations"]


def test_the_same_samples_make_the_same_shards(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_webdataset(tmp_path / name, images=3)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_annotations_are_gathered_once_for_each_state_of_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path / "train-0.tar", {"a.jpg": b"image", "a.json": sample()})
    open_split(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(samples, "_read_samples", None)
        assert len(open_split(tmp_path)) == 1
    write_shard(
        tmp_path / "train-0.tar", {"a.jpg": b"image", "a.json": sample(), "b.jpg": b"image", "b.json": sample()}
    )
    assert len(open_split(tmp_path)) == 2


def test_ids_are_those_of_the_samples_or_counted(tmp_path: Path) -> None:
    files = {"x/b.jpg": b"image", "x/b.json": sample(), "x/a.JPG": b"image", "x/a.json": sample(annotations=[])}
    write_shard(tmp_path / "train-0.tar", files)
    dataset = open_split(tmp_path)
    assert [dataset[index].info["image_id"] for index in range(2)] == [1, 2]
    assert [len(entry.target["labels"]) for entry in dataset] == [1, 0]
    for name, id in (("x/b.json", 70), ("x/a.json", 8)):
        files[name] = {**files[name], "id": id}
    write_shard(tmp_path / "train-0.tar", files)
    dataset = open_split(tmp_path)
    assert [dataset[index].info["image_id"] for index in range(2)] == [8, 70]


def test_further_files_of_a_sample_are_left_alone(tmp_path: Path) -> None:
    files = {"a.jpg": b"image", "a.json": sample(), "a.mask.png": b"image", "a.txt": b"a cat", "README": b""}
    write_shard(tmp_path / "train-0.tar", files)
    assert open_split(tmp_path)[0].info["path"].endswith("train-0.tar::a.jpg")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jpg": b"image"}, r"train-0\.tar has a\.jpg but no a\.json: write one"),
        ({"a.json": sample()}, r"train-0\.tar has a\.json but no image a\.jpg"),
        ({"a.jpg": b"image", "a.json": b"[]"}, r"train-0\.tar::a\.json is not a JSON object"),
        ({"a.jpg": b"image", "a.json": b"{"}, r"train-0\.tar::a\.json is not a JSON object"),
        ({"a.jpg": b"image", "a.json": {"height": 1, "width": 1}}, r"a\.json has no list of objects `annotations`"),
        ({"a.jpg": b"image", "a.json": {"annotations": []}}, r"a\.json has no `height` and `width`"),
        (
            {"a.jpg": b"image", "a.json": sample(id=3), "b.jpg": b"image", "b.json": sample()},
            r"b\.json and the samples before it differ in whether they have an `id`",
        ),
    ],
)
def test_incomplete_samples_are_named(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    write_shard(tmp_path / "train-0.tar", files)
    with pytest.raises(ValueError, match=message):
        open_split(tmp_path)


def test_categories_must_be_there(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", {"a.jpg": b"image", "a.json": sample()})
    (tmp_path / "categories.json").rename(tmp_path / "classes.json")
    with pytest.raises(ValueError, match=r"cannot read the categories .*categories\.json"):
        WebDataset(tmp_path / "train-0.tar")
    assert len(WebDataset(tmp_path / "train-0.tar", tmp_path / "classes.json")) == 1
    with pytest.raises(ValueError, match="is no tar file, nor a folder of tar files"):
        WebDataset(tmp_path / "elsewhere")


def test_shards_at_a_url(tmp_path: Path) -> None:
    make_webdataset(tmp_path / "shards")
    url = f"file://{tmp_path}/shards/train-*.tar"
    (tmp_path / "data.yaml").write_text(f'train: {{name: webdataset, shards: "{url}"}}\n')
    remote, local = open_split(tmp_path / "data.yaml"), open_split(tmp_path / "shards")
    assert len(remote) == len(local) == 12
    assert remote[11].info["path"] == f"file://{tmp_path}/shards/train-000002.tar::train_000012.jpg"
    assert torch.equal(remote[11].image, local[11].image)


def test_the_command_writes_what_can_be_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "out"), "--images", "3", "--val-images", "1"]) == 0
    assert "wrote" in capsys.readouterr().out
    assert {name: len(split.open()) for name, split in find_splits(tmp_path / "out").items()} == {"train": 3, "val": 1}


def test_images_in_shards_cannot_stay_where_they_are(tmp_path: Path) -> None:
    make_webdataset(tmp_path / "shards")
    dataset = open_split(tmp_path / "shards")
    with pytest.raises(ValueError, match="not files of this machine; copy them with --images copy"):
        CocoWriter(images="keep").write({"train": dataset}, tmp_path / "out")
