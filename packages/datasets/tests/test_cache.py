from __future__ import annotations

import copy
import json
import logging
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from det_datasets import cache
from det_datasets.coco.dataset import CocoDataset
from det_datasets.columns import Columns

Write = Callable[..., CocoDataset]
SQUARE = [[10, 5, 30, 5, 30, 15, 10, 15]]
ANNOTATIONS: list[dict[str, Any]] = [
    {"bbox": [10, 5, 20, 10], "segmentation": SQUARE},
    {"bbox": [1, 2, 3, 4], "segmentation": [[1, 2]], "keypoints": [3, 4, 2]},
    {"image_id": 2, "segmentation": {"size": [30, 40], "counts": [600, 600]}, "iscrowd": 1},
    {"image_id": 9, "bbox": [1, 2, 3, 4]},
]
CATEGORIES = [{"id": 3, "name": "cat", "supercategory": "animal", "keypoints": ["nose"]}, {"id": 1, "name": "dög"}]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's, which keeps small files too."""
    monkeypatch.setattr(cache, "SMALL", 0)
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "annotations"


def write(coco: Write) -> CocoDataset:
    return coco(ANNOTATIONS, images=3, categories=CATEGORIES)


def again(dataset: CocoDataset, **options: Any) -> CocoDataset:
    return CocoDataset(images=dataset.folder, annotations=dataset.annotation_file, **options)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def assert_equal(one: CocoDataset, other: CocoDataset) -> None:
    assert one.categories == other.categories
    assert one.problems == other.problems
    tensors, others = one._columns.tensors(), other._columns.tensors()
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == others[name].dtype
        assert torch.equal(tensor, others[name]), name


def test_what_is_opened_again_is_equal(
    coco: Write, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DETKIT_CACHE_ANNOTATIONS", "0")
    plain = write(coco)
    assert not entries(folder)
    monkeypatch.delenv("DETKIT_CACHE_ANNOTATIONS")
    first = again(plain)
    assert len(entries(folder)) == 1
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("det_datasets.coco.dataset.CocoFile", None)  # it is not read
        second = again(plain)
    for dataset in (first, second):
        assert_equal(dataset, plain)
        assert dataset._columns.file == entries(folder)[0]
        assert dataset.ground_truth() == plain.ground_truth()
    assert [sample.target["boxes"].tolist() for sample in second] == [s.target["boxes"].tolist() for s in plain]
    assert "1 belong to images that the file does not list: left out" in caplog.text


def test_small_files_are_not_kept(coco: Write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALL", 4097)  # a file counts as 4 KB at least
    assert write(coco)._columns.file is None
    assert not entries(folder)


def test_another_file_is_read_anew(coco: Write, folder: Path) -> None:
    dataset = write(coco)
    state = dataset.annotation_file.stat()
    dataset.annotation_file.write_text(dataset.annotation_file.read_text().replace("[1, 2, 3, 4]", "[1, 2, 3, 5]"))
    os.utime(dataset.annotation_file, ns=(state.st_atime_ns, state.st_mtime_ns))
    changed = again(dataset)
    assert changed[0].target["boxes"].tolist() == [[10, 5, 30, 15], [1, 2, 4, 7]]
    assert len(entries(folder)) == 2


def test_other_arguments_and_readers_have_their_own(coco: Write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write(coco)
    assert len(again(dataset, min_keypoints=1)) == 1
    assert again(dataset, keypoints={"names": ["tip"]}).categories.keypoints != dataset.categories.keypoints
    monkeypatch.setattr(cache, "FORMAT", 0)
    assert_equal(again(dataset), dataset)
    assert len(entries(folder)) == 4


def damage(path: Path, at: int, length: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 16
    path.unlink()  # what is mapped stays as it is
    path.write_bytes(content[:length])


def test_a_damaged_file_is_noticed_and_written_anew(
    coco: Write, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = write(coco)
    (path,) = entries(folder)
    good = path.read_bytes()
    for at in [*range(0, len(good), 97), -1]:
        damage(path, at)
        caplog.clear()
        assert_equal(again(dataset), dataset)
        assert f"{path} is damaged" in caplog.text
        assert cache._open(path) is not None
    for length in (0, 5, 100, len(good) - 1):
        damage(path, 0, length)
        assert_equal(again(dataset), dataset)
        assert cache._open(path) is not None
    assert entries(folder) == [path]


def test_where_nothing_can_be_written_annotations_stay_in_memory(
    coco: Write, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.parent.write_text("a file is where the folder should be")
    dataset = write(coco)
    assert dataset._columns.file is None
    assert len(dataset[0].target["boxes"]) == 2
    assert caplog.text.count("annotations cannot be kept in") == 1


def test_a_full_disk_leaves_nothing_behind(
    coco: Write, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "save_file", fail)
    assert len(write(coco)[0].target["boxes"]) == 2
    assert "No space left on device" in caplog.text
    assert not entries(folder)


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    coco: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write(coco)
    before = entries(folder)

    def slow() -> cache.Annotations:
        dataset.annotation_file.write_text("something else")
        return cache.Annotations(dataset._columns, dataset.categories, dataset.problems)

    cache.cached(slow, reader="slow 1", sources=[dataset.annotation_file])
    assert entries(folder) == before


def test_what_a_missing_file_means_is_the_readers_business(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read the annotation file"):
        CocoDataset(tmp_path, tmp_path / "none.json")


def test_watched_files_count_with_path_size_and_time(coco: Write, folder: Path, tmp_path: Path) -> None:
    dataset, watched = write(coco), tmp_path / "watched"
    made = cache.Annotations(dataset._columns, dataset.categories, dataset.problems, {"more": [1]})
    calls = []

    def build() -> cache.Annotations:
        calls.append(1)
        return made

    for content, seconds, builds in (("a", 1, 1), ("a", 1, 1), ("ab", 1, 2), ("ab", 2, 3), ("cd", 2, 3)):
        watched.write_text(content)
        os.utime(watched, (seconds, seconds))
        assert cache.cached(build, reader="watching 1", watched=[watched]).extra == {"more": [1]}
        assert len(calls) == builds


def test_what_was_not_used_for_longest_is_deleted(coco: Write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write(coco)
    kept = entries(folder)[0]
    for name, days in (("old.safetensors", 9), ("older.safetensors", 10), (".x.partial", 2), ("young.safetensors", 0)):
        (folder / name).write_bytes(bytes(1000))
        os.utime(folder / name, (time.time() - days * 86400,) * 2)
    monkeypatch.setattr(cache, "LIMIT", 2 * kept.stat().st_size + 3300)
    again(dataset, min_keypoints=1)
    assert {path.name for path in entries(folder)} >= {kept.name, "old.safetensors", "young.safetensors"}
    assert len(entries(folder)) == 4
    monkeypatch.setattr(cache, "LIMIT", 0)
    again(dataset, keypoints={"names": ["tip"]})
    assert "old.safetensors" not in {path.name for path in entries(folder)}
    assert kept in entries(folder)  # others may have it open


def test_a_pickle_names_the_file_where_there_is_one(coco: Write, folder: Path) -> None:
    columns = write(coco)._columns
    sent = pickle.dumps(columns)
    assert len(sent) < 500
    found = pickle.loads(sent)
    assert found.file == columns.file
    assert all(torch.equal(tensor, found.tensors()[name]) for name, tensor in columns.tensors().items())
    assert columns.file is not None
    columns.file.unlink()
    found = pickle.loads(pickle.dumps(columns))
    assert found.file is None
    assert all(torch.equal(tensor, found.tensors()[name]) for name, tensor in columns.tensors().items())
    assert isinstance(copy.copy(found), Columns)


def open_and_report(images: Path, annotations: Path, start: Any, results: Any) -> None:
    cache.SMALL = 0
    start.wait()
    results.put(json.dumps([sample.target["boxes"].tolist() for sample in CocoDataset(images, annotations)]))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from Python 3.12 on
def test_two_processes_may_build_at_once(coco: Write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("DETKIT_CACHE_ANNOTATIONS", "0")
        dataset = write(coco)
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    arguments = (dataset.folder, dataset.annotation_file, start, results)
    processes = [context.Process(target=open_and_report, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    expected = json.dumps([sample.target["boxes"].tolist() for sample in dataset])
    assert [results.get(timeout=60) for _ in processes] == [expected] * 3
    for process in processes:
        process.join()
    assert [path.suffix for path in entries(folder)] == [".safetensors"]
    assert_equal(again(dataset), dataset)
