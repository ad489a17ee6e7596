"""PointRend and implicit PointRend on regions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from det_heads.mask_head import crop_masks
from det_pointrend.implicit_head import ImplicitPointRendHead, RegionNetworks
from det_pointrend.layers import PointNetwork
from det_pointrend.mask_head import PointRendHead
from det_pointrend.points import PointSampling, grid_points
from det_pointrend.subdivision import Subdivision
from detkit.interfaces import RoiSamples
from detkit.structures.batch import Targets
from detkit.structures.shape import Shape
from detkit.testing.inputs import HEIGHT, WIDTH, image_sizes, random_boxes, random_features, random_targets

SHAPES = {"p2": Shape(4, 4)}
SMALL: dict[str, Any] = {"input_shapes": SHAPES, "num_classes": 3}


def pointrend(**arguments: Any) -> PointRendHead:
    torch.manual_seed(0)
    small = {"coarse_channels": 4, "coarse_width": 8, "point_channels": 8, "subdivision": Subdivision(2, 49)}
    return PointRendHead(**SMALL, **small | arguments)


def implicit(**arguments: Any) -> ImplicitPointRendHead:
    torch.manual_seed(0)
    small = {"channels": 4, "width": 8, "point_channels": 8, "position_channels": 8, "subdivision": Subdivision(2, 49)}
    return ImplicitPointRendHead(**SMALL, **small | arguments)


HEADS = pytest.mark.parametrize("make", [pointrend, implicit])


def samples(targets: Targets) -> RoiSamples:
    """The ground truth's boxes as regions, and as many of background."""
    count = targets.boxes.shape[1]
    background = torch.full_like(targets.labels, 3)
    return RoiSamples(
        boxes=torch.cat([targets.boxes, random_boxes(len(targets.boxes), count, seed=3)], dim=1),
        valid=torch.cat([targets.valid, targets.valid], dim=1),
        labels=torch.cat([targets.labels, background], dim=1),
        target_index=torch.arange(count).repeat(2).expand(len(targets.boxes), -1),
        foreground=count,
    )


def ellipses(boxes: Tensor) -> Tensor:
    """Masks (B, N, H, W) that touch the sides of boxes (B, N, 4)."""
    y, x = torch.arange(HEIGHT)[:, None] + 0.5, torch.arange(WIDTH)[None] + 0.5
    x0, y0, x1, y1 = (side[..., None, None] for side in boxes.unbind(-1))
    distance = ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2
    return (distance < 1).to(torch.uint8)


@pytest.mark.parametrize("head", [pointrend(sampling=PointSampling(100)), implicit(train_points=100)])
def test_learning_a_mask(head: PointRendHead | ImplicitPointRendHead) -> None:
    """On one image, masks come out as they were given."""
    targets, features = random_targets(1), random_features(SHAPES, 1)
    masks = ellipses(targets.boxes)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for step in range(150):
        given = replace(targets, masks=masks, seeds=torch.tensor([step]))
        losses = head.losses(features, samples(targets), given)
        optimizer.zero_grad()
        torch.stack([*losses.values()]).sum().backward()
        optimizer.step()
    regions = RoiSamples(boxes=targets.boxes, valid=targets.valid, labels=targets.labels)
    with torch.no_grad():
        found = head.eval().detect(features, regions, image_sizes(1)).outputs["mask_grid"][0]
    pasted = head.paste({"mask_grid": found, "boxes": targets.boxes[0]}, (HEIGHT, WIDTH))["masks"]
    wanted = masks[0].bool()
    assert ((pasted & wanted).sum((1, 2)) / (pasted | wanted).sum((1, 2)) > 0.9).all()


def test_where_all_cells_are_computed_the_mask_is_what_the_points_are() -> None:
    head = pointrend(subdivision=Subdivision(1, 196)).eval()
    targets, features = random_targets(2), random_features(SHAPES, 2)
    given = RoiSamples(boxes=targets.boxes, valid=targets.valid, labels=targets.labels)
    with torch.no_grad():
        for each in head.parameters():
            each.normal_(std=0.3)
        found = head.detect(features, given, image_sizes(2)).outputs["mask_grid"]
        regions = head.regions(features, given, torch.arange(6))
        expected = head.evaluator(regions)(grid_points(14, torch.device("cpu")).expand(6, -1, -1)).sigmoid()
    torch.testing.assert_close(found.flatten(0, 1).flatten(1), expected)


@HEADS
def test_what_is_not_valid_is_zero(make: Any) -> None:
    head = make().eval()
    targets = random_targets(2)
    valid = torch.tensor([[True, False, True], [False, False, False]])
    with torch.no_grad():
        found = head.detect(
            random_features(SHAPES, 2),
            RoiSamples(boxes=targets.boxes, valid=valid, labels=targets.labels),
            image_sizes(2),
        ).outputs["mask_grid"]
    assert found.shape[:2] == (2, 3)
    assert torch.equal(found.flatten(2).any(dim=2), valid)


@HEADS
def test_boxes_of_one_pixel_and_boxes_outside_have_finite_losses(make: Any) -> None:
    head = make()
    targets = random_targets(1)
    given = samples(targets)
    given.boxes[0, 0] = torch.tensor([10.0, 10.0, 11.0, 11.0])
    given.boxes[0, 1] = torch.tensor([-900.0, -900.0, -800.0, -850.0])
    given.boxes[0, 2] = torch.tensor([5000.0, 40.0, 5000.0, 40.0])
    losses = head.losses(random_features(SHAPES, 1), given, targets)
    torch.stack([*losses.values()]).sum().backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(each.grad is not None and each.grad.isfinite().all() for each in head.parameters())


@HEADS
def test_masks_of_mirrored_images_are_mirrored_back(make: Any) -> None:
    grid = torch.rand(1, 3, 4, 4)
    assert torch.equal(make().mirrored({"mask_grid": grid})["mask_grid"], grid.flip(-1))


def test_regions_of_a_mirrored_image_are_mirrored() -> None:
    head, features, targets = pointrend(), random_features(SHAPES, 1), random_targets(1)
    boxes = targets.boxes.clone()
    boxes[..., [0, 2]] = WIDTH - targets.boxes[..., [2, 0]]
    flipped = {name: each.flip(3) for name, each in features.items()}
    straight, mirrored = (
        head.regions(maps, RoiSamples(boxes=each, valid=targets.valid, labels=targets.labels), torch.arange(3)).pooled
        for maps, each in ((features, targets.boxes), (flipped, boxes))
    )
    torch.testing.assert_close(mirrored.flip(3), straight, atol=1e-4, rtol=1e-4)


@HEADS
def test_losses_do_not_depend_on_the_batch(make: Any) -> None:
    """Those of two images are the mean, weighted with their regions, of those of each."""
    head = make(sampling=PointSampling(30)) if make is pointrend else make()
    targets, features = random_targets(2), random_features(SHAPES, 2)
    both = head.losses(features, samples(targets), targets)
    for name, value in both.items():
        parts = []
        for image in range(2):
            own = {key: each[image : image + 1] for key, each in features.items()}
            one = slice(image, image + 1)
            assert targets.masks is not None
            alone = Targets(
                targets.boxes[one], targets.labels[one], targets.valid[one], targets.seeds[one], targets.masks[one]
            )
            given = samples(targets)
            assert given.labels is not None and given.target_index is not None
            part = replace(
                given,
                boxes=given.boxes[one],
                valid=given.valid[one],
                labels=given.labels[one],
                target_index=given.target_index[one],
            )
            parts.append(head.losses(own, part, alone)[name])
        torch.testing.assert_close(value, sum(parts) / 2, atol=1e-5, rtol=1e-4)


@HEADS
def test_targets_without_masks_are_refused(make: Any) -> None:
    targets = replace(random_targets(1), masks=None)
    with pytest.raises(ValueError, match="needs 'masks'"):
        make().losses(random_features(SHAPES, 1), samples(targets), targets)


def test_the_coarse_loss_is_that_of_small_masks() -> None:
    head = pointrend()
    targets = random_targets(1)
    loss = head.losses(random_features(SHAPES, 1), samples(targets), targets)["mask"]
    assert targets.masks is not None
    wanted = crop_masks(targets.masks[0], targets.boxes[0], torch.arange(3), 7)
    looked = head.regions(random_features(SHAPES, 1), samples(targets), torch.arange(3))
    logits = looked.of_class(head._coarse_masks(looked))
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, wanted))


def test_without_a_network_of_points_the_coarse_mask_is_what_it_sees() -> None:
    network = PointNetwork(4, 3, 3, layers=0, channels=1, coarse_each_layer=True)
    assert network.with_classes == ["predictor.weight"]
    assert network.predictor.weight.shape == (3, 7, 1)


@pytest.mark.parametrize("each_layer", [True, False])
def test_columns_of_classes_are_those_of_the_coarse_prediction(each_layer: bool) -> None:
    """With the last columns zero, the coarse prediction does not matter."""
    network = PointNetwork(4, 3, 2, layers=2, channels=5, coarse_each_layer=each_layer)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name in network.with_classes:
            parameters[name][:, -3:] = 0
    fine = torch.randn(1, 4, 6)
    assert torch.equal(network(fine, torch.randn(1, 3, 6)), network(fine, torch.randn(1, 3, 6)))


def networks(**changes: int) -> RegionNetworks:
    torch.manual_seed(0)
    arguments = {"position_channels": 4, "layers": 2, "channels": 6} | changes
    made = RegionNetworks(8, 5, arguments.pop("position_channels"), 3, **arguments)
    with torch.no_grad():
        for each in made.parameters():
            each.normal_()
    return made


def test_each_region_has_the_network_that_was_predicted_for_it() -> None:
    made = networks()
    vectors, points, fine = torch.randn(2, 8), torch.rand(2, 7, 2), torch.randn(2, 5, 7)
    parameters = made.parameters_of(vectors)
    assert [tuple(each.shape[1:]) for each in parameters] == [(6, 9), (6, 6), (3, 6), (6, 1), (6, 1), (3, 1)]
    found = made(parameters, points, fine)
    for region in range(2):
        phase = 2 * torch.pi * (2 * points[region] - 1) @ made.frequencies
        x = torch.cat([phase.sin(), phase.cos(), fine[region].T], dim=1)
        for weight, bias in zip(parameters[:3], parameters[3:], strict=True):
            x = F.linear(x if weight is parameters[0] else F.relu(x), weight[region], bias[region, :, 0])
        torch.testing.assert_close(found[region], x.T, atol=1e-4, rtol=1e-4)


def test_gradients_of_predicted_networks_are_right() -> None:
    made = networks().double()
    points, fine = torch.rand(2, 3, 2).double(), torch.randn(2, 5, 3).double()

    def logits(vectors: Tensor, fine: Tensor) -> Tensor:
        parameters = made.parameters_of(vectors)
        x = torch.cat([made._encoded(points), fine], dim=1)
        return torch.baddbmm(parameters[3], parameters[0], x).square()

    vectors = torch.randn(2, 8).double().requires_grad_()
    assert torch.autograd.gradcheck(logits, (vectors, fine.requires_grad_()))


@pytest.mark.parametrize("wrong", [{"position_channels": 3}, {"layers": 0}])
def test_networks_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="are needed"):
        networks(**wrong)


def test_points_of_a_step_that_fill_no_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="the square of a whole number"):
        implicit(subdivision=Subdivision(1, 50))
