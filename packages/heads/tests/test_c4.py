import pytest
import torch

from det_backbones.resnet import ResNet
from det_heads.rcnn import RCNN
from detkit.config import ConfigError, build
from detkit.detector import Detector
from detkit.interfaces import RoiSamples
from detkit.structures.categories import Categories
from detkit.transfer import initialise

TREE = {
    "name": "rcnn",
    "backbone": {"name": "resnet", "width": 8, "out_features": ["res4"]},
    "proposal_generator": {"name": "rpn", "sizes": [[32, 64]], "post_nms_test": 20},
    "roi_pooling": {"size": 6},
    "roi_trunk": {"name": "resnet-res5", "width": 8},
    "heads": {
        "box": {"name": "box", "layers": 0, "score_threshold": 0.0, "detections_per_image": 5},
        "mask": {"name": "mask", "layers": 0, "channels": 16},
    },
}


def model(**changes) -> RCNN:
    torch.manual_seed(0)
    built = build({**TREE, **changes}, Detector, categories=Categories.numbered(3))
    assert isinstance(built, RCNN)
    return built.eval()


def test_the_heads_see_what_the_trunk_makes_of_the_regions() -> None:
    c4 = model()
    features = {"res4": torch.randn(1, 128, 8, 12)}
    boxes = torch.tensor([[[8.0, 8, 90, 60], [100, 20, 180, 120]]])
    samples = c4._with_pooled(features, RoiSamples(boxes=boxes, valid=torch.ones(1, 2, dtype=torch.bool)))
    regions = c4.roi_trunk(c4.pool(features, boxes[0], torch.zeros(2, dtype=torch.int64)))
    assert regions.shape == (2, 256, 3, 3)
    box = c4.heads["box"]
    logits, deltas = box._predict({}, samples)
    torch.testing.assert_close(logits[0], box.predictor.scores(regions.mean(dim=(2, 3))))
    assert deltas.shape == (1, 2, 3, 4)


def test_masks_are_made_from_the_detected_boxes_pooled_again() -> None:
    c4 = model()
    images, sizes = torch.randint(0, 256, (1, 3, 96, 128), dtype=torch.uint8), torch.tensor([[96, 128]])
    with torch.no_grad():
        raw = c4.detect(images, sizes)
        found = RoiSamples(**{name: raw[name] for name in ("boxes", "valid", "scores", "labels")})
        again = c4.heads["mask"].detect({}, c4._with_pooled(c4.features(images, sizes), found), sizes)
    assert raw["valid"].any()
    torch.testing.assert_close(raw["mask_grid"], again.outputs["mask_grid"])
    assert raw["mask_grid"].shape == (1, 5, 6, 6)


def test_published_weights_of_a_backbone_reach_the_trunk() -> None:
    weights = {name: torch.rand_like(value) for name, value in ResNet(width=8).state_dict().items()}
    c4 = model()
    report = initialise(c4, weights)
    assert str(report).endswith("proposal_generator, heads begin from random weights, expected")
    assert torch.equal(c4.backbone.res4[5].conv3.weight, weights["res4.5.conv3.weight"])
    assert torch.equal(c4.roi_trunk.res5[2].conv3.weight, weights["res5.2.conv3.weight"])


def test_pooling_without_a_trunk_is_an_error() -> None:
    with pytest.raises(ConfigError, match="go together; give both or neither"):
        model(roi_trunk=None, heads={"box": {"name": "box", "in_features": ["res4"]}})


def test_a_trunk_on_a_map_that_there_is_not_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"wants the maps \['res5'\]; there are res4"):
        model(roi_pooling={"in_features": ["res5"]})
