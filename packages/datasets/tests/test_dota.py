"""DOTA: what is read and written, and how rotated boxes are measured."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from det_datasets.annotated import AnnotatedImages
from det_datasets.columns import ColumnsBuilder
from det_datasets.dota.dataset import DotaDataset
from det_datasets.dota.labels import NAMES
from det_datasets.dota.make import DotaWriter, make_dota
from det_datasets.quads import corners
from det_datasets.voc.evaluator import VocEvaluator
from detkit.data.source import find_splits, open_split
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction

HEIGHT, WIDTH = 60, 90
PLANE = "10.0 10.0 30.0 10.0 30.0 20.0 10.0 20.0 plane 1"


def write(folder: Path, labels: dict[str, str], split: str = "train", texts: str = "labelTxt") -> Path:
    """Images with these labels."""
    (folder / split / "images").mkdir(parents=True, exist_ok=True)
    (folder / split / texts).mkdir(exist_ok=True)
    for name, text in labels.items():
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / split / "images" / f"{name}.png")
        (folder / split / texts / f"{name}.txt").write_text(f"imagesource:GoogleEarth\ngsd:0.14\n{text}")
    return folder


def test_corners_become_rotated_boxes(tmp_path: Path) -> None:
    """Counter-clockwise, the longer side first; lines may lack the last number, files the first two lines."""
    text = f"{PLANE}\n50 40 50 20 54 20 54 40 ship\n"
    data = DotaDataset(write(tmp_path, {"P0001": text, "P0000": ""}))
    (tmp_path / "train" / "labelTxt" / "P0000.txt").write_text(PLANE)
    assert data.rotated
    assert [data.image_id(index) for index in range(2)] == ["P0000", "P0001"]
    boxes = data[1].target["boxes"].as_subclass(torch.Tensor)
    assert boxes[0].tolist() == [20, 15, 20, 10, 0]
    assert boxes[1, :4].tolist() == [52, 30, 20, 4]
    assert boxes[1, 4] == pytest.approx(-90)
    assert data.difficult(1).tolist() == [True, False]
    assert [data.categories.names[label] for label in data.labels(1)] == ["plane", "ship"]
    assert data.ground_truth()["annotations"][0]["bbox"] == [20, 15, 20, 10, 0]
    assert len(data.labels(0)) == 0
    assert len(DotaDataset(tmp_path).labels(0)) == 1


def test_classes_are_those_of_the_version_that_occurs(tmp_path: Path) -> None:
    """In any split, so that train and val have the same."""
    folder = write(tmp_path, {"a": PLANE})
    assert len(DotaDataset(folder).categories) == 15
    write(folder, {"b": PLANE.replace("plane", "container-crane")}, "val")
    assert DotaDataset(folder).categories.names == NAMES[:16]
    write(folder, {"c": PLANE.replace("plane", "airport")}, "val")
    assert DotaDataset(folder).categories.names == NAMES
    assert DotaDataset(folder, version="1.5").categories.names == NAMES[:16]
    assert DotaDataset(folder, classes=["plane"]).categories.names == ("plane",)
    with pytest.raises(ValueError, match=r"c\.txt has an object of class 'airport'"):
        DotaDataset(folder, "val", version="1.5")
    with pytest.raises(ValueError, match=r"version is '3'; there are 1.0, 1.5, 2.0"):
        DotaDataset(folder, version="3")


def test_folders(tmp_path: Path) -> None:
    """The newest labels, where no folder is labelTxt; a test set without; other names."""
    write(tmp_path, {"a": PLANE}, texts="labelTxt-v1.0")
    write(tmp_path, {"a": f"{PLANE}\n{PLANE.replace('10.0', '12.0')}\n"}, texts="labelTxt-v1.5")
    (tmp_path / "test" / "images").mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "test" / "images" / "t.png")
    splits = {name: split.open() for name, split in find_splits(tmp_path).items()}
    assert {name: [len(split.labels(0)), split.size(0)] for name, split in splits.items()} == {
        "train": [2, (HEIGHT, WIDTH)],
        "test": [0, (HEIGHT, WIDTH)],
    }
    assert len(DotaDataset(tmp_path, labels="labelTxt-v1.0").labels(0)) == 1
    assert DotaDataset.splits(tmp_path / "test") is None
    with pytest.raises(ValueError, match=r"there is no folder .*other with labels"):
        DotaDataset(tmp_path, labels="other")
    with pytest.raises(ValueError, match=r"there are no images in .*val"):
        DotaDataset(tmp_path, "val")
    (tmp_path / "train" / "labelTxt-v1.5" / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"cannot read the labels .*a\.txt"):
        DotaDataset(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["1 2 3 4 5 6 7 8", "1 2 3 4 5 6 7 nan plane 0", "1 2 3 4 5 6 7 x plane 0", "1 2 3 4 5 6 7 8 plane 0 0", "a b"],
)
def test_lines_that_make_no_sense_are_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"a\.txt:4: '.*'; x1 y1 x2 y2 x3 y3 x4 y4 class difficult are needed"):
        DotaDataset(write(tmp_path, {"a": f"{PLANE}\n{text}"}))


def test_what_can_be_mended_is_counted(tmp_path: Path) -> None:
    data = DotaDataset(write(tmp_path, {"a": f"{PLANE}\n{PLANE}\n5 5 9 9 5 5 9 9 ship 0"}))
    assert len(data.labels(0)) == 1
    assert data.problems["lines repeat another one of the same image: left out"] == 1
    assert data.problems["objects have an empty box: left out"] == 1


def test_practice_data_is_read_alike_in_a_worker(tmp_path: Path) -> None:
    make_dota(tmp_path, images=6, val_images=2, size=64)
    data = open_split(tmp_path)
    again = pickle.loads(pickle.dumps(data))
    assert isinstance(data, DotaDataset)
    for index in range(len(data)):
        sample, other = data[index], again[index]
        assert torch.equal(sample.image, other.image)
        assert torch.equal(sample.target["boxes"], other.target["boxes"])
        assert tuple(sample.image.shape[1:]) == data.size(index)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """To a hundredth of a pixel."""
    folder, builder = tmp_path_factory.mktemp("dota"), ColumnsBuilder(rotated=True)
    for number in range(2):
        builder.image(f"i{number}", f"i{number}.jpg", HEIGHT, WIDTH)
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"i{number}.jpg")
        for row in range(data.draw(st.integers(0, 3))):
            share = st.floats(0, 1)
            box = (row + data.draw(share) * 80, data.draw(share) * 50, 5 + row, 2, data.draw(st.integers(-90, 89)))
            builder.object(data.draw(st.integers(0, 2)), box, difficult=data.draw(st.booleans()))
    given = AnnotatedImages(
        source=folder,
        images=folder,
        columns=builder.build(),
        categories=Categories(NAMES[:3]),
        problems=Counter(),
    )
    DotaWriter().write({"train": given}, folder / "out")
    found = open_split(folder / "out")
    assert isinstance(found, DotaDataset)
    for index in range(2):
        assert found.image_id(index) == given.image_id(index)
        assert torch.equal(found.labels(index), given.labels(index))
        assert torch.equal(found.difficult(index), given.difficult(index))
        ours, theirs = (corners(np.asarray(each[index].target["boxes"], float)) for each in (found, given))
        for quad in range(len(ours)):  # the same corners, whichever is the first
            distance = np.abs(ours[quad][:, None] - theirs[quad]).max(axis=-1).min(axis=1)
            assert distance.max() < 0.05


def test_rotated_boxes_are_measured_with_vocs_rules(tmp_path: Path) -> None:
    """Against overlaps of polygons."""
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(15, 45, (6, 2)), rng.uniform(8, 20, (6, 2)), rng.uniform(-90, 90, 6)])
    lines = [f"{' '.join(f'{value:.3f}' for value in quad.ravel())} plane 0" for quad in corners(boxes)]
    data = DotaDataset(write(tmp_path, {"a": "\n".join(lines)}))
    found = boxes + rng.normal(0, 1, boxes.shape)
    scores = rng.permutation(6) / 6
    overlaps = np.zeros((6, 6))
    for row, each in enumerate(shapely.polygons(corners(found))):
        for column, other in enumerate(shapely.polygons(corners(boxes))):
            overlaps[row, column] = each.intersection(other).area / each.union(other).area
    taken, curve, right = set(), [], 0
    for count, row in enumerate(np.argsort(-scores), start=1):
        target = int(overlaps[row].argmax())
        right += overlaps[row, target] > 0.75 and target not in taken
        taken |= {target} if overlaps[row, target] > 0.75 else set()
        curve.append((right / 6, right / count))
    expected, before = 0.0, 0.0
    for position, (recall, _) in enumerate(curve):
        expected += (recall - before) * max(precision for _, precision in curve[position:])
        before = recall
    evaluator = VocEvaluator()
    evaluator.start(data)
    answer = Prediction(
        (HEIGHT, WIDTH),
        boxes=torch.from_numpy(found).float(),
        scores=torch.from_numpy(scores),
        labels=torch.zeros(6, dtype=torch.int64),
    )
    evaluator.add(answer, {"image_id": "a"})
    values = evaluator.compute()["voc12"]
    assert values["AP75"] == pytest.approx(expected, abs=1e-6)
    assert 0.1 < values["AP75"] < 1
    evaluator.save(tmp_path / "out")
    first = (tmp_path / "out" / "voc_results" / "Task1_plane.txt").read_text().splitlines()[0].split()
    assert first[0] == "a"
    assert len(first) == 10
