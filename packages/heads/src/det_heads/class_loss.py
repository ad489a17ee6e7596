"""Classification losses of regions: softmax, sigmoids, and sigmoids of a sample of the classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from detkit.ops.sampling import random_keys

ClassLoss = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class FederatedLoss:
    """Which classes count as negatives, in data whose annotators looked for a part of them in each image, such as LVIS
    (Zhou et al., Probabilistic two-stage detection, 2021): those of the image's regions, and some that are drawn.

    Args:
        classes: how many in each image, background and those of its regions included.
        class_frequencies: how often each class occurs, as numbers in the order of the labels; or a JSON file with such
            a list, or with LVIS's `categories`, whose `image_count` is taken (an annotation file, or the list alone).
            By default training, and `detkit eval --losses`, count in how many images of the dataset a class occurs.
            Only losses need them.
        power: classes are drawn in proportion to their frequency to this power.
    """

    classes: int = 50
    class_frequencies: Sequence[float] | Path = ()
    power: float = 0.5


def class_loss(logits: Tensor, labels: Tensor, kind: ClassLoss, counted: Tensor | None = None) -> Tensor:
    """The loss (B, N) of each region.

    Args:
        logits: (B, N, classes + 1), background last.
        labels: (B, N).
        kind: "softmax", cross-entropy over classes and background; "sigmoid", the sum of the binary cross-entropies of
            the classes, in which background is the absence of all, and its logit does not count.
        counted: (B, classes) bool, the classes that the sigmoids are summed over; all by default.
    """
    if kind == "softmax":
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    classes = torch.arange(logits.shape[-1] - 1, device=logits.device)
    wanted = (labels[..., None] == classes).to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits[..., :-1], wanted, reduction="none")
    if counted is not None:
        entropy = torch.where(counted[:, None], entropy, 0.0)
    return entropy.sum(dim=-1)


def class_probabilities(logits: Tensor, kind: ClassLoss) -> Tensor:
    """(B, N, classes) from logits (B, N, classes + 1)."""
    return logits.softmax(dim=-1)[..., :-1] if kind == "softmax" else logits[..., :-1].sigmoid()


class FederatedClasses:
    """Draws the classes that count in each image, a function of its seed.

    Args:
        loss: see `FederatedLoss`.
        num_classes: without background.
        stream: tells this use of an image's seed from others.
    """

    def __init__(self, loss: FederatedLoss, num_classes: int, stream: int) -> None:
        self.loss, self.num_classes, self.stream = loss, num_classes, stream
        self._weights: Tensor | None = None

    def weights(self, device: torch.device) -> Tensor:
        """(classes,) float64: what classes are drawn in proportion to.

        Raises:
            ValueError: there are no frequencies, they cannot be read, or they are not one for each class.
        """
        if self._weights is None:  # not before, so that a model that only predicts needs no file
            frequencies = _frequencies(self.loss.class_frequencies)
            if len(frequencies) != self.num_classes or min(frequencies) < 0:
                raise ValueError(
                    f"the federated loss has {len(frequencies)} class_frequencies for {self.num_classes} classes; "
                    "losses need one number from 0 on for each class, or a file with them, in the config or as "
                    "`class_frequencies` of detkit.load"
                )
            self._weights = torch.tensor(frequencies, dtype=torch.float64) ** self.loss.power
        self._weights = self._weights.to(device)
        return self._weights

    @torch.no_grad()
    def __call__(self, labels: Tensor, valid: Tensor, seeds: Tensor) -> Tensor:
        """Classes (B, classes) bool that count, from the labels (B, N) of the regions where `valid` (B, N), and seeds
        (B,)."""
        weights = self.weights(labels.device)
        present = labels.new_zeros(len(labels), self.num_classes + 1)
        present = present.scatter_add(1, labels, valid.to(labels.dtype)) > 0
        # The largest of log(u) / w are a sample without replacement with probabilities w (Efraimidis, Spirakis, 2006).
        uniform = (random_keys(seeds, self.num_classes, self.stream) + 0.5) / 2**32
        drawn = F.pad(uniform.log() / weights, (0, 1), value=-torch.inf)
        ranked = torch.where(present, torch.inf, drawn)
        best = ranked.topk(min(self.loss.classes, self.num_classes + 1), dim=1)
        chosen = torch.zeros_like(present).scatter(1, best.indices, best.values > -torch.inf)
        return (chosen | present)[:, :-1]


def _frequencies(given: Sequence[float] | Path) -> Sequence[float]:
    if not isinstance(given, Path):
        return given
    try:
        data = json.loads(given.read_text(encoding="utf-8"))
        entries = data["categories"] if isinstance(data, dict) else data
        if entries and isinstance(entries[0], dict):
            return [float(entry["image_count"]) for entry in sorted(entries, key=lambda entry: entry["id"])]
        return [float(entry) for entry in entries]
    except OSError as error:
        raise ValueError(f"class_frequencies: {given} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"class_frequencies: {given} holds neither a list of numbers nor categories with `image_count`"
        ) from error
