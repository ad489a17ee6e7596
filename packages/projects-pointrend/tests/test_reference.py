"""The heads' numbers are those of a plain computation, point by point, with arrays under Detectron2's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from det_detectron2.mapping import Detectron2Mapping, renamed
from det_heads.semantic_head import SemanticFPN
from det_pointrend.detectron2 import IMPLICIT_HEAD, MASK_HEAD, SEMANTIC_HEAD
from det_pointrend.implicit_head import ImplicitPointRendHead
from det_pointrend.mask_head import PointMaskHead, PointRendHead
from det_pointrend.semantic_head import PointRendSemantic
from det_pointrend.subdivision import Subdivision
from detkit.interfaces import RoiSamples
from detkit.structures.shape import Shape
from detkit.testing.inputs import random_features, random_targets

Array = NDArray[np.float64]
Arrays = Mapping[str, Array]
CLASSES, CHANNELS, WIDTH, HIDDEN, POOL, STRIDE = 3, 4, 6, 5, 4, 4
SHAPES = {"p2": Shape(CHANNELS, STRIDE)}
SMALL: dict[str, Any] = {"input_shapes": SHAPES, "num_classes": CLASSES, "pool_size": POOL, "point_layers": 2}
MASKS, POINTS = "roi_heads.mask_head", "roi_heads.mask_head.point_head"


def at(maps: Array, x: float, y: float) -> Array:
    """What maps (C, H, W) are at a place in cells, whose centres have whole numbers: bilinear, 0 outside."""
    found = np.zeros(len(maps))
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= row < maps.shape[1] and 0 <= column < maps.shape[2]:
                found += maps[:, row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return found


def doubled(maps: Array) -> Array:
    """Maps (C, H, W) with twice as many rows and columns: bilinear, the border's cells reach to the border."""
    channels, height, width = maps.shape
    found = np.zeros((channels, 2 * height, 2 * width))
    for row in range(2 * height):
        for column in range(2 * width):
            x, y = (column + 0.5) / 2 - 0.5, (row + 0.5) / 2 - 0.5
            found[:, row, column] = at(maps, min(max(x, 0), width - 1), min(max(y, 0), height - 1))
    return found


def subdivide(
    maps: Array,
    logits: Callable[[float, float], Array],
    certainty: Callable[[Array], float],
    *,
    steps: int,
    points: int,
) -> Array:
    """In each step maps are doubled, and the least certain cells computed anew."""
    for _ in range(steps):
        maps = doubled(maps)
        _, height, width = maps.shape
        cells = [(row, column) for row in range(height) for column in range(width)]
        for row, column in sorted(cells, key=lambda cell: certainty(maps[:, cell[0], cell[1]]))[:points]:
            maps[:, row, column] = logits((column + 0.5) / width, (row + 0.5) / height)
    return maps


def rendered(logits: Callable[[float, float], Array], label: int, *, size: int, steps: int, points: int) -> Array:
    """The mask of a class: a grid of points, then subdivision."""
    places = [(cell + 0.5) / size for cell in range(size)]
    maps = np.stack([[logits(x, y) for x in places] for y in places]).transpose(2, 0, 1)
    return subdivide(maps, logits, lambda cell: abs(cell[label]), steps=steps, points=points)[label]


def in_image(box: Array, x: float, y: float) -> tuple[float, float]:
    """A place in a box, from 0 to 1, in cells of p2."""
    low, size = box[:2], box[2:] - box[:2]
    return (low[0] + x * size[0]) / STRIDE - 0.5, (low[1] + y * size[1]) / STRIDE - 0.5


def region_network(arrays: Arrays, name: str, map: Array, box: Array) -> Array:
    """What the network on a region predicts."""
    grid = np.zeros((CHANNELS, POOL, POOL))
    for row in range(POOL):
        for column in range(POOL):
            grid[:, row, column] = at(map, *in_image(box, (column + 0.5) / POOL, (row + 0.5) / POOL))
    kernel, bias = arrays[f"{name}.reduce_spatial_dim_conv.weight"], arrays[f"{name}.reduce_spatial_dim_conv.bias"]
    halved = np.zeros((len(kernel), POOL // 2, POOL // 2))
    for row in range(POOL // 2):
        for column in range(POOL // 2):
            window = grid[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            halved[:, row, column] = [(each * window).sum() for each in kernel] + bias
    x = np.maximum(halved, 0).flatten()
    for layer in ("fc1", "fc2"):
        x = np.maximum(arrays[f"{name}.{layer}.weight"] @ x + arrays[f"{name}.{layer}.bias"], 0)
    return arrays[f"{name}.prediction.weight"] @ x + arrays[f"{name}.prediction.bias"]


def point_network(arrays: Arrays, name: str, fine: Array, coarse: Array) -> Array:
    x = np.concatenate([fine, coarse])
    for layer in ("fc1", "fc2"):
        x = np.maximum(arrays[f"{name}.{layer}.weight"][..., 0] @ x + arrays[f"{name}.{layer}.bias"], 0)
        x = np.concatenate([x, coarse])
    return arrays[f"{name}.predictor.weight"][..., 0] @ x + arrays[f"{name}.predictor.bias"]


def pointrend(arrays: Arrays, map: Array, box: Array) -> Callable[[float, float], Array]:
    """Logits of all classes at a place in a box."""
    coarse = region_network(arrays, f"{MASKS}.coarse_head", map, box).reshape(CLASSES, 3, 3)
    return lambda x, y: point_network(
        arrays, POINTS, at(map, *in_image(box, x, y)), at(coarse, 3 * x - 0.5, 3 * y - 0.5)
    )


def implicit(arrays: Arrays, map: Array, box: Array) -> Callable[[float, float], Array]:
    """Logits of all classes at a place in a box: the parameters are weights of all layers, then their biases."""
    frequencies = arrays[f"{POINTS}.positional_encoding_gaussian_matrix"]
    parameters = list(region_network(arrays, f"{MASKS}.parameter_head", map, box))
    widths = [2 * frequencies.shape[1] + CHANNELS, HIDDEN, HIDDEN, CLASSES]
    weights = []
    for inputs, outputs in pairwise(widths):
        weights.append([[parameters.pop(0) for _ in range(inputs)] for _ in range(outputs)])
    biases = [[parameters.pop(0) for _ in range(outputs)] for outputs in widths[1:]]
    assert parameters == []

    def logits(x: float, y: float) -> Array:
        phase = 2 * np.pi * (np.array([2 * x - 1, 2 * y - 1]) @ frequencies)
        values = np.concatenate([np.sin(phase), np.cos(phase), at(map, *in_image(box, x, y))])
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            values = np.array(weight) @ values + np.array(bias)
            values = np.maximum(values, 0) if layer < len(weights) - 1 else values
        return values

    return logits


def region_arrays(name: str, outputs: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.reduce_spatial_dim_conv.weight": (CHANNELS, CHANNELS, 2, 2),
        f"{name}.reduce_spatial_dim_conv.bias": (CHANNELS,),
        f"{name}.fc1.weight": (WIDTH, CHANNELS * (POOL // 2) ** 2),
        f"{name}.fc1.bias": (WIDTH,),
        f"{name}.fc2.weight": (WIDTH, WIDTH),
        f"{name}.fc2.bias": (WIDTH,),
        f"{name}.prediction.weight": (outputs, WIDTH),
        f"{name}.prediction.bias": (outputs,),
    }


def point_arrays(name: str, classes: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.fc1.weight": (HIDDEN, CHANNELS + classes, 1),
        f"{name}.fc1.bias": (HIDDEN,),
        f"{name}.fc2.weight": (HIDDEN, HIDDEN + classes, 1),
        f"{name}.fc2.bias": (HIDDEN,),
        f"{name}.predictor.weight": (classes, HIDDEN + classes, 1),
        f"{name}.predictor.bias": (classes,),
    }


PARAMETERS = HIDDEN * (8 + CHANNELS) + HIDDEN * HIDDEN + CLASSES * HIDDEN + 2 * HIDDEN + CLASSES
OF_POINTREND = {**region_arrays(f"{MASKS}.coarse_head", 9 * CLASSES), **point_arrays(POINTS, CLASSES)}
OF_IMPLICIT = {
    **region_arrays(f"{MASKS}.parameter_head", PARAMETERS),
    f"{POINTS}.positional_encoding_gaussian_matrix": (2, 4),
}


def filled(
    module: nn.Module, prefix: str, shapes: Mapping[str, tuple[int, ...]], mapping: Detectron2Mapping
) -> dict[str, Array]:
    """Random arrays under Detectron2's names, which are given to the module as they are converted."""
    random = np.random.default_rng(0)
    theirs = {name: torch.tensor(random.normal(0, 0.4, shape), dtype=torch.float32) for name, shape in shapes.items()}
    ours, _ = renamed(theirs, [mapping])
    own = {prefix + name: value for name, value in module.state_dict().items()}
    ours = mapping.fit(ours, own) if mapping.fit else ours
    module.load_state_dict({name.removeprefix(prefix): value for name, value in ours.items()})
    return {name: value.double().numpy() for name, value in theirs.items()}


def regions() -> RoiSamples:
    """Three in each of two images; some reach over the border."""
    boxes = random_targets(2, 3).boxes + torch.tensor([-9.3, 2.7, 5.1, -1.4])
    return RoiSamples(
        boxes=boxes,
        valid=torch.ones(2, 3, dtype=torch.bool),
        labels=torch.tensor([[0, 1, 2], [2, 0, 1]]),
        target_index=torch.tensor([[1, 0, 2], [0, 2, 1]]),
        foreground=3,
    )


def head_of(name: str) -> tuple[PointMaskHead, dict[str, Array]]:
    torch.manual_seed(0)
    network = {"width": WIDTH, "channels": CHANNELS, "point_channels": HIDDEN, "position_channels": 8}
    if name == "implicit":
        head: PointMaskHead = ImplicitPointRendHead(
            **SMALL, **network, subdivision=Subdivision(2, 9), train_points=None, parameter_decay=0.1
        )
        return head, filled(head, "heads.mask.", OF_IMPLICIT, IMPLICIT_HEAD)
    coarse = {"coarse_width": WIDTH, "coarse_channels": CHANNELS, "coarse_size": 3, "point_channels": HIDDEN}
    head = PointRendHead(**SMALL, **coarse, subdivision=Subdivision(3, 36))
    return head, filled(head, "heads.mask.", OF_POINTREND, MASK_HEAD)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "evaluator", "size", "steps", "points"),
    [("pointrend", pointrend, 6, 2, 36), ("implicit", implicit, 3, 2, 9)],  # PointRend's first step computes all cells
)
def test_masks_are_rendered_as_the_plain_computation_renders_them(
    name: str, evaluator: Any, size: int, steps: int, points: int
) -> None:
    head, arrays = head_of(name)
    samples, features = regions(), random_features(SHAPES, 2)
    found = head.logits(features, samples, torch.arange(6))
    assert samples.labels is not None
    for row, (box, label) in enumerate(
        zip(samples.boxes.flatten(0, 1), samples.labels.flatten().tolist(), strict=True)
    ):
        map = features["p2"][row // 3].double().numpy()
        logits = evaluator(arrays, map, box.double().numpy())
        expected = rendered(logits, label, size=size, steps=steps, points=points)
        torch.testing.assert_close(found[row].double(), torch.tensor(expected), atol=1e-4, rtol=1e-3)


def test_the_loss_of_labelled_points_is_the_plain_one() -> None:
    """Mean over all points of all regions, to which those outside a region and those not known add nothing; and the
    mean square of all parameters."""
    head, arrays = head_of("implicit")
    samples, features, targets = regions(), random_features(SHAPES, 2), random_targets(2, 3)
    random = np.random.default_rng(1)
    low, high = targets.boxes[..., None, :2], targets.boxes[..., None, 2:]
    places = low + (high - low) * torch.tensor(random.uniform(-0.1, 1.1, (2, 3, 8, 2)), dtype=torch.float32)
    labels = torch.tensor(random.integers(-1, 2, (2, 3, 8, 1)), dtype=torch.float32)
    targets.extra["points"], targets.masks = torch.cat([places, labels], dim=-1), None
    entropies, squares = [], []
    assert samples.labels is not None and samples.target_index is not None
    for image in range(2):
        map = features["p2"][image].double().numpy()
        for region in range(3):
            box = samples.boxes[image, region].double().numpy()
            label = int(samples.labels[image, region])
            logits = implicit(arrays, map, box)
            squares.append((region_network(arrays, f"{MASKS}.parameter_head", map, box) ** 2).mean())
            instance = int(samples.target_index[image, region])
            for x, y, wanted in targets.extra["points"][image, instance].tolist():
                u, v = (x - box[0]) / (box[2] - box[0]), (y - box[1]) / (box[3] - box[1])
                if wanted < 0 or not (0 <= u <= 1 and 0 <= v <= 1):
                    entropies.append(0.0)
                else:
                    entropies.append(np.log1p(np.exp(-logits(u, v)[label] * (2 * wanted - 1))))
    assert 0 < entropies.count(0.0) < len(entropies) == 48
    found = head.losses(features, samples, targets)
    assert float(found["mask_point"].detach()) == pytest.approx(np.mean(entropies), rel=1e-4)
    assert float(found["mask_parameters"].detach()) == pytest.approx(0.1 * np.mean(squares), rel=1e-4)


def two_best(cell: Array) -> float:
    """How far the best class is ahead of the second."""
    second, best = np.sort(cell)[-2:]
    return float(best - second)


@torch.no_grad()
def test_classes_of_pixels_are_refined_as_the_plain_computation_refines_them() -> None:
    torch.manual_seed(0)
    coarse = SemanticFPN(input_shapes=SHAPES, num_semantic_classes=4, in_features=["p2"], channels=8, norm="")
    head = PointRendSemantic(
        input_shapes=SHAPES,
        num_semantic_classes=4,
        coarse=coarse,
        point_layers=2,
        point_channels=HIDDEN,
        subdivision=Subdivision(2, 40),
    )
    points = "sem_seg_head.point_head"
    arrays = filled(head.points, "semantic_head.points.", point_arrays(points, 4), SEMANTIC_HEAD)
    features = {"p2": torch.randn(2, CHANNELS, 5, 7)}
    maps = coarse.logits(features)
    found = head.logits(features)
    assert found.shape == (2, 4, 20, 28)
    for image in range(2):
        fine, first = features["p2"][image].double().numpy(), maps[image].double().numpy()

        def logits(x: float, y: float, fine: Array = fine, first: Array = first) -> Array:
            here = 7 * x - 0.5, 5 * y - 0.5
            return point_network(arrays, points, at(fine, *here), at(first, *here))

        expected: Tensor = torch.tensor(subdivide(first, logits, two_best, steps=2, points=40))
        torch.testing.assert_close(found[image].double(), expected, atol=1e-4, rtol=1e-3)
