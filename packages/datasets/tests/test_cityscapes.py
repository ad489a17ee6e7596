"""Cityscapes: what is read and measured, against Cityscapes' own scripts on random data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import (
    evalInstanceLevelSemanticLabeling as their_instances,
)
from cityscapesscripts.evaluation import (
    evalPanopticSemanticLabeling as their_panoptic,
)
from cityscapesscripts.evaluation import (
    evalPixelLevelSemanticLabeling as their_pixels,
)
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import labels as their_labels
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from PIL import Image

from det_datasets.cityscapes.dataset import CityscapesDataset
from det_datasets.cityscapes.instances import CityscapesInstanceEvaluator
from det_datasets.cityscapes.labels import LABELS, MEAN_AREAS
from det_datasets.cityscapes.maps import draw_map, read_outlines
from det_datasets.cityscapes.pixels import CityscapesSemanticEvaluator
from det_datasets.panoptic.evaluator import PanopticEvaluator
from detkit.data.source import find_splits
from detkit.structures.prediction import Prediction

HEIGHT, WIDTH = 60, 90
CLASSES = (
    "road",
    "sidewalk",
    "building",
    "static",
    "parking",
    "sky",
    "person",
    "rider",
    "car",
    "cargroup",
    "persongroup",
    "caravan",
    "caravangroup",
    "bicycle",
    "truck",
    "license plate",
    "out of roi",
)


@pytest.fixture(autouse=True)
def _numpy_before_2_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cityscapes' scripts call a function that NumPy has renamed."""
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    """Six images with random polygons, and the maps that Cityscapes' scripts make of them."""
    rng = np.random.default_rng(0)
    for number in range(6):
        name = f"aachen_000000_{number:06}"
        images, truth = tmp_path / "leftImg8bit" / "val" / "aachen", tmp_path / "gtFine" / "val" / "aachen"
        images.mkdir(parents=True, exist_ok=True)
        truth.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(images / f"{name}_leftImg8bit.png")
        objects = []
        for index in range(24):
            spread = 45 if index < 6 else 14  # the first ones are large, as what is behind
            points = rng.uniform((0, 0), (WIDTH, HEIGHT)) + rng.uniform(-spread, spread, (int(rng.integers(3, 8)), 2))
            polygon = np.clip(points.round(), (0, 0), (WIDTH - 1, HEIGHT - 1)).astype(int).tolist()
            label = CLASSES[rng.integers(0, 6) if index < 6 else rng.integers(0, len(CLASSES))]
            objects.append({"label": label, "polygon": polygon} | ({"deleted": 1} if rng.random() < 0.05 else {}))
        data = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": objects}
        file = truth / f"{name}_gtFine_polygons.json"
        file.write_text(json.dumps(data))
        annotation = Annotation()
        annotation.fromJsonFile(str(file))
        instances = np.array(createInstanceImage(annotation, "ids")).astype(np.uint16)  # Pillow writes no others
        Image.fromarray(instances).save(truth / f"{name}_gtFine_instanceIds.png")
        createLabelImage(annotation, "ids").save(truth / f"{name}_gtFine_labelIds.png")
        createLabelImage(annotation, "trainIds").save(truth / f"{name}_gtFine_labelTrainIds.png")
    return tmp_path


def truths(folder: Path, kind: str) -> list[str]:
    return [str(path) for path in sorted((folder / "gtFine" / "val" / "aachen").glob(f"*_{kind}.png"))]


def test_classes_are_those_of_the_scripts() -> None:
    assert [
        (label.id, label.name, label.group, label.train_id, label.has_instances, not label.evaluated)
        for label in LABELS
        if label.id >= 0
    ] == [
        (label.id, label.name, label.category, label.trainId, label.hasInstances, label.ignoreInEval)
        for label in their_labels
        if label.id >= 0
    ]
    areas = {name: area for name, area in their_pixels.args.avgClassSize.items() if name not in ("caravan", "trailer")}
    assert dict(MEAN_AREAS) == areas


def test_polygons_are_drawn_as_the_scripts_draw_them(cityscapes: Path) -> None:
    for file in sorted((cityscapes / "gtFine").rglob("*_polygons.json")):
        expected = np.array(Image.open(str(file).replace("polygons.json", "instanceIds.png")))
        assert np.array_equal(draw_map(read_outlines(file)), expected)


def test_labels_of_pixels_are_the_train_ids(cityscapes: Path) -> None:
    data = CityscapesDataset(cityscapes, "val")
    for index, path in enumerate(truths(cityscapes, "labelTrainIds")):
        assert np.array_equal(data[index].target["semantic"], np.array(Image.open(path)))


def test_maps_polygons_and_the_panoptic_file_say_the_same(cityscapes: Path, tmp_path: Path) -> None:
    from_maps = CityscapesDataset(cityscapes, "val")
    convert2panoptic(str(cityscapes / "gtFine"), setNames=["val"])
    from_file = CityscapesDataset(cityscapes, "val")
    pictures = shutil.copytree(cityscapes, tmp_path / "polygons")
    (pictures / "gtFine" / "cityscapes_panoptic_val.json").unlink()
    for path in (pictures / "gtFine").rglob("*.png"):
        path.unlink()
    from_polygons = CityscapesDataset(pictures, "val")
    for index in range(len(from_maps)):
        expected = from_maps[index].target
        for other in (from_file, from_polygons):
            for key, value in other[index].target.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(expected[key])), key
            image_id = from_maps.image_id(index)
            assert other.panoptic_map(image_id)[1] == from_maps.panoptic_map(image_id)[1]
    crowds = torch.cat([from_maps[index].target["crowd"] for index in range(len(from_maps))])
    assert crowds.any()
    assert not crowds.all()


def answers(data: CityscapesDataset, seed: int = 1) -> list[Prediction]:
    """Masks of objects, moved, of all of the classes that are evaluated, some in the wrong place; labels of pixels."""
    rng, found = np.random.default_rng(seed), []
    for index in range(len(data)):
        target = data[index].target
        masks, labels = target["masks"].numpy().astype(bool), target["labels"].numpy()
        masks = np.concatenate([np.roll(masks, rng.integers(-2, 3, 2), axis=(1, 2)) for _ in range(2)])
        labels = np.concatenate((labels, labels))
        extra = np.zeros((5, HEIGHT, WIDTH), bool)
        for mask in extra[:4]:  # the last is empty
            top, left = rng.integers(0, HEIGHT - 12), rng.integers(0, WIDTH - 12)
            mask[top : top + 12, left : left + 12] = True
        masks = np.concatenate((masks, extra))
        labels = np.concatenate((labels, rng.integers(0, 8, 5)))
        keep = rng.random(len(masks)) < 0.8
        scores = rng.integers(1, 20, len(masks)) / 20  # with equal ones
        pixels = target["semantic"].numpy()
        pixels = np.where(rng.random(pixels.shape) < 0.3, rng.integers(0, 19, pixels.shape), np.minimum(pixels, 18))
        found.append(
            Prediction(
                (HEIGHT, WIDTH),
                boxes=torch.zeros(int(keep.sum()), 4),
                masks=torch.from_numpy(masks[keep]),
                labels=torch.from_numpy(labels[keep]),
                scores=torch.from_numpy(scores[keep]),
                semantic=torch.from_numpy(pixels).long(),
            )
        )
    return found


def evaluated(evaluator: Any, data: CityscapesDataset, predictions: list[Prediction]) -> Any:
    evaluator.start(data)
    for index, prediction in enumerate(predictions):
        evaluator.add(prediction, data[index].info)
    return evaluator


def arguments(module: Any, folder: Path, **changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(module.args), "quiet": True, "JSONOutput": False, **changes})


@pytest.mark.parametrize("seed", range(3))
def test_instances_equal_the_scripts(
    cityscapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The scripts read what `save` writes."""
    data = CityscapesDataset(cityscapes, "val")
    evaluator = evaluated(CityscapesInstanceEvaluator(), data, answers(data, seed))
    values = evaluator.compute()["cityscapes_instances"]
    evaluator.save(tmp_path / "out")
    monkeypatch.setattr(their_instances, "writeDict2JSON", lambda *_: None)  # fails on numbers of today's NumPy
    theirs = arguments(
        their_instances,
        cityscapes,
        gtInstancesFile=str(tmp_path / "cache.json"),
        predictionPath=str(tmp_path / "out" / "cityscapes_instances"),
    )
    results = sorted(str(path) for path in (tmp_path / "out" / "cityscapes_instances").glob("*.txt"))
    expected = their_instances.evaluateImgLists(results, truths(cityscapes, "instanceIds"), theirs)["averages"]
    assert values["AP"] == pytest.approx(expected["allAp"], abs=1e-12)
    assert values["AP50"] == pytest.approx(expected["allAp50%"], abs=1e-12)
    assert 0.05 < values["AP"] < values["AP50"] < 0.95
    for name, ap in zip(data.categories.names, evaluator._by_class(), strict=True):
        both = (expected["classes"][name]["ap"], expected["classes"][name]["ap50%"])
        assert ap == pytest.approx(both, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_pixels_equal_the_scripts(cityscapes: Path, tmp_path: Path, seed: int) -> None:
    data = CityscapesDataset(cityscapes, "val")
    assert data.semantic_categories is not None
    predictions = answers(data, seed)
    values = evaluated(CityscapesSemanticEvaluator(), data, predictions).compute()["cityscapes_semantic"]
    ids = np.array(data.semantic_categories.ids, np.uint8)
    files = []
    for index, prediction in enumerate(predictions):
        files.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(ids[prediction.semantic.numpy()]).save(files[-1])
    expected = their_pixels.evaluateImgLists(files, truths(cityscapes, "labelIds"), arguments(their_pixels, cityscapes))
    names = ("averageScoreClasses", "averageScoreInstClasses", "averageScoreCategories", "averageScoreInstCategories")
    assert list(values.values()) == pytest.approx([expected[name] for name in names], abs=1e-12)


def test_panoptic_quality_equals_the_scripts(cityscapes: Path, tmp_path: Path) -> None:
    data = CityscapesDataset(cityscapes, "val")
    convert2panoptic(str(cityscapes / "gtFine"), setNames=["val"])
    predictions = []
    for index in range(len(data)):
        ids, segments = data.panoptic_map(data.image_id(index))
        answered = [{key: value for key, value in segment.items() if key != "iscrowd"} for segment in segments]
        moved = ids.roll(index - 2, dims=1)
        predictions.append(Prediction((HEIGHT, WIDTH), panoptic=moved, segments=answered))
    evaluator = evaluated(PanopticEvaluator(), data, predictions)
    values = evaluator.compute()["panoptic"]
    evaluator.save(tmp_path / "out")
    expected = their_panoptic.average_pq(
        their_panoptic.pq_compute_single_core(
            0,
            pairs(cityscapes / "gtFine" / "cityscapes_panoptic_val.json", tmp_path / "out" / "panoptic_results.json"),
            str(cityscapes / "gtFine" / "cityscapes_panoptic_val"),
            str(tmp_path / "out" / "panoptic_results"),
            categories := {
                category["id"]: category
                for category in json.loads((tmp_path / "out" / "panoptic_results.json").read_text())["categories"]
            },
        ),
        categories,
    )
    for ending, name in (("", "All"), ("_th", "Things"), ("_st", "Stuff")):
        for metric in ("PQ", "SQ", "RQ"):
            assert values[metric + ending] == pytest.approx(expected[name][metric.lower()], abs=1e-12)


def pairs(truth: Path, answer: Path) -> list[tuple[Any, Any]]:
    answered = {entry["image_id"]: entry for entry in json.loads(answer.read_text())["annotations"]}
    return [(entry, answered[entry["image_id"]]) for entry in json.loads(truth.read_text())["annotations"]]


def test_undefined_values_say_why(cityscapes: Path) -> None:
    data = CityscapesDataset(cityscapes, "val")
    instances = evaluated(CityscapesInstanceEvaluator(), data, answers(data)[:1])
    assert instances.compute()["cityscapes_instances"]["AP"] is not None
    (_, _, rows), (_, _, reasons) = instances.tables()
    assert {row[0]: row[2] for row in rows}["train"] == "n/a"
    assert dict(reasons)["train"] == "no object of at least 100 pixels"
    pixels = evaluated(CityscapesSemanticEvaluator(), data, [])
    assert set(pixels.compute()["cityscapes_semantic"].values()) == {None}
    (_, _, rows), (_, _, reasons) = pixels.tables()
    assert rows[0] == ("road", "n/a", "n/a")
    assert dict(reasons)["road"] == "neither labelled nor answered"


def test_layouts_are_recognised(cityscapes: Path, tmp_path: Path) -> None:
    assert {name: split.reader for name, split in find_splits(cityscapes).items()} == {"val": "cityscapes"}
    assert CityscapesDataset.splits(tmp_path / "nothing") is None


def test_what_is_missing_or_wrong_is_named(cityscapes: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no image .*train"):
        CityscapesDataset(cityscapes, "train")
    truth = cityscapes / "gtFine" / "val" / "aachen"
    picture, outlines = (truth / f"aachen_000000_000000_gtFine_{end}" for end in ("instanceIds.png", "polygons.json"))
    picture.unlink()
    outlines.write_text(outlines.read_text().replace('"road"', '"runway"').replace('"building"', '"runway"'))
    with pytest.raises(ValueError, match=r"polygons\.json: Cityscapes has no class 'runway'"):
        CityscapesDataset(cityscapes, "val")
    outlines.unlink()
    with pytest.raises(ValueError, match=r"neither .*instanceIds\.png nor .*polygons\.json"):
        CityscapesDataset(cityscapes, "val")


def test_other_data_is_told(cityscapes: Path) -> None:
    together = CityscapesDataset(cityscapes, "val", things_together=True)
    with pytest.raises(ValueError, match="leave out `things_together`"):
        CityscapesSemanticEvaluator().start(together)
    assert together.semantic_categories is not None
    assert together.semantic_categories.names[0] == "things"
    for evaluator in (CityscapesSemanticEvaluator(), CityscapesInstanceEvaluator()):
        with pytest.raises(ValueError, match="is not read as Cityscapes"):
            evaluator.start(object())  # type: ignore[arg-type]
