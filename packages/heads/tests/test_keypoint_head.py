from typing import Any

import pytest
import torch
import torch.nn.functional as F

from det_heads.heat_maps import keypoint_cells
from det_heads.keypoint_head import KeypointHead
from detkit.interfaces import RoiSamples
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape
from detkit.testing.inputs import CATEGORIES, image_sizes, random_boxes, random_features, random_targets

SHAPES = {"p3": Shape(8, 8)}
FEATURES = random_features(SHAPES, 2)


def make(**changes: Any) -> KeypointHead:
    torch.manual_seed(0)
    arguments = {"input_shapes": SHAPES, "in_features": ["p3"], "num_classes": 3, "num_keypoints": 4, **changes}
    return KeypointHead(**{"channels": [16], "pool_size": 7, **arguments})


def regions() -> tuple[RoiSamples, Targets]:
    """Five regions in each image: two near the second and third object, a place for another, and background."""
    targets = random_targets(2)
    boxes = random_boxes(2, 5, seed=3)
    boxes[:, :2] = targets.boxes[:, 1:] + torch.tensor([2.0, -1, 3, 0])  # one keypoint is left of each
    labels = torch.full((2, 5), 3)
    labels[:, :2] = targets.labels[:, 1:]
    samples = RoiSamples(
        boxes=boxes,
        valid=torch.ones(2, 5, dtype=torch.bool),
        labels=labels,
        target_index=torch.tensor([1, 2, 0, 0, 0]).expand(2, -1),
        foreground=3,
    )
    return samples, targets


def by_hand(head: KeypointHead, samples: RoiSamples, targets: Targets) -> tuple[Any, int]:
    """The sum of the cross-entropies, and the number of keypoints."""
    total: Any = 0
    count = 0
    for image in range(2):
        for region in range(2):
            row = torch.tensor([image * 5 + region])
            logits = head._logits(FEATURES, samples, row)
            keypoints = targets.extra["keypoints"][image, region + 1][None]
            cells, inside = keypoint_cells(keypoints, samples.boxes[image, region][None], 28)
            for keypoint in inside[0].nonzero().flatten().tolist():
                total += F.cross_entropy(logits[0, keypoint].flatten()[None], cells[0, keypoint][None])
                count += 1
    return total, count


def test_the_loss_is_the_mean_over_keypoints_that_are_visible_in_their_region() -> None:
    head, (samples, targets) = make(weight=0.5), regions()
    total, count = by_hand(head, samples, targets)
    assert count == 8  # the top and the right one of four objects; the left one is outside, the bottom one not labelled
    torch.testing.assert_close(head.losses(FEATURES, samples, targets)["keypoint"], 0.5 * total / count)


def test_the_loss_may_be_divided_by_a_constant() -> None:
    head, (samples, targets) = make(keypoints_per_image=100.0), regions()
    total, _ = by_hand(head, samples, targets)
    torch.testing.assert_close(head.losses(FEATURES, samples, targets)["keypoint"], total / 200)


def test_numbers_of_pixels_are_half_a_pixel_less_than_coordinates() -> None:
    samples, targets = regions()
    wanted = make().losses(FEATURES, samples, targets)["keypoint"]
    targets.extra["keypoints"][..., :2] += 0.5
    torch.testing.assert_close(make(pixel_numbers=True).losses(FEATURES, samples, targets)["keypoint"], wanted)


def test_without_a_visible_keypoint_there_is_no_loss() -> None:
    for changes in ({}, {"keypoints_per_image": 3.0}):
        head, (samples, targets) = make(**changes), regions()
        targets.extra["keypoints"][..., 2] = 0
        loss = head.losses(FEATURES, samples, targets)["keypoint"]
        loss.backward()
        assert loss == 0
        assert all(each.grad is not None and not each.grad.any() for each in head.parameters())


def test_training_without_keypoints_says_so() -> None:
    samples, targets = regions()
    with pytest.raises(ValueError, match=r"targets have keypoints of shape \(N, 4, 3\); the keypoint head needs"):
        make(num_keypoints=17).losses(FEATURES, samples, targets)
    targets.extra.clear()
    with pytest.raises(ValueError, match="the keypoint head needs 'keypoints'"):
        make().losses(FEATURES, samples, targets)


def test_a_mirrored_image_swaps_left_and_right() -> None:
    head = make(categories=CATEGORIES)
    maps = torch.randn(1, 2, 4, 28, 28, generator=torch.Generator().manual_seed(0))
    outputs = {"keypoint_maps": maps, "keypoint_extents": torch.rand(1, 2, 2)}
    mirrored = head.mirrored(outputs)
    for keypoint, other in enumerate([0, 2, 1, 3]):
        assert torch.equal(mirrored["keypoint_maps"][:, :, keypoint], maps[:, :, other].flip(-1))
    assert torch.equal(head.mirrored(mirrored)["keypoint_maps"], maps)
    with pytest.raises(ValueError, match="do not say which keypoints change places"):
        make().mirrored(outputs)


def test_detections_get_their_heat_maps_and_others_zeros() -> None:
    boxes, valid = random_boxes(2, 3), torch.tensor([[True, False, True], [False, False, False]])
    samples = RoiSamples(boxes=torch.where(valid[..., None], boxes, 0.0), valid=valid)
    with torch.no_grad():
        outputs = make().detect(FEATURES, samples, image_sizes(2)).outputs
        alone = make()._logits(FEATURES, samples, torch.tensor([2]))
    assert outputs["keypoint_maps"].shape == (2, 3, 4, 28, 28)
    torch.testing.assert_close(outputs["keypoint_maps"][0, 2], alone[0])
    assert not outputs["keypoint_maps"][~valid].any()
    torch.testing.assert_close(outputs["keypoint_extents"][0, 2], boxes[0, 2, 2:] - boxes[0, 2, :2])
