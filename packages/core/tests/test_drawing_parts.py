from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.drawing.labels import place_labels
from detkit.drawing.masks import outline
from detkit.drawing.palette import palette, text_colour


def overlaps(places: np.ndarray, sizes: list[tuple[int, int]]) -> bool:
    low, high = places, places + np.array(sizes)
    inter = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    return bool(((inter > 0).all(axis=2) & ~np.eye(len(places), dtype=bool)).any())


def test_a_label_lies_above_its_box() -> None:
    assert place_labels(np.array([[50.0, 40, 90, 80]]), [(30, 10)], (100, 100)).tolist() == [[50, 30]]


def test_labels_of_one_box_do_not_cover_each_other() -> None:
    boxes, sizes = np.array([[40.0, 40, 80, 80]] * 12), [(40, 10)] * 12
    assert not overlaps(place_labels(boxes, sizes, (200, 200)), sizes)


@given(
    st.lists(st.tuples(*[st.floats(-20, 320)] * 4, st.integers(5, 90), st.integers(5, 20)), min_size=1, max_size=20),
    st.integers(100, 300),
    st.integers(100, 300),
)
def test_labels_stay_inside_the_image(found: list[tuple[float, ...]], height: int, width: int) -> None:
    boxes = np.array([(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)) for x1, y1, x2, y2, _, _ in found])
    sizes = [(int(entry[4]), int(entry[5])) for entry in found]
    places = place_labels(boxes, sizes, (height, width))
    assert (places >= 0).all()
    assert (places + np.array(sizes) <= (width, height)).all()


def test_the_outline_lies_inside_the_mask() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    drawn = outline(mask, 1)
    assert drawn.sum() == 16
    assert not (drawn & ~mask).any()


@pytest.mark.parametrize(("line", "count"), [(1, 16), (2, 24), (3, 25)])
def test_the_outline_has_a_width(line: int, count: int) -> None:
    assert outline(np.ones((5, 5), bool), line).sum() == count


def test_colours_are_distinct() -> None:
    assert len(np.unique(palette(), axis=0)) == len(palette()) == 96


def test_the_first_colours_are_far_apart() -> None:
    first = palette()[:10].astype(int)
    distance = np.abs(first[:, None] - first[None]).max(axis=2) + 999 * np.eye(10)
    assert distance.min() > 60


@pytest.mark.parametrize(("background", "text"), [((255, 255, 0), (0, 0, 0)), ((0, 0, 160), (255, 255, 255))])
def test_text_contrasts_with_its_background(background: tuple[int, int, int], text: tuple[int, int, int]) -> None:
    assert text_colour(background) == text
