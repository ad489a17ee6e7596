import pytest
import torch
import torchvision

from detkit.ops.nms import _nms, batched_nms


def candidates(batch: int, count: int, groups: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(batch, count, 2, generator=generator) * 80
    boxes = torch.cat([low, low + 5 + torch.rand(batch, count, 2, generator=generator) * 40], dim=2)
    scores = torch.rand(batch, count, generator=generator)
    group = torch.randint(groups, (batch, count), generator=generator)
    valid = torch.rand(batch, count, generator=generator) < 0.9
    return boxes, scores, group, valid


@pytest.mark.parametrize("groups", [1, 4])
def test_keeps_what_torchvision_keeps(groups: int) -> None:
    boxes, scores, group, valid = candidates(3, 300, groups)
    keep = batched_nms(boxes, scores, group, valid, 0.5)
    for image in range(3):
        rows = valid[image].nonzero().squeeze(1)
        wanted = rows[torchvision.ops.batched_nms(boxes[image, rows], scores[image, rows], group[image, rows], 0.5)]
        assert keep[image].nonzero().squeeze(1).tolist() == sorted(wanted.tolist())


def test_the_kernel_for_accelerators_keeps_the_same() -> None:
    boxes, scores, group, valid = candidates(2, 200, 3)
    on_accelerator = _nms._init_fn(boxes, scores, group, valid, 0.5)  # runs on any device; a CPU has its own kernel
    assert torch.equal(on_accelerator, batched_nms(boxes, scores, group, valid, 0.5))


def test_nothing_valid_keeps_nothing() -> None:
    boxes, scores, group, _ = candidates(2, 10, 2)
    assert not batched_nms(boxes, scores, group, torch.zeros(2, 10, dtype=torch.bool), 0.5).any()


def test_operator_registration() -> None:
    boxes, scores, group, valid = candidates(2, 20, 2)
    torch.library.opcheck(_nms, (boxes, scores, group, valid, 0.5))
