"""Mosaic, mixup and copy-paste."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from detkit.data.loader import train_loader
from detkit.data.targets import boxes_of_masks, cut_to_canvas, rasterized
from detkit.data.transforms.chance import RandomApply
from detkit.data.transforms.flip import Flip
from detkit.data.transforms.mixing import CopyPaste, MixUp, Mosaic, apply_chain
from detkit.data.transforms.resize import LargeScaleJitter
from detkit.interfaces import Dataset, Transform
from detkit.structures.categories import Categories
from detkit.structures.instance_keypoints import InstanceKeypoints
from detkit.structures.polygons import Polygons
from detkit.structures.sample import Sample
from detkit.structures.semantic_map import SemanticMap


def make(*boxes: list[int], size: tuple[int, int] = (40, 60), value: int = 100, label: int = 0) -> Sample:
    """Each box is an instance with an outline that fills it, as bright as `value` plus its position; the image is dark
    elsewhere. A key point is in the middle of each. Pixels of instances have the class `label` + 1."""
    image, semantic = torch.zeros(3, *size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8)
    for position, (x1, y1, x2, y2) in enumerate(boxes):
        image[:, y1:y2, x1:x2] = value + position
        semantic[y1:y2, x1:x2] = label + 1
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    rings = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes]
    points = torch.cat(((corners[:, :2] + corners[:, 2:]) / 2, torch.full((len(boxes), 1), 2.0)), dim=1)[:, None]
    target = {
        "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=size),
        "labels": torch.full((len(boxes),), label),
        "crowd": torch.zeros(len(boxes), dtype=torch.bool),
        "polygons": Polygons.from_rings(rings, size),
        "has_mask": torch.ones(len(boxes), dtype=torch.bool),
        "keypoints": InstanceKeypoints(points, flipped=(0,), canvas_size=size),
        "semantic": SemanticMap(semantic),
    }
    return Sample(tv_tensors.Image(image), target, {"image_id": value})


def masks_of(sample: Sample) -> Tensor:
    return rasterized(cut_to_canvas(sample))["masks"].bool()


def test_pasted_instances_hide_what_is_behind() -> None:
    torch.manual_seed(0)
    behind = make([0, 0, 20, 20], [30, 0, 40, 10], value=100)
    pasted = make([10, 0, 26, 26], value=200, label=4)
    found = CopyPaste().mix(behind, [pasted])
    target = found.target
    assert found.info == behind.info
    assert target["labels"].tolist() == [0, 0, 4]
    assert target["boxes"].tolist() == [[0, 0, 10, 20], [30, 0, 40, 10], [10, 0, 26, 26]]
    masks = masks_of(found)
    assert masks.sum(dim=0).max() == 1
    for mask, value in zip(masks, (100, 101, 200), strict=True):
        assert (found.image[0][mask] == value).all()
    assert target["polygons"].present.tolist() == [False, True, True]  # what is cut is a bitmap from here on
    assert target["keypoints"][:, 0, 2].tolist() == [1, 2, 2]  # (10, 10) is behind the other instance
    assert set(target["semantic"][masks[2]].tolist()) == {5}
    assert set(target["semantic"][masks[0]].tolist()) == {1}


def test_instances_of_which_little_is_left_are_left_out() -> None:
    torch.manual_seed(0)
    behind, pasted = make([0, 0, 20, 20]), make([2, 0, 26, 26], value=200, label=4)
    assert CopyPaste(min_visible=0.05).mix(behind, [pasted]).target["labels"].tolist() == [0, 4]
    assert CopyPaste(min_visible=0.2).mix(behind, [pasted]).target["labels"].tolist() == [4]
    covered = CopyPaste(min_visible=0.0).mix(make([4, 4, 20, 20]), [pasted])
    assert covered.target["labels"].tolist() == [4]


def test_boxes_without_masks_go_when_they_are_covered() -> None:
    torch.manual_seed(0)
    behind, pasted = make([4, 4, 20, 20], [30, 0, 40, 10]), make([2, 0, 26, 26], value=200, label=4)
    behind.target["has_mask"] = torch.tensor([False, True])
    behind.target["polygons"] = behind.target["polygons"].without(torch.tensor([True, False]))
    found = CopyPaste().mix(behind, [pasted])
    assert found.target["boxes"].tolist() == [[30, 0, 40, 10], [2, 0, 26, 26]]


@pytest.mark.parametrize("size", [(30, 30), (40, 60), (80, 90)])
def test_a_partner_of_another_size_is_cut_or_padded(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    found = CopyPaste().mix(make([0, 0, 10, 10]), [make([15, 15, 30, 30], size=size, value=200)])
    assert found.image.shape == (3, 40, 60)
    assert found.target["boxes"].tolist() == [[0, 0, 10, 10], [15, 15, 30, 30]]


def test_nothing_to_paste_changes_nothing() -> None:
    found = CopyPaste().mix(make([0, 0, 10, 10]), [make()])
    assert torch.equal(found.image, make([0, 0, 10, 10]).image)
    assert CopyPaste().mix(make(), [make([5, 5, 9, 9], value=200)]).target["boxes"].tolist() == [[5, 5, 9, 9]]


def test_copy_paste_needs_masks() -> None:
    sample = make([0, 0, 10, 10])
    del sample.target["has_mask"]
    with pytest.raises(ValueError, match="cuts instances out along their masks"):
        CopyPaste().mix(sample, [sample])


def test_a_mosaic_meets_at_a_point() -> None:
    for seed in range(6):
        torch.manual_seed(seed)
        samples = [make([5, 5, 40, 35], value=value, label=value // 50) for value in (50, 100, 150, 200)]
        found = Mosaic(size=60, fill=7).mix(samples[0], samples[1:])
        assert found.image.shape == (3, 120, 120)
        masks = masks_of(found)
        kept = cut_to_canvas(found).target
        for mask, label in zip(masks, kept["labels"].tolist(), strict=True):
            inner = mask & (found.image[0] > 7)
            assert (found.image[0][inner].int() - 50 * label).abs().float().median() <= 1
            assert set(kept["semantic"][mask].tolist()) == {label + 1}
        assert torch.allclose(kept["boxes"].as_subclass(Tensor), boxes_of_masks(masks), atol=1)
        assert (kept["semantic"][(found.image == 7).all(dim=0)] == 255).float().mean() > 0.99


def test_a_mixture_has_the_instances_of_both() -> None:
    torch.manual_seed(3)
    found = MixUp().mix(make([0, 0, 10, 10], value=100), [make([30, 30, 50, 50], size=(60, 55), value=200)])
    assert found.image.shape == (3, 60, 60)
    assert found.target["boxes"].tolist() == [[0, 0, 10, 10], [30, 30, 50, 50]]
    first, second = found.image[0, 5, 5] / 100, found.image[0, 40, 40] / 200
    assert first + second == pytest.approx(1, abs=0.02)
    assert tuple(found.target["semantic"].shape) == (60, 60)


class Numbered(Dataset):
    """Images of which each tells its number by its grey, and has a box or two."""

    has_masks = True

    def __init__(self) -> None:
        self.categories = Categories(tuple("abcdefgh"))

    def __len__(self) -> int:
        return 11

    def __getitem__(self, index: int) -> Sample:
        boxes = [[2 + index, 3, 20 + index, 25], [30, 20, 50, 38]][: index % 3]
        sample = make(*boxes, value=40 + 10 * index, label=index % 8)
        return Sample(sample.image, sample.target, {"image_id": index})

    def size(self, index: int) -> tuple[int, int]:
        return 40, 60

    def ground_truth(self) -> None:
        return None


CHAINS: list[list[Transform]] = [
    [Mosaic(40), Flip()],
    [LargeScaleJitter(64, 0.5, 1.5), Flip(), CopyPaste(p=0.7)],
    [Mosaic(30, p=0.5), MixUp(p=0.5), CopyPaste()],
]


@pytest.mark.parametrize("chain", CHAINS)
def test_the_stream_depends_on_nothing_but_seed_and_position(chain: list[Transform]) -> None:
    options: dict[str, Any] = {"batch_size": 4, "divisor": 8, "seed": 5}
    whole = list(islice(train_loader(Numbered(), chain, workers=0, **options), 6))
    in_workers = islice(train_loader(Numbered(), chain, workers=2, start=3, **options), 3)
    for first, second in zip(whole[3:], in_workers, strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.targets.masks, second.targets.masks)
        assert torch.equal(first.targets.boxes, second.targets.boxes)
    for rank in (0, 1):
        part = islice(train_loader(Numbered(), chain, workers=0, rank=rank, world_size=2, **options), 6)
        for first, second in zip(whole, part, strict=True):
            count = int(second.targets.valid.sum())
            mine = first.targets.valid[2 * rank : 2 * rank + 2]
            assert count == int(mine.sum())
            assert first.info[2 * rank : 2 * rank + 2] == second.info


def test_partners_pass_through_the_transforms_before() -> None:
    class Mark(Transform):
        def __call__(self, sample: Sample) -> Sample:
            seen.append(sample.info["image_id"])
            return sample

    seen: list[int] = []
    apply_chain([Mark(), Mosaic(20), MixUp(), Mark()], make(value=1), lambda: make(value=2))
    assert sorted(seen) == [1, 1] + [2] * 7  # four images twice before mixup, and their mixture once after it


def test_mixing_belongs_into_the_chain_itself() -> None:
    with pytest.raises(ValueError, match="write it there, with its own p"):
        RandomApply([Mosaic(20)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Mosaic, {"size": 1}), "at least 2"),
        ((Mosaic, {"center_range": (1.5, 0.5)}), "center_range"),
        ((MixUp, {"alpha": 0.0}), "above 0"),
        ((CopyPaste, {"max_pasted": 0}), "at least 1"),
        ((CopyPaste, {"p": 1.5}), "from 0 to 1"),
    ],
)
def test_wrong_arguments_are_explained(arguments: tuple[type, dict[str, Any]], message: str) -> None:
    cls, given = arguments
    with pytest.raises(ValueError, match=message):
        cls(**given)
