import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detkit.structures.input_spec import InputSpec
from detkit.tta import Augmentation, merge_boxes


def image(height: int, width: int) -> torch.Tensor:
    return torch.randint(256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_views_are_the_scales_each_also_mirrored() -> None:
    views = Augmentation(scales=(0.5, 1.0)).views(image(100, 150), InputSpec(min_size=64, max_size=200), 32)
    assert [(view.sizes.tolist(), view.flipped) for view in views] == [
        ([[32, 48]], False),
        ([[32, 48]], True),
        ([[64, 96]], False),
        ([[64, 96]], True),
    ]
    assert [tuple(view.images.shape[2:]) for view in views] == [(32, 64), (32, 64), (64, 96), (64, 96)]
    assert torch.equal(views[0].images[..., :48], views[1].images[..., :48].flip(3))


def test_a_model_that_keeps_images_as_they_are_sees_multiples_of_their_own_size() -> None:
    views = Augmentation(scales=(0.5, 2.0), flip=False).views(image(30, 40), InputSpec(min_size=0), 1)
    assert [view.sizes.tolist() for view in views] == [[[15, 20]], [[60, 80]]]


@given(st.integers(20, 90), st.integers(20, 90), st.floats(0.4, 2.0), st.booleans())
def test_boxes_go_to_a_view_and_back(height: int, width: int, scale: float, flipped: bool) -> None:
    view = Augmentation(scales=(scale,)).views(image(height, width), InputSpec(min_size=48, max_size=96), 32)[flipped]
    boxes = torch.rand(1, 5, 4, generator=torch.Generator().manual_seed(1)) * 40
    boxes[..., 2:] += boxes[..., :2]
    moved = view.from_original(boxes)
    assert (moved[..., 2:] >= moved[..., :2]).all()
    torch.testing.assert_close(view.to_original(moved), boxes, rtol=1e-4, atol=1e-3)


def test_views_are_squares_where_images_are() -> None:
    spec = InputSpec(min_size=64, max_size=200, square=80)
    views = Augmentation(scales=(0.5, 1.0), flip=False).views(image(100, 150), spec, 32)
    assert [tuple(view.images.shape[2:]) for view in views] == [(96, 96), (96, 96)]


def test_detections_of_all_views_suppress_each_other_within_a_class() -> None:
    views = Augmentation(scales=(1.0,)).views(image(64, 64), InputSpec(min_size=64, max_size=64), 1)
    box, mirrored = [10.0, 20.0, 30.0, 40.0], [34.0, 20.0, 54.0, 40.0]
    answers = [
        {
            "boxes": torch.tensor([[coordinates, [0.0] * 4]]),
            "scores": torch.tensor([[score, 0.0]]),
            "labels": torch.tensor([[1, 0]]),
            "valid": torch.tensor([[True, False]]),
        }
        for coordinates, score in ((box, 0.6), (mirrored, 0.9))
    ]
    merged = merge_boxes(answers, views, nms_iou=0.5, capacity=3)
    assert merged["valid"].tolist() == [[True, False, False]]
    assert merged["boxes"][0, 0].tolist() == box
    assert merged["scores"][0, 0] == torch.tensor(0.9)
    answers[1]["labels"][0, 0] = 2
    assert merge_boxes(answers, views, nms_iou=0.5, capacity=3)["valid"].sum() == 2


@pytest.mark.parametrize("scales", [(), (1.0, 0.0)])
def test_scales_must_be_above_zero(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="at least one number above 0"):
        Augmentation(scales=scales)
