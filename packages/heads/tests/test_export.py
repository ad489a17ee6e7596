from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detkit.config import build
from detkit.detector import Detector
from detkit.program import export_program
from detkit.structures.proposals import Proposals
from detkit.testing.inputs import CATEGORIES, random_batch, random_boxes

SPEC = {
    "name": "rcnn",
    "backbone": {"name": "resnet", "depth": 50, "width": 16, "norm": "gn"},
    "neck": {"name": "fpn", "channels": 32},
    "proposal_generator": {"name": "rpn", "pre_nms_test": 100, "post_nms_test": 40},
    "heads": {
        "box": {"name": "box", "channels": 32, "score_threshold": 0.0},
        "mask": {"name": "mask", "channels": 16, "layers": 1},
    },
}


@pytest.fixture(scope="module")
def model() -> Detector:
    torch.manual_seed(0)
    return build(SPEC, Detector, categories=CATEGORIES)


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")  # torch.export.load of torch 2.11
def test_a_program_that_was_saved_answers_as_the_model_does(model: Detector, tmp_path: Path) -> None:
    torch.export.save(export_program(model, 128, 192, batch_size=2), tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    batch = random_batch(2)
    batch.sizes[1] = torch.tensor([100, 150])
    with torch.no_grad():
        wanted = model.eval().detect(batch.images, batch.sizes)
        found = program(batch.images, batch.sizes)
    assert wanted["valid"].any()
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_program_of_a_model_that_needs_proposals_takes_them() -> None:
    torch.manual_seed(0)
    fast = build({**SPEC, "proposal_generator": None}, Detector, categories=CATEGORIES).eval()
    batch = random_batch(1)
    proposals = Proposals(random_boxes(1, 20), torch.zeros(1, 20), torch.arange(20)[None] < 15)
    program = export_program(fast, 128, 192, proposals=20).module()
    with torch.no_grad():
        wanted = fast.answer(replace(batch, proposals=proposals))
        found = program(batch.images, batch.sizes, proposals.boxes, proposals.scores, proposals.valid)
    assert wanted["valid"].any()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_exporting_leaves_the_model_in_its_mode(model: Detector) -> None:
    model.train()
    export_program(model, 64, 64)
    assert all(module.training for module in model.modules())


def test_a_size_that_does_not_suit_names_the_next_one(model: Detector) -> None:
    with pytest.raises(ValueError, match="needs multiples of 32; the next size is 128 x 192"):
        export_program(model, 100, 190)
    square = build({**SPEC, "input": {"square": 160}}, Detector, categories=CATEGORIES)
    with pytest.raises(ValueError, match="in squares of at least 160; the next size is 192 x 192"):
        export_program(square, 128, 192)
