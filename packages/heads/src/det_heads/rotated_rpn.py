"""Region proposals of rotated boxes (Ma et al., Arbitrary-Oriented Scene Text Detection via Rotation Proposals,
2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from det_heads.rpn import RPN, sizes_and_ratios
from detkit.structures.shape import Shape


class RotatedRPN(RPN):
    """Region proposal network whose anchors and proposals are rotated boxes (B, N, 5).

    Args:
        input_shapes: of the neck's maps.
        in_features: the maps to use; all by default.
        sizes: anchor sides in pixels (square roots of the areas), one list for each level.
        aspect_ratios: height / width, before turning; one list for all levels, or one list for each.
        angles: of the anchors, in degrees counter-clockwise.
        offset: of the first anchor's centre, in strides.
        channels: of the hidden 3 x 3 convolutions, one after the other; null keeps those of its input.
        foreground_iou, background_iou: anchors from the first on are foreground, below the second background, between
            them ignored; each object's best anchors are foreground anyway.
        batch_size_per_image: anchors of each image that are sampled for the losses.
        foreground_fraction: at most this share of them is foreground.
        pre_nms_train, pre_nms_test: best-scored anchors of each level that are kept before suppression.
        post_nms_train, post_nms_test: proposals for each image after suppression over all levels.
        nms_iou: overlap above which the lower score goes.
        min_size: shorter proposals are dropped, in pixels.
        box_weights: of the (dx, dy, dw, dh, da) parametrisation.
        smooth_l1_beta: where the smooth L1 loss turns from quadratic to linear; 0 is L1.
        objectness_weight, box_weight: of the losses.

    Raises:
        ValueError: not one list of sizes, or of ratios, for each map; not five box weights.
    """

    rotated = True

    def __init__(
        self,
        *,
        input_shapes: Mapping[str, Shape],
        in_features: Sequence[str] | None = None,
        sizes: Sequence[Sequence[float]] = ((32,), (64,), (128,), (256,), (512,)),
        aspect_ratios: Sequence[float] | Sequence[Sequence[float]] = (0.5, 1.0, 2.0),
        angles: Sequence[float] = (-90.0, 0.0, 90.0),
        offset: float = 0.0,
        channels: Sequence[int | None] = (None,),
        foreground_iou: float = 0.7,
        background_iou: float = 0.3,
        batch_size_per_image: int = 256,
        foreground_fraction: float = 0.5,
        pre_nms_train: int = 2000,
        pre_nms_test: int = 1000,
        post_nms_train: int = 1000,
        post_nms_test: int = 1000,
        nms_iou: float = 0.7,
        min_size: float = 0.0,
        box_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0),
        smooth_l1_beta: float = 0.0,
        objectness_weight: float = 1.0,
        box_weight: float = 1.0,
    ) -> None:
        check_weights(box_weights)
        super().__init__(
            input_shapes=input_shapes,
            in_features=in_features,
            anchor_boxes=[
                rotated_anchors(*level, angles)
                for level in sizes_and_ratios(sizes, aspect_ratios, tuple(in_features or input_shapes))
            ],
            offset=offset,
            channels=channels,
            foreground_iou=foreground_iou,
            background_iou=background_iou,
            batch_size_per_image=batch_size_per_image,
            foreground_fraction=foreground_fraction,
            pre_nms_train=pre_nms_train,
            pre_nms_test=pre_nms_test,
            post_nms_train=post_nms_train,
            post_nms_test=post_nms_test,
            nms_iou=nms_iou,
            min_size=min_size,
            box_weights=box_weights,
            smooth_l1_beta=smooth_l1_beta,
            objectness_weight=objectness_weight,
            box_weight=box_weight,
        )


def rotated_anchors(
    sizes: Sequence[float], aspect_ratios: Sequence[float], angles: Sequence[float]
) -> list[tuple[float, ...]]:
    """Boxes (x, y, width, height, degrees) around the origin: area size^2, ratio height / width; all angles of the
    first size and ratio come first."""
    boxes: list[tuple[float, ...]] = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = (size * size / ratio) ** 0.5
            boxes += [(0.0, 0.0, width, ratio * width, angle) for angle in angles]
    return boxes


def check_weights(box_weights: Sequence[float]) -> None:
    """Refuse weights that are not of rotated boxes."""
    if len(box_weights) != 5:
        raise ValueError(f"box_weights is {list(box_weights)}; five numbers are needed: for x, y, width, height, angle")
