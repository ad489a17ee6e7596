"""Turning a scene into pixels: textured background, textured shapes with smooth edges, sensor noise."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from det_datasets.shapes.ground import Ground
from det_datasets.shapes.noise import smooth_noise
from det_datasets.shapes.outlines import CATEGORY_IDS
from det_datasets.shapes.scene import Scene

HUES = {name: index / len(CATEGORY_IDS) for index, name in enumerate(CATEGORY_IDS)}
"""Every class has a hue that most of its instances come near, in turns of the colour circle."""

HUE_SPREAD = 0.05  # standard deviation, a quarter of the distance between two classes
SUPERSAMPLING = 4  # edges are drawn at this many times the resolution and averaged


def paint(rng: np.random.Generator, scene: Scene, ground: Ground | None = None) -> Image.Image:
    """Paint a scene as an RGB picture, on a `ground` or on one of its own. Shapes are painted back to front, exactly
    where their outlines lie."""
    canvas = _background(rng, scene.height, scene.width) if ground is None else ground.canvas
    used = [canvas.mean((0, 1))]
    for item in scene.items:
        base = _colour(rng, item.name, used)
        used.append(base)
        for piece in item.pieces:
            _paint_piece(rng, canvas, piece, np.clip(base + rng.uniform(-15, 15, 3), 0, 255))
    canvas += rng.integers(-7, 8, canvas.shape, dtype=np.int8)
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def _background(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Clouds of several scales around a mean colour, crossed by faint stripes: (H, W, 3)."""
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = rng.uniform(70, 185, 3)
    for cells, contrast in ((3, 28), (9, 20), (40, 16)):
        canvas += (
            contrast * smooth_noise(rng, cells, height, width)[..., None] * rng.uniform(0.4, 1.0, 3).astype(np.float32)
        )
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 30)
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    phase = (rows * np.float32(np.sin(angle)) + columns * np.float32(np.cos(angle))) * np.float32(2 * np.pi / period)
    canvas += np.float32(rng.uniform(0, 14)) * np.sin(phase)[..., None]
    return canvas


def _colour(rng: np.random.Generator, name: str, used: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The one of a few random colours of a class that stands out most from those used already."""
    hues = rng.normal(HUES[name], HUE_SPREAD, 6) % 1
    shades = rng.uniform((0.4, 0.35), 1, (6, 2))  # saturation, value
    candidates = 255 * np.array([colorsys.hsv_to_rgb(hue, *shade) for hue, shade in zip(hues, shades, strict=True)])
    distances = np.linalg.norm(candidates[:, None] - np.stack(used), axis=-1).min(axis=1)
    return candidates[int(distances.argmax())]


def _paint_piece(
    rng: np.random.Generator, canvas: NDArray[np.float32], points: NDArray[np.float64], colour: NDArray[np.float64]
) -> None:
    height, width = canvas.shape[:2]
    left, top = np.clip(np.floor(points.min(0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(points.max(0)), 0, (width, height)).astype(int)
    if right <= left or bottom <= top:
        return
    size = (int(right - left), int(bottom - top))
    fine = Image.new("L", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING))
    # ImageDraw addresses pixel centres, outlines address the plane: half a fine pixel apart.
    corners = (points - (left, top)) * SUPERSAMPLING - 0.5
    ImageDraw.Draw(fine).polygon([(float(x), float(y)) for x, y in corners], fill=255)
    cover = np.asarray(fine.resize(size, Image.Resampling.BOX), np.float32)[..., None] / 255
    shade = 18 * smooth_noise(rng, 4, size[1], size[0])[..., None]
    region = canvas[top:bottom, left:right]
    region += cover * (colour.astype(np.float32) + shade - region)
