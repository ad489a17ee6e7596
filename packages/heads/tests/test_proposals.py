"""From a proposal network to a Fast R-CNN that is trained on what it proposes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from det_datasets.shapes.make import make_shapes
from detkit.cli.main import main

BACKBONE = {"name": "resnet", "depth": 18, "norm": "gn", "width": 8}
NECK = {"name": "fpn", "channels": 16}
RPN = {"name": "rpn", "sizes": [[16], [32], [64], [128], [256]], "pre_nms_test": 1000, "post_nms_test": 1000}
TRAIN = {
    "steps": 4,
    "batch_size": 2,
    "precision": "float32",
    "workers": 0,
    "optimizer": {"name": "adamw", "lr": 0.002},
    "schedule": "constant",
    "validation_loss": True,
}


def write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, a proposal network that was trained on it for a moment, its proposals, and a Fast R-CNN."""
    folder = tmp_path_factory.mktemp("proposals")
    make_shapes(folder / "shapes", images=8, val_images=4, size=96)
    shared = {"version": 1, "train": TRAIN, "transforms": ["flip"]}
    network = {"name": "proposal-network", "backbone": BACKBONE, "neck": NECK, "proposal_generator": RPN}
    config = write(
        folder / "rpn.yaml", {**shared, "model": {**network, "input": {"min_size": 0}}, "evaluators": ["proposals"]}
    )
    data = f"data={folder / 'shapes'}"
    assert main(["train", str(config), data, "--out", str(folder / "rpn")]) == 0
    for split in ("train", "val"):
        assert main(["eval", str(folder / "rpn"), data, f"split={split}", "--out", str(folder / split)]) == 0
    splits = {
        split: {
            "images": f"shapes/{split}/images",
            "annotations": f"shapes/{split}/annotations.json",
            "proposals": f"{split}/proposals.npz",
        }
        for split in ("train", "val")
    }
    write(folder / "data.yaml", splits)
    fast = {"name": "rcnn", "backbone": BACKBONE, "neck": NECK, "heads": {"box": {"name": "box", "channels": 16}}}
    config = write(
        folder / "fast.yaml", {**shared, "model": {**fast, "input": {"min_size": 0}}, "evaluators": ["coco"]}
    )
    assert main(["train", str(config), f"data={folder / 'data.yaml'}", "--out", str(folder / "fast")]) == 0
    return folder


def test_proposals_are_measured(folder: Path) -> None:
    metrics = json.loads((folder / "val" / "metrics.json").read_text())["box_proposals"]
    assert 0 < metrics["AR@100"] <= metrics["AR@1000"] < 1


def test_proposals_are_saved_with_the_datasets_ids(folder: Path) -> None:
    with np.load(folder / "val" / "proposals.npz") as file:
        assert file["image_ids"].tolist() == [1, 2, 3, 4]
        assert file["file_names"].tolist() == [f"00000{number}.jpg" for number in (1, 2, 3, 4)]
        assert len(file["boxes"]) == len(file["scores"]) == file["offsets"][-1] > 100


def test_fast_rcnn_trains_and_is_evaluated_on_them(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "fast" / "metrics.jsonl").read_text().splitlines()]
    assert any("box_class" in line for line in lines)
    arguments = [f"data={folder / 'data.yaml'}", "--losses", "--out", str(folder / "measured")]
    assert main(["eval", str(folder / "fast"), *arguments]) == 0
    metrics = json.loads((folder / "measured" / "metrics.json").read_text())
    assert metrics["bbox"]["AP"] is not None
    assert metrics["validation"]["box_class"] > 0


def test_without_proposals_there_is_a_clear_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"data={folder / 'shapes'}"
    assert main(["eval", str(folder / "fast"), data, "--out", str(folder / "none")]) == 2
    assert "the dataset's option `proposals`" in " ".join(capsys.readouterr().err.split())
    assert main(["eval", str(folder / "rpn"), f"data={folder / 'data.yaml'}", "--out", str(folder / "none")]) == 2
    assert "leave out `proposals`" in " ".join(capsys.readouterr().err.split())


def test_predicted_proposals_serve_for_prediction(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = str(folder / "shapes" / "val" / "images")
    options = ["--save", "images,json,csv,proposals", "--out", str(folder / "found")]
    assert main(["predict", str(folder / "rpn"), images, *options]) == 0
    assert "of no class" in capsys.readouterr().out
    assert len(list((folder / "found").glob("*.png"))) == 4
    entries = json.loads((folder / "found" / "predictions.json").read_text())
    assert all("category_id" not in entry for entry in entries)
    with np.load(folder / "found" / "proposals.npz") as found, np.load(folder / "val" / "proposals.npz") as expected:
        assert found["offsets"].tolist() == expected["offsets"].tolist()
        assert np.allclose(found["boxes"], expected["boxes"], atol=0.1)
    options = ["--proposals", str(folder / "found" / "proposals.npz"), "--score", "0", "--out", str(folder / "boxes")]
    assert main(["predict", str(folder / "fast"), images, *options]) == 0
    assert main(["predict", str(folder / "fast"), images, "--out", str(folder / "no")]) == 2
