from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detkit.drawing import draw
from detkit.drawing.palette import colour
from detkit.structures.categories import Categories
from detkit.structures.keypoints import Keypoints
from detkit.structures.prediction import Prediction

ANIMALS = Categories(("cat", "dog", "a very long name of a class that no image of this size has room for"))


def prediction(
    boxes: list[list[float]], labels: list[int], size: tuple[int, int] = (100, 200), **fields: object
) -> Prediction:
    scores = torch.linspace(0.9, 0.5, len(boxes))
    return Prediction(size, boxes=torch.tensor(boxes), scores=scores, labels=torch.tensor(labels), **fields)


def pixels(found: Prediction, grey: int = 100, **options: object) -> np.ndarray:
    return np.asarray(draw(np.full((*found.image_size, 3), grey, np.uint8), found, ANIMALS, enlarge=False, **options))


def test_the_box_is_drawn_on_its_outermost_pixels() -> None:
    drawn = pixels(prediction([[40, 30, 80, 60]], [0]))
    assert (drawn[30:60, 79] == colour(0)).all()
    assert (drawn[59, 40:80] == colour(0)).all()
    assert (drawn[30:60, 80:] == 100).all()
    assert (drawn[60:] == 100).all()


def test_lines_are_as_wide_as_asked_for() -> None:
    drawn = pixels(prediction([[40, 30, 80, 60]], [0]), line_width=4)
    assert (drawn[40:50, 76:80] == colour(0)).all()
    assert (drawn[40:50, 75] == 100).all()


def test_masks_are_blended_and_outlined() -> None:
    masks = torch.zeros(1, 100, 200, dtype=torch.bool)
    masks[0, 40:60, 100:140] = True
    drawn = pixels(prediction([[90, 30, 150, 70]], [1], masks=masks), mask_opacity=0.5)
    np.testing.assert_allclose(drawn[50, 120], (np.array(colour(1)) + 100) / 2, atol=1)
    assert (drawn[40:60, 100] == colour(1)).all()
    assert (drawn[50, 95] == 100).all()


def test_small_masks_lie_above_large_ones() -> None:
    masks = torch.zeros(2, 100, 200, dtype=torch.bool)
    masks[0, 50:60, 100:120] = True
    masks[1, 30:90, 60:180] = True
    drawn = pixels(prediction([[100, 50, 120, 60], [60, 30, 180, 90]], [0, 1], masks=masks), mask_opacity=1.0)
    assert (drawn[55, 118] == colour(0)).all()


def test_the_label_lies_above_the_box_on_the_colour_of_its_class() -> None:
    drawn = pixels(prediction([[40, 50, 160, 90]], [0]))
    above = drawn[38:49, 41:60].reshape(-1, 3)
    background = (above == colour(0)).all(axis=1)
    assert 0.4 < background.mean() < 1  # the rest is text


def test_the_label_of_a_box_at_the_top_stays_inside() -> None:
    drawn = pixels(prediction([[0, 0, 200, 100]], [1]))
    assert (drawn[2:12, 2:50] == colour(1)).all(axis=2).any()


def test_a_name_that_is_too_long_is_cut_and_keeps_its_score() -> None:
    drawn = pixels(prediction([[10, 50, 60, 90]], [2], (100, 120)))
    assert (drawn[-1] == 100).all()
    rows = (drawn == colour(2)).all(axis=2).any(axis=1)
    assert rows[:50].any()


def test_nothing_found_leaves_the_image() -> None:
    empty = Prediction(
        (10, 20), boxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.int64)
    )
    assert (pixels(empty) == 100).all()


def test_low_scores_are_not_drawn() -> None:
    assert (pixels(prediction([[40, 30, 80, 60]], [0]), score_threshold=0.95) == 100).all()


def test_rotated_boxes_are_drawn_as_polygons() -> None:
    drawn = pixels(prediction([[100.0, 50, 60, 20, 90]], [0]))
    column = (drawn[:, 100] == colour(0)).all(axis=1)
    assert np.flatnonzero(column).max() in (79, 80)
    assert (drawn[55, 130] == 100).all()


def test_a_box_after_half_a_turn_is_drawn_as_before() -> None:
    upright, turned = (pixels(prediction([[100.0, 50, 60, 20, angle]], [0])) for angle in (0, 180))
    assert np.array_equal(upright, turned)


def test_boxes_turn_counter_clockwise() -> None:
    drawn = pixels(prediction([[100.0, 50, 80, 4, 45]], [0]))
    assert (drawn[20:30, 120:130] == colour(0)).all(axis=2).any()  # upper right
    assert not (drawn[70:80, 120:130] == colour(0)).all(axis=2).any()  # lower right


def test_pictures_are_the_same_every_time() -> None:
    found = prediction([[40, 30, 80, 60], [42, 32, 82, 62]], [0, 1])
    assert (pixels(found) == pixels(found)).all()


def test_small_images_are_enlarged_by_a_whole_number() -> None:
    found = prediction([[40, 30, 80, 60]], [0], (192, 192))
    assert draw(np.zeros((192, 192, 3), np.uint8), found, ANIMALS).size == (768, 768)


def test_large_images_keep_their_size() -> None:
    found = prediction([[40, 30, 80, 60]], [0], (700, 900))
    assert draw(np.zeros((700, 900, 3), np.uint8), found, ANIMALS).size == (900, 700)


def test_labels_grow_with_the_image() -> None:
    def label_height(size: int) -> int:
        found = prediction([[0, size / 2, size / 2, size]], [0], (size, size))
        drawn = pixels(found)[: size // 2 - 1]
        return int((drawn == colour(0)).all(axis=2).any(axis=1).sum())

    assert label_height(2400) > 1.8 * label_height(1200)


@pytest.mark.parametrize("form", ["tensor", "array", "pil"])
def test_every_form_of_image_is_left_unchanged(form: str) -> None:
    array = np.full((100, 200, 3), 100, np.uint8)
    image = {"tensor": torch.from_numpy(array).permute(2, 0, 1), "array": array, "pil": Image.fromarray(array)}[form]
    draw(image, prediction([[40, 30, 80, 60]], [0], masks=torch.ones(1, 100, 200, dtype=torch.bool)), ANIMALS)
    assert (array == 100).all()
    assert (np.asarray(image if form != "tensor" else array) == 100).all()


def test_another_image_is_refused() -> None:
    with pytest.raises(ValueError, match="the image is 10 x 10 pixels, the prediction is for one of 200 x 100"):
        draw(np.zeros((10, 10, 3), np.uint8), prediction([[0, 0, 1, 1]], [0]), ANIMALS)


def test_a_font_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "font.ttf").touch()
    with pytest.raises(ValueError, match=r"font\.ttf is not a font"):
        pixels(prediction([[0, 0, 10, 10]], [0]), font=tmp_path / "font.ttf")


def test_ground_truth_is_drawn_without_scores() -> None:
    found = Prediction((100, 200), boxes=torch.tensor([[40.0, 30, 80, 60]]), labels=torch.tensor([1]))
    with_score = Prediction((100, 200), scores=torch.tensor([1.0]), boxes=found.boxes, labels=found.labels)
    label, longer = (
        np.argwhere((pixels(each)[:29] == colour(1)).all(axis=-1))[:, 1].max() for each in (found, with_score)
    )
    assert label < longer


POSED = Categories(("ant",), keypoints=Keypoints(("head", "middle", "tail"), skeleton=((0, 1), (1, 2))))


def posed(scores: tuple[float, float, float]) -> Prediction:
    points = torch.tensor([[[30.0, 50, 0], [60, 50, 0], [90, 50, 0]]])
    points[0, :, 2] = torch.tensor(scores)
    return prediction([[20, 30, 100, 80]], [0], keypoints=points)


def test_keypoints_are_dots_that_the_skeleton_connects() -> None:
    drawn = np.asarray(draw(np.full((100, 200, 3), 100, np.uint8), posed((0.9, 0.9, 0.9)), POSED, enlarge=False))
    coloured = (drawn == colour(0)).all(axis=2)
    assert coloured[50, 30:90].mean() > 0.8
    assert coloured[48:53, 90].any()


def test_keypoints_of_low_score_are_left_out() -> None:
    drawn = np.asarray(draw(np.full((100, 200, 3), 100, np.uint8), posed((0.9, 0.9, 0.01)), POSED, enlarge=False))
    coloured = (drawn == colour(0)).all(axis=2)
    assert coloured[50, 33:57].all()
    assert not coloured[50, 64:94].any()
