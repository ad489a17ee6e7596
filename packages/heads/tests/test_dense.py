import math
from typing import Any

import pytest
import torch
from torch import Tensor

from det_heads.dense import DenseDetector, LevelBatchNorm
from detkit.config import build
from detkit.detector import Detector
from detkit.model_directory import save_model
from detkit.structures.batch import Targets
from detkit.structures.categories import Categories
from detkit.testing.inputs import CATEGORIES, random_batch
from detkit.transfer import initialise

BACKBONE = {"name": "resnet", "depth": 18, "norm": "gn", "width": 16, "out_features": ["res3", "res4", "res5"]}
NECK = {"name": "fpn", "channels": 32, "top": "p5"}


def make(name: str, categories: Categories = CATEGORIES, **arguments: Any) -> Any:
    torch.manual_seed(0)
    spec = {"name": name, "backbone": BACKBONE, "neck": NECK, "layers": 1, "channels": 32, **arguments}
    return build(spec, Detector, categories=categories)


def targets(boxes: list[list[float]], labels: list[int], valid: list[bool] | None = None) -> Targets:
    return Targets(
        boxes=torch.tensor([boxes]),
        labels=torch.tensor([labels]),
        valid=torch.tensor([valid or [True] * len(boxes)]),
        seeds=torch.zeros(1, dtype=torch.int64),
    )


def all_anchors(model: DenseDetector, height: int = 256, width: int = 320) -> list[Tensor]:
    return [
        model.anchors(level, math.ceil(height / shape.stride), math.ceil(width / shape.stride))
        for level, shape in enumerate(model.shapes)
    ]


def plain_fcos_match(model: Any, anchors: list[Tensor], given: Targets) -> list[tuple[int, int]]:
    """(label, object) of each location, one at a time, as the paper and Detectron2 tell it; (classes, -1) for none."""
    found = []
    for level, cells in enumerate(anchors):
        stride = model.shapes[level].stride
        low, high = stride * 4 if level else 0, stride * 8 if level < len(anchors) - 1 else math.inf
        for cell in cells.tolist():
            x, y = (cell[0] + cell[2]) / 2, (cell[1] + cell[3]) / 2
            best = (math.inf, len(CATEGORIES), -1)
            for index, (x0, y0, x1, y1) in enumerate(given.boxes[0].tolist()):
                sides = (x - x0, y - y0, x1 - x, y1 - y)
                away = max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2))
                suits = min(sides) > 0 and low < max(sides) < high and away < model.center_radius * stride
                if given.valid[0, index] and suits:
                    best = min(best, ((x1 - x0) * (y1 - y0), int(given.labels[0, index]), index))
            found.append(best[1:])
    return found


def test_fcos_matches_as_a_plain_loop_does() -> None:
    model = make("fcos")
    source = torch.Generator().manual_seed(3)
    low = torch.rand(12, 2, generator=source) * 200
    boxes = torch.cat([low, low + 4 + torch.rand(12, 2, generator=source) ** 2 * 220], dim=1)
    boxes[-1] = torch.tensor([10.0, 10.0, 300.0, 250.0])
    given = targets(boxes.tolist(), [index % 3 for index in range(12)], [index != 4 for index in range(12)])
    anchors = all_anchors(model)
    labels, objects = model.match(anchors, given)
    wanted = plain_fcos_match(model, anchors, given)
    assert sum(index >= 0 for _, index in wanted) > 50
    assert len({index for _, index in wanted}) > 8
    assert labels[0].tolist() == [label for label, _ in wanted]
    assert all(found == index for found, (_, index) in zip(objects[0].tolist(), wanted, strict=True) if index >= 0)


@pytest.mark.parametrize("stride", [8, 32, 128])
def test_fcos_decodes_the_sides_that_it_is_trained_on(stride: int) -> None:
    model = make("fcos")
    center = torch.tensor([[100.0, 60.0]])
    cell = torch.cat([center - stride / 2, center + stride / 2], dim=1)
    box = torch.tensor([[90.0, 40.0, 150.0, 61.0]])
    deltas = torch.cat([center - box[:, :2], box[:, 2:] - center], dim=1) / stride
    torch.testing.assert_close(model.decode(cell, deltas), box)


def test_fcos_locations_are_the_centres_of_cells() -> None:
    first = make("fcos").anchors(0, 2, 2)[0]
    assert first.tolist() == [0, 0, 8, 8]


def test_anchors_between_the_thresholds_are_ignored() -> None:
    model = make("retinanet")
    anchors = torch.tensor([[0.0, 0, 100, 100], [0, 0, 100, 45], [0, 0, 100, 30], [200, 200, 300, 300]])
    labels, matched = model.match(anchors, targets([[0.0, 0, 100, 100]], [2]))
    assert labels.tolist() == [[2, -1, 3, 3]]
    assert matched[0, 0] == 0


def test_every_object_has_an_anchor() -> None:
    model = make("retinanet")
    labels, _ = model.match(torch.cat(all_anchors(model)), targets([[3.0, 5.0, 9.0, 8.0]], [1]))
    assert (labels == 1).any()


def test_retinanets_anchors_are_three_to_an_octave() -> None:
    anchors = make("retinanet").anchors(1, 1, 1)
    sides = ((anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])).sqrt()
    wanted = torch.tensor([64 * 2 ** (octave / 3) for octave in range(3)]).repeat_interleave(3)
    torch.testing.assert_close(sides, wanted)


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_the_normaliser_is_a_moving_average_in_training_alone(name: str) -> None:
    model = make(name, normalizer=50.0)
    model.train()
    assert model.average_foreground(torch.tensor(10)).item() == pytest.approx(46.0)
    assert model.average_foreground(torch.tensor(0)).item() == pytest.approx(0.9 * 46.0 + 0.1)
    before = model.normalizer.clone()
    model.eval()
    assert torch.equal(model.average_foreground(torch.tensor(1000)), before)
    assert "normalizer" in model.state_dict()


def test_the_normaliser_averages_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("det_heads.dense.average_count", lambda count: count * 3 / 2)  # others have more objects
    model = make("fcos", normalizer=0.0).train()
    assert model.average_foreground(torch.tensor(10)).item() == pytest.approx(1.5)


def test_two_steps_can_be_taken_back_at_once() -> None:
    model = make("retinanet").train()
    sum(sum(model.losses(random_batch(1)).values()) for _ in range(2)).backward()


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_losses_of_images_without_objects_are_of_background_alone(name: str) -> None:
    losses = make(name).train().losses(random_batch(2, valid=False))
    assert losses["classification"] > 0
    assert losses["box_regression"] == 0
    assert losses.get("centerness", torch.zeros(())) == 0


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
@pytest.mark.parametrize("box", [[50.0, 50.0, 51.0, 51.0], [-30.0, -40.0, 500.0, 600.0], [70.0, 70.0, 70.0, 70.0]])
def test_strange_boxes_give_finite_losses_and_gradients(name: str, box: list[float]) -> None:
    model = make(name).train()
    batch = random_batch(1)
    assert batch.targets is not None
    batch.targets.boxes[0, 0] = torch.tensor(box)
    losses = model.losses(batch)
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(each.grad.isfinite().all() for each in model.parameters() if each.grad is not None)


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_the_untrained_head_says_background(name: str) -> None:
    model = make(name, prior=0.02).eval()
    batch = random_batch(1)
    with torch.no_grad():
        logits = torch.cat(model.dense(batch.images, batch.sizes).logits, dim=1)
    assert logits.sigmoid().mean().item() == pytest.approx(0.02, rel=0.2)


def test_the_best_pairs_are_those_of_a_full_sort() -> None:
    model = make("retinanet", candidates=20)
    logits = torch.randn(2, 300, 3, generator=torch.Generator().manual_seed(0))
    scores, rows, labels = model._best(logits, None)
    wanted = logits.sigmoid().flatten(1).sort(dim=1, descending=True)
    torch.testing.assert_close(scores, wanted.values[:, :20])
    assert torch.equal(rows * 3 + labels, wanted.indices[:, :20])


def test_fcos_scores_are_geometric_means() -> None:
    scores, _, _ = make("fcos")._best(torch.tensor([[[0.0, -50.0, -50.0]]]), torch.tensor([[math.log(3.0)]]))
    assert scores[0, 0].item() == pytest.approx(math.sqrt(0.5 * 0.75))


def test_batch_norm_has_statistics_of_each_level() -> None:
    norm = LevelBatchNorm(4, levels=2, synchronised=False).train()
    norm(torch.full((2, 4, 3, 3), 5.0), 0)
    assert norm.levels[0].running_mean[0] == 0.5
    assert norm.levels[1].running_mean[0] == 0
    assert len(list(norm.parameters())) == 2


def test_levels_that_do_not_fit_the_anchors_are_refused() -> None:
    with pytest.raises(ValueError, match="for the 5 feature maps"):
        make("retinanet", sizes=[[32]])
    with pytest.raises(ValueError, match="in_features has p9; there are p3, p4"):
        make("fcos", in_features=["p9"])


def test_fine_tuning_reuses_the_rows_of_every_anchor(tmp_path: Any) -> None:
    first = make("retinanet")
    saved = save_model(first, tmp_path / "first", config={"name": "retinanet"})
    second = make("retinanet", Categories(("triangle", "star", "circle", "moon")))
    report = initialise(second, saved)
    assert report.reused == ("triangle", "circle")
    rows, own = first.head.logits.weight.view(9, 3, -1), second.head.logits.weight.view(9, 4, -1)
    assert torch.equal(own[:, 0], rows[:, 2])
    assert torch.equal(own[:, 2], rows[:, 0])
    assert not torch.equal(own[:, 1], rows[:, 1])


def test_boxes_may_be_clipped_before_they_are_compared() -> None:
    """Two boxes that differ only outside of the image: one of them is left when that does not count."""
    answers = {}
    for clip in (False, True):
        model = make("fcos", clip_before_nms=clip).eval()
        boxes = torch.tensor([[[0.0, 0, 40, 40], [-120, -120, 40, 40]]])

        def decode(anchors: Tensor, deltas: Tensor, boxes: Tensor = boxes) -> Tensor:
            return boxes.repeat(1, -(-anchors.shape[1] // 2), 1)[:, : anchors.shape[1]]

        model.decode = decode
        torch.nn.init.zeros_(model.head.logits.weight)
        torch.nn.init.constant_(model.head.logits.bias, 4.0)
        found = model.detect(torch.zeros(1, 3, 256, 256, dtype=torch.uint8), torch.tensor([[256, 256]]))
        answers[clip] = int(found["valid"].sum()) // len(CATEGORIES)
    assert answers == {False: 2, True: 1}
