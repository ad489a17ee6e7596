"""Draw the masks of several models side by side, enlarged: one row for each image, one column for each model.

    python -m tools.masks_side_by_side MODEL MODEL ... --images IMAGE ... --out FILE [--zoom 3]

Masks are pasted into the enlarged image, so that the picture shows what the models say between the pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import detkit
from detkit.data.image import read_image
from detkit.detector import Detector
from detkit.drawing import draw
from detkit.structures.batch import Batch

GAP = 6  # pixels between the pictures


@torch.inference_mode()
def draw_masks(model: Detector, image: Tensor, *, zoom: int, score_threshold: float) -> Image.Image:
    """An image (3, H, W) uint8 RGB enlarged `zoom` times, with the instances that a model finds in the image itself."""
    height, width = image.shape[1:]
    batch = Batch.collate([image], divisor=model.divisor, square=model.input.square)
    raw = model.answer(batch)
    found = model.postprocess(raw, [(height, width)], [(height * zoom, width * zoom)])[0]
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture = picture.resize((width * zoom, height * zoom), Image.Resampling.BICUBIC)
    return draw(picture, found, model.categories, score_threshold=score_threshold, enlarge=False)


def main(arguments: list[str] | None = None) -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", help="model directories or runs, from left to right")
    parser.add_argument("--images", nargs="+", type=Path, required=True, help="from top to bottom")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--zoom", type=int, default=3, help="how many times images are enlarged")
    parser.add_argument("--score", type=float, default=0.5, help="instances below are not drawn")
    options = parser.parse_args(arguments)
    models = [detkit.load(model).eval() for model in options.models]
    rows = []
    for path in options.images:
        image = read_image(path)
        rows.append([draw_masks(each, image, zoom=options.zoom, score_threshold=options.score) for each in models])
    width = sum(picture.width + GAP for picture in max(rows, key=lambda row: row[0].width)) - GAP
    height = sum(row[0].height + GAP for row in rows) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for row in rows:
        for column, picture in enumerate(row):
            sheet.paste(picture, (column * (picture.width + GAP), top))
        top += row[0].height + GAP
    sheet.save(options.out)


if __name__ == "__main__":
    main()
