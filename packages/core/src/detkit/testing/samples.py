"""A sample with everything that samples may hold, for contracts of what works on samples."""

from __future__ import annotations

import torch
from torchvision import tv_tensors

from detkit.structures.instance_keypoints import InstanceKeypoints
from detkit.structures.polygons import Polygons
from detkit.structures.proposal_boxes import ProposalBoxes
from detkit.structures.sample import Sample
from detkit.structures.semantic_map import SemanticMap
from detkit.testing.inputs import HEIGHT, WIDTH, generator, random_boxes, turned


def random_sample(count: int = 4, seed: int = 1) -> Sample:
    """Noise with `count` instances, in places that follow from the seed: every other one has an outline, the rest
    bitmaps; each has two keypoints. The pixels are of four classes in columns."""
    size = (HEIGHT, WIDTH)
    boxes = random_boxes(1, count, seed)[0].round()
    rings, masks = [], torch.zeros(count, *size, dtype=torch.uint8)
    for position, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        masks[position, y1:y2, x1:x2] = position % 2
        rings.append([] if position % 2 else [[x1, y1, x2, y1, x2, y2, x1, y2]])
    keypoints = torch.cat((boxes.reshape(-1, 2, 2), torch.full((count, 2, 1), 2.0)), dim=2)  # two corners
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": torch.arange(count) % 3,
        "crowd": torch.zeros(count, dtype=torch.bool),
        "polygons": Polygons.from_rings(rings, size),
        "masks": tv_tensors.Mask(masks),
        "has_mask": torch.ones(count, dtype=torch.bool),
        "keypoints": InstanceKeypoints(keypoints, flipped=(1, 0), canvas_size=size),
        "proposals": ProposalBoxes(random_boxes(1, 6, seed=5)[0], canvas_size=size),
        "proposal_scores": torch.linspace(3, -3, 6),
        "semantic": SemanticMap(torch.arange(WIDTH).expand(size) // 50),
    }
    image = torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator(3))
    return Sample(tv_tensors.Image(image), target, {"image_id": 7, "path": "7.jpg", "original_size": size})


def rotated_sample(count: int = 4) -> Sample:
    """Noise with `count` rotated boxes, each with an angle of its own, and nothing else."""
    size = (HEIGHT, WIDTH)
    boxes = turned(random_boxes(1, count))[0]
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="CXCYWHR", canvas_size=size, clamping_mode=None),
        "labels": torch.arange(count) % 3,
        "crowd": torch.zeros(count, dtype=torch.bool),
    }
    image = torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator(3))
    return Sample(tv_tensors.Image(image), target, {"image_id": 7, "path": "7.jpg", "original_size": size})


def pixel_sample() -> Sample:
    """An image of one pixel, which is an instance."""
    size = (1, 1)
    target = {
        "boxes": tv_tensors.BoundingBoxes([[0.0, 0.0, 1.0, 1.0]], format="XYXY", canvas_size=size),
        "labels": torch.zeros(1, dtype=torch.int64),
        "crowd": torch.zeros(1, dtype=torch.bool),
        "polygons": Polygons.from_rings([[[0, 0, 1, 0, 1, 1, 0, 1]]], size),
        "has_mask": torch.ones(1, dtype=torch.bool),
        "semantic": SemanticMap(torch.zeros(size)),
    }
    image = torch.full((3, *size), 200, dtype=torch.uint8)
    return Sample(tv_tensors.Image(image), target, {"image_id": 7, "path": "7.jpg", "original_size": size})
