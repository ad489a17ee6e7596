"""Predictions as files: pictures, COCO's results form, and a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from torch import Tensor

from detkit.atomic import write_whole
from detkit.drawing import draw
from detkit.predict.pixels import panoptic_entry, save_pixels
from detkit.structures.categories import Categories
from detkit.structures.placed_masks import encode_masks
from detkit.structures.prediction import Prediction

KINDS = ("images", "json", "csv")
_COLUMNS = ("file_name", "image_id", "category_id", "category_name", "score")
_BOX_COLUMNS = {
    4: ("x_min", "y_min", "x_max", "y_max"),
    5: ("x_center", "y_center", "width", "height", "degrees"),
}


class ResultFiles:
    """A folder of results, written while predictions arrive.

        NAME.png          for each image, with everything drawn; a number follows where names repeat
        predictions.json  a list in COCO's results form, with file and category names
        predictions.csv   one row for each detection

    and with predictions.json, from models that label pixels,

        panoptic.json     segments in COCO's panoptic results form, with names and scores; their ids are the colours
                          of panoptic/NAME.png
        semantic/NAME.png labels of pixels as grey values, where there are no segments

    Images count from 1 in `image_id`; categories have the dataset's own ids. The two tables appear under their names
    when they are complete, at the end of the `with` block; after an error they are left out.

    Args:
        folder: created if need be.
        kinds: which of images, json and csv to write.
        categories: of the model.
        semantic_categories: of its pixels, where it labels them.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[str],
        categories: Categories,
        semantic_categories: Categories | None = None,
    ) -> None:
        self.folder = folder
        self._categories = categories
        self._semantic_categories = semantic_categories
        self._segments: list[dict[str, Any]] = []
        self._pictures = "images" in kinds
        self._names: set[str] = set()
        self._images = 0
        self._entries = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._json = _partial(folder / "predictions.json") if "json" in kinds else None
        self._csv = _partial(folder / "predictions.csv") if "csv" in kinds else None

    def __enter__(self) -> ResultFiles:
        return self

    def add(self, image: Tensor, prediction: Prediction) -> None:
        """Write the prediction for an image (3, H, W) uint8 RGB."""
        self._images += 1
        name = prediction.path or f"image-{self._images}"
        picture = self._picture_name(name)
        if self._pictures:
            pixels = self._semantic_categories
            draw(image, prediction, self._categories, semantic_categories=pixels).save(self.folder / picture)
        if self._json is not None:
            save_pixels(prediction, self.folder, picture)
            if "panoptic" in prediction and self._semantic_categories is not None:
                known = (self._categories, self._semantic_categories)
                self._segments.append(panoptic_entry(prediction, self._images, picture, *known))
            for entry in coco_entries(prediction, self._images, self._categories):
                self._json.write(("[\n" if self._entries == 0 else ",\n") + json.dumps(entry, ensure_ascii=False))
                self._entries += 1
        if self._csv is not None:
            self._write_rows(self._csv, prediction, name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._json is not None and error is None:
            self._json.write("[]\n" if self._entries == 0 else "\n]\n")
        if self._segments and error is None:
            text = json.dumps({"annotations": self._segments}, ensure_ascii=False)
            write_whole(self.folder / "panoptic.json", text)
        if self._csv is not None and self._images == 0:
            self._csv.write(",".join((*_COLUMNS, *_BOX_COLUMNS[4])) + "\n")
        for file in (self._json, self._csv):
            if file is None:
                continue
            file.close()
            partial = Path(file.name)
            if error is None:
                partial.replace(partial.with_name(partial.name.removeprefix(".").removesuffix(".partial")))
            else:
                partial.unlink()

    def _picture_name(self, path: str) -> str:
        stem = name = Path(path).stem
        number = 1
        while name in self._names:
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name)
        return f"{name}.png"

    def _write_rows(self, file: IO[str], prediction: Prediction, name: str) -> None:
        writer = csv.writer(file, lineterminator="\n")
        if self._images == 1:
            writer.writerow((*_COLUMNS, *_BOX_COLUMNS[prediction.boxes.shape[1] if "boxes" in prediction else 4]))
        for label, score, box in _instances(prediction):
            known = ("", "") if label is None else (self._categories.ids[label], self._categories.names[label])
            writer.writerow((name, self._images, *known, round(score, 5), *(round(value, 2) for value in box)))


def coco_entries(prediction: Prediction, image_id: int, categories: Categories) -> Iterator[dict[str, Any]]:
    """The instances of one image in COCO's results form, with names: boxes as x, y, width, height (rotated ones as they
    are), masks as compressed RLE, keypoints as indices of pixels."""
    encoded: Any = []
    if "masks" in prediction and len(prediction):
        encoded = encode_masks(prediction.masks)
    for index, (label, score, box) in enumerate(_instances(prediction)):
        if len(box) == 4:
            box = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        entry: dict[str, Any] = {
            "image_id": image_id,
            "file_name": prediction.path,
            **(
                {}
                if label is None
                else {"category_id": categories.ids[label], "category_name": categories.names[label]}
            ),
            "bbox": [round(value, 3) for value in box],
            "score": round(score, 5),
        }
        if encoded:
            entry["segmentation"] = {**encoded[index], "counts": encoded[index]["counts"].decode("ascii")}
        if "keypoints" in prediction:
            entry["keypoints"] = _as_pixels(prediction.keypoints[index])
        yield entry


def _as_pixels(points: Tensor) -> list[float]:
    """Keypoints (K, 3) flat, as indices of pixels, whose centres lie half a pixel further in the plane."""
    moved = points - points.new_tensor([0.5, 0.5, 0.0])
    return [round(value, 3) for value in moved.flatten().tolist()]


def _instances(prediction: Prediction) -> Iterator[tuple[int | None, float, list[float]]]:
    """Label, score and box of each instance; proposals have no label."""
    if len(prediction):
        labels = prediction.labels.tolist() if "labels" in prediction else [None] * len(prediction)
        yield from zip(labels, prediction.scores.tolist(), prediction.boxes.tolist(), strict=True)


def _partial(path: Path) -> IO[str]:
    return path.with_name(f".{path.name}.partial").open("w", encoding="utf-8", newline="")
