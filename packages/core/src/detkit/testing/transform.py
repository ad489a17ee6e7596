"""The contract of transforms."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torchvision import tv_tensors

from detkit.config import build
from detkit.data.targets import boxes_of_masks, cut_to_canvas, rasterized
from detkit.data.transforms.draws import integer
from detkit.data.transforms.mixing import apply_chain
from detkit.interfaces import Transform
from detkit.structures.batch import UNLABELLED
from detkit.structures.sample import Sample
from detkit.testing.base import KindContract
from detkit.testing.samples import pixel_sample, random_sample, rotated_sample

SEEDS = range(5)


class TransformContract(KindContract, contract=True):
    """Tests that every transform passes."""

    kind = "transform"

    def make(self, spec: Mapping[str, Any]) -> Transform:
        """The transform that a spec describes."""
        return build(spec, Transform)

    def apply(
        self, transform: Transform, sample: Sample, seed: int, another: Callable[[], Sample] | None = None
    ) -> Sample:
        """The transformed sample, as in the data loader: torch's generator is seeded before each sample, and transforms
        that mix several get others, of which some have no instances."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            another = another or (lambda: random_sample(integer(0, 4), integer(2, 9)))
            return apply_chain([transform], sample, another)

    def test_torchs_generator_decides(self, spec: Mapping[str, Any]) -> None:
        """The same seed gives the same sample. If it fails: draw from torch's global generator, neither from `random`
        nor from numpy, and keep nothing from one call to the next."""
        transform = self.make(spec)
        for seed in SEEDS:
            assert_equal(self.apply(transform, random_sample(), seed), self.apply(transform, random_sample(), seed))

    def test_leaves_its_input_alone(self, spec: Mapping[str, Any]) -> None:
        """The given sample is not changed in place, for its image may be cached. If it fails: make a new Sample
        (dataclasses.replace) with a new target dict."""
        transform, sample = self.make(spec), random_sample()
        before = copy.deepcopy(sample)
        for seed in SEEDS:
            self.apply(transform, sample, seed)
            assert_equal(sample, before)

    def test_answers_uint8_rgb(self, spec: Mapping[str, Any]) -> None:
        """The image stays a tv_tensors.Image (3, H, W) uint8; normalisation is the model's business."""
        for seed in SEEDS:
            image = self.apply(self.make(spec), random_sample(), seed).image
            assert isinstance(image, tv_tensors.Image)
            assert image.dtype == torch.uint8
            assert image.ndim == 3
            assert image.shape[0] == 3

    def test_keeps_rows_together(self, spec: Mapping[str, Any]) -> None:
        """Every entry of the target has one row for each instance that is left, and is of the image's size. If it
        fails: change all entries alike; `detkit.data.targets.select` drops instances from all of them."""
        for seed in SEEDS:
            self._check_rows(self.apply(self.make(spec), random_sample(), seed))

    def test_takes_images_without_instances(self, spec: Mapping[str, Any]) -> None:
        """Background images are transformed too."""
        for seed in SEEDS:
            self._check_rows(self.apply(self.make(spec), random_sample(0), seed))

    def _check_rows(self, sample: Sample) -> None:
        target, size = sample.target, tuple(sample.image.shape[-2:])
        assert target.keys() >= {"boxes", "labels", "crowd", "polygons", "masks", "has_mask", "semantic"}
        count = len(target["labels"])
        assert len(target["boxes"]) == len(target["crowd"]) == len(target["masks"]) == count
        assert target["polygons"].num_instances == count
        assert tuple(target["masks"].shape[-2:]) == tuple(target["semantic"].shape) == size
        assert set(target["semantic"].unique().tolist()) <= {0, 1, 2, 3, UNLABELLED}
        assert target["keypoints"].shape == (count, 2, 3)
        assert target["proposals"].shape == (len(target["proposal_scores"]), 4)
        assert (target["proposal_scores"].diff() <= 0).all(), "proposals: the best come first"
        assert torch.isfinite(target["boxes"]).all()
        sizes = {key: tuple(target[key].canvas_size) for key in ("boxes", "polygons", "keypoints", "proposals")}
        assert set(sizes.values()) == {size}, f"the image is of {size}, but {sizes}"
        finished = rasterized(cut_to_canvas(sample))
        assert finished["masks"].shape[1:] == size

    def test_boxes_are_where_masks_are(self, spec: Mapping[str, Any]) -> None:
        """Boxes lie inside the image when all is cut at the border, and around the masks, to two pixels: outlines and
        bitmaps of this sample fill their boxes. If it fails: move all entries by the same amount, half pixels too, and
        take boxes from outlines and masks where these are turned or hidden."""
        for seed in SEEDS:
            sample = cut_to_canvas(self.apply(self.make(spec), random_sample(), seed))
            height, width = sample.image.shape[-2:]
            finished = rasterized(sample)
            boxes, tight = finished["boxes"], boxes_of_masks(finished["masks"])
            assert ((boxes >= 0) & (boxes <= torch.tensor([width, height, width, height]))).all()
            large = finished["masks"].sum(dim=(1, 2)) >= 16
            assert torch.allclose(boxes[large], tight[large], atol=2), f"boxes {boxes}, but masks are at {tight}"

    def test_takes_rotated_boxes(self, spec: Mapping[str, Any]) -> None:
        """Rotated boxes stay such, or a ValueError says why they cannot be had."""
        for seed in SEEDS:
            try:
                found = self.apply(self.make(spec), rotated_sample(), seed, rotated_sample)
            except ValueError as error:
                assert len(str(error)) > 20, "an error for people has a reason"
                continue
            boxes = cut_to_canvas(found).target["boxes"]
            assert boxes.shape == (len(boxes), 5)
            assert torch.isfinite(boxes).all()

    def test_takes_the_smallest_image(self, spec: Mapping[str, Any]) -> None:
        """An image of one pixel comes through, or a ValueError says what is wanted."""
        for seed in SEEDS:
            try:
                found = self.apply(self.make(spec), pixel_sample(), seed, pixel_sample)
            except ValueError as error:
                assert len(str(error)) > 20, "an error for people has a reason"
                continue
            assert min(found.image.shape) > 0
            rasterized(cut_to_canvas(found))

    def test_keeps_what_is_known_of_the_image(self, spec: Mapping[str, Any]) -> None:
        """`info` travels on: errors and results name the image by it."""
        assert self.apply(self.make(spec), random_sample(), 0).info == random_sample().info

    def test_can_be_sent_to_workers(self, spec: Mapping[str, Any]) -> None:
        """The transform can be pickled. If it fails: keep no open files, lambdas or local functions in it."""
        transform = self.make(spec)
        again = pickle.loads(pickle.dumps(transform))
        assert_equal(self.apply(again, random_sample(), 1), self.apply(transform, random_sample(), 1))


def assert_equal(found: Sample, expected: Sample) -> None:
    """Two samples hold the same."""
    assert torch.equal(found.image, expected.image)
    assert found.info == expected.info
    assert found.target.keys() == expected.target.keys()
    for key, value in expected.target.items():
        assert type(found.target[key]) is type(value)
        assert torch.equal(found.target[key], value), f"{key} differs"
