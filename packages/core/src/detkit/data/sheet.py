"""Many annotated images in one picture, to see whether a dataset is what one thinks it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image
from torch import Tensor

from detkit.data.targets import rasterized
from detkit.drawing import draw
from detkit.interfaces import Dataset
from detkit.structures.prediction import Prediction
from detkit.structures.sample import Sample

TILE = 480  # pixels of each image's longer side


def contact_sheet(
    dataset: Dataset,
    indices: Sequence[int],
    columns: int = 4,
    sample: Callable[[int], Sample] | None = None,
) -> Image.Image:
    """The images at these positions with their annotations drawn, row by row; crowds are called so. `sample` gives them
    as something other than what the dataset has at a position, say augmented."""
    names = tuple(f"crowd: {name}" for name in dataset.categories.names)
    categories = replace(dataset.categories, names=dataset.categories.names + names, ids=(), supercategories=())
    rows = -(-len(indices) // columns)
    sheet = Image.new("RGB", (columns * TILE, rows * TILE), (255, 255, 255))
    for place, index in enumerate(indices):
        shown = dataset[index] if sample is None else sample(index)
        picture = draw(
            shown.image,
            _as_prediction(shown, len(dataset.categories)),
            categories,
            semantic_categories=dataset.semantic_categories,
        )
        picture.thumbnail((TILE, TILE))
        sheet.paste(picture, (place % columns * TILE, place // columns * TILE))
    return sheet


def _as_prediction(sample: Sample, classes: int) -> Prediction:
    plain = rasterized(sample)
    height, width = sample.image.shape[-2:]
    labels: Tensor = plain["labels"] + classes * sample.target["crowd"]
    prediction = Prediction((height, width), boxes=plain["boxes"], labels=labels)
    if "masks" in plain:
        prediction.set("masks", plain["masks"].bool())
    if "keypoints" in plain:
        prediction.set("keypoints", plain["keypoints"])
    if "semantic" in plain:
        prediction.set("semantic", plain["semantic"])
    return prediction
