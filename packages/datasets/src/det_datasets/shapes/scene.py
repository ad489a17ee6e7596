"""Where the shapes of one picture lie, what covers what, and what of each stays visible."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from det_datasets.shapes.outlines import CATEGORY_IDS, outline

SMALLEST_VISIBLE = 0.6  # of an instance's area; what is hidden more is no fair question
SMALLEST_PART = 2.0  # square pixels; splinters that the occlusion leaves behind are not annotated


@dataclass
class Item:
    """One annotated thing: a single shape, or a crowd of small ones. `pieces` are painted in order, back to front."""

    name: str
    pieces: list[NDArray[np.float64]]
    crowd: bool = False
    visible: BaseGeometry = field(default_factory=MultiPolygon)


@dataclass
class Scene:
    """A picture before it is painted; `items` from back to front, each with its visible part."""

    height: int
    width: int
    items: list[Item]


def compose(rng: np.random.Generator, size: int, background_share: float, crowd_share: float) -> Scene:
    """Draw the layout of one picture whose area is about `size` squared and whose sides differ by up to half."""
    aspect = float(np.exp(rng.uniform(-1, 1) * np.log(1.5)))
    height, width = round(size / aspect**0.5), round(size * aspect**0.5)
    items: list[Item] = []
    if rng.random() >= background_share:
        if rng.random() < crowd_share:
            _place(items, _crowd(rng, height, width, size), height, width)
        for _ in range(int(rng.integers(1, 6))):
            for _attempt in range(8):
                if _place(items, _single(rng, height, width, size), height, width):
                    break
    return Scene(height, width, items)


def _single(rng: np.random.Generator, height: int, width: int, size: int) -> Item:
    radius = size * float(np.exp(rng.uniform(np.log(0.07), np.log(0.24))))
    name = str(rng.choice(list(CATEGORY_IDS)))
    return Item(name, [_outline(rng, name, rng.uniform(0, width), rng.uniform(0, height), radius)])


def _crowd(rng: np.random.Generator, height: int, width: int, size: int) -> Item:
    name = str(rng.choice(list(CATEGORY_IDS)))
    centre = rng.uniform(0.25, 0.75, 2) * (width, height)
    places = centre + rng.normal(0, size * 0.07, (int(rng.integers(8, 15)), 2))
    pieces = [_outline(rng, name, x, y, size * float(rng.uniform(0.025, 0.04))) for x, y in places]
    return Item(name, pieces, crowd=True)


def _outline(rng: np.random.Generator, name: str, x: float, y: float, radius: float) -> NDArray[np.float64]:
    stretch = float(np.exp(rng.uniform(-0.35, 0.35)))
    return outline(name, (float(x), float(y)), radius, stretch, float(rng.uniform(-0.6, 0.6)))


def _place(items: list[Item], new: Item, height: int, width: int) -> bool:
    """Put an item in front of the others, unless it, or one behind it, would be hidden too much."""
    full = MultiPolygon([Polygon(piece) for piece in new.pieces]).buffer(0)
    new.visible = full.intersection(box(0, 0, width, height))
    if new.visible.area < SMALLEST_VISIBLE * full.area:
        return False
    remaining = [item.visible.difference(new.visible) for item in items]
    for item, rest in zip(items, remaining, strict=True):
        whole = sum(Polygon(piece).area for piece in item.pieces)
        if rest.area < SMALLEST_VISIBLE * (item.visible.area if item.crowd else whole):
            return False
    for item, rest in zip(items, remaining, strict=True):
        item.visible = rest
    items.append(new)
    return True


def parts(geometry: BaseGeometry) -> list[Polygon]:
    """The polygons that a visible part consists of, without splinters."""
    pieces = geometry.geoms if hasattr(geometry, "geoms") else [geometry]
    return [piece for piece in pieces if isinstance(piece, Polygon) and piece.area >= SMALLEST_PART]
