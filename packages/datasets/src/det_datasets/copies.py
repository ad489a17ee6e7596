"""What writers of formats do with images: they copy the files, or encode them where the format wants others."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from det_datasets.annotated import AnnotatedImages
from det_datasets.columns import MARKS
from det_datasets.headers import orientation
from detkit.data.mixture import Mixture
from detkit.data.subset import Subset
from detkit.data.tiles import Tiles
from detkit.interfaces import Dataset

JPEG_QUALITY = 95


def image_names(splits: Mapping[str, Dataset], unfit: str = "") -> dict[str, list[str]]:
    """A name without suffix for every image of every split, no two the same: that of its file, with "_" in the place of
    `unfit`, a regular expression; else, where several files have it, with the split before it; else the split and a
    number."""
    names = {
        split: [Path(dataset.place(index)).stem for index in range(len(dataset))] for split, dataset in splits.items()
    }
    if unfit:
        names = {split: [re.sub(unfit, "_", name) for name in each] for split, each in names.items()}
    if _repeats(names):
        names = {split: [f"{split}_{name}" for name in each] for split, each in names.items()}
    if _repeats(names):
        names = {split: [f"{split}_{number:06}" for number in range(len(each))] for split, each in names.items()}
    return names


def write_image(dataset: Dataset, index: int, folder: Path, name: str, suffixes: Sequence[str] = (".jpg",)) -> str:
    """Write an image of a dataset into a folder: its file as it is, if the format takes one with such a suffix; else,
    or if the file's EXIF orientation would turn it, encoded anew for the first of `suffixes`.

    Returns:
        the name of the file, with its suffix.
    """
    suffix = Path(dataset.place(index)).suffix.lower().replace(".jpeg", ".jpg")
    if suffix in suffixes:
        data = dataset.encoded(index)
        with Image.open(io.BytesIO(data)) as picture:
            upright = orientation(picture) == 1
        if upright:
            (folder / f"{name}{suffix}").write_bytes(data)
            return f"{name}{suffix}"
    pixels = Image.fromarray(dataset[index].image.permute(1, 2, 0).numpy())
    target = folder / f"{name}{suffixes[0]}"
    pixels.save(target, quality=JPEG_QUALITY)  # others than JPEG take no notice
    return target.name


def flags(dataset: Dataset, index: int) -> list[tuple[bool, bool, bool]]:
    """Whether each object of an image is difficult, truncated, occluded. Crowds are difficult, for formats that have
    none: neither finding nor missing them counts."""
    while isinstance(dataset, Subset | Mixture):
        dataset, index = dataset.origin(index)
    crowd = dataset.target(index)["crowd"]
    if isinstance(dataset, Tiles):
        whole, (rows, cut) = flags(dataset.dataset, dataset.origin(index)[0]), dataset.rows(index)
        known = zip(rows.tolist(), cut.tolist(), crowd.tolist(), strict=True)
        return [(whole[row][0] or little, whole[row][1] or part, whole[row][2]) for row, part, little in known]
    if not isinstance(dataset, AnnotatedImages):
        return [(each, False, False) for each in crowd.tolist()]
    difficult, marks = (dataset.difficult(index) | crowd).tolist(), dataset.marks(index)
    truncated, occluded = ((marks & MARKS[name] > 0).tolist() for name in ("truncated", "occluded"))
    return list(zip(difficult, truncated, occluded, strict=True))


def _repeats(names: Mapping[str, list[str]]) -> bool:
    counts = Counter(name for each in names.values() for name in each)
    return any(count > 1 for count in counts.values())
