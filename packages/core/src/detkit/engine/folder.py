"""Starting, resuming and extending: what a run's directory must hold, and what is written down at the start."""

from __future__ import annotations

import copy
import json
import platform
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from detkit import plugins
from detkit.atomic import untouched
from detkit.config import Config
from detkit.engine.checkpoint import found
from detkit.engine.processes import Processes
from detkit.engine.run import Run, write_json
from detkit.model_directory import versions

FREE_TO_CHANGE = (
    "about",
    "init",
    "requires",
    "train.workers",
    "train.log_every",
    "train.eval_every",
    "train.save_every",
    "train.keep",
    "train.validation_loss",
    "train.monitor",
    "train.patience",
    "train.device",
    "train.trackers",
)
"""What may differ in the config of a resumed run: nothing of it changes the weights."""


def begin(
    config: Config,
    out: Path,
    processes: Processes,
    *,
    resume: bool,
    init: str | Path | None,
    extend: float | None,
) -> tuple[Config, Path | None]:
    """The config that the run will follow, and the checkpoint that it continues from, None for a new run.

    Raises:
        ValueError: the directory does not hold what is needed, or holds what must not be overwritten.
    """
    given = [
        name for name, value in (("resume", resume or None), ("init", init), ("extend", extend)) if value is not None
    ]
    if len(given) > 1:
        raise ValueError(
            f"{' and '.join(given)} exclude each other: resume continues an unfinished run, extend a finished one, "
            "init starts a new one from a model's weights"
        )
    checkpoints = found(out) if processes.first else []
    checkpoint: Path | None = processes.share(checkpoints[-1] if checkpoints else None)
    empty = processes.share(untouched(out))
    if not resume and extend is None:
        if not empty:
            raise ValueError(
                f"{out} is not empty; give --resume to continue the run in it, --extend N to train it for longer, or "
                "another --out"
            )
        return config if init is None else Config.load({**config.tree, "init": str(init)}), None
    stored = out / "config.yaml"
    if not stored.is_file():
        if empty and resume:
            return config, None
        raise ValueError(f"{out} does not hold a run (it has no config.yaml); leave out --{given[0]} to start one")
    before = Config.load(stored)
    if changes := _changes(before.tree, config.tree):
        raise ValueError(
            f"the config is not that of the run in {out}:\n  " + "\n  ".join(changes) + "\n"
            f"Continue with its own ({stored}), or start a new run from its weights: --init {out}"
        )
    if extend is None:
        return config, checkpoint
    if checkpoint is None:
        raise ValueError(f"{out} has no checkpoint, so there is nothing to extend; --resume starts it again")
    return _extended(config, extend), checkpoint


def _extended(config: Config, more: float) -> Config:
    """The same config for a longer run."""
    if more <= 0:
        raise ValueError(f"--extend {more}: a number of epochs (or steps) above 0 is needed")
    tree = copy.deepcopy(dict(config.tree))
    unit = "steps" if tree["train"]["steps"] is not None else "epochs"
    length = tree["train"][unit] + more
    tree["train"] = {**tree["train"], unit: round(length) if unit == "steps" else length}
    return Config.load(tree)


def record(run: Run) -> None:
    """Write down the resolved config and what takes part; a resumed run adds to it. The first process does."""
    if not run.processes.first:
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    run.config.save(run.folder / "config.yaml")
    path = run.folder / "environment.json"
    starts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    device = run.processes.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    starts.append(
        {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "step": run.step,
            "command": sys.argv,
            "host": platform.node(),
            "device": f"{device.type}: {name}",
            "processes": run.processes.count,
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "plugins": plugins.environment(),
        }
    )
    write_json(path, starts)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [
        f"{key}: {json.dumps(old.get(key))} in the run, {json.dumps(new.get(key))} now"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
        and not any(key == free or key.startswith(f"{free}.") for free in FREE_TO_CHANGE)
    ]


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of everything in a tree that is not a mapping."""
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree
