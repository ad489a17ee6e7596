import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from det_datasets.shapes.make import make_shapes

DETKIT = [sys.executable, "-c", "import sys; from detkit.cli.main import main; sys.exit(main())"]
# Batch norm and padding look at a process's own part of a batch; without them the parts do not matter.
OPTIONS = (
    "model.backbone.norm=gn",
    "model.backbone.width=8",
    "transforms=[{name: random_crop, crop_type: absolute, crop_size: [96, 96]}]",
    "train.precision=float32",
    "train.schedule=constant",
    "train.batch_size=4",
    "train.steps=3",
    "train.log_every=1",
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, images=12, val_images=2, size=128)
    return folder


def losses(shapes: Path, out: Path, *options: str) -> list[dict[str, float]]:
    command = [*DETKIT, "train", "mask-rcnn-quickstart", f"data={shapes}", "--out", str(out), *OPTIONS, *options]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    names = ("rpn_objectness", "rpn_box", "box_class", "box_regression", "mask", "gradient_norm")
    return [{name: line[name] for name in names} for line in lines if "loss" in line]


def test_two_processes_have_the_losses_of_one(shapes: Path, tmp_path: Path) -> None:
    """Samples and normalisers included: what is drawn at random in an image does not depend on its process."""
    one, two = losses(shapes, tmp_path / "one"), losses(shapes, tmp_path / "two", "--processes", "2")
    assert len(one) == 3
    for alone, shared in zip(one, two, strict=True):
        assert shared == pytest.approx(alone, rel=5e-3, abs=1e-4)
