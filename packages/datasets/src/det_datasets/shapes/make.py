"""Write the shapes dataset: a folder for each split, with JPEG files and COCO annotations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hotcoco import mask as rle
from numpy.typing import NDArray
from PIL import Image

from det_datasets.pixels import names_file
from det_datasets.shapes.ground import NAMES, Ground, lay_ground
from det_datasets.shapes.keypoints import annotate_keypoints, describe_category
from det_datasets.shapes.outlines import CATEGORY_IDS
from det_datasets.shapes.paint import paint
from det_datasets.shapes.scene import Item, Scene, compose, parts

JPEG_QUALITY = 90


def make_shapes(
    out: Path,
    *,
    images: int = 1000,
    val_images: int = 200,
    size: int = 192,
    seed: int = 0,
    background_share: float = 0.05,
    crowd_share: float = 0.08,
    semantic: bool = False,
    keypoints: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `out`/train and `out`/val, each with `images/*.jpg` and `annotations.json`.

    Masks are of what is visible: parts hidden by a shape in front, or outside the picture, belong to no instance. A
    visible part is a list of polygons, or, where something lies in the middle of it and leaves a hole, a compressed
    RLE. Clumps of small shapes are one crowd each, an uncompressed RLE. Picture i of a split depends on the seed, the
    split and i alone.

    Args:
        out: folder to write; it must not hold a dataset yet unless `overwrite`.
        images: number of training pictures.
        val_images: number of validation pictures.
        size: side length in pixels of a square of a picture's area; sides differ by up to 3 : 2.
        seed: of everything random.
        background_share: of pictures without any shape.
        crowd_share: of the other pictures that hold a crowd.
        semantic: also label pixels: the background consists of regions of different textures (the same shapes are in
            the same places), and `semantic/*.png` with `semantic.json` say what is where.
        keypoints: also annotate four keypoints of every shape; see `det_datasets.shapes.keypoints`.
        overwrite: replace files of an earlier dataset.
        progress: called with (pictures done, pictures in all).

    Raises:
        ValueError: a size or count that makes no dataset, or `out` holds one already.
    """
    if images < 1 or val_images < 1 or size < 32:
        raise ValueError(f"images {images}, val_images {val_images}, size {size}: at least 1, 1 and 32 are needed")
    counts = {"train": images, "val": val_images}
    taken = [str(out / split) for split in counts if (out / split / "annotations.json").exists()]
    if taken and not overwrite:
        raise ValueError(f"there is a dataset already: {', '.join(taken)}; give another folder, or ask to overwrite it")
    done = 0
    for position, (split, count) in enumerate(counts.items()):
        folder = out / split / "images"
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.jpg"):
            stale.unlink()
        if semantic:
            (out / split / "semantic").mkdir(exist_ok=True)
            names_file(out / split / "semantic").write_bytes(msgspec.json.encode(NAMES))
        entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            rng = np.random.default_rng((seed, position, index))
            scene = compose(rng, size, background_share, crowd_share)
            name = f"{index + 1:06}.jpg"
            ground = None
            if semantic:
                ground = lay_ground(np.random.default_rng((seed, position, index, 1)), scene.height, scene.width)
                _picture_of_labels(ground, scene).save(out / split / "semantic" / f"{index + 1:06}.png")
            paint(rng, scene, ground).save(folder / name, quality=JPEG_QUALITY)
            entries.append({"id": index + 1, "file_name": name, "height": scene.height, "width": scene.width})
            for item in scene.items:
                annotation = annotate(item, scene.height, scene.width)
                if keypoints:
                    annotation |= annotate_keypoints(item, scene.height, scene.width)
                annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **annotation})
            done += 1
            if progress is not None:
                progress(done, sum(counts.values()))
        described = describe_category() if keypoints else {}
        categories = [
            {"id": id, "name": name, "supercategory": "shape", **described} for name, id in CATEGORY_IDS.items()
        ]
        info = {"description": "detkit practice shapes", "seed": seed, "split": split}
        data = {"info": info, "images": entries, "annotations": annotations, "categories": categories}
        (out / split / "annotations.json").write_bytes(msgspec.json.encode(data))


def annotate(item: Item, height: int, width: int) -> dict[str, Any]:
    """The COCO annotation of an item, without its ids: bbox, area, segmentation of the visible part, iscrowd."""
    pieces = parts(item.visible)
    rings = [np.round(np.asarray(piece.exterior.coords)[:-1], 2) for piece in pieces]
    holes = [np.round(np.asarray(hole.coords)[:-1], 2) for piece in pieces for hole in piece.interiors]
    if item.crowd or holes:
        code = rle.encode(np.asfortranarray(_raster(rings, height, width) & ~_raster(holes, height, width) & 1))
        bounds, area = [float(value) for value in rle.toBbox(code)], float(rle.area(code))
        segmentation: Any = {"size": code["size"], "counts": code["counts"].decode()}
        if item.crowd:
            segmentation["counts"] = run_lengths(rle.decode(code))
    else:
        points = np.concatenate(rings)
        low, high = points.min(0), points.max(0)
        bounds = [round(float(value), 2) for value in (*low, *(high - low))]
        area = round(sum(piece.area for piece in pieces), 2)
        segmentation = [ring.ravel().tolist() for ring in rings]
    return {
        "category_id": CATEGORY_IDS[item.name],
        "bbox": bounds,
        "area": area,
        "segmentation": segmentation,
        "iscrowd": int(item.crowd),
    }


def _picture_of_labels(ground: Ground, scene: Scene) -> Image.Image:
    """The labels of all pixels, as indices into a palette: 0 for every shape, crowds too, however little of it."""
    rings = [piece for item in scene.items for piece in item.pieces]
    labels = np.where(_raster(rings, scene.height, scene.width), 0, ground.labels).astype(np.uint8)
    picture = Image.fromarray(labels)
    picture.putpalette((255, 255, 255, 90, 140, 200, 220, 150, 60, 110, 170, 90))
    return picture


def _raster(rings: list[NDArray[np.float64]], height: int, width: int) -> NDArray[np.uint8]:
    """The union of rings as a mask (H, W) of 0 and 1."""
    if not rings:
        return np.zeros((height, width), np.uint8)
    return rle.decode(rle.merge(rle.frPyObjects([ring.ravel().tolist() for ring in rings], height, width)))


def run_lengths(mask: NDArray[np.uint8]) -> list[int]:
    """COCO's uncompressed run lengths of a mask (H, W): columns after each other, zeros first."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return [0, *runs] if flat[0] else runs
