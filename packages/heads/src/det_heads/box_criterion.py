"""The losses of box heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from det_heads.class_loss import ClassLoss, FederatedClasses, FederatedLoss, class_loss
from det_heads.losses import BoxLoss, box_loss
from detkit.interfaces import RoiSamples
from detkit.ops.distributed import average_count
from detkit.structures.batch import Targets

SAMPLING_STREAM = 3  # tells this use of an image's seed from others; stages of a cascade count on from here


class BoxCriterion:
    """What the classes and boxes that a head predicts for sampled regions cost.

    Args:
        num_classes: without background.
        class_loss, federated: see `det_heads.class_loss`.
        box_loss, smooth_l1_beta: see `det_heads.losses.box_loss`.
        box_weights: of the (dx, dy, dw, dh) parametrisation.
        class_weight, box_weight: of the losses.
        stage: of a cascade.

    Raises:
        ValueError: `federated` with softmax, which knows no class by itself.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        class_loss: ClassLoss,
        federated: FederatedLoss | None,
        box_loss: BoxLoss,
        smooth_l1_beta: float,
        box_weights: Sequence[float],
        class_weight: float,
        box_weight: float,
        stage: int = 0,
    ) -> None:
        if federated is not None and class_loss != "sigmoid":
            raise ValueError(f"the federated loss needs class_loss sigmoid, not {class_loss}")
        self.num_classes = num_classes
        self.class_loss, self.box_loss = class_loss, box_loss
        self.federated = (
            None if federated is None else FederatedClasses(federated, num_classes, SAMPLING_STREAM + stage)
        )
        self.smooth_l1_beta, self.box_weights = smooth_l1_beta, box_weights
        self.class_weight, self.box_weight = class_weight, box_weight

    def __call__(self, logits: Tensor, deltas: Tensor, samples: RoiSamples, targets: Targets) -> dict[str, Tensor]:
        """box_class: mean over the sampled regions; box_regression: over the foreground, divided likewise.

        Args:
            logits: (B, N, classes + 1).
            deltas: (B, N, classes or 1, 4 or 5).
        """
        assert samples.labels is not None and samples.target_index is not None
        count = average_count(samples.valid.sum()).clamp(min=1e-3)
        counted = None
        if self.federated is not None:
            counted = self.federated(samples.labels, samples.valid, targets.seeds)
        of_class = class_loss(logits, samples.labels, self.class_loss, counted)
        part = slice(0, samples.foreground)
        foreground = (samples.valid & (samples.labels < self.num_classes))[:, part]
        label = samples.labels[:, part].clamp(max=deltas.shape[2] - 1)[..., None, None]
        box_of = samples.target_index[:, part, None].expand(-1, -1, deltas.shape[3])
        of_box = box_loss(
            deltas[:, part].gather(2, label.expand(-1, -1, 1, deltas.shape[3])).squeeze(2),
            samples.boxes[:, part],
            targets.boxes.gather(1, box_of),
            foreground,
            kind=self.box_loss,
            weights=self.box_weights,
            beta=self.smooth_l1_beta,
        )
        return {
            "box_class": torch.where(samples.valid, of_class, 0.0).sum() / count * self.class_weight,
            "box_regression": of_box.sum() / count * self.box_weight,
        }
