import pytest
import torch
from torchvision import tv_tensors

from detkit.config import build
from detkit.data.transforms.chance import RandomApply
from detkit.data.transforms.flip import Flip
from detkit.interfaces import Transform
from detkit.structures.sample import Sample


def sample() -> Sample:
    return Sample(image=tv_tensors.Image(torch.arange(12, dtype=torch.uint8).view(1, 3, 4)), target={}, info={})


def test_all_or_none_of_the_transforms_are_applied_at_their_rate() -> None:
    torch.manual_seed(0)
    both = RandomApply([Flip(horizontal=1.0), Flip(horizontal=0.0, vertical=1.0)], p=0.25)
    start = sample()
    turned = start.image.flip(1, 2)
    changed = 0
    for _ in range(400):
        image = both(start).image
        assert torch.equal(image, start.image) or torch.equal(image, turned)
        changed += not torch.equal(image, start.image)
    assert 70 < changed < 130


def test_a_config_nests_transforms() -> None:
    spec = {"name": "random_apply", "p": 1.0, "transforms": [{"name": "flip", "horizontal": 1.0}, "flip"]}
    transform = build(spec, Transform)
    assert [type(each) for each in transform.transforms] == [Flip, Flip]


def test_a_probability_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match="p is 2; a probability"):
        RandomApply([], p=2)
