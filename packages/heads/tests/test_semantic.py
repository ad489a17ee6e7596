from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from det_datasets.shapes.make import make_shapes
from det_heads.rcnn import RCNN
from det_heads.semantic import semantic_fields
from det_heads.semantic_head import SemanticFPN
from detkit.config import Config, build
from detkit.detector import Detector
from detkit.engine.train import train
from detkit.model_directory import load, save_model
from detkit.structures.batch import UNLABELLED
from detkit.structures.categories import Categories
from detkit.structures.shape import Shape
from detkit.testing.inputs import (
    CATEGORIES,
    HEIGHT,
    SEMANTIC_CATEGORIES,
    WIDTH,
    random_batch,
    random_features,
    random_targets,
)
from detkit.transfer import initialise

PYRAMID = {f"p{level}": Shape(8, 2**level) for level in (2, 3, 4, 5, 6)}
BACKBONE = {"name": "resnet", "depth": 18, "norm": "gn", "width": 16}
SEMANTIC = {"name": "semantic-fpn", "channels": 16, "in_features": ["res2", "res5"]}
PANOPTIC = {
    "name": "rcnn",
    "backbone": BACKBONE,
    "neck": {"name": "fpn", "channels": 16},
    "semantic_head": {"name": "semantic-fpn", "channels": 16},
    "panoptic": {"stuff_area": 64},
    "proposal_generator": {"name": "rpn", "pre_nms_test": 50, "post_nms_test": 20},
    "heads": {"box": {"name": "box", "channels": 16}, "mask": {"name": "mask", "channels": 8, "layers": 1}},
}


def panoptic_model(**changes: object) -> RCNN:
    torch.manual_seed(0)
    wiring = {"categories": CATEGORIES, "semantic_categories": SEMANTIC_CATEGORIES}
    model = build({**PANOPTIC, **changes}, Detector, **wiring)
    assert isinstance(model, RCNN)
    return model


def test_the_loss_is_the_mean_over_the_labelled_pixels() -> None:
    head = SemanticFPN(input_shapes=PYRAMID, num_semantic_classes=4, channels=8, weight=0.5)
    features, targets = random_features(PYRAMID, 2), random_targets(2)
    assert targets.semantic is not None
    targets.semantic[0, 50:] = UNLABELLED
    wanted = F.cross_entropy(head(features), targets.semantic, ignore_index=UNLABELLED) / 2
    torch.testing.assert_close(head.losses(features, targets)["semantic"], wanted)


def test_a_head_that_refines_another_gets_its_logits_and_their_losses() -> None:
    head = SemanticFPN(input_shapes=PYRAMID, num_semantic_classes=4, channels=8)
    features, targets = random_features(PYRAMID, 2), random_targets(2)
    logits = head.logits(features)
    assert logits.shape[2:] == (HEIGHT // head.stride, WIDTH // head.stride)
    assert torch.equal(F.interpolate(logits, scale_factor=head.stride, mode="bilinear"), head(features))
    assert torch.equal(head.losses_of(logits, targets)["semantic"], head.losses(features, targets)["semantic"])


def test_maps_come_to_the_common_stride() -> None:
    head = SemanticFPN(input_shapes=PYRAMID, num_semantic_classes=4, channels=8)
    features = random_features(PYRAMID, 1)
    assert {tuple(level(features[name]).shape) for name, level in head.levels.items()} == {(1, 8, 32, 48)}
    convolutions = [sum(isinstance(layer, torch.nn.Conv2d) for layer in level) for level in head.levels.values()]
    assert convolutions == [1, 1, 2, 3]


def test_a_map_finer_than_the_common_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="a map of stride 4 does not come to stride 8"):
        SemanticFPN(input_shapes=PYRAMID, num_semantic_classes=4, stride=8)
    with pytest.raises(ValueError, match=r"in_features \['res2'\] are not among the maps: p2, p3"):
        SemanticFPN(input_shapes=PYRAMID, num_semantic_classes=4, in_features=["res2", "p3"])


def test_without_maps_in_the_data_the_head_says_what_it_needs() -> None:
    targets = random_targets(1)
    targets.semantic = None
    head = SemanticFPN(input_shapes=PYRAMID, num_semantic_classes=4, channels=8)
    with pytest.raises(ValueError, match=r"needs 'semantic' \(height, width\)"):
        head.losses(random_features(PYRAMID, 1), targets)


def test_padding_is_cut_off_before_logits_are_interpolated() -> None:
    logits = torch.full((2, 32, 64), 9.0)
    logits[:, :24, :40] = torch.tensor([0.0, 1.0])[:, None, None]
    fields = semantic_fields(logits, (24, 40), (48, 81))
    assert fields["semantic_logits"].shape == (2, 48, 81)
    assert (fields["semantic_logits"][0] == 0).all()
    assert (fields["semantic"] == 1).all()


def test_answers_are_in_pixels_of_the_original_image() -> None:
    model = panoptic_model().eval()
    prediction = model.predict(torch.randint(256, (3, 90, 130), dtype=torch.uint8).permute(1, 2, 0).numpy())
    assert prediction.image_size == (90, 130)
    assert prediction.semantic_logits.shape == (4, 90, 130)
    assert prediction.panoptic.shape == prediction.semantic.shape == (90, 130)


def test_the_instance_weight_is_that_of_the_heads_alone() -> None:
    batch = random_batch(2)
    plain, weighted = panoptic_model().losses(batch), panoptic_model(instance_weight=0.25).losses(batch)
    changed = {name for name in plain if not torch.equal(plain[name], weighted[name])}
    assert changed == {"box_class", "box_regression", "mask"}
    torch.testing.assert_close(weighted["mask"], plain["mask"] / 4)


def test_segments_need_what_they_are_merged_from() -> None:
    with pytest.raises(ValueError, match="panoptic segments need a semantic_head and a `mask`"):
        panoptic_model(heads={"box": {"name": "box", "channels": 16}})
    with pytest.raises(ValueError, match="panoptic segments need a semantic_head and a `mask`"):
        panoptic_model(semantic_head=None)


def test_a_model_without_a_semantic_head_has_no_classes_of_pixels() -> None:
    assert panoptic_model(semantic_head=None, panoptic=None).semantic_categories is None


def test_weights_for_other_classes_of_pixels_are_reused_by_name(tmp_path: Path) -> None:
    source = panoptic_model()
    save_model(source, tmp_path / "model", config=PANOPTIC)
    pixels = Categories(("things", "snow", "Water"))
    model = build(PANOPTIC, Detector, categories=CATEGORIES, semantic_categories=pixels)
    before = model.state_dict()["semantic_head.predictor.bias"].clone()
    report = initialise(model, tmp_path / "model")
    given, found = (each.state_dict()["semantic_head.predictor.weight"] for each in (source, model))
    assert torch.equal(found[[0, 2]], given[[0, 2]])
    assert torch.equal(model.state_dict()["semantic_head.predictor.bias"][1], before[1])
    assert (report.reused, report.fresh) == (("things", "Water"), ("snow",))
    assert "7 -> 6 classes" in str(report)


def test_the_losses_fall() -> None:
    model = panoptic_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    batch = random_batch(2)
    history = []
    for _ in range(12):
        losses = model.losses(batch)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in losses.items()})
    assert history[-1]["semantic"] < 0.8 * history[0]["semantic"]
    assert history[-1]["mask"] < history[0]["mask"]


def test_a_model_of_pixels_is_trained_and_evaluated_on_data_that_has_instances_too(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", images=4, val_images=2, size=64, semantic=True)
    config = Config.load(
        {
            "version": 1,
            "model": {"name": "semantic", "backbone": BACKBONE, "semantic_head": SEMANTIC, "input": {"min_size": 64}},
            "data": str(tmp_path / "shapes"),
            "transforms": ["flip"],
            "evaluators": ["semantic"],
            "train": {
                "steps": 2,
                "batch_size": 2,
                "workers": 0,
                "device": "cpu",
                "validation_loss": True,
                "optimizer": {"name": "adamw", "lr": 0.001},
                "schedule": "constant",
            },
        }
    )
    run = train(config, tmp_path / "run")
    assert set(run.metrics["semantic"]) == {"mIoU", "fwIoU", "mAcc", "pAcc"}
    assert run.best >= run.metrics["semantic"]["mIoU"]
    model = load(tmp_path / "run")
    assert model.categories.names == ("things", "plain", "stripes", "noise")
    prediction = model.predict(tmp_path / "shapes" / "val" / "images" / "000001.jpg")
    assert prediction.semantic.shape == prediction.image_size
