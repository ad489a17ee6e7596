"""`detkit data points`: labelled points of objects, of which masks tell whether they are on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hotcoco import mask as rle

from detkit.atomic import write_whole
from detkit.cli.running import run

if TYPE_CHECKING:
    from detkit.data.source import Openable
    from detkit.interfaces import Dataset

SOURCE = "data.yaml"
VALIDATION = "val"
"""The split whose objects keep their masks, to be evaluated by, and have points for the loss."""

SEED = 12345
"""With which the published points of COCO were drawn."""


def main(argv: list[str]) -> int:
    """`detkit data points DATA --out FOLDER`."""
    import click

    @click.command()
    @click.argument("data", type=click.Path(path_type=Path))
    @click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
    @click.option("--points", default=10, show_default=True, type=click.IntRange(min=1), help="Of each object.")
    @click.option("--seed", default=SEED, show_default=True, help="Of the places; the default is that of Cheng et al.")
    @click.option("--split", default="train", show_default=True)
    def points_command(data: Path, out: Path, points: int, seed: int, split: str) -> None:
        """Draw points in the boxes of DATA's objects and label them by their masks, which are left out: what can be
        learned from so few labels? (Cheng et al., Pointly-Supervised Instance Segmentation, 2022)"""
        count = write_points(data, out, points=points, seed=seed, split=split)
        click.echo(f"wrote {points} points for each of {count} objects; read them with data={out / SOURCE}")

    return run(points_command, "data points", argv)


def write_points(data: Path, out: Path, *, points: int, seed: int, split: str) -> int:
    """Write `train.json`, the split with points instead of masks, `val.json` with both, and `data.yaml` that names
    these and the other splits of the data; the number of objects that have points instead of masks.

    Raises:
        ValueError: the data cannot be read, or an object of the split has no mask.
    """
    import yaml

    from detkit.data.source import find_splits

    splits = find_splits(data)
    if split not in splits:
        raise ValueError(f"{data} has no split {split!r}; it has: {', '.join(splits)}")
    source: dict[str, Any] = {name: {"data": str(data.resolve()), "split": name} for name in splits}
    count = 0
    for name in sorted({split, VALIDATION} & splits.keys()):
        dataset = splits[name].open()
        truth = labelled(dataset.ground_truth(), points=points, seed=seed, keep_masks=name != split)
        count += len(truth["annotations"]) if name == split else 0
        images = {"images": _images(dataset), **_carried(splits[name])}
        source[name] = {"name": "coco-points", **images, "annotations": f"{name}.json"}
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / f"{name}.json", json.dumps(truth))
    write_whole(out / SOURCE, yaml.safe_dump(source, sort_keys=False))
    return count


def _carried(split: Openable) -> dict[str, str]:
    """What else the data has for these images, which stays where it is."""
    from detkit.data.source import Split

    given = split.arguments if isinstance(split, Split) else {}
    return {key: str(Path(given[key]).resolve()) for key in ("semantic", "proposals") if given.get(key)}


def _images(dataset: Dataset) -> str:
    folder = getattr(dataset, "folder", None)
    if not isinstance(folder, str | Path):
        raise ValueError(
            f"a {type(dataset).__name__} does not say in which folder its images are; write it as COCO first"
        )
    return str(folder.resolve()) if isinstance(folder, Path) else folder


def labelled(truth: Mapping[str, Any], *, points: int, seed: int, keep_masks: bool = False) -> dict[str, Any]:
    """A COCO dict whose annotations have `point_coords` (columns and rows of pixels) and `point_labels` instead of
    masks, or besides them; in that case objects without masks are left as they are. NumPy's first generator is used as
    by the script of Cheng et al. (Detectron2's prepare_coco_point_annotations_without_masks.py): the same file and seed
    give the same points.

    Raises:
        ValueError: an object has no mask.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    random = np.random.RandomState(seed)
    annotations = []
    for given in truth["annotations"]:
        entry = dict(given)
        annotations.append(entry)
        if keep_masks and not entry.get("segmentation"):
            continue
        height, width = sizes[entry["image_id"]]
        mask = _mask(entry, height, width)
        if not keep_masks:
            del entry["segmentation"]
        x, y, across, down = entry["bbox"]
        places = np.floor(random.rand(points, 2) * (across, down) + (x, y)).astype(int)
        places = places.clip(0, (width - 1, height - 1))  # of boxes that reach over the border
        entry["point_coords"] = places.tolist()
        entry["point_labels"] = mask[places[:, 1], places[:, 0]].tolist()
    return {**truth, "annotations": annotations}


def _mask(entry: Mapping[str, Any], height: int, width: int) -> Any:
    """The mask (H, W) of an annotation."""
    segmentation = entry.get("segmentation")
    if not segmentation:
        raise ValueError(f"annotation {entry['id']} has no mask to tell the labels of points")
    if isinstance(segmentation, list):
        code = rle.merge(rle.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        code = rle.frPyObjects(segmentation, height, width)
    else:
        code = segmentation
    return rle.decode(code)
