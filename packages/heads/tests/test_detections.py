import torch
import torchvision

from det_heads.detections import select_detections
from detkit.interfaces import RoiSamples
from detkit.ops.boxes import decode_boxes
from detkit.testing.inputs import random_boxes

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
REGIONS, CLASSES = 40, 3


def decode(boxes: torch.Tensor, deltas: torch.Tensor) -> torch.Tensor:
    return decode_boxes(boxes, deltas, WEIGHTS)


def inputs(boxes_per_region: int = CLASSES) -> tuple[RoiSamples, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    valid = torch.rand(2, REGIONS, generator=source) > 0.2
    probabilities = torch.randn(2, REGIONS, CLASSES + 1, generator=source).mul(2).softmax(dim=2)[..., :CLASSES]
    deltas = torch.randn(2, REGIONS, boxes_per_region, 4, generator=source)
    return RoiSamples(boxes=random_boxes(2, REGIONS), valid=valid), probabilities, deltas


def select(
    samples: RoiSamples, probabilities: torch.Tensor, deltas: torch.Tensor, limit: int = 30, candidates: int = 4000
) -> RoiSamples:
    return select_detections(
        samples,
        probabilities,
        deltas,
        decode,
        score_threshold=0.1,
        nms_iou=0.3,
        detections_per_image=limit,
        candidates=candidates,
    )


def by_hand(samples: RoiSamples, probabilities: torch.Tensor, deltas: torch.Tensor, image: int) -> torch.Tensor:
    """Rows of box, score, label, as Detectron2's `fast_rcnn_inference` finds them."""
    rows = samples.valid[image].nonzero().squeeze(1)
    boxes = decode(samples.boxes[image, rows, None], deltas[image, rows]).expand(-1, CLASSES, -1)
    region, label = (probabilities[image, rows] > 0.1).nonzero().unbind(1)
    boxes, scores = boxes[region, label], probabilities[image, rows][region, label]
    keep = torchvision.ops.batched_nms(boxes, scores, label, 0.3)[:30]
    return torch.cat([boxes[keep], scores[keep, None], label[keep, None].float()], dim=1)


def found(answer: RoiSamples, image: int) -> torch.Tensor:
    assert answer.scores is not None
    assert answer.labels is not None
    columns = [answer.boxes[image], answer.scores[image, :, None], answer.labels[image, :, None].float()]
    return torch.cat(columns, dim=1)[answer.valid[image]]


def test_detections_are_those_of_a_plain_implementation() -> None:
    for boxes_per_region in (CLASSES, 1):
        given = inputs(boxes_per_region)
        answer = select(*given)
        assert answer.boxes.shape == (2, 30, 4)
        for image in range(2):
            expected = by_hand(*given, image)
            assert len(expected) > 10
            torch.testing.assert_close(found(answer, image), expected)


def test_what_is_not_a_detection_is_zero() -> None:
    samples, probabilities, deltas = inputs()
    samples.valid[1] = False
    answer = select(samples, probabilities, deltas, limit=100)
    for values in (answer.boxes, answer.scores, answer.labels):
        assert values is not None
        assert values[1].abs().max() == 0
        assert values[0, ~answer.valid[0]].abs().max() == 0


def test_a_region_with_a_number_that_is_none_is_dropped_whole() -> None:
    samples, probabilities, deltas = inputs()
    deltas[0, 3, 1, 2] = torch.inf
    probabilities[0, 8, 0] = torch.nan
    answer = select(samples, probabilities, deltas)
    samples.valid[0, [3, 8]] = False
    expected = select(samples, probabilities.nan_to_num(), deltas.nan_to_num(posinf=0))
    torch.testing.assert_close(found(answer, 0), found(expected, 0))


def test_only_the_best_candidates_are_looked_at() -> None:
    samples, probabilities, deltas = inputs()
    few, many = select(samples, probabilities, deltas, candidates=5), select(samples, probabilities, deltas)
    assert few.boxes.shape[1] == 5
    assert 0 < few.valid[0].sum() <= 5
    torch.testing.assert_close(found(few, 0), found(many, 0)[: int(few.valid[0].sum())])
