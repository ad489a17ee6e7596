"""From panoptic segments to labels of pixels in which all things are one class, which Panoptic FPN learns from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from det_datasets.panoptic.schema import PanopticAnnotation, classes_of, read_panoptic
from det_datasets.pixels import read_ids, write_names
from detkit.structures.batch import UNLABELLED

_THREADS = 4  # decoding and encoding release Python's lock


def write_stuff(
    annotations: Path, pictures: Path, out: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write `out`/*.png, in which 0 is a thing, 1, 2, ... the classes of stuff in the order of their ids and 255
    neither, as Detectron2's prepare_panoptic_fpn.py does, and `out`.json with the names of the classes and their ids.

    Args:
        annotations: the panoptic JSON file.
        pictures: folder of its PNG files.
        out: folder to write; that of COCO's train2017 is called panoptic_stuff_train2017.
        progress: called with (pictures done, pictures in all).
    """
    file = read_panoptic(annotations)
    classes = classes_of(file.categories, together=True)
    known = {category.id: classes.label_of_id(category.id) for category in file.categories}
    sizes = {image.id: (image.height, image.width) for image in file.images}
    out.mkdir(parents=True, exist_ok=True)

    def convert(annotation: PanopticAnnotation) -> None:
        ids = read_ids(pictures / annotation.file_name, sizes[annotation.image_id])
        table = np.full(max(ids.max(), *(entry.id for entry in annotation.segments_info), 0) + 1, UNLABELLED, np.uint8)
        for entry in annotation.segments_info:
            thing, label = known[entry.category_id]
            table[entry.id] = 0 if thing else label
        Image.fromarray(table[ids]).save((out / annotation.file_name).with_suffix(".png"))

    with ThreadPoolExecutor(_THREADS) as pool:
        for done, _ in enumerate(pool.map(convert, file.annotations), start=1):
            if progress is not None:
                progress(done, len(file.annotations))
    write_names(out, classes.pixels)
