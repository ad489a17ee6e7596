from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from det_datasets.shapes.make import make_shapes
from detkit.cli.main import main
from detkit.data.source import open_split


def test_a_copy_is_opened_as_the_source_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_shapes(tmp_path, images=3, val_images=1, size=64, keypoints=True)
    file = tmp_path / "train" / "annotations.json"
    data = json.loads(file.read_text())
    names = data["categories"][0]["keypoints"]
    for entry in data["categories"]:
        del entry["keypoints"]
    for entry in data["annotations"]:
        if entry["image_id"] == 1:
            entry["keypoints"], entry["num_keypoints"] = [0] * len(entry["keypoints"]), 0
    file.write_text(json.dumps(data))
    proposals = {
        "ids": [1, 2, 3],
        "boxes": [np.array([[0, 0, 9, 9]], np.float32)] * 3,
        "objectness_logits": [np.zeros(1, np.float32)] * 3,
        "bbox_mode": 0,
    }
    (tmp_path / "proposals.pkl").write_bytes(pickle.dumps(proposals))
    keypoints = {"names": names, "swaps": [[0, 1]]}
    arguments = {"keypoints": keypoints, "min_keypoints": 1, "proposals": "proposals.pkl"}
    files = {"images": "train/images", "annotations": "train/annotations.json"}
    (tmp_path / "data.yaml").write_text(json.dumps({"train": {**files, **arguments}}))
    before, out = open_split(tmp_path / "data.yaml"), tmp_path / "fixed"
    assert main(["data", "check", str(tmp_path / "data.yaml"), "--fix", str(out)]) == 0
    said = capsys.readouterr().err
    assert f"read it with data={out / 'data.yaml'}" in said
    assert "data.yaml opens it with min_keypoints, proposals of the source, not copied" in said
    after = open_split(out / "data.yaml")
    assert after.categories == before.categories
    assert [after.image_id(index) for index in range(len(after))] == [2, 3]
    assert len(after[0].target["proposals"]) == 1
    assert len(open_split(out)) == 3  # the copy has all images
