from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detkit.data.proposals import read_proposals, write_proposals

BOXES = [np.array([[0, 0, 5, 5], [1, 1, 9, 9], [3, 3, 3, 8]], np.float32), np.zeros((0, 4), np.float32)]
SCORES = [np.array([0.5, 2.0, 9.0], np.float32), np.zeros(0, np.float32)]


def detectron2(**changes: Any) -> dict[str, Any]:
    return {"ids": [7, 5], "boxes": BOXES, "objectness_logits": SCORES, "bbox_mode": 0, **changes}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    write_proposals(tmp_path / "a.npz", [7, 5], BOXES, SCORES, ["7.jpg", "b.jpg"])
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(detectron2()))
    return {kind: tmp_path / f"a.{kind}" for kind in ("npz", "pkl")}


@pytest.mark.parametrize("kind", ["npz", "pkl"])
def test_each_image_has_its_boxes_best_first_without_empty_ones(files: dict[str, Path], kind: str) -> None:
    table = read_proposals(files[kind])
    boxes, scores = table.of_image(7)
    assert boxes.tolist() == [[1, 1, 9, 9], [0, 0, 5, 5]]
    assert scores.tolist() == [2.0, 0.5]
    assert [len(each) for each in table.of_image(5)] == [0, 0]


@pytest.mark.parametrize("kind", ["npz", "pkl"])
def test_images_are_found_by_their_files(files: dict[str, Path], kind: str) -> None:
    table = read_proposals(files[kind])
    assert len(table.of_file("folder/7.jpg", 1)[0]) == 1
    with pytest.raises(ValueError, match=r"no images called c\.jpg|must be called by its id"):
        table.of_file("c.jpg", 1)


def test_an_image_that_is_not_there_is_named(files: dict[str, Path]) -> None:
    table = read_proposals(files["npz"])
    table.require([5, 7])
    with pytest.raises(ValueError, match=r"a\.npz has no proposals for 2 of 3 images, image 9 first"):
        table.require([5, 9, 11])
    with pytest.raises(ValueError, match="has no proposals for image 6"):
        table.of_image(6)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bbox_mode": 1}, [[1, 1, 10, 10], [0, 0, 5, 5], [3, 3, 6, 11]]),
        ({"ids": ["7", "5"]}, [[1, 1, 9, 9], [0, 0, 5, 5]]),
    ],
)
def test_detectron2s_variants_are_read(tmp_path: Path, changes: Any, expected: Any) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(detectron2(**changes)))
    assert sorted(read_proposals(tmp_path / "a.pkl").of_image(7)[0].tolist()) == sorted(expected)


def test_detectrons_names_are_read(tmp_path: Path) -> None:
    old = {"indexes": [7, 5], "boxes": BOXES, "scores": SCORES}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(old))
    assert len(read_proposals(tmp_path / "a.pkl").of_image(7)[0]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": [7]}, "lists differ in length"),
        ({"ids": [7, 7]}, "image_ids must be different"),
        ({"ids": ["x", "y"]}, "not a file of proposals"),
        ({"bbox_mode": 4}, "bbox_mode is 4"),
        ({"objectness_logits": SCORES[::-1]}, "not as many objectness_logits as boxes"),
        ({"boxes": [BOXES[0] * np.nan, BOXES[1]]}, "not finite"),
    ],
)
def test_a_pickle_that_makes_no_sense_is_explained(tmp_path: Path, changes: Any, message: str) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(detectron2(**changes)))
    with pytest.raises(ValueError, match=rf"a\.pkl is not a file of proposals: .*{message}|{message}"):
        read_proposals(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": np.zeros((3, 5))}, r"boxes \(3, 5\)"),
        ({"offsets": np.array([0, 3])}, "offsets must rise from 0 to 3, 3 of them"),
        ({"offsets": np.array([0, 4, 3])}, "offsets must rise"),
        ({"offsets": np.array([0.0, 3, 3])}, "offsets must rise"),
        ({"image_ids": np.array(["a", "b"])}, "image_ids must be different whole numbers"),
        ({"file_names": np.array(["a"])}, "file_names"),
        ({"scores": None}, "it has no scores; it has image_ids"),
    ],
)
def test_arrays_that_make_no_sense_are_explained(tmp_path: Path, changes: Any, message: str) -> None:
    arrays = {
        "image_ids": np.array([7, 5]),
        "offsets": np.array([0, 3, 3]),
        "boxes": np.concatenate(BOXES),
        "scores": np.concatenate(SCORES),
    }
    np.savez(tmp_path / "a.npz", **{name: value for name, value in {**arrays, **changes}.items() if value is not None})
    with pytest.raises(ValueError, match=rf"a\.npz is not a file of proposals: {message}"):
        read_proposals(tmp_path / "a.npz")


@pytest.mark.parametrize(("name", "content"), [("a.npz", b"PK nonsense"), ("a.pkl", b"nonsense"), ("a.npz", b"")])
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        read_proposals(tmp_path / name)


def test_a_missing_or_strange_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.npz cannot be read: No such file"):
        read_proposals(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"\.npz \(detkit's\) or \.pkl"):
        read_proposals(tmp_path / "a.json")


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("owned",))


def test_code_in_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(detectron2(extra=Hostile())))
    with pytest.raises(ValueError, match="read safely"):
        read_proposals(tmp_path / "a.pkl")
    assert not (tmp_path / "owned").exists()


def test_what_ties_keeps_its_order_and_nothing_is_kept_per_image(tmp_path: Path) -> None:
    boxes = [np.array([[0, 0, n + 1, 1]] * 3, np.float32) + np.arange(3)[:, None] for n in range(4)]
    write_proposals(tmp_path / "a.npz", [4, 3, 2, 1], boxes, [np.zeros(3, np.float32)] * 4, list("abcd"))
    table = read_proposals(tmp_path / "a.npz")
    assert table.of_image(2)[0][:, 0].tolist() == [0, 1, 2]
    assert table.boxes.shape == (12, 4)
    assert table.boxes.dtype == torch.float32
