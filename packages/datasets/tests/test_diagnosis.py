from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from det_datasets.coco.evaluator import CocoEvaluator
from det_datasets.diagnosis.evaluator import DiagnosisEvaluator
from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction

CLASSES, IMAGES = 4, 12
Box = tuple[float, float, float, float]


class Annotated:
    """A dataset without images: what evaluators ask for before they draw."""

    def __init__(self, truth: Mapping[str, Any], classes: int = CLASSES) -> None:
        self.categories = Categories(tuple(f"class {number}" for number in range(classes)))
        self._truth = truth

    def ground_truth(self) -> Any:
        return self._truth


Answer = dict[int, list[tuple[Box, int, float]]]


def random_case(seed: int) -> tuple[dict[str, Any], Answer]:
    """Ground truth with crowds and difficult objects, and answers with every kind of error, ties of scores too."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    answers: Answer = {}
    for image in range(IMAGES):
        answers[image] = []
        for _ in range(rng.integers(0, 7)):
            x, y, w, h = (*rng.uniform(0, 150, 2), *np.exp(rng.uniform(2.5, 5, 2)))
            entry: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": int(rng.integers(1, CLASSES)),
            }
            entry |= {"bbox": [x, y, w, h], "area": w * h * 0.8, "iscrowd": int(rng.random() < 0.1)}
            entry |= {"ignore": 1} if rng.random() < 0.1 else {}
            annotations.append(entry)
            for _ in range(rng.integers(0, 4)):
                shift = rng.normal(0, rng.choice((0.03, 0.15, 0.4)), 4) * (w, h, w, h)
                label = entry["category_id"] - 1 if rng.random() < 0.7 else int(rng.integers(0, CLASSES))
                low = np.array((x, y)) + shift[:2]
                high = np.maximum(np.array((x + w, y + h)) + shift[2:], low + 2)
                answers[image].append(((*low, *high), label, round(float(rng.uniform(0, 1)), 2)))
        for _ in range(rng.integers(0, 3)):
            low = rng.uniform(0, 250, 2)
            box = (*low, *(low + rng.uniform(5, 80, 2)))
            answers[image].append((box, int(rng.integers(0, CLASSES)), round(float(rng.uniform(0, 0.8)), 2)))
    images = [{"id": image, "height": 400, "width": 400} for image in range(IMAGES)]
    return {"images": images, "annotations": annotations, "categories": []}, answers


def evaluated(truth: Mapping[str, Any], answers: Answer, **arguments: Any) -> DiagnosisEvaluator:
    evaluator = DiagnosisEvaluator(**arguments)
    evaluator.start(Annotated(truth))  # type: ignore[arg-type]
    for image, found in answers.items():
        fields = {
            "boxes": torch.tensor([box for box, _, _ in found], dtype=torch.float64).reshape(-1, 4),
            "labels": torch.tensor([label for _, label, _ in found], dtype=torch.int64),
            "scores": torch.tensor([score for _, _, score in found], dtype=torch.float64),
        }
        evaluator.add(Prediction((400, 400), **fields), {"image_id": image})
    return evaluator


def saved(evaluator: DiagnosisEvaluator, folder: Path) -> Any:
    evaluator.save(folder)
    return json.loads((folder / "diagnosis.json").read_text())


class Plain:
    """The same numbers by the rules, one detection and one object after the other."""

    def __init__(self, truth: Mapping[str, Any], answers: Answer, iou: float = 0.5) -> None:
        self.iou = iou
        self.objects = [dict(entry, place=place) for place, entry in enumerate(truth["annotations"])]
        for each in self.objects:
            x, y, w, h = each["bbox"]
            each |= {"box": (x, y, x + w, y + h), "label": each["category_id"] - 1}
            each["ignored"] = bool(each["iscrowd"] or each.get("ignore"))
        self.regular = [each for each in self.objects if not each["ignored"]]
        self.detections: list[dict[str, Any]] = []
        for image, found in sorted(answers.items()):
            mine: list[dict[str, Any]] = [
                {"image": image, "box": box, "label": label, "score": float(np.float32(score))}
                for box, label, score in found
            ]
            mine.sort(key=lambda each: -float(each["score"]))
            there = [each for each in self.objects if each["image_id"] == image]
            for field, agnostic in (("found", False), ("any", True)):
                taken: set[int] = set()
                for each in mine:
                    each[field] = self._pick(each, there, taken, agnostic)
            for each in mine:
                each["kind"], each["target"] = self._kind(each, there)
            self.detections += mine
        self.counted = [each for each in self.detections if each["kind"] != "not counted"]
        self.counted.sort(key=lambda each: -each["score"])
        best = (0.0, None)
        for least in sorted({each["score"] for each in self.counted}, reverse=True):
            f1 = self.values(self.counted, len(self.regular), least)[2]
            best = max(best, (f1, least), key=lambda pair: pair[0])
        self.threshold: float | None = best[1]

    def overlap(self, box: Box, each: Mapping[str, Any]) -> float:
        a, b = box, each["box"]
        shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (a, b)]
        return shared / (areas[0] if each["iscrowd"] else sum(areas) - shared)

    def _pick(self, each: Any, there: Any, taken: set[int], agnostic: bool) -> Any:
        for ignored in (False, True):
            best = None
            for other in there:
                if other["ignored"] != ignored or (other["place"] in taken and not other["iscrowd"]):
                    continue
                value = self.overlap(each["box"], other)
                same = agnostic or other["label"] == each["label"]
                if same and value >= self.iou and (best is None or value >= best[0]):
                    best = (value, other)
            if best is not None:
                taken.add(best[1]["place"])
                return best[1]
        return None

    def _kind(self, each: Any, there: Any) -> tuple[str, Any]:
        if each["found"] is not None:
            return ("not counted" if each["found"]["ignored"] else "right"), None
        regular = [one for one in there if not one["ignored"]]

        def nearest(others: Any) -> tuple[float, Any]:
            overlaps = [(self.overlap(each["box"], one), one) for one in others]
            return max(overlaps, default=(-1.0, None), key=lambda pair: pair[0])

        own = nearest(one for one in regular if one["label"] == each["label"])
        other = nearest(one for one in regular if one["label"] != each["label"])
        if 0.1 <= own[0] < self.iou:
            return "localisation", own[1]
        if other[0] >= self.iou:
            return "classification", other[1]
        if own[0] >= self.iou:
            return "duplicate", None
        return ("background" if max(own[0], other[0]) < 0.1 else "both"), None

    def values(self, detections: Any, objects: int, least: float) -> tuple[float, float, float]:
        used = [each for each in detections if each["score"] >= least]
        hits = sum(each["kind"] == "right" for each in used)
        return hits / max(len(used), 1), hits / objects, 2 * hits / (len(used) + objects)

    def ap(self, hits: Sequence[bool], objects: int) -> float:
        points, right = [], 0
        for count, hit in enumerate(hits, start=1):
            right += hit
            points.append((right / objects, right / count))
        return float(np.mean([max((p for r, p in points if r >= at), default=0.0) for at in np.linspace(0, 1, 101)]))

    def rows(self) -> list[tuple[int, float, bool]]:
        return [(each["label"], each["score"], each["kind"] == "right") for each in self.counted]

    def mean_ap(self, detections: Any, objects: Any) -> float | None:
        """Detections are (label, score, right)."""
        ordered = sorted(detections, key=lambda each: -each[1])
        values = []
        for label in range(CLASSES):
            there = sum(each["label"] == label for each in objects)
            if there:
                values.append(self.ap([hit for own, _, hit in ordered if own == label], there))
        return float(np.mean(values)) if values else None


@pytest.fixture(scope="module", params=range(6))
def case(request: pytest.FixtureRequest) -> Any:
    truth, answers = random_case(request.param)
    return truth, answers, Plain(truth, answers)


def test_metrics_are_those_of_the_rules(case: Any) -> None:
    truth, answers, plain = case
    found = evaluated(truth, answers).compute()["diagnosis"]
    precision, recall, f1 = plain.values(plain.counted, len(plain.regular), plain.threshold)
    used = [each for each in plain.counted if each["score"] >= plain.threshold]
    wrong = sum(each["kind"] != "right" for each in used)
    expected = {"precision": precision, "recall": recall, "F1": f1, "threshold": plain.threshold}
    expected |= {"false_positives": wrong / IMAGES, "AP50": plain.mean_ap(plain.rows(), plain.regular)}
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_average_precision_is_that_of_coco(case: Any) -> None:
    truth, answers, _ = case
    coco = CocoEvaluator(sections=["bbox"])
    dataset = Annotated(truth)
    truth["categories"] = [{"id": id, "name": name} for id, name in enumerate(dataset.categories.names, start=1)]
    coco.start(dataset)  # type: ignore[arg-type]
    own = evaluated(truth, answers)
    for image, record in own._log.items():
        fields = {name: torch.from_numpy(record[name].copy()) for name in ("boxes", "scores", "labels")}
        coco.add(Prediction((400, 400), **fields), {"image_id": image})
    assert own.compute()["diagnosis"]["AP50"] == pytest.approx(coco.compute()["bbox"]["AP50"], abs=1e-6)


def test_sizes_and_crowding_are_those_of_the_rules(case: Any) -> None:
    truth, answers, plain = case
    found = evaluated(truth, answers).compute()["diagnosis"]
    hit = {each["found"]["place"] for each in plain.detections if each["found"] and each["score"] >= plain.threshold}

    def covered(one: Any) -> float:
        parts = [0.0]
        for other in plain.objects:
            if other["image_id"] == one["image_id"] and other is not one:
                a, b = one["box"], other["box"]
                parts.append(max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0))
        return max(parts) / (one["bbox"][2] * one["bbox"][3])

    sizes = {"s": lambda a: a < 32**2, "m": lambda a: 32**2 <= a < 96**2, "l": lambda a: a >= 96**2}
    crowding = {"apart": (-1, 0.1), "overlapped": (0.1, 0.5), "crowded": (0.5, 2)}
    groups = {name: [each for each in plain.regular if rule(each["area"])] for name, rule in sizes.items()}
    for name, (low, high) in crowding.items():
        groups[name] = [each for each in plain.regular if low < covered(each) <= high]
    for name, members in groups.items():
        recall = sum(each["place"] in hit for each in members) / len(members) if members else None
        assert found[f"recall_{name}"] == (None if recall is None else pytest.approx(recall))
    for name, rule in sizes.items():
        kept = []
        for each in plain.counted:
            box = each["box"]
            own_area = np.float32((box[2] - box[0]) * (box[3] - box[1]))
            if rule(own_area) if each["found"] is None else rule(each["found"]["area"]):
                kept.append((each["label"], each["score"], each["kind"] == "right"))
        expected = plain.mean_ap(kept, groups[name])
        assert found[f"AP50_{name}"] == (None if expected is None else pytest.approx(expected))


def test_confusion_is_that_of_the_rules(case: Any, tmp_path: Path) -> None:
    truth, answers, plain = case
    expected = np.zeros((CLASSES + 1, CLASSES + 1), int)
    taken = set()
    for each in plain.detections:
        if each["score"] >= plain.threshold and not (each["any"] and each["any"]["ignored"]):
            expected[each["any"]["label"] if each["any"] else CLASSES, each["label"]] += 1
            taken.add(each["any"] and each["any"]["place"])
    for each in plain.regular:
        expected[each["label"], CLASSES] += each["place"] not in taken
    assert saved(evaluated(truth, answers), tmp_path)["confusion"]["counts"] == expected.tolist()


def test_errors_are_those_of_the_rules(case: Any, tmp_path: Path) -> None:
    truth, answers, plain = case
    found = saved(evaluated(truth, answers), tmp_path)["errors"]

    def missed(least: float) -> list[Any]:
        used = [each for each in plain.detections if each["score"] >= least]
        hit = {each[field]["place"] for each in used for field in ("found", "target") if each[field]}
        return [each for each in plain.regular if each["place"] not in hit]

    now = plain.mean_ap(plain.rows(), plain.regular)
    free = {each["place"] for each in plain.regular} - {
        each["found"]["place"] for each in plain.counted if each["kind"] == "right"
    }
    for kind in ("localisation", "classification", "duplicate", "background", "both"):
        used = [each for each in plain.counted if each["score"] >= plain.threshold]
        assert found[kind]["count"] == sum(each["kind"] == kind for each in used)
        mended: list[tuple[int, float, bool]] = []
        given: set[int] = set()
        for each in plain.counted:
            if each["kind"] != kind:
                mended.append((each["label"], each["score"], each["kind"] == "right"))
            elif each["target"] and each["target"]["place"] in free - given:
                given.add(each["target"]["place"])
                mended.append((each["target"]["label"], each["score"], True))
        assert found[kind]["lost_ap"] == pytest.approx(plain.mean_ap(mended, plain.regular) - now)
    assert found["missed"]["count"] == len(missed(plain.threshold))
    gone = {each["place"] for each in missed(-1.0)}
    rest = [each for each in plain.regular if each["place"] not in gone]
    assert found["missed"]["lost_ap"] == pytest.approx(plain.mean_ap(plain.rows(), rest) - now)


def calibration_error(detections: Any, promised: Any, bins: int) -> float:
    """Of detections of which a share, or an overlap, is promised."""
    groups: list[list[Any]] = [[] for _ in range(bins)]
    for each in detections:
        groups[min(int(each["score"] * bins), bins - 1)].append(each)
    gaps = (abs(sum(each["score"] for each in group) - len(group) * promised(group)) for group in groups if group)
    return sum(gaps) / len(detections)


def test_calibration_is_that_of_the_definitions(case: Any, tmp_path: Path) -> None:
    """D-ECE of Küppers et al., 2020; LaECE of Oksuz et al., 2023: precision times the mean overlap of right ones."""
    truth, answers, plain = case

    def precision(inside: Any) -> float:
        return sum(each["kind"] == "right" for each in inside) / len(inside)

    def localised(inside: Any) -> float:
        overlaps = [plain.overlap(each["box"], each["found"]) for each in inside if each["kind"] == "right"]
        return precision(inside) * float(np.mean(overlaps or [0.0]))

    found = (evaluator := evaluated(truth, answers, bins=5)).compute()["diagnosis"]
    assert found["D-ECE"] == pytest.approx(calibration_error(plain.counted, precision, 5))
    expected = {}
    for label in {each["label"] for each in plain.counted} & {each["label"] for each in plain.regular}:
        mine = [each for each in plain.counted if each["label"] == label]
        expected[f"class {label}"] = calibration_error(mine, localised, 5)
    assert found["LaECE"] == pytest.approx(sum(expected.values()) / len(expected))
    for name, values in saved(evaluator, tmp_path)["classes"].items():
        assert values["localisation_error"] == (pytest.approx(expected[name]) if name in expected else None)


def test_each_class_has_its_own_threshold(case: Any, tmp_path: Path) -> None:
    truth, answers, plain = case
    for label, found in enumerate(saved(evaluated(truth, answers), tmp_path)["classes"].values()):
        mine = [each for each in plain.counted if each["label"] == label]
        there = sum(each["label"] == label for each in plain.regular)
        assert found["objects"] == there
        if there:
            best = max((plain.values(mine, there, each["score"])[2] for each in mine), default=0.0)
            assert found["f1"] == pytest.approx(best)
        else:
            assert [found[name] for name in found if name != "objects"] == [None] * 6


def one_object(**more: Any) -> dict[str, Any]:
    entry = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0, **more}
    return {"images": [{"id": 0, "height": 100, "width": 100}], "annotations": [entry], "categories": []}


def test_what_is_undefined_has_a_reason() -> None:
    truth = {"images": [{"id": 0, "height": 9, "width": 9}], "annotations": [], "categories": []}
    evaluator = evaluated(truth, {0: []})
    found = evaluator.compute()["diagnosis"]
    undefined = {name for name, value in found.items() if value is None}
    assert evaluator.reasons()["diagnosis"].keys() == undefined
    assert evaluator.reasons()["diagnosis"]["recall"] == "the dataset has no object that counts"
    assert evaluator.reasons()["diagnosis"]["D-ECE"] == "there is no detection"
    assert evaluator.reasons()["diagnosis"]["LaECE"] == "no class that has objects has a detection"
    assert found["false_positives"] == 0.0


def test_without_a_right_detection_there_is_no_threshold() -> None:
    evaluator = evaluated(one_object(), {0: [((70, 70, 90, 90), 0, 0.9)]})
    found = evaluator.compute()["diagnosis"]
    assert (found["threshold"], found["precision"], found["recall"], found["F1"]) == (None, 0.0, 0.0, 0.0)
    assert evaluator.reasons()["diagnosis"]["threshold"] == "no detection is right"


@pytest.mark.parametrize("more", [{"iscrowd": 1}, {"ignore": 1}])
def test_crowds_and_difficult_objects_are_neither_right_nor_wrong(more: dict[str, Any]) -> None:
    found = evaluated(one_object(**more), {0: [((10, 10, 60, 60), 0, 0.9)]}).compute()["diagnosis"]
    assert found["recall"] is None and found["D-ECE"] is None and found["false_positives"] == 0.0


def test_marks_of_occluded_objects_make_groups() -> None:
    found = evaluated(one_object(occluded=1, truncated=0), {0: [((10, 10, 60, 60), 0, 0.9)]}).compute()["diagnosis"]
    assert found["recall_occluded"] == 1.0 and found["recall_truncated"] is None


def test_classes_that_lvis_does_not_judge_do_not_count() -> None:
    truth = one_object()
    truth["images"][0] |= {"neg_category_ids": [2], "not_exhaustive_category_ids": [1]}
    boxes: list[tuple[Box, int, float]] = [((70, 70, 90, 90), label, 0.92) for label in range(CLASSES)]
    found = evaluated(truth, {0: [((10, 10, 60, 60), 0, 0.95), *boxes]}).compute()["diagnosis"]
    assert found["D-ECE"] == pytest.approx((0.95 + 0.92) / 2 - 0.5)  # the object, and the class that is absent


def test_rotated_boxes_are_compared_as_such() -> None:
    truth = one_object(bbox=[50.0, 50.0, 60.0, 20.0, 30.0])
    for angle, right in ((30.0, 1.0), (120.0, 0.0)):
        evaluator = DiagnosisEvaluator()
        evaluator.start(Annotated(truth))  # type: ignore[arg-type]
        boxes = torch.tensor([[50.0, 50.0, 60.0, 20.0, angle]])
        fields = {"boxes": boxes, "labels": torch.tensor([0]), "scores": torch.tensor([0.9])}
        evaluator.add(Prediction((100, 100), **fields), {"image_id": 0})
        assert evaluator.compute()["diagnosis"]["recall"] == right


def test_masks_are_compared_where_asked_for() -> None:
    truth = one_object(segmentation=[[10, 10, 60, 10, 60, 35, 10, 35]])
    evaluator = DiagnosisEvaluator(compare="masks")
    masks = torch.zeros(2, 100, 100, dtype=torch.bool)
    masks[0, 35:60, 10:60] = True  # the other half of the box
    masks[1, 10:35, 10:60] = True
    boxes = torch.tensor([[10.0, 10.0, 60.0, 60.0]]).repeat(2, 1)
    for rows, right in (([0], 0.0), ([1], 1.0)):
        evaluator.start(Annotated(truth))  # type: ignore[arg-type]
        labels, scores = torch.zeros(2, dtype=torch.int64), torch.tensor([0.9, 0.8])
        prediction = Prediction((100, 100), boxes=boxes, labels=labels, scores=scores, masks=masks)
        evaluator.add(prediction.select(torch.tensor(rows)), {"image_id": 0})
        assert evaluator.compute()["diagnosis"]["recall"] == right
