from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from det_datasets.coco.dataset import CocoDataset

IMAGES, PER_IMAGE, POINTS = 2000, 20, 100


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    """40,000 annotations of 100 points: 35 MB."""
    rng = np.random.default_rng(0)
    rings = [rng.uniform(0, 500, 2 * POINTS).round(1).tolist() for _ in range(PER_IMAGE)]
    annotations = [
        {
            "id": 1 + number,
            "image_id": number // PER_IMAGE,
            "category_id": 1,
            "bbox": [1, 2, 30, 40],
            "segmentation": [ring],
        }
        for number, ring in enumerate(rings * IMAGES)
    ]
    images = [{"id": id, "file_name": f"{id}.jpg", "height": 500, "width": 500} for id in range(IMAGES)]
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    file = tmp_path_factory.mktemp("many") / "annotations.json"
    file.write_bytes(msgspec.json.encode(data))
    return CocoDataset(file.parent, file)


class Growth(IterableDataset[float]):
    """How much memory of its own a worker takes while it reads all annotations, in bytes."""

    def __init__(self, dataset: CocoDataset) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[float]:
        assert get_worker_info() is not None
        self.dataset.target(0)
        before = own_memory()
        points = sum(len(self.dataset.target(index)["polygons"]) for index in range(IMAGES))
        assert points == IMAGES * PER_IMAGE * POINTS
        yield float(own_memory() - before)


def own_memory() -> int:
    """Bytes that this process shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells what a process shares")
@pytest.mark.parametrize(("start", "workers"), [("fork", 4), ("spawn", 1)])  # spawned ones import torch first: slow
@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create 4 worker processes"
)  # more than some machines have cores
def test_workers_share_one_copy_of_the_annotations(many: CocoDataset, start: str, workers: int) -> None:
    size = many._columns.nbytes()
    assert size > 30e6
    loader: DataLoader[Any] = DataLoader(
        Growth(many), num_workers=workers, batch_size=None, multiprocessing_context=start
    )
    growth = torch.tensor(list(loader))
    assert len(growth) == workers
    assert growth.max() < 0.2 * size


def test_annotations_take_little_more_than_their_numbers(many: CocoDataset) -> None:
    numbers = IMAGES * PER_IMAGE * POINTS * 2 * 4
    assert many._columns.nbytes() < 1.15 * numbers
