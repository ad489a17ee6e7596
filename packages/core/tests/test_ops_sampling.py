import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.ops.sampling import random_keys, sample_balanced


@given(
    labels=st.lists(st.sampled_from([1, 0, -1]), min_size=1, max_size=60),
    count=st.integers(1, 40),
    fraction=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    seed=st.integers(0, 2**62),
)
@settings(max_examples=200, deadline=None)
def test_counts_are_those_of_the_rule(labels: list[int], count: int, fraction: float, seed: int) -> None:
    given_labels = torch.tensor([labels])
    index, valid, capacity = sample_balanced(
        given_labels, torch.tensor([seed]), count=count, positive_fraction=fraction, stream=0
    )
    chosen = index[0][valid[0]]
    assert len(set(chosen.tolist())) == len(chosen)
    picked = given_labels[0][chosen]
    positives = min(labels.count(1), int(count * fraction))
    assert (picked == 1).sum() == positives
    assert (picked == 0).sum() == min(labels.count(0), count - positives)
    assert (picked >= 0).all()
    assert not (given_labels[0][index[0, capacity:]][valid[0, capacity:]] == 1).any()


def test_an_image_is_sampled_alike_whatever_its_neighbours() -> None:
    labels = (torch.rand(3, 500, generator=torch.Generator().manual_seed(0)) < 0.1).long()
    seeds = torch.tensor([11, 12, 13])
    together = sample_balanced(labels, seeds, count=64, positive_fraction=0.5, stream=1)
    alone = sample_balanced(labels[1:2], seeds[1:2], count=64, positive_fraction=0.5, stream=1)
    assert torch.equal(together[0][1], alone[0][0])


def test_keys_are_spread_evenly_and_differ_between_streams_and_seeds() -> None:
    keys = random_keys(torch.arange(4), 10_000, stream=1).double() / 2**32
    assert (keys.mean(dim=1) - 0.5).abs().max() < 0.02
    assert (keys.std(dim=1) - 12**-0.5).abs().max() < 0.02
    assert torch.corrcoef(keys).fill_diagonal_(0).abs().max() < 0.05
    other = random_keys(torch.arange(4), 10_000, stream=2).double() / 2**32
    assert torch.corrcoef(torch.stack([keys[0], other[0]]))[0, 1].abs() < 0.05
