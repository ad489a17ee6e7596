"""Reading images for training: JPEG files of 640 x 480 with polygons, resized to a shortest edge of 800 and mirrored.

The other side is the mapper that one writes with Pillow and pycocotools, as Detectron2's is with masks as bitmaps: the
image opened, converted, resized and copied to planes, each instance's polygons moved and drawn at the size of the
image, and everything padded to a batch. Both sides read the same files and mirror half of them, on one thread; what
counts is the processor's time.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from benchmarks.measure import interleaved, ratio
from det_datasets.coco.dataset import CocoDataset
from detkit.data.loader import train_loader
from detkit.data.transforms.flip import Flip
from detkit.data.transforms.resize import ResizeShortestEdge

IMAGES, BATCH = 32, 4
HEIGHT, WIDTH = 480, 640
SHORTEST, LONGEST, DIVISOR = 800, 1333, 32
INSTANCES, CORNERS = 7, 25  # of an image and of a polygon, about as in COCO
AREAS = {"small": (8, 32, 0.41), "medium": (32, 96, 0.34), "large": (96, 300, 0.25)}
"""Sides in pixels from and to, and the share of instances, as in COCO."""


def main(rounds: int) -> dict[str, Any]:
    """Load the same images with both sides, `rounds` times, and print images per second."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        size = make_photographs(Path(folder))
        check_same(Ours(Path(folder), flipped=1.0), Plain(Path(folder), flipped=1.0))
        ours, theirs = Ours(Path(folder), flipped=0.5), Plain(Path(folder), flipped=0.5)
        seconds = interleaved({"detkit": ours, "plain": theirs}, rounds, clock=time.process_time)
    rates = {name: IMAGES / float(np.median(values)) for name, values in seconds.items()}
    times = ratio(seconds, "detkit", "plain")
    print(
        f"\nLoading {WIDTH} x {HEIGHT} JPEGs of {size / 1000:.0f} kB with {INSTANCES} polygons each, on one core: "
        f"{rates['detkit']:.0f} images a second, Pillow and pycocotools {rates['plain']:.0f}: "
        f"{times:.2f} times as many (at least 3)"
    )
    return {"images per second": rates, "ratio": times}


def make_photographs(folder: Path) -> float:
    """Write images and COCO annotations; bytes of an image on average."""
    rng = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    size = 0
    for number in range(1, IMAGES + 1):
        path = folder / f"{number:012}.jpg"
        Image.fromarray(_photograph(rng)).save(path, quality=90)
        size += path.stat().st_size
        images.append({"id": number, "file_name": path.name, "height": HEIGHT, "width": WIDTH})
        for _ in range(INSTANCES):
            ring = _outline(rng)
            low, high = ring.min(axis=0), ring.max(axis=0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "area": float(np.prod(high - low)),
                    "iscrowd": 0,
                    "segmentation": [ring.flatten().tolist()],
                }
            )
    categories = [{"id": 1, "name": "thing"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return size / IMAGES


def _photograph(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Noise whose spectrum falls with the frequency, as that of photographs does, and more in colour than in grey."""
    down, across = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    frequency = np.hypot(down, across)
    frequency[0, 0] = 1
    grey, red, blue = (
        np.fft.irfft2(np.fft.rfft2(rng.normal(size=(HEIGHT, WIDTH))) / frequency**1.35) for _ in range(3)
    )
    channels = np.stack((grey + 0.3 * red, grey, grey + 0.3 * blue), axis=-1)
    return np.clip(128 + 50 * channels / grey.std(), 0, 255).astype(np.uint8)


def _outline(rng: np.random.Generator) -> NDArray[np.float64]:
    """A wavy closed line inside the image: (K, 2), with hundredths of a pixel as in COCO's files."""
    low, high, _ = list(AREAS.values())[int(rng.choice(len(AREAS), p=[share for *_, share in AREAS.values()]))]
    sides = rng.uniform(low, high, 2)
    corners = int(rng.integers(CORNERS - 10, CORNERS + 11))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(0.7, 1, corners)[:, None] * sides / 2
    centre = rng.uniform(sides / 2, (WIDTH, HEIGHT) - sides / 2)
    return np.round(centre + radii * np.stack((np.cos(angles), np.sin(angles)), axis=1), 2)


class Ours:
    """What a worker of detkit's loader does, in this process; a share of the images is mirrored."""

    def __init__(self, folder: Path, flipped: float) -> None:
        dataset = CocoDataset(images=folder, annotations=folder / "annotations.json")
        transforms = (ResizeShortestEdge([SHORTEST], LONGEST), Flip(flipped))
        self.batches = train_loader(dataset, transforms, batch_size=BATCH, divisor=DIVISOR, seed=0, workers=0)

    def __call__(self) -> None:
        for _ in range(IMAGES // BATCH):
            next(self.batches)


class Plain:
    """The same as one writes it with Pillow, NumPy and pycocotools."""

    def __init__(self, folder: Path, flipped: float) -> None:
        self.flipped = flipped
        self.rng = np.random.default_rng(0)
        content = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
        rings: dict[int, list[list[list[float]]]] = defaultdict(list)
        for entry in content["annotations"]:
            rings[entry["image_id"]].append(entry["segmentation"])
        self.records = {image["id"]: (folder / image["file_name"], rings[image["id"]]) for image in content["images"]}

    def __call__(self) -> None:
        ids = list(self.records)
        for first in range(0, IMAGES, BATCH):
            self.batch(ids[first : first + BATCH])

    def batch(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) uint8 and masks (B, N, H, W), padded."""
        samples = [self.sample(*self.records[id]) for id in ids]
        sizes = [image.shape[1:] for image, _ in samples]
        height, width = (-(-max(sides) // DIVISOR) * DIVISOR for sides in zip(*sizes, strict=True))
        padded = torch.zeros(len(samples), 3, height, width, dtype=torch.uint8)
        masks = torch.zeros(len(samples), max(len(each) for _, each in samples), height, width, dtype=torch.uint8)
        for row, (image, each) in enumerate(samples):
            padded[row, :, : image.shape[1], : image.shape[2]] = image
            masks[row, : len(each), : image.shape[1], : image.shape[2]] = each
        return padded, masks

    def sample(self, path: Path, instances: list[list[list[float]]]) -> tuple[Tensor, Tensor]:
        """One image (3, H, W) and its masks (N, H, W)."""
        with Image.open(path) as file:
            picture = file.convert("RGB")
        scale = min(SHORTEST / min(picture.size), LONGEST / max(picture.size))
        width, height = (int(side * scale + 0.5) for side in picture.size)
        factors = np.array([width, height]) / picture.size
        pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        mirror = self.rng.random() < self.flipped
        if mirror:
            pixels = np.flip(pixels, axis=1)
        masks = []
        for instance in instances:
            rings = [np.reshape(ring, (-1, 2)) * factors for ring in instance]
            if mirror:
                rings = [np.array([width, 0]) + np.array([-1, 1]) * ring for ring in rings]
            codes = coco_mask.frPyObjects([ring.flatten() for ring in rings], height, width)
            masks.append(torch.from_numpy(np.ascontiguousarray(coco_mask.decode(coco_mask.merge(codes)))))
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), torch.stack(masks)


def check_same(ours: Ours, theirs: Plain) -> None:
    """Assert that both sides load the same, up to the rounding of pixels and of corners."""
    batch = next(ours.batches)
    assert batch.targets is not None
    assert batch.targets.masks is not None
    images, masks = theirs.batch([info["image_id"] for info in batch.info])
    for found, expected in ((batch.images, images), (batch.targets.masks, masks)):
        assert found.shape == expected.shape
        assert (found != expected).float().mean() < 0.001
