"""PASCAL VOC: what is read, written and measured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from det_datasets.annotated import AnnotatedImages
from det_datasets.columns import ColumnsBuilder
from det_datasets.voc.classes import NAMES, colours, read_label_map, write_label_map
from det_datasets.voc.dataset import VocDataset
from det_datasets.voc.evaluator import VocEvaluator
from det_datasets.voc.make import VocWriter, make_voc
from detkit.data.source import find_splits, open_split
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction

HEIGHT, WIDTH = 40, 50


def write_year(folder: Path, objects: dict[str, str], split: str = "trainval", size: bool = True) -> Path:
    """Images with these objects in XML, all in one set."""
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, text in objects.items():
        Image.new("RGB", (WIDTH, HEIGHT), (9, 99, 200)).save(folder / "JPEGImages" / f"{name}.jpg")
        extent = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>" if size else ""
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{extent}{text}</annotation>")
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}  1\n" for name in objects))
    return folder


def entry(name: str, *box: object, rest: str = "") -> str:
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmax", "xmin", "ymax", "ymin"), box, strict=True)
    )
    return f"<object><name>{name}</name><bndbox>{sides}</bndbox>{rest}</object>"


def test_boxes_are_counted_from_1_in_files(tmp_path: Path) -> None:
    """The first and the last pixel; parts of objects have boxes too, which are not read."""
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    person = entry("person", 50, 1, 20.5, 11, rest=f"<difficult>1</difficult><truncated>1</truncated>{part}")
    data = VocDataset(write_year(tmp_path, {"000012": person + entry("cat", 3, 3, 4, 4), "000013": ""}))
    assert data.image_id(0) == "000012"
    assert data[0].target["boxes"].tolist() == [[0, 10, 50, 20.5], [2, 3, 3, 4]]
    assert [data.categories.names[label] for label in data.labels(0)] == ["person", "cat"]
    first, second = data.ground_truth()["annotations"]
    assert (first["ignore"], first["truncated"], first["occluded"]) == (1, 1, 0)
    assert "ignore" not in second
    assert data.difficult(0).tolist() == [True, False]
    assert data.ground_truth()["images"][1]["id"] == "000013"


def test_sizes_that_are_missing_are_those_of_the_images(tmp_path: Path) -> None:
    data = VocDataset(write_year(tmp_path, {"a": "<size><width>0</width><height>0</height></size>"}, size=False))
    assert data.size(0) == (HEIGHT, WIDTH)


def test_boxes_are_cut_at_the_border_and_empty_ones_left_out(tmp_path: Path) -> None:
    boxes = entry("cat", 60, -3, 10, 2) + entry("cat", 5, 9, 5, 1)
    data = VocDataset(write_year(tmp_path, {"a": boxes}))
    assert data[0].target["boxes"].tolist() == [[0, 1, 50, 10]]
    assert data.problems["boxes reach over the border: cut there"] == 1
    assert data.problems["objects have an empty box: left out"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (entry("unicorn", 3, 3, 4, 4), r"a\.xml has an object of class 'unicorn', .*aeroplane.*labelmap"),
        (entry("cat", 3, "nan", 4, 4), r"a\.xml: object 1 \(cat\) has xmin 'nan'; a finite number"),
        (entry("cat", "", 3, 4, 4), r"object 1 \(cat\) has xmax ''"),
        ("<object><name>cat</name></object>", "object 1 has no bndbox"),
        ("<object><bndbox/></object>", "object 1 has no name"),
        ("<object>", r"a\.xml is not XML"),
        ("<!DOCTYPE x [<!ENTITY a 'aaaa'>]>", "declares a document type"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VocDataset(write_year(tmp_path, {"a": text}))


def test_entities_are_refused_in_every_encoding(tmp_path: Path) -> None:
    year = write_year(tmp_path, {"a": ""})
    bomb = '<?xml version="1.0" encoding="{}"?><!DOCTYPE a [<!ENTITY b "bb">]><annotation>&b;</annotation>'
    for encoding in ("utf-8", "utf-16", "utf-16-le", "iso-8859-1"):
        (year / "Annotations" / "a.xml").write_bytes(bomb.format(encoding).encode(encoding))
        with pytest.raises(ValueError, match="declares a document type"):
            VocDataset(year)


def test_missing_files_are_named(tmp_path: Path) -> None:
    year = write_year(tmp_path / "VOC2007", {"a": "", "b": ""})
    (year / "Annotations" / "b.xml").unlink()
    with pytest.raises(ValueError, match=r"cannot read the annotation .*b\.xml"):
        VocDataset(year)
    with pytest.raises(ValueError, match=r"cannot read the set of images .*val\.txt.*there are: trainval"):
        VocDataset(year, "val")
    with pytest.raises(ValueError, match="VOC2012 is no folder of VOC's"):
        VocDataset(tmp_path, years=["VOC2012"])
    (year / "ImageSets" / "Main" / "trainval.txt").write_text("a\na\n")
    with pytest.raises(ValueError, match="image a is listed twice"):
        VocDataset(year)


def test_a_devkit_is_split_as_in_the_literature(tmp_path: Path) -> None:
    devkit = tmp_path / "VOCdevkit"
    for year, name in (("VOC2007", "000001"), ("VOC2012", "2008_000001")):
        write_year(devkit / year, {name: entry("dog", 9, 2, 9, 2)}, "trainval")
        write_year(devkit / year, {name: entry("dog", 9, 2, 9, 2)}, "val")
        write_year(devkit / year, {f"{name}9": entry("dog", 9, 2, 9, 2)}, "test")
    (devkit / "VOC2012" / "Annotations" / "2008_0000019.xml").unlink()  # the answers are secret
    splits = {name: split.open() for name, split in find_splits(tmp_path).items()}
    ids = {name: [split.image_id(index) for index in range(len(split))] for name, split in splits.items()}
    assert ids == {"train": ["000001", "2008_000001"], "val": ["0000019"]}
    assert splits["train"][1].info["path"] == str(devkit / "VOC2012" / "JPEGImages" / "2008_000001.jpg")
    secret = open_split(devkit / "VOC2012", "test")
    assert len(secret.labels(0)) == 0
    assert "images have no annotations, as those of a test set" in secret.problems
    (devkit / "VOC2007" / "ImageSets" / "Main" / "test.txt").unlink()
    assert list(find_splits(devkit)) == ["trainval", "val", "test"]
    write_year(devkit / "VOC2012", {"2008_000001": ""}, "train")
    assert list(find_splits(devkit)) == ["train", "val", "test"]
    assert list(find_splits(devkit / "VOC2012")) == ["train", "val", "test"]
    assert list(find_splits(devkit / "VOC2007")) == ["val", "trainval"]
    assert VocDataset.splits(tmp_path / "nothing") is None


def test_masks_belong_to_the_objects_in_their_order(tmp_path: Path) -> None:
    year = write_year(tmp_path, {"a": entry("cat", 10, 1, 10, 1) + entry("dog", 30, 21, 20, 11)}, "val")
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[10:20, 20:30], values[:10, :10], values[10, :10], values[30:, 30:] = 2, 1, 255, 7
    for part, pixels in (("SegmentationObject", values), ("SegmentationClass", np.where(values == 7, 0, values))):
        (year / part).mkdir()
        picture = Image.fromarray(pixels)
        picture.putpalette(colours())
        picture.save(year / part / "a.png")
    data = VocDataset(year, "val")
    target = data[0].target
    assert target["has_mask"].tolist() == [True, True]
    assert torch.equal(target["masks"][0] > 0, torch.from_numpy(values == 1))
    assert torch.equal(target["masks"][1] > 0, torch.from_numpy(values == 2))
    assert data.problems["masks belong to no object: left out"] == 1
    (year / "ImageSets" / "Segmentation").mkdir()
    (year / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")
    labelled = VocDataset(year, "val", segmentation=True)
    assert labelled.semantic_categories is not None
    assert labelled.semantic_categories.names == ("background", *NAMES)
    assert set(labelled.semantic_map("a").unique().tolist()) == {0, 1, 2, 255}


def test_the_palette_is_that_of_the_devkit() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    palette = colours()
    assert {label: tuple(palette[3 * label :][:3]) for label in known} == known
    assert palette[-3:] == [224, 224, 192]


def test_other_classes_are_named_by_a_file(tmp_path: Path) -> None:
    write_label_map(tmp_path / "labelmap.txt", ["cup", "tea pot"])
    assert read_label_map(tmp_path / "labelmap.txt") == ("cup", "tea pot")
    data = VocDataset(write_year(tmp_path, {"a": entry("tea pot", 9, 2, 9, 2)}))
    assert data.categories.names == ("cup", "tea pot")
    assert VocDataset(tmp_path, classes=["tea pot", "cup"]).labels(0).tolist() == [0]
    (tmp_path / "labelmap.txt").write_text("# nothing\nbackground:0,0,0::\n")
    with pytest.raises(ValueError, match="names no classes"):
        VocDataset(tmp_path)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Boxes in whole pixels, flags and ids exactly."""
    folder, builder, count = tmp_path_factory.mktemp("voc"), ColumnsBuilder(), data.draw(st.integers(1, 3))
    for number in range(count):
        builder.image(f"img{number}", f"img{number}.jpg", HEIGHT, WIDTH)
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"img{number}.jpg")
        for _ in range(data.draw(st.integers(0, 3))):
            left, top = data.draw(st.integers(0, WIDTH - 1)), data.draw(st.integers(0, HEIGHT - 1))
            right, bottom = data.draw(st.integers(left + 1, WIDTH)), data.draw(st.integers(top + 1, HEIGHT))
            flags = {"difficult": data.draw(st.booleans()), "marks": data.draw(st.integers(0, 3))}
            builder.object(data.draw(st.integers(0, 2)), (left, top, right, bottom), **flags)
    classes = data.draw(st.sampled_from([("car", "dog", "sofa"), ("<a>", "b & c", "d")]))
    given = AnnotatedImages(
        source=folder, images=folder, columns=builder.build(), categories=Categories(classes), problems=Counter()
    )
    VocWriter().write({"train": given}, folder / "out")
    found = open_split(folder / "out")
    assert isinstance(found, VocDataset)
    for index in range(count):
        assert found.image_id(index) == given.image_id(index)
        assert torch.equal(found[index].target["boxes"], given[index].target["boxes"])
        assert torch.equal(found.difficult(index), given.difficult(index))
        assert torch.equal(found.marks(index), given.marks(index))
        names = [[each.categories.names[label] for label in each.labels(index)] for each in (found, given)]
        assert names[0] == names[1]


def test_masks_are_written_and_crowds_are_difficult(tmp_path: Path) -> None:
    make_voc(tmp_path, images=8, val_images=1)
    data = VocDataset(tmp_path, "train", segmentation=True)
    assert data.has_masks
    assert any(data.difficult(index).any() for index in range(len(data)))
    for index in range(len(data)):
        target, difficult = data[index].target, data.difficult(index)
        assert target["has_mask"][~difficult].all()
        pixels = target["semantic"].as_subclass(torch.Tensor)
        for mask, label in zip(target.get("masks", ()), target["labels"], strict=False):
            assert set(pixels[mask > 0].tolist()) <= {int(label) + 1}


def answers(data: VocDataset, seed: int) -> list[Prediction]:
    """Boxes near the objects, of right and wrong classes, with whole numbers among them so that overlaps are exact,
    and equal scores."""
    rng, found = np.random.default_rng(seed), []
    for index in range(len(data)):
        boxes, labels = np.asarray(data[index].target["boxes"], float), data.labels(index).numpy()
        boxes = np.concatenate([boxes, boxes + rng.integers(-3, 4, boxes.shape), boxes + rng.normal(0, 2, boxes.shape)])
        labels = np.where(rng.random(len(boxes)) < 0.8, np.tile(labels, 3), rng.integers(0, 20, len(boxes)))
        keep = rng.random(len(boxes)) < 0.7
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = rng.integers(1, 30, len(boxes)) / 30
        fields = {"boxes": boxes[keep].astype(np.float32), "labels": labels[keep], "scores": scores[keep]}
        found.append(Prediction((HEIGHT, WIDTH), **{key: torch.from_numpy(value) for key, value in fields.items()}))
    return found


def reference(
    truth: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], found: list[Prediction], label: int, threshold: float
) -> tuple[float, float] | None:
    """AP at eleven recalls and below the curve: the devkit's rules one by one, in float64.

    truth: for each image labels, whether they are difficult, boxes as in the XML files.
    """
    asked = sum(int(((labels == label) & ~difficult).sum()) for labels, difficult, _ in truth)
    if not asked:
        return None
    detections = []
    for image, prediction in enumerate(found):
        for box, score, own in zip(prediction.boxes.double(), prediction.scores, prediction.labels, strict=True):
            if own == label:
                x0, y0, x1, y1 = box.tolist()
                detections.append((float(score), image, (x0 + 1, y0 + 1, x1, y1)))
    detections.sort(key=lambda each: -each[0])
    taken: set[tuple[int, int]] = set()
    right = wrong = 0
    curve = []
    for _, image, (x0, y0, x1, y1) in detections:
        best, nearest = -1.0, -1
        labels, difficult, boxes = truth[image]
        for number, (a0, b0, a1, b1) in enumerate(boxes.tolist()):
            width, height = min(x1, a1) - max(x0, a0) + 1.0, min(y1, b1) - max(y0, b0) + 1.0
            if labels[number] != label:
                continue
            shared = max(width, 0.0) * max(height, 0.0)
            union = (x1 - x0 + 1.0) * (y1 - y0 + 1.0) + (a1 - a0 + 1.0) * (b1 - b0 + 1.0) - shared
            if shared / union > best:
                best, nearest = shared / union, number
        if best > threshold:
            if difficult[nearest]:
                continue
            if (image, nearest) not in taken:
                taken.add((image, nearest))
                right += 1
                curve.append((right / asked, right / (right + wrong)))
                continue
        wrong += 1
        curve.append((right / asked, right / (right + wrong)))
    eleven = 0.0
    for least in np.arange(0.0, 1.1, 0.1):
        eleven += max((precision for recall, precision in curve if recall >= least), default=0.0) / 11.0
    area, before = 0.0, 0.0
    for position, (recall, _) in enumerate(curve):
        area += (recall - before) * max(precision for _, precision in curve[position:])
        before = recall
    return eleven, area


@pytest.mark.parametrize("seed", range(3))
def test_numbers_are_those_of_the_devkits_rules(tmp_path: Path, seed: int) -> None:
    rng, texts, truth = np.random.default_rng(seed), {}, []
    for number in range(12):
        boxes, labels = [], rng.integers(0, 3, rng.integers(0, 6))
        for _ in labels:
            low = rng.integers(1, (WIDTH - 8, HEIGHT - 8))
            boxes.append((*low, *np.minimum(low + rng.integers(4, 25, 2), (WIDTH, HEIGHT))))
        difficult = rng.random(len(labels)) < 0.25
        truth.append((labels, difficult, np.array(boxes, float).reshape(-1, 4)))
        texts[f"{number:06}"] = "".join(
            entry(NAMES[label], box[2], box[0], box[3], box[1], rest=f"<difficult>{int(hard)}</difficult>")
            for label, box, hard in zip(labels, boxes, difficult, strict=True)
        )
    data = VocDataset(write_year(tmp_path, texts))
    predictions = answers(data, seed)
    evaluator = VocEvaluator()
    evaluator.start(data)
    for index, prediction in enumerate(predictions):
        evaluator.add(prediction, data[index].info)
    values = evaluator.compute()
    thresholds = [percent / 100 for percent in range(50, 100, 5)]
    each = [[reference(truth, predictions, label, threshold) for threshold in thresholds] for label in range(20)]
    expected = np.array([found for found in each if found[0] is not None], float)
    assert len(expected) == 3
    for position, section in enumerate(("voc07", "voc12")):
        aps = expected[..., position]
        wanted = {"AP": aps.mean(), "AP50": aps[:, 0].mean(), "AP75": aps[:, 5].mean()}
        assert values[section] == pytest.approx(wanted, abs=1e-12)
    assert 0.1 < values["voc12"]["AP"] < values["voc12"]["AP50"] < 0.95
    (_, columns, rows), (_, _, reasons) = evaluator.tables()
    assert len(columns) == 8
    assert rows[19] == ("tvmonitor", "0", *["n/a"] * 6)
    assert ("tvmonitor", "no object that is not difficult") in reasons
    evaluator.save(tmp_path / "out")
    lines = (tmp_path / "out" / "voc_results" / f"comp4_det_test_{NAMES[0]}.txt").read_text().splitlines()
    assert len(lines) == sum(int((prediction.labels == 0).sum()) for prediction in predictions)
    assert lines[0].split()[0] in texts


def test_an_overlap_as_large_as_the_threshold_is_not_enough(tmp_path: Path) -> None:
    """9 x 20 pixels of 18 x 20: exactly a half."""
    data = VocDataset(write_year(tmp_path, {"a": entry("cat", 18, 1, 20, 1)}))
    evaluator = VocEvaluator()
    for width, expected in ((9.0, 0.0), (9.01, 1.0)):
        evaluator.start(data)
        box = torch.tensor([[0.0, 0.0, width, 20.0]])
        found = Prediction((HEIGHT, WIDTH), boxes=box, scores=torch.ones(1), labels=torch.tensor([NAMES.index("cat")]))
        evaluator.add(found, {"image_id": "a"})
        assert evaluator.compute()["voc12"]["AP50"] == expected


def test_strange_predictions_are_named(tmp_path: Path) -> None:
    evaluator = VocEvaluator()
    evaluator.start(VocDataset(write_year(tmp_path, {"a": ""})))
    found = Prediction((9, 9), boxes=torch.zeros(1, 4), scores=torch.ones(1), labels=torch.tensor([20]))
    with pytest.raises(ValueError, match="has label 20, but the dataset has 20 categories"):
        evaluator.add(found, {"image_id": "a"})
    with pytest.raises(ValueError, match="image 'b', which the dataset does not have"):
        evaluator.add(found, {"image_id": "b"})
    found = Prediction((9, 9), boxes=torch.zeros(1, 5), scores=torch.ones(1), labels=torch.tensor([2]))
    with pytest.raises(ValueError, match="answers rotated boxes, and the dataset has upright"):
        evaluator.add(found, {"image_id": "a"})
    assert set(evaluator.compute()["voc07"].values()) == {None}
