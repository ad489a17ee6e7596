"""ViTDet: detectors on a plain vision transformer, as the recipes make and train them."""

import pytest
import torch

from detkit.config import Config
from detkit.detector import Detector
from detkit.program import export_program
from detkit.structures.batch import Batch
from detkit.testing.inputs import CATEGORIES, random_batch

SMALL = (
    *("model.backbone.embed_dim=32", "model.backbone.depth=4", "model.backbone.num_heads=2", "model.backbone.window=3"),
    *("model.neck.channels=32", "model.heads.box.channels=32", "model.heads.box.conv_channels=16"),
    *("model.heads.box.score_threshold=0", "model.heads.mask.channels=16", "model.sampling.batch_size_per_image=32"),
    *("model.proposal_generator.pre_nms_test=100", "model.proposal_generator.post_nms_test=40"),
    *("model.input.square=160", "model.input.min_size=0"),
)


def small(name: str) -> tuple[Config, Detector]:
    torch.manual_seed(0)
    config = Config.load(name, SMALL)
    return config, config.build("model", categories=CATEGORIES)


def test_images_become_squares_and_a_program_of_that_size_answers_as_the_model_does() -> None:
    _, model = small("cascade-mask-rcnn-vitdet-b-100ep")
    images = [image[:, :100, :150] for image in random_batch(2).images]
    batch = Batch.collate(images, divisor=model.divisor, square=model.input.square)
    assert batch.images.shape == (2, 3, 160, 160)
    with torch.no_grad():
        wanted = model.eval().detect(batch.images, batch.sizes)
        found = export_program(model, 160, 160, batch_size=2).module()(batch.images, batch.sizes)
    assert wanted["valid"].any()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def detectron2s_layer(name: str, depth: int) -> int:
    """Which layer of `depth` + 1 Detectron2 counts a parameter to, by its name here."""
    if name.startswith(("backbone.pos_embed", "backbone.patch_embed")):
        return 0
    return int(name.split(".")[2]) + 1 if name.startswith("backbone.blocks.") else depth + 1


@pytest.mark.parametrize(("size", "rate"), [("b", 0.7), ("l", 0.8)])
def test_learning_rates_and_weight_decay_are_detectron2s(size: str, rate: float) -> None:
    config, model = small(f"mask-rcnn-vitdet-{size}-100ep")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = config.build("train").optimizer.build(model, 1e-4).param_groups
    found = {names[id(each)]: group for group in groups for each in group["params"]}
    assert found.keys() == set(names.values())
    for name, group in found.items():
        assert group["lr"] == pytest.approx(1e-4 * rate ** (5 - detectron2s_layer(name, 4)))
    assert found["backbone.pos_embed"]["weight_decay"] == 0
    assert found["backbone.blocks.0.norm1.weight"]["weight_decay"] == 0
    assert found["backbone.blocks.0.attn.rel_pos_h"]["weight_decay"] == 0.1
    assert found["backbone.blocks.0.attn.qkv.bias"]["weight_decay"] == 0.1
    assert found["heads.box.trunk.linears.0.weight"]["weight_decay"] == 0.1
