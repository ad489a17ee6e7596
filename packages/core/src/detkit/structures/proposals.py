"""Candidate boxes, from a proposal generator or computed beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Proposals:
    """Candidate boxes of a batch, padded: boxes (B, N, 4) xyxy pixels of the padded images, or (B, N, 5) rotated;
    scores (B, N) logits; valid (B, N) bool."""

    boxes: Tensor
    scores: Tensor
    valid: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Proposals:
        """The same proposals on `device`."""
        moved = (value.to(device, non_blocking=non_blocking) for value in (self.boxes, self.scores, self.valid))
        return Proposals(*moved)

    def pin_memory(self) -> Proposals:
        """The same proposals in memory from which a copy to a device need not wait."""
        return Proposals(self.boxes.pin_memory(), self.scores.pin_memory(), self.valid.pin_memory())

    @classmethod
    def collate(cls, images: Sequence[Mapping[str, Tensor]]) -> Proposals:
        """Pad the `proposals` (N, 4) or (N, 5) of single images and their `proposal_scores` (N,), logits, to one
        capacity.

        Raises:
            ValueError: an image has no proposals, or not as many scores as boxes.
        """
        for position, image in enumerate(images):
            if "proposals" not in image or "proposal_scores" not in image:
                raise ValueError(
                    f"image {position} has {sorted(image)}; 'proposals' (N, 4) and 'proposal_scores' (N,) are needed"
                )
            boxes, scores = image["proposals"], image["proposal_scores"]
            if boxes.ndim != 2 or boxes.shape[1] not in (4, 5) or scores.shape != boxes.shape[:1]:
                raise ValueError(
                    f"image {position} has proposals of shape {tuple(boxes.shape)} and scores of shape "
                    f"{tuple(scores.shape)}; (N, 4) xyxy pixels and (N,) logits are needed"
                )
        first = images[0]["proposals"]
        capacity = max(1, *(len(image["proposals"]) for image in images))
        padded = torch.zeros(len(images), capacity, first.shape[1], device=first.device)
        logits = torch.full((len(images), capacity), -torch.inf, device=first.device)
        valid = torch.zeros(len(images), capacity, dtype=torch.bool, device=first.device)
        for index, image in enumerate(images):
            count = len(image["proposals"])
            padded[index, :count] = image["proposals"]
            logits[index, :count] = image["proposal_scores"]
            valid[index, :count] = True
        return cls(padded, logits, valid)
