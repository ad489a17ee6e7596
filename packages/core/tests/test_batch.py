from __future__ import annotations

import pytest
import torch

from detkit.structures.batch import Batch, Targets


def image(height: int, width: int, value: int = 9) -> torch.Tensor:
    return torch.full((3, height, width), value, dtype=torch.uint8)


def target(count: int, height: int, width: int) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.full((count, 4), 5.0),
        "labels": torch.full((count,), 2),
        "masks": torch.ones(count, height, width, dtype=torch.bool),
    }


def test_images_are_padded_at_the_right_and_the_bottom_to_the_divisor() -> None:
    batch = Batch.collate([image(20, 50), image(40, 30)], divisor=32)
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.sizes.tolist() == [[20, 50], [40, 30]]
    assert batch.images[0, :, :20, :50].eq(9).all()
    assert batch.images[0].sum() == 9 * 3 * 20 * 50


@pytest.mark.parametrize(("square", "side"), [(0, None), (60, 64), (1, 64), (100, 128)])
def test_a_square_is_as_large_as_the_largest_image_at_least(square: int, side: int | None) -> None:
    batch = Batch.collate([image(20, 50), image(30, 30)], [target(1, 20, 50), target(1, 30, 30)], 32, square=square)
    assert batch.targets is not None
    assert batch.targets.masks is not None
    assert batch.images.shape[2:] == batch.targets.masks.shape[2:] == ((side, side) if side else (32, 64))
    assert batch.sizes.tolist() == [[20, 50], [30, 30]]


def test_targets_are_padded_to_one_capacity() -> None:
    targets = Batch.collate([image(20, 50), image(40, 30)], [target(1, 20, 50), target(3, 40, 30)], 32).targets
    assert targets is not None
    assert targets.valid.tolist() == [[True, False, False], [True, True, True]]
    assert targets.boxes.shape == (2, 3, 4)
    assert targets.masks is not None
    assert targets.masks.dtype == torch.uint8
    assert targets.masks.sum(dim=(2, 3)).tolist() == [[1000, 0, 0], [1200, 1200, 1200]]


def test_images_without_objects_leave_room_for_one() -> None:
    targets = Batch.collate([image(8, 8)], [target(0, 8, 8)]).targets
    assert targets is not None
    assert targets.valid.tolist() == [[False]]


def test_seeds_are_kept_and_only_missing_ones_are_drawn() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    given = Targets.collate([{**target(1, 8, 8), "seed": torch.tensor(7)}], 8, 8)
    assert given.seeds.tolist() == [7]
    assert torch.equal(torch.get_rng_state(), before)
    drawn = Targets.collate([target(1, 8, 8)], 8, 8).seeds
    torch.manual_seed(0)
    assert torch.equal(Targets.collate([target(1, 8, 8)], 8, 8).seeds, drawn)


@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        ([], None, "at least one image"),
        ([torch.zeros(3, 8, 8)], None, r"image 0 is torch.float32 \(3, 8, 8\); uint8 RGB of shape"),
        ([image(8, 8)], [], "1 images but 0 targets"),
        ([image(8, 8)], [{"boxes": torch.zeros(1, 4)}], r"target 0 has \['boxes'\]; 'boxes' \(N, 4\) and 'labels'"),
        ([image(8, 8)], [{"boxes": torch.zeros(2, 4), "labels": torch.zeros(1)}], "2 boxes but 1 labels"),
    ],
)
def test_malformed_input_is_explained(images: list, targets: list | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Batch.collate(images, targets)


def test_everything_moves_together() -> None:
    batch = Batch.collate([image(8, 8)], [target(1, 8, 8)]).to("meta")
    assert batch.targets is not None
    assert batch.targets.masks is not None
    moved = (batch.images, batch.sizes, batch.targets.boxes, batch.targets.seeds, batch.targets.masks)
    assert {tensor.device.type for tensor in moved} == {"meta"}


def test_what_else_is_known_of_instances_comes_along() -> None:
    first, second = (
        {**target(1, 20, 50), "weights": torch.ones(1, 2)},
        {**target(3, 40, 30), "weights": torch.ones(3, 2)},
    )
    for each in (first, second):
        each["area"], each["image_id"], each["more"] = torch.ones(len(each["labels"])), torch.tensor([7]), torch.ones(9)
    targets = Batch.collate([image(20, 50), image(40, 30)], [first, second], 32).targets
    assert targets is not None
    assert list(targets.extra) == ["weights"]
    assert targets.extra["weights"][0].tolist() == [[1, 1], [0, 0], [0, 0]]


def test_rows_of_different_shapes_are_named() -> None:
    first, second = (
        {**target(1, 20, 50), "weights": torch.ones(1, 2)},
        {**target(1, 40, 30), "weights": torch.ones(1, 3)},
    )
    with pytest.raises(ValueError, match=r"'weights' of shapes \(1, 2\), \(1, 3\)"):
        Batch.collate([image(20, 50), image(40, 30)], [first, second], 32)
