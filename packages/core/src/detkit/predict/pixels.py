"""What predictions say of pixels, as pictures: COCO's panoptic form, and semantic maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detkit.structures.categories import Categories
from detkit.structures.prediction import Prediction


def save_pixels(prediction: Prediction, folder: Path, name: str) -> None:
    """Write `folder`/panoptic/`name` (colours are ids: red + 256 green + 65536 blue), or `folder`/semantic/`name` (grey
    values are labels, in 16 bits from 256 classes on) of a prediction that has the one or the other."""
    if "panoptic" in prediction:
        ids = prediction.panoptic.numpy(force=True)
        picture = Image.fromarray(np.stack([ids, ids >> 8, ids >> 16], axis=-1).astype(np.uint8))
    elif "semantic" in prediction:
        wide = len(prediction.semantic_logits) > 256
        picture = Image.fromarray(prediction.semantic.numpy(force=True).astype(np.uint16 if wide else np.uint8))
    else:
        return
    part = folder / ("panoptic" if "panoptic" in prediction else "semantic")
    part.mkdir(exist_ok=True)
    picture.save(part / name)


def panoptic_entry(
    prediction: Prediction, image_id: int, name: str, categories: Categories, semantic_categories: Categories
) -> dict[str, Any]:
    """The segments of one image in COCO's panoptic results form, with names and scores; their ids are those in the
    picture called `name`."""
    segments = []
    for segment in prediction.segments:
        known = categories if segment["isthing"] else semantic_categories
        entry = {
            "id": segment["id"],
            "category_id": known.ids[segment["label"]],
            "category_name": known.names[segment["label"]],
            "isthing": int(segment["isthing"]),
            "area": segment["area"],
        }
        segments.append(entry | ({"score": round(segment["score"], 5)} if segment["isthing"] else {}))
    return {"image_id": image_id, "file_name": name, "segments_info": segments}
