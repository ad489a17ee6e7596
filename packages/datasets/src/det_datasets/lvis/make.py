"""Write LVIS's layout, and a tiny dataset in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from det_datasets.copies import write_image
from det_datasets.lvis.synsets import COCO_IDS, LISTS
from det_datasets.practice import write_practice
from detkit.interfaces import Dataset, DatasetWriter
from detkit.structures.coco import COCO

_SYNSETS = {COCO.names[COCO.label_of_id(id)]: synset for synset, id in COCO_IDS.items()}
_SHAPES = {"circle": "sports ball", "square": "book", "triangle": "pizza"}
"""What shapes are called in a practice dataset, so that some of its classes are COCO's."""


class LvisWriter(DatasetWriter):
    """LVIS's layout: lvis/lvis_v1_train.json, and the images in coco/train2017/, named by their ids as in COCO; val and
    test alike. A dataset needs masks of objects.

    LVIS has no crowds: where a dataset has them, or objects that are difficult or have no mask, the class is one of
    which the image's annotations are not complete. Classes are numbered from 1 and have the frequency r, c or f by the
    number of images of the split train (else of the first) that they are in: up to 10, up to 100, or more.

    Args:
        version: "v1", or "v0.5", which differs in the names of files.
        absent: share, drawn at random, of the classes that an image does not have that it is said not to have; of the
            others it is then unknown. What a dataset itself says is kept.
        seed: of the draw.
    """

    def __init__(self, *, version: Literal["v1", "v0.5"] = "v1", absent: float = 1.0, seed: int = 0) -> None:
        if version not in ("v1", "v0.5"):
            raise ValueError(f"version is {version!r}; there are 'v1' and 'v0.5'")
        self.version = version
        self.absent = absent
        self.seed = seed

    def write(self, splits: Mapping[str, Dataset], folder: Path) -> None:
        """Write all splits into a folder.

        Raises:
            ValueError: a dataset has no masks, or the splits have different classes.
        """
        names = {dataset.categories.names for dataset in splits.values()}
        if len(names) > 1:
            raise ValueError(f"the splits {', '.join(splits)} have different classes; LVIS has the same in all")
        for split, dataset in splits.items():
            if not dataset.has_masks:
                raise ValueError(f"the objects of the split {split} have no masks; those of LVIS have")
        truths = {split: self._truth(dataset, split) for split, dataset in splits.items()}
        categories = _categories(truths.get("train") or next(iter(truths.values())))
        (folder / "lvis").mkdir(parents=True, exist_ok=True)
        for split, truth in truths.items():
            images = folder / "coco" / f"{split}2017"
            images.mkdir(parents=True, exist_ok=True)
            for index, image in enumerate(truth["images"]):
                file = write_image(splits[split], index, images, f"{image['id']:012}")
                image["coco_url"] = f"http://images.cocodataset.org/{images.name}/{file}"
                if self.version == "v0.5":
                    image["file_name"] = f"COCO_{split}2014_{file}"
            path = folder / "lvis" / f"lvis_{self.version}_{split}.json"
            path.write_bytes(msgspec.json.encode({**truth, "categories": categories}))

    def _truth(self, dataset: Dataset, split: str) -> dict[str, Any]:
        """The images, in the order of the dataset, and annotations of a split."""
        own = dataset.ground_truth()
        labels = {id: label for label, id in enumerate(dataset.categories.ids, start=1)}
        of_image: dict[Any, list[dict[str, Any]]] = {}
        for entry in own["annotations"]:
            of_image.setdefault(entry["image_id"], []).append(entry)
        given = {image["id"]: image for image in own["images"]}
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(len(dataset)):
            image_id = dataset.image_id(index)
            number = image_id if isinstance(image_id, int) else index + 1
            height, width = dataset.size(index)
            found = of_image.get(image_id, [])
            whole = [entry for entry in found if _is_whole(entry)]
            for entry in whole:
                kept = {key: entry[key] for key in ("bbox", "area", "segmentation")}
                ids = {"id": len(annotations) + 1, "image_id": number, "category_id": labels[entry["category_id"]]}
                annotations.append({**ids, **kept})
            here = {labels[entry["category_id"]] for entry in found}
            partly = {labels[entry["category_id"]] for entry in found if not _is_whole(entry)}
            if LISTS[0] in given[image_id]:
                lists = [[labels[id] for id in given[image_id][key]] for key in LISTS]
            else:
                draws = np.random.default_rng((self.seed, index)).random(len(labels))
                lists = [
                    [label for label in labels.values() if label not in here and draws[label - 1] < self.absent],
                    sorted(partly),
                ]
            images.append({"id": number, "height": height, "width": width, **dict(zip(LISTS, lists, strict=True))})
        entries = {entry["id"]: entry for entry in own["categories"]}
        named = zip(dataset.categories.ids, dataset.categories.names, strict=True)
        categories = [{**entries[id], "id": labels[id], "name": name} for id, name in named]
        return {"images": images, "annotations": annotations, "categories": categories}


def _is_whole(entry: dict[str, Any]) -> bool:
    """Whether an annotation is of one object with a mask."""
    return not entry["iscrowd"] and not entry.get("ignore") and "segmentation" in entry


def _categories(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries of the categories, with how often each occurs."""
    instances = Counter(entry["category_id"] for entry in truth["annotations"])
    images = Counter(id for id, _ in {(entry["category_id"], entry["image_id"]) for entry in truth["annotations"]})
    found = []
    for entry in truth["categories"]:
        name, count = entry["name"], images[entry["id"]]
        synset = _SYNSETS.get(name, f"{name.replace(' ', '_')}.n.01")
        found.append(
            {
                "synset": synset,
                "synonyms": [name],
                "def": "",
                **entry,
                "image_count": count,
                "instance_count": instances[entry["id"]],
                "frequency": "r" if count <= 10 else "c" if count <= 100 else "f",
            }
        )
    return found


def make_lvis(out: Path, *, images: int = 12, val_images: int = 4, size: int = 96, seed: int = 0) -> None:
    """Write a tiny dataset of shapes, of some of which it is unknown whether an image has them."""
    writer = LvisWriter(absent=0.5, seed=seed)
    write_practice(writer, out, images=images, val_images=val_images, size=size, seed=seed, names=_SHAPES)
