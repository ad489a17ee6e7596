"""One picture: an image with everything that a prediction says about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from detkit.drawing.labels import place_labels
from detkit.drawing.masks import blend_masks
from detkit.drawing.palette import colour, text_colour
from detkit.drawing.points import draw_keypoints
from detkit.drawing.regions import middle, regions
from detkit.structures.categories import Categories
from detkit.structures.placed_masks import PlacedMasks
from detkit.structures.prediction import Prediction

_LEGIBLE = 640  # pixels that the longer edge of a picture has at least: labels do not fit into fewer


def draw(
    image: Tensor | np.ndarray | Image.Image,
    prediction: Prediction,
    categories: Categories,
    *,
    semantic_categories: Categories | None = None,
    score_threshold: float = -math.inf,
    mask_opacity: float = 0.45,
    line_width: int | None = None,
    font: str | Path | None = None,
    enlarge: bool = True,
    names: Sequence[str] | None = None,
    colours: Sequence[tuple[int, int, int]] | None = None,
) -> Image.Image:
    """Draw masks, boxes, keypoints, class names and scores; for panoptic predictions their segments instead.

    Args:
        image: the image that was predicted on: a tensor (3, H, W) or an array (H, W, 3), uint8 RGB, or a PIL image.
        prediction: in the image's pixels; the image's size is its `image_size`.
        categories: of the model; a class has the same colour in every picture.
        semantic_categories: of the model's pixels, where it labels them.
        score_threshold: instances below are not drawn.
        mask_opacity: of the masks' fill, from 0 to 1.
        line_width: of outlines, in pixels of the picture; by default as suits its size.
        font: a TrueType file for names that Pillow's own font cannot write; it has Latin letters only.
        enlarge: whether an image smaller than 640 pixels is enlarged, by a whole number, so that labels fit.
        names, colours: of the instances, instead of those of their classes; without a `score_threshold`.

    Raises:
        ValueError: the image is of another size than the one that was predicted on, the classes of its pixels are
            missing, or the font cannot be read.
    """
    pixels = _pixels(image)
    if pixels.shape[:2] != tuple(prediction.image_size):
        raise ValueError(
            f"the image is {pixels.shape[1]} x {pixels.shape[0]} pixels, the prediction is for one of "
            f"{prediction.image_size[1]} x {prediction.image_size[0]}; give the image that was predicted on"
        )
    if "scores" in prediction:
        prediction = prediction.select(prediction.scores >= score_threshold)
    zoom = max(1, -(-_LEGIBLE // max(pixels.shape[:2]))) if enlarge else 1
    picture = Image.fromarray(pixels).resize((pixels.shape[1] * zoom, pixels.shape[0] * zoom), Image.Resampling.BICUBIC)
    size = math.sqrt(picture.width * picture.height)
    line = line_width or max(1, round(size / 320))
    letters = _font(font, max(14, round(size / 50)) if enlarge else max(10, round(size / 50)))
    if "semantic" in prediction or "panoptic" in prediction:
        if semantic_categories is None:
            raise ValueError("the prediction labels pixels; give semantic_categories, those of the model")
        picture = _with_regions(
            picture,
            prediction,
            categories,
            semantic_categories,
            opacity=mask_opacity,
            line=line,
            zoom=zoom,
            font=letters,
        )
    if len(prediction) == 0 or "panoptic" in prediction:
        return picture

    scores = prediction.scores.tolist() if "scores" in prediction else [None] * len(prediction)  # ground truth has none
    labels = prediction.labels.tolist() if "labels" in prediction else [None] * len(scores)
    if colours is None:
        colours = [colour(label or 0) for label in labels]
    if "masks" in prediction:
        masks, pixels = PlacedMasks.of(prediction.masks), np.array(picture)
        blend_masks(pixels, masks, colours, opacity=mask_opacity, line=line, zoom=zoom)
        picture = Image.fromarray(pixels)

    pen = ImageDraw.Draw(picture)
    corners = _corners(prediction.boxes.numpy(force=True).astype(float)) * zoom
    best_first = sorted(range(len(scores)), key=lambda index: -(scores[index] or 0))
    for index in reversed(best_first):
        _draw_outline(pen, corners[index], colours[index], line)
    if "keypoints" in prediction:
        points = prediction.keypoints.numpy(force=True).astype(float) * (zoom, zoom, 1)
        for index in reversed(best_first):
            draw_keypoints(pen, points[index], categories.keypoints, colours[index], line)
    if names is None:
        names = ["" if label is None else categories.names[label] for label in labels]
    texts = [(name, "" if score is None else f"{score:.2f}") for name, score in zip(names, scores, strict=True)]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    _draw_labels(pen, boxes, texts, colours, best_first, letters)
    return picture


def _with_regions(
    picture: Image.Image,
    prediction: Prediction,
    categories: Categories,
    semantic_categories: Categories,
    *,
    opacity: float,
    line: int,
    zoom: int,
    font: ImageFont.FreeTypeFont,
) -> Image.Image:
    """A picture with the regions of a prediction and their names, large ones first."""
    found = sorted(regions(prediction, categories, semantic_categories), key=lambda region: -region.mask.sum())
    if not found:
        return picture
    colours = [region.colour for region in found]
    masks, pixels = PlacedMasks.of(np.stack([region.mask for region in found])), np.array(picture)
    blend_masks(pixels, masks, colours, opacity=opacity, line=line, zoom=zoom)
    picture = Image.fromarray(pixels)
    points = np.array([middle(region.mask) for region in found]) * zoom
    texts = [(region.name, region.score) for region in found]
    _draw_labels(ImageDraw.Draw(picture), np.tile(points, 2), texts, colours, range(len(found)), font, centred=True)
    return picture


def _pixels(image: Tensor | np.ndarray | Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    if isinstance(image, Tensor):
        return image.permute(1, 2, 0).numpy(force=True)
    return np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) xyxy or (N, 5) centre, size, degrees counter-clockwise -> corners (N, 4, 2), clockwise."""
    if boxes.shape[1] == 4:
        return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    centre, size, angle = boxes[:, None, :2], boxes[:, None, 2:4], np.radians(boxes[:, 4])
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([cos, -sin, sin, cos], axis=1).reshape(-1, 2, 2)  # y points down
    return centre + (size * np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])) @ turn


def _draw_outline(pen: ImageDraw.ImageDraw, corners: np.ndarray, colour: tuple[int, int, int], line: int) -> None:
    low, high = corners.min(axis=0), corners.max(axis=0)
    if corners[0, 1] == corners[1, 1]:  # upright; coordinates are pixel edges, and the line lies inside the box
        first = np.floor(low)
        last = np.maximum(np.ceil(high) - 1, first)
        pen.rectangle((*first, *last), outline=colour, width=line)
    else:
        ring = [tuple(corner) for corner in (*corners, corners[0], corners[1])]
        pen.line(ring, fill=colour, width=line, joint="curve")


def _draw_labels(
    pen: ImageDraw.ImageDraw,
    boxes: np.ndarray,
    names_and_scores: Sequence[tuple[str, str]],
    colours: Sequence[tuple[int, int, int]],
    best_first: Sequence[int],
    font: ImageFont.FreeTypeFont,
    *,
    centred: bool = False,
) -> None:
    width, height = pen.im.size
    ascent, descent = font.getmetrics()
    margin = max(1, ascent // 5)
    texts = [_text(name, score, font, width - 2 * margin) for name, score in names_and_scores]
    sizes = [(math.ceil(font.getlength(text)) + 2 * margin, ascent + descent + margin) for text in texts]
    if centred:  # labels go above boxes: one of no height, half a label below the middle
        half = np.array(sizes) / 2
        boxes = boxes + np.stack([-half[:, 0], half[:, 1], half[:, 0], half[:, 1]], axis=1)
    order = np.array(best_first)
    places = place_labels(boxes[order], [sizes[index] for index in order], (height, width))
    for index, (x, y) in reversed(list(zip(best_first, places.tolist(), strict=True))):
        right, bottom = x + sizes[index][0] - 1, y + sizes[index][1] - 1
        pen.rectangle((x, y, right, bottom), fill=colours[index])
        text_at = (x + margin, y + margin // 2)
        pen.text(text_at, texts[index], font=font, fill=text_colour(colours[index]), anchor="la")


def _text(name: str, score: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Name and score, the name cut so that both are no wider than `width` pixels as far as the score allows."""
    text = f"{name} {score}".strip()
    while name and font.getlength(text) > width:
        name = name[:-1]
        text = f"{name.rstrip()}… {score}".strip()
    return text


def _font(path: str | Path | None, size: int) -> ImageFont.FreeTypeFont:
    if path is None:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return font
    try:
        return ImageFont.truetype(str(path), size)
    except OSError as error:
        raise ValueError(
            f"{path} is not a font that can be read ({error}); give a TrueType or OpenType file"
        ) from error
