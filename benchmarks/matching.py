"""Matching of very many anchors with very many objects: time and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import peak_memory
from detkit.ops.matching import match_boxes

OBJECTS, ANCHORS = 300, 270_000


def main(rounds: int) -> dict[str, Any]:
    """Match, `rounds` times, and print seconds and megabytes."""
    call, seconds = prepare(), []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    figures = {"seconds": statistics.median(seconds), "peak MB": peak_memory(prepare)}
    print(
        f"\nMatching {ANCHORS} anchors with {OBJECTS} objects, best ones kept: {figures['seconds']:.2f} s, "
        f"{figures['peak MB']:.0f} MB (limit 1000 MB)"
    )
    return figures


def prepare() -> Callable[[], Any]:
    """A call that matches random boxes."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    objects, anchors = _boxes(OBJECTS), _boxes(ANCHORS)
    valid = torch.ones(1, OBJECTS, dtype=torch.bool)
    return lambda: match_boxes(objects, valid, anchors, low=0.3, high=0.7, keep_best=True)


def _boxes(count: int) -> Tensor:
    boxes = torch.rand(1, count, 4) * 800
    boxes[..., 2:] = boxes[..., :2] + boxes[..., 2:] / 4 + 1
    return boxes
