"""What the training loop costs around the model: the learning rate, the finite check, metrics, progress.

Loading, the forward and the backward pass, clipping and the optimizer's step are the work; the rest is the loop.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.utils.data.dataloader import _BaseDataLoaderIter

from benchmarks.measure import Stages, timed
from det_datasets.shapes.make import make_shapes
from det_heads.rcnn import RCNN
from detkit.config import Config
from detkit.engine import loop
from detkit.engine import train as engine
from detkit.engine.clipping import Clipping

STEPS = 60
RECIPE = "mask-rcnn-quickstart"


def main(rounds: int = 3) -> dict[str, Any]:
    """Train the quickstart's model for some steps, `rounds` times, and print the share of the loop in a step."""
    torch.set_num_threads(2)
    shares, steps = [], []
    for _ in range(min(rounds, 3)):
        share, seconds = _run()
        shares.append(share)
        steps.append(seconds)
    share, seconds = statistics.median(shares), statistics.median(steps)
    print(f"\nTraining loop, {RECIPE}: {seconds * 1000:.0f} ms a step, {share:.1%} of it around the model (limit 3 %)")
    return {"step seconds": seconds, "overhead": share}


def _run() -> tuple[float, float]:
    stages: Stages = {
        "loop": [(engine, "train_until_done")],
        "work": [
            (_BaseDataLoaderIter, "__next__"),
            (RCNN, "forward"),
            (torch.Tensor, "backward"),
            (Clipping, "__call__"),
            (torch.optim.AdamW, "step"),
        ],
        "saving": [(loop, "_save")],
    }
    with tempfile.TemporaryDirectory() as folder:
        make_shapes(Path(folder, "data"), images=100, val_images=1)
        shutil.rmtree(Path(folder, "data/val"))
        config = Config.load(RECIPE, overrides=[f"data={folder}/data", f"train.steps={STEPS}", "train.save_every=1000"])
        with timed(stages) as spent:
            engine.train(config, Path(folder, "run"))
    seconds = spent["loop"] - spent["saving"]
    return (seconds - spent["work"]) / seconds, seconds / STEPS
