"""One image and its annotations, on the way from the dataset through the transforms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torchvision import tv_tensors


@dataclass
class Sample:
    """An image with its annotations.

    image: tv_tensors.Image (3, H, W) uint8 RGB.
    target: a dict that torchvision.transforms.v2 understands, the first entries with one row for each of N
    instances:
        boxes     tv_tensors.BoundingBoxes (N, 4) XYXY, canvas size that of the image; or rotated (N, 5) CXCYWHR,
                  degrees counter-clockwise, with clamping_mode None, since torchvision would shrink them at the border
        labels    (N,) int64 contiguous labels
        crowd     (N,) bool; crowds are left out of training and ignored in evaluation
        polygons  detkit.structures.polygons.Polygons, where instances have outlines; rasterised as late as possible
        masks     tv_tensors.Mask (N, H, W) uint8, where masks are given as bitmaps (0 for instances with polygons)
        keypoints detkit.structures.instance_keypoints.InstanceKeypoints (N, K, 3), where there are keypoints
        and, under names of their own, what readers of other annotations know of instances: plain tensors (N, ...),
                  which transforms leave as they are, or a class of detkit.structures.instance_points.InstancePoints,
                  which moves with the image; see `Targets.extra`
        proposals detkit.structures.proposal_boxes.ProposalBoxes (P, 4), best first, where they were computed
        beforehand, with proposal_scores (P,) float32 logits
        semantic  detkit.structures.semantic_map.SemanticMap (H, W) uint8 labels of pixels, 255 where there is none
    info: image_id (the dataset's own), path, original_size (height, width) of the file; stays on the host.
    """

    image: tv_tensors.Image
    target: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
