"""Write DOTA's layout, and a tiny dataset in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from det_datasets.copies import flags, image_names, write_image
from det_datasets.dota.dataset import CLASSES
from det_datasets.dota.labels import NAMES
from det_datasets.practice import write_practice
from det_datasets.quads import quads_of_target
from detkit.interfaces import Dataset, DatasetWriter

_PRACTICE_NAMES = {
    "circle": "storage-tank",
    "square": "large-vehicle",
    "triangle": "plane",
    "star": "helicopter",
    "cross": "roundabout",
}


class DotaWriter(DatasetWriter):
    """DOTA's layout: train/images/*.png and train/labelTxt/*.txt, val and test alike.

    Objects that have no rotated boxes get the least ones around their outlines, or upright ones. Crowds become
    difficult objects. Spaces in names of classes become hyphens. Where classes are other than DOTA's,
    dota-classes.txt names them.
    """

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits into a folder.

        Raises:
            ValueError: names of classes are the same without spaces.
        """
        names = image_names(splits)
        for split, dataset in splits.items():
            classes = ["-".join(name.split()) for name in dataset.categories.names]
            if len(set(classes)) < len(classes):
                raise ValueError(f"without spaces, names of classes are the same: {', '.join(classes)}")
            if not set(classes) <= set(NAMES):
                (folder / CLASSES).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
            images, labels = folder / split / "images", folder / split / "labelTxt"
            images.mkdir(parents=True, exist_ok=True)
            labels.mkdir(exist_ok=True)
            for index, name in enumerate(names[split]):
                write_image(dataset, index, images, name, (".png",))
                target = dataset.target(index)
                lines = ["imagesource:null", "gsd:null"]
                for quad, label, said in zip(
                    quads_of_target(target), target["labels"].tolist(), flags(dataset, index), strict=True
                ):
                    corners = " ".join(f"{value:.2f}" for value in quad.ravel())
                    lines.append(f"{corners} {classes[label]} {int(said[0])}")
                (labels / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def make_dota(out: Path, *, images: int = 12, val_images: int = 4, size: int = 96, seed: int = 0) -> None:
    """Write a tiny dataset of shapes, which are called planes, storage tanks, ...; see `make_shapes` and
    `DotaWriter`."""
    write_practice(DotaWriter(), out, images=images, val_images=val_images, size=size, seed=seed, names=_PRACTICE_NAMES)
