"""The contract of detectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from detkit.analysis import analyze
from detkit.detector import Detector
from detkit.program import export_program
from detkit.structures.batch import Batch
from detkit.structures.prediction import Prediction
from detkit.testing.inputs import CATEGORIES, HEIGHT, SEMANTIC_CATEGORIES, WIDTH, random_batch
from detkit.testing.modules import ModuleContract, assert_same


class DetectorContract(ModuleContract, contract=True):
    """Tests that every detector passes, built for three classes. `arguments` gives small backbones and few regions."""

    kind = "detector"
    interface: ClassVar[type[Detector]] = Detector  # type: ignore[type-abstract]

    def answer(self, module: Detector, batch: int) -> dict[str, Tensor]:
        given = random_batch(batch)
        return _meant(module.detect(given.images, given.sizes))

    def losses(self, module: Detector, batch: int) -> dict[str, Tensor]:
        return module.losses(_training_batch(module, batch))

    def test_losses_are_finite_scalars(self, spec: Mapping[str, Any]) -> None:
        """`model(images, targets)` gives named scalars, for images with and without objects, in both modes. If it fails
        without objects: divide by max(1, count). There are no masks if `learns_masks` is False."""
        model = self.make(spec).train()
        for valid in (True, False):
            losses = model(_training_batch(model, 2, valid=valid))
            assert losses
            assert all(value.ndim == 0 and value.isfinite() and value.requires_grad for value in losses.values())
        with torch.no_grad():
            validation = model.eval().losses(_training_batch(model, 2))
        assert validation.keys() == losses.keys()

    def test_predictions_are_well_formed(self, spec: Mapping[str, Any]) -> None:
        """`model(images)` gives one Prediction for each image: boxes within the image as it was given, scores from high
        to low, labels of known classes, masks and semantic maps of the image's size. If it fails: see
        `Detector.postprocess`."""
        model = self.make(spec).eval()
        sizes = [(HEIGHT, WIDTH), (96, 64)]
        with torch.no_grad():
            predictions = model([torch.full((3, height, width), 128, dtype=torch.uint8) for height, width in sizes])
        for prediction, (height, width) in zip(predictions, sizes, strict=True):
            assert prediction.image_size == (height, width)
            if "boxes" in prediction:
                assert prediction.boxes.shape == (len(prediction), 5 if model.rotated else 4)
                assert (prediction.scores.diff() <= 0).all()
            if "labels" in prediction:
                assert ((prediction.labels >= 0) & (prediction.labels < len(CATEGORIES))).all()
            if "boxes" in prediction and not model.rotated:
                assert (prediction.boxes >= 0).all()
                assert (prediction.boxes <= torch.tensor([width, height, width, height])).all()
            if "masks" in prediction:
                assert prediction.masks.shape == (len(prediction), height, width)
                assert prediction.masks.dtype == torch.bool
            if "semantic" in prediction:
                assert prediction.semantic_logits.shape == (len(SEMANTIC_CATEGORIES), height, width)
                assert torch.equal(prediction.semantic, prediction.semantic_logits.argmax(dim=0))
            if "panoptic" in prediction:
                self._check_segments(prediction)

    def _check_segments(self, prediction: Prediction) -> None:
        panoptic, segments = prediction.panoptic, prediction.segments
        assert panoptic.shape == prediction.image_size
        assert panoptic.dtype == torch.int32
        assert {segment["id"] for segment in segments} == set(panoptic.unique().tolist()) - {0}
        for segment in segments:
            assert segment["area"] == (panoptic == segment["id"]).sum()
            assert 0 <= segment["label"] < len(CATEGORIES if segment["isthing"] else SEMANTIC_CATEGORIES)
            assert ("score" in segment) == segment["isthing"]

    def test_class_rows_fit_the_parameters(self, spec: Mapping[str, Any]) -> None:
        """`class_rows` and `semantic_class_rows` name parameters with that many rows for each class, so that
        fine-tuning can re-use them, `class_columns` and `semantic_class_columns` those with columns. If it fails:
        correct the head's `rows_per_class`, `columns_per_class` or `..._per_semantic_class`."""
        model = self.make(spec)
        parameters = dict(model.named_parameters())
        rows, pixels = model.class_rows(), model.semantic_class_rows()
        assert rows or pixels or "labels" not in self.answer(model.eval(), 1)  # proposals are of no class
        assert bool(pixels) == (model.semantic_categories is not None)
        for counts, classes in ((rows, len(CATEGORIES)), (pixels, len(SEMANTIC_CATEGORIES))):
            for name, count in counts.items():
                blocks, per_class = count if isinstance(count, tuple) else (1, count)
                assert len(parameters[name]) % blocks == 0
                assert len(parameters[name]) >= blocks * per_class * classes
        for columns, classes in (
            (model.class_columns(), len(CATEGORIES)),
            (model.semantic_class_columns(), len(SEMANTIC_CATEGORIES)),
        ):
            assert all(parameters[name].shape[1] >= each * classes for name, each in columns.items())

    def test_costs_are_counted_without_computing(self, spec: Mapping[str, Any]) -> None:
        """`detkit.analysis.analyze` runs `detect` on tensors without values, and all parameters lie in modules. If it
        fails: no Python branch or loop on tensor values, no shapes that depend on them."""
        model = self.make(spec)
        found = analyze(model, size=(HEIGHT, WIDTH)).total
        assert found.flops > 0
        assert found.parameters == sum(each.numel() for each in model.parameters())

    def test_export_gives_the_same_answer(self, spec: Mapping[str, Any]) -> None:
        """`torch.export` of `detect` succeeds, and the program answers as the model does. If it fails: no Python branch
        or loop on tensor values, no shapes that depend on them."""
        model = self.make(spec).eval()
        batch = random_batch(1)
        with torch.no_grad():
            expected = _meant(model.detect(batch.images, batch.sizes))
            found = _meant(export_program(model, HEIGHT, WIDTH).module()(batch.images, batch.sizes))
        assert_same(found, expected, 1e-4)


def _training_batch(model: Detector, size: int, *, valid: bool = True) -> Batch:
    batch = random_batch(size, valid=valid, rotated=model.rotated)
    if not model.learns_masks:
        assert batch.targets is not None
        batch.targets.masks = None
    return batch


def _meant(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    """The answer of `detect` with zeros where `valid` (B, D) is False: what is there means nothing."""
    if "valid" not in raw:  # a model of pixels alone
        return raw
    valid = raw["valid"]
    of_instances = {name: value for name, value in raw.items() if value.shape[:2] == valid.shape}
    return raw | {
        name: torch.where(valid.view(*valid.shape, *[1] * (value.ndim - 2)), value, torch.zeros_like(value))
        for name, value in of_instances.items()
    }
