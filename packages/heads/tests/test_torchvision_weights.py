"""torchvision's detectors with random weights against what becomes of them."""

import functools
import hashlib
import http.server
import json
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

import detkit
from det_heads import torchvision_weights
from det_heads.torchvision_weights import MODELS, converted
from detkit.cli.main import main
from detkit.download import digits_in_name
from detkit.structures.coco import COCO, COCO_PERSON

SIZE = (64, 96)


def image() -> Tensor:
    """(3, H, W) uint8 of `SIZE`: coloured rectangles on noise."""
    height, width = SIZE
    generator = torch.Generator().manual_seed(3)
    picture = torch.randint(0, 60, (3, height, width), dtype=torch.uint8, generator=generator)
    for index in range(6):
        y, x = (int(value) for value in torch.randint(0, height // 2, (2,), generator=generator))
        picture[index % 3, y : y + 20 + 8 * index, x : x + 60 - 6 * index] += 150
    return picture


@functools.cache
def theirs(name: str) -> Any:
    """torchvision's model with random weights that make it sure of some things, taking images of `SIZE` as they are."""
    torch.manual_seed(0)
    model = getattr(torchvision.models.detection, name)(
        weights=None, weights_backbone=None, min_size=SIZE[0], max_size=SIZE[1]
    )
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif key.endswith("bn3.weight"):
            value.fill_(0.2)
        elif key.startswith("head.") and key.endswith(("cls_logits.weight", "ctrness.weight", "bbox_reg.weight")):
            value.mul_(5)
        elif key.endswith("box_predictor.cls_score.weight"):
            value.normal_(std=0.5)
        elif key.endswith("box_predictor.bbox_pred.weight"):
            value.normal_(std=0.05)
        elif key.endswith("mask_fcn_logits.weight"):
            value.mul_(0.01)
        elif key.endswith("mask_fcn_logits.bias"):
            value.copy_(torch.arange(len(value)) % 2 * 6 - 3)  # everything for one class, nothing for the next
        elif key.endswith(("cls_score.bias", "head.cls_logits.bias")) and not key.startswith("rpn"):
            value.uniform_(-2, 0)
            if len(value) % 91 == 0:  # rows that training has never called for
                never = [row for row in range(91) if row not in COCO.ids and not (row == 0 and "cls_score" in key)]
                value.view(-1, 91)[:, never] = -60.0
    return model.eval()


def matched(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
    """For each of their detections the number of ours, which has the same class, score and box."""
    assert len(found["scores"]) == len(wanted["scores"]) >= 10
    assert wanted["scores"].max() > 0.3
    apart = (found["boxes"] - wanted["boxes"][:, None]).abs().amax(dim=2)
    apart += 100 * (found["scores"] - wanted["scores"][:, None]).abs()
    apart += (found["labels"] != wanted["labels"][:, None]) * 1e3
    error, index = apart.min(dim=1)
    assert error.max() < 0.05
    assert len(index.unique()) == len(index)
    return index


def with_area(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Only ours are sure to have some."""
    sides = found["boxes"][:, 2:] - found["boxes"][:, :2]
    return {key: value[(sides > 0).all(dim=1)] for key, value in found.items()}


def check(name: str) -> None:
    model = theirs(name)
    with torch.no_grad():
        (wanted,) = model([image().float() / 255])
        prediction = converted(name, model.state_dict(), name)([image()])[0]
    found = {key: getattr(prediction, key) for key in (*wanted, "labels") if key in prediction}
    found["labels"] = torch.tensor(prediction_ids(name))[found["labels"]]
    wanted = with_area(wanted)
    index = matched(found, wanted)
    if "masks" in wanted:
        ours, masks = found["masks"][index], wanted["masks"][:, 0] >= 0.5
        assert masks.any(dim=(1, 2)).any()
        assert not masks.any(dim=(1, 2)).all()
        apart = (ours ^ masks).sum(dim=(1, 2))
        border = 2 * (wanted["boxes"][:, 2:] - wanted["boxes"][:, :2]).sum(dim=1) + 4
        assert (apart <= border).all()  # torchvision pastes into boxes of whole pixels, a row and a column larger
    if "keypoints" in wanted:
        points = wanted["keypoints"][..., :2] + 0.5
        near = (found["keypoints"][index][..., :2] - points).abs().amax(dim=2) < 0.05
        assert near.float().mean() > 0.99


def prediction_ids(name: str) -> tuple[int, ...]:
    return COCO_PERSON.ids if name.startswith("keypoint") else COCO.ids


FAST = "retinanet_resnet50_fpn_v2"


def test_answers_are_torchvisions() -> None:
    check(FAST)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name != FAST])
def test_answers_of_other_models_are_torchvisions(name: str) -> None:
    check(name)


def arrays(name: str, num_classes: int | None = None, *, device: str = "meta") -> dict[str, Tensor]:
    """torchvision's names and shapes; values only on a device that has them."""
    with torch.device(device):
        model = getattr(torchvision.models.detection, name)(
            weights=None, weights_backbone=None, num_classes=num_classes
        )
    return dict(model.state_dict())


def convert(name: str, state: dict[str, Tensor]) -> Any:
    with torch.device("meta"):
        return converted(name, state, "the file")


@pytest.mark.parametrize("name", MODELS)
def test_every_array_has_its_place(name: str) -> None:
    state = arrays(name)
    own = convert(name, state).state_dict()
    # RetinaNet's and FCOS's losses have a state, and convolutions of towers have biases even where a norm follows
    added = {"fcos_resnet50_fpn": 1, "retinanet_resnet50_fpn": 1, "retinanet_resnet50_fpn_v2": 1 + 8}.get(name, 0)
    assert len(own) == added + sum(not array.endswith("num_batches_tracked") for array in state)


@pytest.mark.parametrize("name", MODELS)
def test_a_fine_tuned_file_says_how_many_classes_it_has(name: str) -> None:
    model = convert(name, arrays(name, num_classes=4))
    assert model.categories.names == ("class 1", "class 2", "class 3")


def test_names_of_older_files_are_known() -> None:
    """torchvision renames on loading what it publishes: parts of layers had no numbers."""
    state = arrays("maskrcnn_resnet50_fpn")
    older = {}
    for array, value in state.items():
        array = array.replace("rpn.head.conv.0.0", "rpn.head.conv")
        array = re.sub(r"(inner|layer)_blocks\.(\d)\.0", r"\1_blocks.\2", array)
        array = re.sub(r"mask_head\.(\d)\.0", lambda match: f"mask_head.mask_fcn{int(match[1]) + 1}", array)
        if not array.endswith("num_batches_tracked"):
            older[array] = value
    assert len(set(older) - set(state)) == 16 + 2 + 8
    assert len(convert("maskrcnn_resnet50_fpn", older).state_dict()) == len(older)
    towers = {
        re.sub(r"conv\.(\d)\.0", lambda match: f"conv.{2 * int(match[1])}", key): value
        for key, value in arrays("retinanet_resnet50_fpn").items()
    }
    assert "head.regression_head.conv.6.bias" in towers
    convert("retinanet_resnet50_fpn", towers)


def test_layers_arrive_where_they_belong() -> None:
    state = arrays("maskrcnn_resnet50_fpn", 3, device="cpu")
    ours = converted("maskrcnn_resnet50_fpn", state, "the file").state_dict()
    for theirs_name, name in (
        ("backbone.body.layer3.1.conv2.weight", "backbone.res4.1.conv2.weight"),
        ("backbone.body.layer2.0.downsample.1.weight", "backbone.res3.0.shortcut.norm.weight"),
        ("backbone.fpn.layer_blocks.2.0.weight", "neck.output.p4.weight"),
        ("rpn.head.bbox_pred.weight", "proposal_generator.deltas.weight"),
        ("roi_heads.box_head.fc7.weight", "heads.box.trunk.linears.1.weight"),
        ("roi_heads.mask_head.2.0.weight", "heads.mask.trunk.2.weight"),
        ("roi_heads.mask_predictor.conv5_mask.weight", "heads.mask.predictor.upsample.weight"),
    ):
        assert torch.equal(ours[name], state[theirs_name])
    scores = state["roi_heads.box_predictor.cls_score.weight"]
    assert torch.equal(ours["heads.box.predictor.scores.weight"], scores[[1, 2, 0]])  # background last
    boxes = state["roi_heads.box_predictor.bbox_pred.weight"]
    assert torch.equal(ours["heads.box.predictor.deltas.weight"], boxes[4:])


def test_published_weights_have_norms_without_epsilon() -> None:
    """torchvision sets it to 0 for them; files with counts of batches are of ordinary batch norms."""
    state = arrays("fasterrcnn_resnet50_fpn", 3, device="cpu")
    state["backbone.body.bn1.running_var"].fill_(1e-5)
    ordinary = converted("fasterrcnn_resnet50_fpn", state, "the file").backbone.stem.conv1.norm.affine()[0]
    frozen = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    published = converted("fasterrcnn_resnet50_fpn", frozen, "the file").backbone.stem.conv1.norm.affine()[0]
    torch.testing.assert_close(published, ordinary * 2**0.5)


def test_anchors_are_torchvisions() -> None:
    sizes = ((32, 40, 50), (512, 645, 812))
    generator = torchvision.models.detection.anchor_utils.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 2)
    ours = torchvision_weights.cell_anchors([[float(size) for size in level] for level in sizes])
    assert [level.tolist() for level in generator.cell_anchors] == ours


def test_missing_left_over_and_misshapen_arrays_are_listed() -> None:
    state = arrays("fasterrcnn_resnet50_fpn")
    state["roi_heads.fancy"] = state.pop("roi_heads.box_head.fc7.bias")
    state["rpn.head.bbox_pred.bias"] = torch.zeros(5, device="meta")
    with pytest.raises(ValueError, match="the file does not fit torchvision's fasterrcnn_resnet50_fpn") as caught:
        convert("fasterrcnn_resnet50_fpn", state)
    for words in (
        "roi_heads.fancy has no counterpart",
        "1 missing: heads.box.trunk.linears.1.bias",
        "proposal_generator.deltas.bias (5,) instead of (12,)",
    ):
        assert words in str(caught.value)


def test_a_file_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the file is not a state dict of torchvision's .*it lacks 'heads\.box"):
        convert("maskrcnn_resnet50_fpn", {"a": torch.zeros(1)})


def test_an_unknown_model_names_near_ones(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["convert", "torchvision", "maskrcnn_resnet", "--out", str(tmp_path / "out")]) != 0
    assert "no model 'maskrcnn_resnet'; did you mean maskrcnn_resnet50_fpn" in capsys.readouterr().err


@pytest.mark.parametrize("name", MODELS)
def test_the_published_weights_are_torchvisions_own(name: str) -> None:
    url = torchvision_weights.url(name)
    assert url.startswith("https://download.pytorch.org/models/")
    assert digits_in_name(url) is not None


def test_published_weights_are_downloaded_and_answer_like_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = FAST
    torch.save(theirs(name).state_dict(), tmp_path / "model.pth")
    checksum = hashlib.sha256((tmp_path / "model.pth").read_bytes()).hexdigest()
    file = (tmp_path / "model.pth").rename(tmp_path / f"retinanet-{checksum[:8]}.pth")
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{file.name}"
        monkeypatch.setattr(torchvision_weights, "url", lambda name: address)
        assert main(["convert", "torchvision", name, "--out", str(tmp_path / "out")]) == 0
        server.shutdown()
    meta = json.loads((tmp_path / "out/meta.json").read_text())
    assert meta["weights"] == {"url": address, "sha256": checksum}
    model = detkit.load(tmp_path / "out")
    assert (model.input.min_size, model.input.max_size, model.input.antialias) == (800, 1333, False)
    model.input = replace(model.input, min_size=SIZE[0], max_size=SIZE[1])
    picture = image().repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)  # whose half has whole numbers again
    prediction = model.predict(picture)
    with torch.no_grad():
        (wanted,) = theirs(name)([picture.float() / 255])
    labels = torch.tensor(COCO.ids)[prediction.labels]
    matched({"boxes": prediction.boxes, "scores": prediction.scores, "labels": labels}, with_area(wanted))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
