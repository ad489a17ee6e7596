import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from det_heads.panoptic import PanopticMerging

HEIGHT, WIDTH = 20, 30


def box_mask(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


def merged(
    *instances: tuple[float, int, Tensor], semantic: Tensor | None = None, **options: float
) -> tuple[Tensor, list[dict[str, object]]]:
    scores = torch.tensor([score for score, _, _ in instances])
    labels = torch.tensor([label for _, label, _ in instances], dtype=torch.int64)
    masks = torch.stack([mask for _, _, mask in instances]) if instances else torch.zeros(0, HEIGHT, WIDTH).bool()
    if semantic is None:
        semantic = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    found = PanopticMerging(**{"stuff_area": 1, **options})(scores, labels, masks, semantic)  # type: ignore[arg-type]
    return found["panoptic"], found["segments"]


def test_the_higher_score_lies_in_front() -> None:
    low, high = box_mask(0, 0, 10, 10), box_mask(6, 0, 16, 10)
    panoptic, segments = merged((0.75, 3, low), (0.875, 1, high))
    assert segments == [
        {"id": 1, "isthing": True, "label": 1, "score": 0.875, "area": 100},
        {"id": 2, "isthing": True, "label": 3, "score": 0.75, "area": 60},
    ]
    assert torch.equal(panoptic == 1, high)
    assert torch.equal(panoptic == 2, low & ~high)
    assert panoptic.dtype == torch.int32


def test_of_equal_scores_the_first_lies_in_front() -> None:
    panoptic, _ = merged((0.75, 0, box_mask(0, 0, 10, 10)), (0.75, 1, box_mask(5, 0, 15, 10)))
    assert panoptic[0, :15].tolist() == [1] * 10 + [2] * 5


@pytest.mark.parametrize(("hidden", "kept"), [(5, True), (6, False)])
def test_an_instance_that_is_hidden_by_more_than_the_overlap_is_left_out(hidden: int, kept: bool) -> None:
    _, segments = merged((0.9, 0, box_mask(0, 0, hidden, 10)), (0.8, 1, box_mask(0, 0, 10, 10)))
    assert [segment["label"] for segment in segments] == ([0, 1] if kept else [0])


def test_an_instance_that_is_left_out_hides_nothing() -> None:
    front, dropped, last = box_mask(0, 0, 8, 10), box_mask(0, 0, 10, 10), box_mask(8, 0, 12, 10)
    panoptic, segments = merged((0.9, 0, front), (0.8, 1, dropped), (0.7, 2, last))
    assert [(segment["id"], segment["label"], segment["area"]) for segment in segments] == [(1, 0, 80), (2, 2, 40)]
    assert torch.equal(panoptic == 2, last)


def test_low_scores_and_empty_masks_are_left_out() -> None:
    nothing = box_mask(0, 0, 0, 0)
    _, segments = merged((0.9, 0, nothing), (0.5, 1, box_mask(0, 0, 4, 4)), (0.49, 2, box_mask(9, 9, 19, 19)))
    assert [segment["label"] for segment in segments] == [1]


def test_stuff_fills_what_is_free_and_class_0_stays_free() -> None:
    semantic = torch.full((HEIGHT, WIDTH), 2)
    semantic[:, :5] = 0
    semantic[:, 5:7] = 4
    panoptic, segments = merged((0.9, 1, box_mask(0, 0, 6, 20)), semantic=semantic)
    assert segments == [
        {"id": 1, "isthing": True, "label": 1, "score": pytest.approx(0.9), "area": 120},
        {"id": 2, "isthing": False, "label": 2, "area": 23 * 20},
        {"id": 3, "isthing": False, "label": 4, "area": 20},
    ]
    assert panoptic[0].tolist() == [1] * 6 + [3] + [2] * 23
    assert not merged(semantic=torch.zeros(HEIGHT, WIDTH, dtype=torch.int64))[0].any()


@pytest.mark.parametrize(("area", "kept"), [(40, True), (41, False)])
def test_stuff_of_a_smaller_area_is_left_out(area: int, kept: bool) -> None:
    semantic = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    semantic[:, :2] = 1
    panoptic, segments = merged(semantic=semantic, stuff_area=area)
    assert len(segments) == kept
    assert panoptic.any() == kept


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**20), st.floats(0, 1), st.integers(1, 80))
def test_merging_equals_placing_one_after_the_other(seed: int, overlap: float, stuff_area: int) -> None:
    source = torch.Generator().manual_seed(seed)
    count = int(torch.randint(0, 9, (), generator=source))
    scores = (torch.rand(count, generator=source) * 8).round() / 8
    labels = torch.randint(0, 5, (count,), generator=source)
    masks = torch.rand(count, HEIGHT, WIDTH, generator=source) < torch.rand(count, 1, 1, generator=source)
    semantic = torch.randint(0, 6, (HEIGHT, WIDTH), generator=source)
    found = PanopticMerging(overlap, stuff_area, 0.25)(scores, labels, masks, semantic)

    panoptic, wanted = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), []
    for index in sorted(range(count), key=lambda index: -float(scores[index])):
        free = masks[index] & (panoptic == 0)
        area, visible = int(masks[index].sum()), int(free.sum())
        if scores[index] >= 0.25 and area and (area - visible) / area <= overlap and visible:
            wanted.append((True, int(labels[index]), visible))
            panoptic[free] = len(wanted)
    things = panoptic == 0
    for label in range(1, 6):
        free = things & (semantic == label)
        if free.sum() >= stuff_area:
            wanted.append((False, label, int(free.sum())))
            panoptic[free] = len(wanted)
    assert torch.equal(found["panoptic"], panoptic)
    assert [(s["isthing"], s["label"], s["area"]) for s in found["segments"]] == wanted
    assert [s["id"] for s in found["segments"]] == list(range(1, len(wanted) + 1))
