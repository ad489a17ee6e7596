from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from detkit.data.image import read_image
from detkit.data.loader import eval_loader, train_loader
from detkit.data.transforms.crop import RandomCrop
from detkit.data.transforms.flip import Flip
from detkit.interfaces import Dataset
from detkit.structures.batch import Batch
from detkit.structures.categories import Categories
from detkit.structures.input_spec import InputSpec
from detkit.structures.polygons import Polygons
from detkit.structures.sample import Sample

SIZES = [(20, 30), (30, 20), (24, 24), (40, 28), (28, 40)]
TRANSFORMS = [Flip(0.5, 0.5), RandomCrop((0.6, 0.6))]
OPTIONS: dict[str, Any] = {"batch_size": 4, "divisor": 8, "seed": 5}


class Files(Dataset):
    """JPEG files; image i has i % 3 squares with outlines, and a crowd."""

    def __init__(self, folder: Path, count: int) -> None:
        self.categories = Categories(("square",))
        self.folder = folder
        self.count = count

    def __len__(self) -> int:
        return self.count

    def size(self, index: int) -> tuple[int, int]:
        return SIZES[index % len(SIZES)]

    def __getitem__(self, index: int) -> Sample:
        path, size, count = self.folder / f"{index}.jpg", self.size(index), index % 3
        corners = [[2 + 6 * place, 4, 8 + 6 * place, 10] for place in range(count)] + [[0, 0, 20, 20]]
        rings = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in corners]
        target = {
            "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=size, dtype=torch.float32),
            "labels": torch.zeros(count + 1, dtype=torch.int64),
            "crowd": torch.tensor([False] * count + [True]),
            "polygons": Polygons.from_rings(rings, size),
            "has_mask": torch.ones(count + 1, dtype=torch.bool),
        }
        info = {"image_id": index, "path": str(path), "original_size": size}
        return Sample(tv_tensors.Image(read_image(path, size)), target, info)

    def ground_truth(self) -> None:
        return None


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    dataset = Files(folder, 23)
    rng = np.random.default_rng(0)
    for index in range(len(dataset)):
        pixels = rng.integers(0, 256, (*dataset.size(index), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.jpg")
    return dataset


def same(first: Batch, second: Batch) -> bool:
    assert first.targets is not None
    assert second.targets is not None
    return (
        torch.equal(first.images, second.images)
        and torch.equal(first.targets.boxes, second.targets.boxes)
        and torch.equal(first.targets.masks, second.targets.masks)
        and torch.equal(first.targets.seeds, second.targets.seeds)
        and first.info == second.info
    )


def ids(batches: Iterator[Batch]) -> list[list[int]]:
    return [[info["image_id"] for info in batch.info] for batch in batches]


def test_the_stream_depends_on_nothing_but_seed_and_position(files: Files) -> None:
    whole = list(islice(train_loader(files, TRANSFORMS, workers=0, **OPTIONS), 12))
    in_workers = islice(train_loader(files, TRANSFORMS, workers=2, start=8, **OPTIONS), 4)
    assert all(same(first, second) for first, second in zip(whole[8:], in_workers, strict=True))
    assert len({int(seed) for batch in whole for seed in batch.targets.seeds}) == 48


@pytest.mark.parametrize("masks", [True, False])
def test_masks_are_drawn_where_they_are_wanted(files: Files, masks: bool) -> None:
    training = next(train_loader(files, [], workers=0, masks=masks, **OPTIONS))
    evaluation = next(iter(eval_loader(files, InputSpec(), batch_size=1, workers=0, masks=masks)))
    for batch in (training, evaluation):
        assert batch.targets is not None
        assert (batch.targets.masks is not None) == masks


def test_processes_share_each_batch(files: Files) -> None:
    whole = list(islice(train_loader(files, TRANSFORMS, workers=0, **OPTIONS), 6))
    parts = [islice(train_loader(files, TRANSFORMS, workers=0, rank=r, world_size=2, **OPTIONS), 6) for r in (0, 1)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert batch.info == first.info + second.info
        assert batch.targets.seeds.tolist() == first.targets.seeds.tolist() + second.targets.seeds.tolist()
        assert torch.equal(batch.sizes, torch.cat((first.sizes, second.sizes)))


def test_loading_leaves_the_global_generator_alone(files: Files) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    next(train_loader(files, TRANSFORMS, workers=0, **OPTIONS))
    next(iter(eval_loader(files, InputSpec(), batch_size=2, workers=0)))
    assert torch.equal(torch.rand(3), expected)


def test_training_batches_are_padded_uint8_without_crowds(files: Files) -> None:
    for batch in islice(train_loader(files, [], workers=0, **OPTIONS), 6):
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape[2] % 8 == batch.images.shape[3] % 8 == 0
        targets = batch.targets
        counts = targets.valid.sum(1).tolist()
        assert counts == [info["image_id"] % 3 for info in batch.info]
        assert targets.masks.dtype == torch.uint8
        assert (targets.masks[targets.valid].sum((1, 2)) == 36).all()
        assert torch.equal(targets.extra["has_mask"], targets.valid)


def test_a_batch_must_divide_among_processes(files: Files) -> None:
    with pytest.raises(ValueError, match="cannot be split over 3"):
        train_loader(files, [], batch_size=4, divisor=1, seed=0, workers=0, world_size=3)


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_evaluation_takes_each_image_once(files: Files, world_size: int, batch_size: int) -> None:
    found = []
    for rank in range(world_size):
        loader = eval_loader(files, InputSpec(), batch_size=batch_size, workers=0, rank=rank, world_size=world_size)
        batches = ids(iter(loader))
        assert len(loader) == len(batches)
        found += [image for batch in batches for image in batch]
    assert sorted(found) == list(range(23))


def test_evaluation_resizes_as_the_model_says(files: Files) -> None:
    spec = InputSpec(min_size=40, max_size=50, divisor=16)
    for batch in eval_loader(files, spec, batch_size=3, workers=2):
        expected = [list(spec.resized(*info["original_size"])) for info in batch.info]
        assert batch.sizes.tolist() == expected
        assert batch.images.shape[2] % 16 == 0
        scales = torch.tensor(
            [size[0] / info["original_size"][0] for size, info in zip(expected, batch.info, strict=True)]
        )
        heights = batch.targets.boxes[..., 3] - batch.targets.boxes[..., 1]
        assert torch.allclose(
            heights[batch.targets.valid], (6 * scales[:, None]).expand_as(heights)[batch.targets.valid]
        )


def test_training_and_evaluation_pad_to_squares(files: Files) -> None:
    training = train_loader(files, [], batch_size=2, divisor=16, seed=0, workers=0, square=200)
    evaluation = eval_loader(files, InputSpec(min_size=40, divisor=16, square=200), batch_size=2, workers=0)
    for batch in (next(training), next(iter(evaluation))):
        assert batch.images.shape == (2, 3, 208, 208)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named_in_one_line(tmp_path: Path, files: Files, workers: int) -> None:
    path = tmp_path / "0.jpg"
    path.write_bytes((files.folder / "0.jpg").read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"cannot read the image .*0\.jpg") as caught:
        next(train_loader(Files(tmp_path, 1), [], workers=workers, batch_size=1, divisor=1, seed=0))
    assert "\n" not in str(caught.value)
