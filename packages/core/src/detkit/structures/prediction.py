"""What a detector answers for one image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from detkit.structures.placed_masks import PlacedMasks


class Prediction:
    """The answer for one image, in the pixels of the image that was given.

    Fields are attributes; a model has those that it produces:

        boxes            (N, 4) float xyxy pixels, or (N, 5) centre x, y, width, height, degrees counter-clockwise
        scores           (N,) float, highest first
        labels           (N,) int64, counted from 0 (`categories` of the model names them)
        masks            (N, H, W) bool; joined from tiles, `detkit.structures.placed_masks.PlacedMasks`
        keypoints        (N, K, 3) x, y, score
        semantic         (H, W) int64 labels of pixels (`semantic_categories` of the model names them)
        semantic_logits  (C, H, W) float
        panoptic         (H, W) int32 ids of segments, 0 where there is none
        segments         a list of dicts, what `panoptic` consists of: `id` from 1; `isthing`; `label`, of `categories`
                         for a thing, of `semantic_categories` for stuff; `area` in pixels; `score` of a thing

    Projects add their own. `image_size` is (height, width); `path` is the file the image came from, where there is one.
    """

    def __init__(self, image_size: tuple[int, int], **fields: Any) -> None:
        self.image_size = image_size
        self.path: str | None = None
        self._fields = dict(fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copy and pickle probe for private names before __init__ ran
            raise AttributeError(name)
        try:
            return self._fields[name]
        except KeyError:
            known = ", ".join(self._fields) or "none"
            raise AttributeError(f"this prediction has no field {name!r}; it has: {known}") from None

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        """The number of instances; 0 for a prediction without boxes."""
        return len(self._fields["boxes"]) if "boxes" in self._fields else 0

    def set(self, name: str, value: Any) -> None:
        """Add or replace a field."""
        self._fields[name] = value

    def to(self, device: torch.device | str) -> Prediction:
        """The same prediction with every tensor on `device`."""
        moved = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in self._fields.items()}
        return self._with(moved)

    def select(self, index: Tensor) -> Prediction:
        """The instances that `index` (a mask (N,) or integers) picks; fields that are not per instance stay as they
        are."""
        count = len(self)
        per_instance = ("boxes", "scores", "labels", "masks", "keypoints")
        picked = {
            key: value[index]
            if key in per_instance and isinstance(value, Tensor | PlacedMasks) and len(value) == count
            else value
            for key, value in self._fields.items()
        }
        return self._with(picked)

    def _with(self, fields: dict[str, Any]) -> Prediction:
        other = Prediction(self.image_size, **fields)
        other.path = self.path
        return other

    def __repr__(self) -> str:
        parts = [
            f"{k}={tuple(v.shape) if isinstance(v, Tensor | PlacedMasks) else type(v).__name__}"
            for k, v in self._fields.items()
        ]
        return f"Prediction(image_size={self.image_size}, {', '.join(parts)})"
