import torch

from detkit.ops import matching
from detkit.ops.matching import match_boxes

TRUTH = torch.tensor([[[0.0, 0, 10, 10], [20, 20, 40, 40]]])
BOTH = torch.tensor([[True, True]])


def test_thresholds_are_half_open() -> None:
    candidates = torch.tensor(
        [[[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 3], [50, 50, 60, 60]]]
    )  # IoU 1, 0.5, 0.3, 0
    labels, index = match_boxes(TRUTH, BOTH, candidates, low=0.3, high=0.5)
    assert labels.tolist() == [[1, 1, -1, 0]]
    assert index[0, :3].tolist() == [0, 0, 0]


def test_every_candidate_that_ties_for_best_is_kept() -> None:
    candidates = torch.tensor(
        [[[20.0, 20, 40, 24], [20, 36, 40, 40], [20, 20, 40, 22]]]
    )  # IoU 0.2, 0.2, 0.1 with the second
    labels, _ = match_boxes(TRUTH, BOTH, candidates, low=0.3, high=0.7, keep_best=True)
    assert labels.tolist() == [[1, 1, 0]]


def test_an_object_that_nothing_overlaps_makes_nothing_foreground() -> None:
    candidates = torch.tensor([[[100.0, 100, 110, 110], [200, 200, 210, 210]]])
    labels, _ = match_boxes(TRUTH, BOTH, candidates, low=0.3, high=0.7, keep_best=True)
    assert labels.tolist() == [[0, 0]]


def test_padding_matches_nothing() -> None:
    labels, _ = match_boxes(TRUTH, torch.tensor([[False, False]]), TRUTH, low=0.3, high=0.7, keep_best=True)
    assert labels.tolist() == [[0, 0]]


def test_blocks_change_nothing(monkeypatch) -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(1, 100, 2, generator=generator) * 40
    candidates = torch.cat([low, low + 5 + torch.rand(1, 100, 2, generator=generator) * 20], dim=2)
    whole = match_boxes(TRUTH, BOTH, candidates, low=0.3, high=0.5, keep_best=True)
    monkeypatch.setattr(matching, "PAIRS", {"cpu": 15})
    parts = match_boxes(TRUTH, BOTH, candidates, low=0.3, high=0.5, keep_best=True)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])
