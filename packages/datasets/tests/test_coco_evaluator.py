from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from det_datasets.coco.dataset import CocoDataset
from det_datasets.coco.evaluator import CocoEvaluator
from det_datasets.coco.summary import METRICS
from det_datasets.shapes.make import make_shapes
from detkit import atomic
from detkit.data.source import open_split
from detkit.data.targets import rasterized, without_crowds
from detkit.structures.prediction import Prediction
from detkit.structures.sample import Sample

Write = Callable[..., CocoDataset]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    folder = tmp_path_factory.mktemp("data")
    make_shapes(folder, images=60, val_images=1, crowd_share=0.3, seed=5)
    dataset = open_split(folder)
    assert isinstance(dataset, CocoDataset)
    return dataset


def predict(sample: Sample, source: torch.Generator, *, masks: bool = True) -> Prediction:
    """The annotations, moved; some twice, some of another class, some in the middle of nowhere."""
    plain = rasterized(without_crowds(sample))
    again = torch.cat((torch.arange(len(plain["labels"])), torch.arange(0, len(plain["labels"]), 2)))
    count, (height, width) = len(again), sample.image.shape[-2:]
    fields: dict[str, Any] = {
        "boxes": plain["boxes"][again] + 4 * torch.randn(count, 4, generator=source),
        "scores": torch.rand(count, generator=source),
        "labels": (plain["labels"][again] + (torch.rand(count, generator=source) < 0.1)) % 5,
    }
    if masks:
        fields["masks"] = plain["masks"][again].bool().roll(2, dims=2)
    return Prediction((height, width), **fields)


def evaluated(dataset: CocoDataset, **options: Any) -> CocoEvaluator:
    evaluator, source = CocoEvaluator(), torch.Generator().manual_seed(0)
    evaluator.start(dataset)
    for sample in dataset:
        evaluator.add(predict(sample, source, **options), sample.info)
    return evaluator


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools under numpy 2.4
def test_numbers_are_those_of_pycocotools(shapes: CocoDataset, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    evaluator = evaluated(shapes)
    found = evaluator.compute()
    evaluator.save(tmp_path)
    results = json.loads((tmp_path / "coco_instances_results.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(shapes.annotation_file))
        for section in ("bbox", "segm"):
            given = [
                {key: value for key, value in result.items() if section == "bbox" or key != "bbox"}
                for result in results
            ]
            oracle = COCOeval(truth, truth.loadRes(given), section)
            oracle.evaluate()
            oracle.accumulate()
            oracle.summarize()
            expected = dict(zip(METRICS, (None if value < 0 else value for value in oracle.stats), strict=True))
            assert found[section] == pytest.approx(expected, abs=1e-12)
            assert 0.2 < expected["AP"] < 0.95


def test_without_masks_there_is_no_section_for_them(shapes: CocoDataset) -> None:
    assert list(evaluated(shapes, masks=False).compute()) == ["bbox"]


@pytest.mark.parametrize("ids", [(0, 1), (1, 2), (7, 3), (1, 90)])
def test_ids_come_back_as_the_dataset_has_them(coco: Write, tmp_path: Path, ids: tuple[int, int]) -> None:
    """0-based, 1-based, unordered and with gaps."""
    dataset = coco(
        [{"bbox": [2, 2, 10, 12], "category_id": ids[0]}, {"bbox": [20, 9, 12, 12], "category_id": ids[1]}],
        categories=[{"id": id, "name": f"class {id}"} for id in ids],
    )
    sample = dataset[0]
    evaluator = CocoEvaluator()
    evaluator.start(dataset)
    prediction = Prediction(
        (30, 40), boxes=sample.target["boxes"], scores=torch.tensor([0.9, 0.8]), labels=sample.target["labels"]
    )
    evaluator.add(prediction, sample.info)
    assert evaluator.compute()["bbox"]["AP"] == pytest.approx(1)
    evaluator.save(tmp_path)
    results = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert [(result["image_id"], result["category_id"], result["bbox"]) for result in results] == [
        (1, ids[0], [2, 2, 10, 12]),
        (1, ids[1], [20, 9, 12, 12]),
    ]
    per_class = json.loads((tmp_path / "coco_per_class.json").read_text())["bbox"]["AP"]
    assert per_class == pytest.approx({f"class {id}": 1.0 for id in sorted(ids)})


def test_what_cannot_be_measured_is_none_with_a_reason(coco: Write) -> None:
    dataset = coco([{"bbox": [2, 2, 10, 12]}])
    evaluator = CocoEvaluator()
    evaluator.start(dataset)
    nothing = Prediction(
        (30, 40), boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64)
    )
    evaluator.add(nothing, dataset[0].info)
    metrics = evaluator.compute()["bbox"]
    assert metrics["AP"] == metrics["APs"] == 0.0
    assert metrics["APl"] is metrics["ARm"] is None
    [(_, _, summary), (_, _, precision), (_, _, recall), (_, _, reasons)] = evaluator.tables()
    assert dict(summary)["APl"] == "n/a"
    assert precision == recall == [("dog", "0", "n/a"), ("cat", "1", "0.0")]
    assert dict(reasons)["APl"] == "the dataset has no object that is large"
    assert dict(reasons)["by class"] == "the dataset has no object of dog"


def test_a_dataset_without_annotations_has_no_numbers(coco: Write) -> None:
    dataset = coco([])
    evaluator = CocoEvaluator()
    evaluator.start(dataset)
    boxes = torch.tensor([[1.0, 2, 3, 4]])
    prediction = Prediction((30, 40), boxes=boxes, scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.int64))
    evaluator.add(prediction, dataset[0].info)
    assert set(evaluator.compute()["bbox"].values()) == {None}
    assert dict(evaluator.tables()[-1][2])["AP"] == "the dataset has no annotated objects"


def test_an_object_without_mask_is_ignored_for_masks(coco: Write) -> None:
    square = [2, 2, 12, 2, 12, 12, 2, 12]
    dataset = coco([{"bbox": [2, 2, 10, 10], "segmentation": [square]}, {"bbox": [20, 10, 10, 10]}])
    sample = dataset[0]
    masks = torch.zeros(2, 30, 40, dtype=torch.bool)
    masks[0, 2:12, 2:12] = masks[1, 10:20, 20:30] = True
    evaluator = CocoEvaluator()
    for found in (torch.tensor([0, 1]), torch.tensor([0])):
        evaluator.start(dataset)
        prediction = Prediction(
            (30, 40),
            boxes=sample.target["boxes"],
            scores=torch.tensor([0.8, 0.9]),
            labels=sample.target["labels"],
            masks=masks,
        )
        evaluator.add(prediction.select(found), sample.info)
        sections = evaluator.compute()
        assert sections["segm"]["AP"] == pytest.approx(1)
        assert (sections["bbox"]["AP"] > 0.99) == (len(found) == 2)


def test_images_without_prediction_count_as_missed(coco: Write, caplog: pytest.LogCaptureFixture) -> None:
    dataset = coco([{"bbox": [2, 2, 10, 12]}, {"image_id": 2, "bbox": [2, 2, 10, 12]}], images=2)
    evaluator = CocoEvaluator()
    evaluator.start(dataset)
    target = dataset[0].target
    evaluator.add(
        Prediction((30, 40), boxes=target["boxes"], scores=torch.ones(1), labels=target["labels"]), dataset[0].info
    )
    assert evaluator.compute()["bbox"]["AR100"] == 0.5
    assert "1 of 2 images have no prediction" in caplog.text


@pytest.mark.parametrize(
    ("label", "image_id", "message"),
    [
        (2, 1, "label 2, but the dataset has 2 categories; was the model"),
        (0, 9, "image 9, which the dataset does not have"),
    ],
)
def test_predictions_of_another_world_are_refused(coco: Write, label: int, image_id: int, message: str) -> None:
    evaluator = CocoEvaluator()
    evaluator.start(coco([{"bbox": [2, 2, 10, 12]}]))
    prediction = Prediction((30, 40), boxes=torch.ones(1, 4), scores=torch.ones(1), labels=torch.tensor([label]))
    with pytest.raises(ValueError, match=message):
        evaluator.add(prediction, {"image_id": image_id})


def test_other_ground_truth_is_refused() -> None:
    class Other(CocoDataset):
        def __init__(self) -> None: ...

        def ground_truth(self) -> Any:
            return [1, 2]

    with pytest.raises(ValueError, match="Other has no COCO-style ground truth"):
        CocoEvaluator().start(Other())


def test_what_is_kept_is_compact(shapes: CocoDataset) -> None:
    evaluator = evaluated(shapes)
    kept = Path(str(evaluator.state())).stat().st_size
    masks = sum(len(sample.target["labels"]) for sample in shapes)
    assert kept / masks < 300  # bytes; a bitmap of these pictures has 36,864


def test_a_full_disk_leaves_earlier_results_whole(
    shapes: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = evaluated(shapes)
    evaluator.compute()
    evaluator.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_sync", full)
    with pytest.raises(OSError, match="No space left"):
        evaluator.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
