import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import det_detectron2
import detkit
from det_detectron2.config import Detectron2Config
from detkit.cli.main import main

NORM = ("weight", "bias", "running_mean", "running_var")


def config(**changes: Any) -> dict[str, Any]:
    """What Detectron2 dumps for a Mask R-CNN with a ResNet-18, with small heads; `changes` by dotted key."""
    tree = yaml.safe_load((Path(__file__).parent / "mask_rcnn.yaml").read_text())
    for key, value in changes.items():
        node = tree
        *path, last = key.split(".")
        for part in path:
            node = node[part]
        node[last] = value
    return tree


def resnet18() -> dict[str, tuple[int, ...]]:
    """Detectron2's names and shapes of the arrays of a ResNet-18 with frozen batch norm."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, outputs: int, inputs: int, kernel: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
        shapes.update({f"{name}.norm.{leaf}": (outputs,) for leaf in NORM})

    conv("backbone.bottom_up.stem.conv1", 64, 3, 7)
    inputs = 64
    for stage, outputs in zip((2, 3, 4, 5), (64, 128, 256, 512), strict=True):
        for block in range(2):
            prefix = f"backbone.bottom_up.res{stage}.{block}"
            conv(f"{prefix}.conv1", outputs, inputs, 3)
            conv(f"{prefix}.conv2", outputs, outputs, 3)
            if inputs != outputs:
                conv(f"{prefix}.shortcut", outputs, inputs, 1)
            inputs = outputs
    return shapes


def checkpoint(num_classes: int = 3) -> dict[str, np.ndarray]:
    """Detectron2's names of all arrays of that model, random values."""
    shapes = resnet18()
    for level, width in zip((2, 3, 4, 5), (64, 128, 256, 512), strict=True):
        shapes[f"backbone.fpn_lateral{level}.weight"] = (32, width, 1, 1)
        shapes[f"backbone.fpn_lateral{level}.bias"] = (32,)
        shapes[f"backbone.fpn_output{level}.weight"] = (32, 32, 3, 3)
        shapes[f"backbone.fpn_output{level}.bias"] = (32,)
    layers = {
        "proposal_generator.rpn_head.conv": (32, 32, 3, 3),
        "proposal_generator.rpn_head.objectness_logits": (3, 32, 1, 1),
        "proposal_generator.rpn_head.anchor_deltas": (12, 32, 1, 1),
        "roi_heads.box_head.fc1": (16, 32 * 49),
        "roi_heads.box_head.fc2": (16, 16),
        "roi_heads.box_predictor.cls_score": (num_classes + 1, 16),
        "roi_heads.box_predictor.bbox_pred": (4 * num_classes, 16),
        "roi_heads.mask_head.mask_fcn1": (16, 32, 3, 3),
        "roi_heads.mask_head.mask_fcn2": (16, 16, 3, 3),
        "roi_heads.mask_head.deconv": (16, 16, 2, 2),
        "roi_heads.mask_head.predictor": (num_classes, 16, 1, 1),
    }
    for name, shape in layers.items():
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = (shape[0],)
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.1, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config()))
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": checkpoint(), "__author__": "Detectron2 Model Zoo"}))
    return tmp_path / "config.yaml", tmp_path / "model.pkl"


def test_every_array_arrives_where_it_belongs(files: tuple[Path, Path], tmp_path: Path) -> None:
    model = detkit.load(det_detectron2.convert(*files, tmp_path / "out"))
    arrays, state = checkpoint(), model.state_dict()
    assert len(state) == len(arrays)
    for theirs, ours in (
        ("backbone.bottom_up.res4.1.conv2.norm.running_var", "backbone.res4.1.conv2.norm.running_var"),
        ("backbone.fpn_output3.weight", "neck.output.p3.weight"),
        ("roi_heads.box_head.fc2.bias", "heads.box.trunk.linears.1.bias"),
        ("roi_heads.box_predictor.bbox_pred.weight", "heads.box.predictor.deltas.weight"),
        ("roi_heads.mask_head.mask_fcn1.weight", "heads.mask.trunk.0.weight"),
    ):
        assert torch.equal(state[ours], torch.from_numpy(arrays[theirs]))


def test_the_config_decides_the_model(files: tuple[Path, Path], tmp_path: Path) -> None:
    model = detkit.load(det_detectron2.convert(*files, tmp_path / "out"))
    assert model.input.channel_order == "bgr"
    assert model.input.min_size == 256
    assert model.heads["box"].nms_iou == 0.5
    assert model.heads["box"].detections_per_image == 7
    assert len(model.categories) == 3


def test_a_pth_file_gives_the_same_model(files: tuple[Path, Path], tmp_path: Path) -> None:
    torch.save({"model": {k: torch.from_numpy(v) for k, v in checkpoint().items()}}, tmp_path / "model.pth")
    first = detkit.load(det_detectron2.convert(*files, tmp_path / "a")).state_dict()
    second = detkit.load(det_detectron2.convert(files[0], tmp_path / "model.pth", tmp_path / "b")).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_cocos_categories_keep_their_names_and_ids(tmp_path: Path) -> None:
    tree = config(**{"MODEL.ROI_HEADS.NUM_CLASSES": 80, "DATASETS.TRAIN": ["coco_2017_train"]})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": checkpoint(80)}))
    categories = detkit.load(
        det_detectron2.convert(tmp_path / "config.yaml", tmp_path / "model.pkl", tmp_path / "out")
    ).categories
    assert (categories.names[0], categories.names[-1], categories.ids[-1]) == ("person", "toothbrush", 90)


def test_cocos_persons_keep_their_keypoints(tmp_path: Path) -> None:
    head = "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS"
    tree = config(**{"MODEL.ROI_HEADS.NUM_CLASSES": 1, "MODEL.KEYPOINT_ON": True, head: [8]})
    tree["DATASETS"]["TRAIN"] = ["keypoints_coco_2017_train"]
    arrays = checkpoint(1)
    for name, shape in (("conv_fcn1.weight", (8, 32, 3, 3)), ("score_lowres.weight", (8, 17, 4, 4))):
        arrays[f"roi_heads.keypoint_head.{name}"] = np.zeros(shape, np.float32)
    for name, count in (("conv_fcn1.bias", 8), ("score_lowres.bias", 17)):
        arrays[f"roi_heads.keypoint_head.{name}"] = np.zeros(count, np.float32)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": arrays}))
    model = detkit.load(det_detectron2.convert(tmp_path / "config.yaml", tmp_path / "model.pkl", tmp_path / "out"))
    assert model.categories.names == ("person",)
    assert model.categories.keypoints.names[0] == "nose"
    assert model.heads["keypoint"].flipped[1] == 2


def problem(files: tuple[Path, Path], tmp_path: Path, **changes: Any) -> str:
    files[0].write_text(yaml.safe_dump(config(**changes)))
    with pytest.raises(ValueError, match=r".") as caught:
        det_detectron2.convert(*files, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    return str(caught.value)


def test_an_unknown_key_is_an_error_that_names_it(files: tuple[Path, Path], tmp_path: Path) -> None:
    message = problem(files, tmp_path, **{"MODEL.ROI_HEADS.SOFT_NMS": True, "MODEL.RPN.FANCY": 3})
    assert "MODEL.ROI_HEADS.SOFT_NMS (= True) has no counterpart" in message
    assert "MODEL.RPN.FANCY (= 3) has no counterpart" in message


def test_a_value_without_counterpart_says_what_has_one(files: tuple[Path, Path], tmp_path: Path) -> None:
    message = problem(files, tmp_path, **{"MODEL.FPN.FUSE_TYPE": "max"})
    assert "MODEL.FPN.FUSE_TYPE is 'max'; only 'sum' or 'avg' has a counterpart" in message


def test_a_config_that_builds_on_another_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    message = problem(files, tmp_path, **{"_BASE_": "../Base-RCNN-FPN.yaml"})
    assert "builds on ../Base-RCNN-FPN.yaml; give the complete config.yaml" in message


def test_missing_and_left_over_arrays_are_listed(files: tuple[Path, Path], tmp_path: Path) -> None:
    arrays = checkpoint()
    del arrays["roi_heads.box_head.fc1.weight"]
    arrays["roi_heads.keypoint_head.score.weight"] = np.zeros((1, 1), np.float32)
    files[1].write_bytes(pickle.dumps({"model": arrays}))
    with pytest.raises(ValueError, match=r"does not fit the model") as caught:
        det_detectron2.convert(*files, tmp_path / "out")
    assert "roi_heads.keypoint_head.score.weight has no counterpart" in str(caught.value)
    assert "1 missing: heads.box.trunk.linears.0.weight" in str(caught.value)


def test_yaml_that_would_run_code_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    files[0].write_text("MODEL: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ValueError, match=r"config.yaml is not plain YAML"):
        det_detectron2.convert(*files, tmp_path / "out")


def test_the_command(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "detectron2", *map(str, files), "--out", str(tmp_path / "out")]) == 0
    assert f"detkit predict {tmp_path / 'out'}" in capsys.readouterr().out
    assert detkit.load(tmp_path / "out").heads["mask"].num_classes == 3


def test_keys_taken_once_are_not_left_over() -> None:
    read = Detectron2Config({"MODEL": {"A": 1, "B": {"C": 2}}, "SOLVER": {"BASE_LR": 0.1}})
    read.take("MODEL.A")
    assert read.problems() == ["MODEL.B.C (= 2) has no counterpart"]
    read.unused("MODEL.B")
    assert read.problems() == []
