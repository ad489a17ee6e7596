"""Transforms that move things: there and back, what is visible, what belongs together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

from detkit.data.targets import boxes_of_masks, cut_to_canvas, rasterized, visible_shares
from detkit.data.transforms.affine import RandomAffine, RandomExtent, RandomPivotScaling, RandomRotation, rotated
from detkit.data.transforms.chance import RandomChoice
from detkit.data.transforms.crop import FixedSizeCrop, MinIoURandomCrop, PadToSquare, RandomCrop, RandomInstanceCrop
from detkit.data.transforms.flip import Flip
from detkit.data.transforms.moving import cropped, padded, resized, warped
from detkit.data.transforms.resize import RandomResize, ResizeScale
from detkit.data.transforms.torchvision import Torchvision
from detkit.data.transforms.visibility import KeepVisible
from detkit.interfaces import Transform
from detkit.ops.boxes import box_iou
from detkit.structures.instance_keypoints import InstanceKeypoints
from detkit.structures.polygons import Polygons
from detkit.structures.proposal_boxes import ProposalBoxes
from detkit.structures.sample import Sample
from detkit.structures.semantic_map import SemanticMap

HEIGHT, WIDTH = 48, 80
QUICK = settings(deadline=None, max_examples=20)


def make(*boxes: list[int], size: tuple[int, int] = (HEIGHT, WIDTH)) -> Sample:
    """Each box is an instance that fills it: an outline if its position is even, else a bitmap. The image is bright and
    pixels are of class 1 exactly where a box is; proposals are the boxes, key points their centres."""
    count, height, width = len(boxes), *size
    masks, image = torch.zeros(count, *size, dtype=torch.uint8), torch.full((height, width, 3), 20, dtype=torch.uint8)
    semantic = torch.zeros(size, dtype=torch.uint8)
    rings: list[list[list[int]]] = []
    for position, (x1, y1, x2, y2) in enumerate(boxes):
        image[y1:y2, x1:x2] = 240
        semantic[y1:y2, x1:x2] = 1
        masks[position, y1:y2, x1:x2] = position % 2
        rings.append([] if position % 2 else [[x1, y1, x2, y1, x2, y2, x1, y2]])
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    points = torch.cat(((corners[:, :2] + corners[:, 2:]) / 2, torch.full((count, 1), 2.0)), dim=1)[:, None]
    target = {
        "boxes": tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=size),
        "labels": torch.arange(count),
        "crowd": torch.zeros(count, dtype=torch.bool),
        "polygons": Polygons.from_rings(rings, size),
        "masks": tv_tensors.Mask(masks),
        "has_mask": torch.ones(count, dtype=torch.bool),
        "keypoints": InstanceKeypoints(points, flipped=(0,), canvas_size=size),
        "proposals": ProposalBoxes(corners, canvas_size=size),
        "proposal_scores": -torch.arange(float(count)),
        "semantic": SemanticMap(semantic),
    }
    return Sample(tv_tensors.Image(image.permute(2, 0, 1)), target, {"image_id": 7})


@st.composite
def box(draw: st.DrawFn, height: int = HEIGHT, width: int = WIDTH) -> list[int]:
    x1, y1 = draw(st.integers(0, width - 6)), draw(st.integers(0, height - 6))
    return [x1, y1, draw(st.integers(x1 + 5, width)), draw(st.integers(y1 + 5, height))]


SAMPLES = st.lists(box(), max_size=4).map(lambda boxes: make(*boxes))


def assert_same(found: Sample, expected: Sample, tolerance: float = 1e-3) -> None:
    assert found.target.keys() == expected.target.keys()
    assert torch.equal(found.image, expected.image)
    for key, value in expected.target.items():
        assert torch.allclose(plain(found.target[key]), plain(value), atol=tolerance), key


def plain(value: Any) -> Tensor:
    tensor: Tensor = value.as_subclass(Tensor).float()
    return tensor


@given(SAMPLES)
@QUICK
def test_four_quarter_turns_change_nothing(sample: Sample) -> None:
    turned = sample
    for _ in range(4):
        turned = rotated(turned, 90)
    assert_same(turned, sample)
    assert rotated(sample, 90).image.shape == (3, WIDTH, HEIGHT)
    assert torch.equal(rotated(sample, 90).image, sample.image.rot90(1, (1, 2)))


@given(SAMPLES)
@QUICK
def test_turning_by_360_degrees_changes_nothing(sample: Sample) -> None:
    assert RandomRotation([360, -720], sample_style="choice")(sample) is sample


@given(SAMPLES, st.floats(-170, 170))
@QUICK
def test_places_come_back_when_turned_back(sample: Sample, angle: float) -> None:
    back = rotated(rotated(sample, angle, expand=False), -angle, expand=False).target

    def stays(points: Tensor) -> Tensor:
        """Which points (..., 2) are in the picture at every angle."""
        return (points - torch.tensor((WIDTH / 2, HEIGHT / 2))).norm(dim=-1) < HEIGHT / 2 - 1

    left = back["labels"]  # what was outside in between has gone; labels are positions
    there, here = plain(back["keypoints"])[..., :2], plain(sample.target["keypoints"])[left, :, :2]
    assert torch.allclose(there[stays(here)], here[stays(here)], atol=0.01)
    before = sample.target["polygons"].rings()
    for turned, position in zip(back["polygons"].rings(), left.tolist(), strict=True):
        for ring in map(torch.from_numpy, before[position]):
            if stays(ring).all():  # nothing of it was cut off in between
                assert torch.allclose(torch.from_numpy(turned[0]), ring, atol=0.01)


@given(SAMPLES, st.integers(20, 120), st.integers(20, 120))
@QUICK
def test_resizing_back_brings_places_back(sample: Sample, height: int, width: int) -> None:
    there = resized(sample, height, width)
    back = resized(there, HEIGHT, WIDTH).target
    for key in ("boxes", "polygons", "keypoints", "proposals"):
        assert torch.allclose(plain(back[key]), plain(sample.target[key]), atol=0.01), key
        assert tuple(there.target[key].canvas_size) == (height, width)
    assert resized(sample, HEIGHT, WIDTH) is sample


@given(SAMPLES, st.tuples(*[st.integers(0, 30)] * 4))
@QUICK
def test_cropping_undoes_padding(sample: Sample, sides: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = sides
    there = padded(sample, left, top, right, bottom, fill=9)
    assert there.image.shape == (3, HEIGHT + top + bottom, WIDTH + left + right)
    assert_same(cropped(there, top, left, HEIGHT, WIDTH), sample)


@given(SAMPLES)
@QUICK
def test_a_map_to_itself_changes_nothing(sample: Sample) -> None:
    assert_same(warped(sample, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (HEIGHT, WIDTH)), sample)


MOVING: list[Callable[[], Transform]] = [
    lambda: Flip(0.5, 0.5),
    lambda: RandomRotation([-40, 40]),
    lambda: RandomRotation([-40, 40], expand=False, center=[(0.2, 0.2), (0.8, 0.8)]),
    lambda: RandomExtent((0.5, 1.5), (0.4, 0.4)),
    lambda: RandomAffine(degrees=15, shear=10, size=(50, 60)),
    lambda: RandomPivotScaling([0.6, 1.7]),
    lambda: RandomCrop((30, 40), "absolute", contain_instance=True),
    lambda: RandomInstanceCrop(),
    lambda: MinIoURandomCrop(),
    lambda: FixedSizeCrop((60, 40)),
    lambda: PadToSquare(),
    lambda: RandomResize([(40, 100), (60, 60)]),
    lambda: ResizeScale(0.5, 1.5, 60, 60),
    lambda: RandomChoice([Flip(1.0), RandomRotation([20, 30])]),
    lambda: Torchvision("RandomRotation", {"degrees": 30, "expand": True}),
]


@pytest.mark.parametrize("make_transform", MOVING)
@given(sample=SAMPLES, seed=st.integers(0, 2**31))
@QUICK
def test_everything_moves_together(make_transform: Callable[[], Transform], sample: Sample, seed: int) -> None:
    torch.manual_seed(seed)
    moved = cut_to_canvas(make_transform()(sample))
    plain_target = rasterized(moved)
    height, width = moved.image.shape[-2:]
    boxes, masks = plain_target["boxes"], plain_target["masks"].bool()
    assert ((boxes >= 0) & (boxes <= torch.tensor([width, height, width, height]))).all()
    large = masks.sum(dim=(1, 2)) > 12
    tight = boxes_of_masks(plain_target["masks"])
    beyond = torch.cat((tight[:, :2] - boxes[:, :2], boxes[:, 2:] - tight[:, 2:]), dim=1)[large]
    assert ((beyond > -2) & (beyond < 4)).all()  # the tip of a corner that is cut at the border may hold no pixel
    inside = eroded(masks).any(dim=0)
    assert (moved.image[0][inside] > 150).all()
    assert (plain_target["semantic"][inside] == 1).all()
    outside = eroded(~masks.any(dim=0)[None])[0]
    if len(masks) == len(sample.target["labels"]):  # what is cut to nothing may leave pixels
        assert (plain_target["semantic"][outside] != 1).all()
    labelled = plain_target["keypoints"][..., 2] > 0
    places = plain_target["keypoints"][..., :2][labelled]
    assert ((places >= 0) & (places <= torch.tensor((width, height)))).all()


def eroded(masks: Tensor) -> Tensor:
    """Without the pixels at their borders and at that of the image, which sampling mixes with what is beside."""
    around = torch.nn.functional.pad(masks[:, None].float(), (2, 2, 2, 2))
    return torch.nn.functional.avg_pool2d(around, 5, 1)[:, 0] > 0.999


@given(st.floats(-80, 80))
@QUICK
def test_rotated_boxes_turn_as_their_corners(angle: float) -> None:
    """Of maps that keep right angles: a turn, and a scale."""
    boxes = torch.tensor([[40.0, 24, 20, 8, 30], [30, 20, 10, 16, -100]])
    sample = Sample(make().image, {"boxes": rotated_boxes(boxes), "labels": torch.arange(2)})
    turned = rotated(sample, angle, expand=False)
    larger = resized(turned, round(HEIGHT * 2), round(WIDTH * 2)).target["boxes"].as_subclass(Tensor)
    radians = np.radians(angle)
    for before, after in zip(boxes.tolist(), larger.tolist(), strict=True):
        x, y = before[0] - WIDTH / 2, before[1] - HEIGHT / 2
        expected = (
            WIDTH + 2 * (np.cos(radians) * x + np.sin(radians) * y),
            HEIGHT + 2 * (np.cos(radians) * y - np.sin(radians) * x),
            *(2 * side for side in before[2:4]),
            before[4] + angle,
        )
        assert after[:4] == pytest.approx(expected[:4], abs=0.01)
        assert np.cos(np.radians(after[4] - expected[4])) == pytest.approx(1, abs=1e-4)


def rotated_boxes(boxes: Tensor) -> tv_tensors.BoundingBoxes:
    return tv_tensors.BoundingBoxes(boxes, format="CXCYWHR", canvas_size=(HEIGHT, WIDTH), clamping_mode=None)


def test_resizing_rotated_boxes_unevenly_follows_detectron2() -> None:
    boxes = rotated_boxes(torch.tensor([[40.0, 24, 20, 8, 30]]))
    sample = Sample(make().image, {"boxes": boxes, "labels": torch.arange(1)})
    found = resized(sample, HEIGHT * 2, WIDTH).target["boxes"][0].tolist()
    cos, sin = np.cos(np.pi / 6), 0.5
    expected = [40, 48, 20 * np.hypot(cos, 2 * sin), 8 * np.hypot(sin, 2 * cos), np.degrees(np.arctan2(sin, 2 * cos))]
    assert found == pytest.approx(expected, rel=1e-4)


@given(box(), st.integers(0, WIDTH - 20), st.integers(0, HEIGHT - 20))
@QUICK
def test_visible_shares_are_of_areas(place: list[int], left: int, top: int) -> None:
    sample = cropped(make(place, place), top, left, 20, 20)
    x1, y1, x2, y2 = place
    across, down = min(x2, left + 20) - max(x1, left), min(y2, top + 20) - max(y1, top)
    expected = max(across, 0) * max(down, 0) / ((x2 - x1) * (y2 - y1))
    assert visible_shares(sample).tolist() == pytest.approx([expected, expected], abs=1e-4)
    kept = KeepVisible(min_visible=0.5)(sample)
    assert len(kept.target["labels"]) == (2 if expected >= 0.5 else 0)
    assert (visible_shares(kept) > 0.999).all()


def test_instances_that_are_too_small_are_left_out() -> None:
    sample = make([0, 0, 10, 10], [0, 0, 30, 4], [20, 20, 40, 40])
    assert KeepVisible(min_size=5)(sample).target["labels"].tolist() == [0, 2]
    assert KeepVisible(min_area=101)(sample).target["labels"].tolist() == [1, 2]


def test_a_bitmap_that_lost_its_pixels_is_left_out() -> None:
    sample = make([0, 0, 10, 10], [20, 20, 40, 40])
    sample.target["masks"] = tv_tensors.Mask(torch.zeros(2, HEIGHT, WIDTH, dtype=torch.uint8))
    assert cut_to_canvas(sample).target["labels"].tolist() == [0]


def test_what_was_cut_off_does_not_come_back() -> None:
    sample = cropped(make([0, 10, 30, 40], [0, 10, 30, 40]), 0, 20, HEIGHT, 60)  # 10 of 30 columns are left
    for moved in (padded(sample, 30, 0, 0, 0), Torchvision("Pad", {"padding": [30, 0, 0, 0]})(sample)):
        assert cut_to_canvas(moved).target["boxes"].tolist() == [[30, 10, 40, 40]] * 2
        assert rasterized(moved)["masks"][:, :, :30].sum() == 0


@given(box(), st.integers(0, 2**31))
@QUICK
def test_a_crop_contains_the_centre_of_an_instance(place: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    found = RandomCrop((20, 25), "absolute", contain_instance=True)(make(place))
    assert found.image.shape == (3, 20, 25)
    x1, y1, x2, y2 = found.target["boxes"][0].tolist()
    assert 0 <= (x1 + x2) / 2 <= 25
    assert 0 <= (y1 + y2) / 2 <= 20


def test_a_crop_shows_several_classes() -> None:
    sample = make([0, 0, 12, HEIGHT])
    crop = RandomCrop((20, 20), "absolute", single_category_max_area=0.75)
    good = 0
    for seed in range(40):
        torch.manual_seed(seed)
        counts = torch.bincount(crop(sample).target["semantic"].flatten().int(), minlength=2)
        good += bool((counts > 0).all() and counts.max() < 300)
    assert good > 18  # one crop in ten is so by chance
    with pytest.raises(ValueError, match="needs labels of pixels"):
        crop(Sample(sample.image, {"boxes": sample.target["boxes"]}))


@given(st.lists(box(), min_size=1, max_size=3), st.integers(0, 2**31))
@QUICK
def test_min_iou_crops_have_a_centre_inside(boxes: list[list[int]], seed: int) -> None:
    torch.manual_seed(seed)
    found = MinIoURandomCrop(min_ious=(0.2,))(make(*boxes))
    height, width = found.image.shape[-2:]
    crop = torch.tensor([[0.0, 0, width, height]])
    moved = found.target["boxes"].as_subclass(Tensor)
    if (height, width) != (HEIGHT, WIDTH):
        centres = (moved[:, :2] + moved[:, 2:]) / 2
        assert ((centres > 0) & (centres < crop[0, 2:])).all(dim=1).any()
        assert 0.5 <= height / width <= 2


def test_min_iou_crops_overlap_every_box() -> None:
    boxes = torch.tensor([[0.0, 0, 40, 40], [20, 10, 70, 46]])
    for seed in range(20):
        torch.manual_seed(seed)
        crop = MinIoURandomCrop()._find(boxes, 0.3, HEIGHT, WIDTH)
        assert crop is not None
        assert box_iou(crop[None].float(), boxes).min() >= 0.3
        assert crop[2] - crop[0] >= 0.3 * WIDTH - 1
    assert MinIoURandomCrop()._find(boxes, 0.95, HEIGHT, WIDTH) is None


def test_only_instances_with_their_centre_inside_stay_where_that_is_asked() -> None:
    sample, lost = make([0, 0, 30, 30], [40, 20, 78, 46]), 0
    for seed in range(30):
        torch.manual_seed(seed)
        found = MinIoURandomCrop(only_centers=True)(sample)
        height, width = found.image.shape[-2:]
        boxes = found.target["boxes"].as_subclass(Tensor)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        assert ((centres > 0) & (centres < torch.tensor((width, height)))).all()
        lost += len(boxes) < 2
    assert lost


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RandAugment", "RandAugment fails on an image of 80 x 48: Inputs of type BoundingBoxes are not supported"),
        ("Grayscale", "Grayscale does not leave the image in three colours"),
        ("ToPILImage", "ToPILImage does not leave the image in three colours"),
        ("SanitizeBoundingBoxes", "leaves some out.*keep_visible"),
    ],
)
def test_transforms_of_torchvision_that_no_sample_survives_say_so(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Torchvision(name, {"min_size": 15} if name == "SanitizeBoundingBoxes" else {})(
            make([10, 10, 40, 30], [0, 0, 9, 9])
        )


def test_sizes_are_as_asked_for() -> None:
    sample = make([10, 10, 40, 30])
    assert FixedSizeCrop((60, 40))(sample).image.shape == (3, 60, 40)
    assert FixedSizeCrop((60, 40), pad=False)(sample).image.shape == (3, HEIGHT, 40)
    assert PadToSquare()(sample).image.shape == (3, WIDTH, WIDTH)
    assert RandomResize([(33, 44)])(sample).image.shape == (3, 33, 44)
    assert ResizeScale(0.5, 0.5, 100, 100)(sample).image.shape == (3, 30, 50)
    assert RandomExtent((1.5, 1.5))(sample).image.shape == (3, 72, 120)
    assert RandomAffine(size=(30, 20))(sample).image.shape == (3, 30, 20)
    turned = RandomRotation([30, 30])(sample).image
    assert turned.shape == (3, round(48 * 0.8660254 + 80 * 0.5), round(80 * 0.8660254 + 48 * 0.5))


@pytest.mark.parametrize(
    ("make_transform", "message"),
    [
        (lambda: FixedSizeCrop((0, 5)), "pixels"),
        (lambda: PadToSquare(300), "0 to 255"),
        (lambda: RandomInstanceCrop((1.5, 0.5)), "crop_scale"),
        (lambda: MinIoURandomCrop((1.5,)), "shares up to 1"),
        (lambda: MinIoURandomCrop(crop_trials=0), "at least 1"),
        (lambda: RandomCrop(single_category_max_area=0), "share above 0"),
        (lambda: RandomRotation([10]), "two numbers"),
        (lambda: RandomRotation([], sample_style="choice"), "at least one value"),
        (lambda: RandomRotation([-5, 5], center=[(0.5, 0.5)]), "two places"),
        (lambda: RandomRotation([-5, 5], fill=300), "fill is 300; a grey value"),
        (lambda: RandomExtent((0, 1)), "scale_range"),
        (lambda: RandomExtent((1, 1), (-0.5, 0.5)), "shift_range"),
        (lambda: RandomAffine(size=(0, 10)), "at least 1"),
        (lambda: RandomAffine(shear=90), "shear below 90"),
        (lambda: RandomPivotScaling([]), "numbers above 0"),
        (lambda: RandomResize([]), "heights and widths"),
        (lambda: ResizeScale(2, 1, 10, 10), "0 < min_scale"),
        (lambda: KeepVisible(min_visible=2), "probability"),
        (lambda: KeepVisible(min_size=-1), "0 or more"),
        (lambda: RandomChoice([], []), "one weight"),
    ],
)
def test_wrong_arguments_are_explained(make_transform: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_transform()
