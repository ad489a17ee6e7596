"""A batch of images of different sizes, and their targets, as padded tensors of fixed capacity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from detkit.structures.input_spec import padded_size
from detkit.structures.proposals import Proposals

UNLABELLED = 255  # in semantic maps


@dataclass
class Targets:
    """Ground truth of a batch: B images, room for G instances each, `valid` where there is one.

    boxes (B, G, 4) float32 xyxy pixels of the padded image, or (B, G, 5) rotated; labels (B, G) int64; valid (B, G)
    bool; masks (B, G, H, W) uint8 0 or 1, or None; semantic (B, H, W) int64 labels of pixels, UNLABELLED where there is
    none, or None; `extra` holds what projects add, each (B, G, ...) or (B, ...).
    `seeds` (B,) int64 decide what is sampled at random in each image, so that it depends neither on the device nor on
    how a batch is split over processes. Crowds are not here: they are left out of training.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    seeds: Tensor
    masks: Tensor | None = None
    semantic: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Targets:
        def move(value: Tensor) -> Tensor:
            return value.to(device, non_blocking=non_blocking)

        return Targets(
            boxes=move(self.boxes),
            labels=move(self.labels),
            valid=move(self.valid),
            seeds=move(self.seeds),
            masks=None if self.masks is None else move(self.masks),
            semantic=None if self.semantic is None else move(self.semantic),
            extra={key: move(value) for key, value in self.extra.items()},
        )

    @classmethod
    def collate(cls, targets: Sequence[Mapping[str, Tensor]], height: int, width: int) -> Targets:
        """Pad the targets of single images (torchvision's convention: boxes (N, 4) or (N, 5), labels (N,), masks
        (N, h, w), semantic (h, w), ...). A target with `semantic` alone has no instances. Any other tensor that all of
        them have, with a row for each instance, becomes one (B, G, ...) of `extra`, padded with zeros.

        A target may hold its own `seed`; seeds that are missing are drawn from torch's global generator.

        Raises:
            ValueError: a target lacks boxes or labels, or their lengths differ; rows have different shapes.
        """
        targets = [
            _without_instances(target) if "semantic" in target and "boxes" not in target else target
            for target in targets
        ]
        for position, target in enumerate(targets):
            if "boxes" not in target or "labels" not in target:
                raise ValueError(f"target {position} has {sorted(target)}; 'boxes' (N, 4) and 'labels' (N,) are needed")
            if len(target["boxes"]) != len(target["labels"]):
                raise ValueError(
                    f"target {position} has {len(target['boxes'])} boxes but {len(target['labels'])} labels"
                )
        batch, capacity = len(targets), max(1, *(len(target["labels"]) for target in targets))
        device = targets[0]["boxes"].device
        boxes = torch.zeros(batch, capacity, max(target["boxes"].shape[-1] for target in targets), device=device)
        labels = torch.zeros(batch, capacity, dtype=torch.int64, device=device)
        valid = torch.zeros(batch, capacity, dtype=torch.bool, device=device)
        has_masks = all("masks" in target for target in targets)
        masks = torch.zeros(batch, capacity, height, width, dtype=torch.uint8, device=device) if has_masks else None
        has_semantic = all("semantic" in target for target in targets)
        semantic = (
            torch.full((batch, height, width), UNLABELLED, dtype=torch.int64, device=device) if has_semantic else None
        )
        extra: dict[str, Tensor] = {}
        for index, target in enumerate(targets):
            count = len(target["labels"])
            if count:
                boxes[index, :count] = target["boxes"]
            labels[index, :count] = target["labels"]
            valid[index, :count] = True
            if masks is not None and count:
                mask = target["masks"]
                masks[index, :count, : mask.shape[-2], : mask.shape[-1]] = mask
            if semantic is not None:
                labels_of_pixels = target["semantic"]
                semantic[index, : labels_of_pixels.shape[-2], : labels_of_pixels.shape[-1]] = labels_of_pixels
        for key in targets[0]:
            values = [target.get(key) for target in targets]
            if key not in NOT_EXTRA and all(
                isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(target["labels"])
                for value, target in zip(values, targets, strict=True)
            ):
                extra[key] = _pad(key, [value for value in values if value is not None], capacity)
        missing = any("seed" not in target for target in targets)  # what brings its own draws nothing
        drawn = torch.randint(2**62, (batch,)).tolist() if missing else [0] * batch
        seeds = torch.tensor([int(t.get("seed", new)) for t, new in zip(targets, drawn, strict=True)], device=device)
        return cls(boxes=boxes, labels=labels, valid=valid, seeds=seeds, masks=masks, semantic=semantic, extra=extra)


def _without_instances(target: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    device = target["semantic"].device
    none = {"boxes": torch.zeros(0, 4, device=device), "labels": torch.zeros(0, dtype=torch.int64, device=device)}
    return {**none, **target}


# Of single images, what `collate` knows, and what torchvision's references say of their targets besides
NOT_EXTRA = (
    *("boxes", "labels", "masks", "semantic", "seed", "proposals", "proposal_scores"),
    *("image_id", "area", "iscrowd", "crowd"),
)


def _pad(key: str, values: Sequence[Tensor], capacity: int) -> Tensor:
    if len({value.shape[1:] for value in values}) > 1:
        shapes = ", ".join(str(tuple(value.shape)) for value in values)
        raise ValueError(f"the targets of a batch have {key!r} of shapes {shapes}; these may differ in the first alone")
    out = values[0].new_zeros(len(values), capacity, *values[0].shape[1:])
    for index, value in enumerate(values):
        out[index, : len(value)] = value
    return out


@dataclass
class Batch:
    """Images padded at the right and the bottom to one size, with what is known of each.

    images (B, 3, H, W) uint8 RGB; sizes (B, 2) int64 height and width of the unpadded images; `targets` in training and
    for validation losses; `proposals` for a model that does not make its own. `info`, one dict for each image, stays on
    the host: image_id, path, original_size (height, width) of the file.
    """

    images: Tensor
    sizes: Tensor
    targets: Targets | None = None
    proposals: Proposals | None = None
    info: list[dict[str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on `device`."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=non_blocking),
            sizes=self.sizes.to(device, non_blocking=non_blocking),
            targets=None if self.targets is None else self.targets.to(device, non_blocking),
            proposals=None if self.proposals is None else self.proposals.to(device, non_blocking),
        )

    def pin_memory(self) -> Batch:
        """Called by the data loader, so that the copy to the device need not wait."""
        targets = self.targets
        if targets is not None:
            targets = Targets(
                boxes=targets.boxes.pin_memory(),
                labels=targets.labels.pin_memory(),
                valid=targets.valid.pin_memory(),
                seeds=targets.seeds.pin_memory(),
                masks=None if targets.masks is None else targets.masks.pin_memory(),
                semantic=None if targets.semantic is None else targets.semantic.pin_memory(),
                extra={key: value.pin_memory() for key, value in targets.extra.items()},
            )
        return replace(
            self,
            images=self.images.pin_memory(),
            sizes=self.sizes.pin_memory(),
            targets=targets,
            proposals=None if self.proposals is None else self.proposals.pin_memory(),
        )

    @classmethod
    def collate(
        cls,
        images: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]] | None = None,
        divisor: int = 1,
        info: Sequence[dict[str, Any]] = (),
        proposals: Sequence[Mapping[str, Tensor]] | None = None,
        square: int = 0,
    ) -> Batch:
        """Pad images (3, h, w) to one size, a multiple of `divisor` (and a square of at least the side `square`, unless
        that is 0), and their targets to one capacity. `proposals` are what `Proposals.collate` takes; targets may hold
        them too.

        Raises:
            ValueError: no image, an image of another shape or type, or as many targets as images are missing.
        """
        if not images:
            raise ValueError("a batch needs at least one image")
        for position, image in enumerate(images):
            if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
                raise ValueError(
                    f"image {position} is {image.dtype} {tuple(image.shape)}; "
                    "uint8 RGB of shape (3, height, width) is needed"
                )
        if targets is not None and len(targets) != len(images):
            raise ValueError(f"{len(images)} images but {len(targets)} targets; give one target for each image")
        largest = max(image.shape[1] for image in images), max(image.shape[2] for image in images)
        height, width = padded_size(*largest, divisor, square)
        # Pixel by pixel in memory, as decoders and resizing leave images and convolutions want them.
        padded = images[0].new_empty(len(images), height, width, 3).permute(0, 3, 1, 2)
        for room, image in zip(padded, images, strict=True):
            room[:, : image.shape[1], : image.shape[2]] = image
            room[:, image.shape[1] :] = 0
            room[:, : image.shape[1], image.shape[2] :] = 0
        sizes = torch.tensor([image.shape[1:] for image in images], dtype=torch.int64).to(padded.device)
        collated = None if targets is None else Targets.collate(targets, height, width)
        if proposals is None and targets and all("proposals" in target for target in targets):
            proposals = targets
        return cls(
            padded,
            sizes,
            collated,
            None if proposals is None else Proposals.collate(proposals),
            list(info),
        )
