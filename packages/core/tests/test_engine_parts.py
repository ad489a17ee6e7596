"""The objects that the loop works with, each by itself."""

from __future__ import annotations

import io
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from detkit.config import Config
from detkit.engine import train as training
from detkit.engine.clipping import Clipping
from detkit.engine.finite import FiniteCheck
from detkit.engine.journal import Journal
from detkit.engine.loop import Parts, train_until_done
from detkit.engine.monitor import Monitor
from detkit.engine.progress import Progress, duration
from detkit.engine.run import Run, flatten, next_folder, write_json
from detkit.ops.distributed import average_count
from detkit.plugins import hookimpl, registry

GPU: Any = SimpleNamespace(rank=0, device=torch.device("cuda"))  # for parts that only ask for the kind of device


def watch(check: FiniteCheck, step: int, loss: float, norm: float = 1.0) -> None:
    check.watch(
        step, [{"loss_box": torch.tensor(loss)}], torch.tensor(norm), [{"image_id": step, "path": f"{step}.jpg"}]
    )


def test_a_gpu_is_asked_later_and_the_first_bad_step_is_named() -> None:
    check = FiniteCheck(GPU)
    for step, loss in ((1, 0.5), (2, float("nan")), (3, float("nan"))):
        watch(check, step, loss)
    with pytest.raises(FloatingPointError, match=r"stopped at step 2: a loss is not finite[\s\S]*image_id 2  2.jpg"):
        check.verify()


def test_a_gradient_that_is_not_finite_is_told_from_a_loss() -> None:
    check = FiniteCheck(GPU)
    watch(check, 1, 0.5, float("inf"))
    with pytest.raises(FloatingPointError, match="the losses of this process are finite, but a gradient is not"):
        check.verify()


def test_finite_steps_are_forgotten() -> None:
    check = FiniteCheck(GPU)
    watch(check, 1, 0.5)
    check.verify()
    check.verify()


class Synchronizations(TorchDispatchMode):
    """Notes where the host waits for the device between log points."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name() in ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select"):
            frames = [frame for frame in traceback.extract_stack() if "detkit/engine" in frame.filename]
            allowed = {"_log", "_save", "_evaluate_if_due"} & {frame.name for frame in frames}
            if not allowed and "next(parts.batches)" not in str(frames[-1].line):
                self.places.append(f"{func.name()} in {frames[-1].name}: {frames[-1].line}")
        return func(*args, **(kwargs or {}))


def test_the_loop_does_not_wait_for_the_device(
    toy_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Synchronizations()

    def observed(run: Run, parts: Parts) -> None:
        parts.finite._at_once = False
        with found:
            train_until_done(run, parts)

    monkeypatch.setattr(training, "train_until_done", observed)
    config = toy_config(ema=0.9, clip_norm=1.0, clip_value=1.0, accumulate=2, log_every=6, workers=1)
    training.train(config, tmp_path / "run")
    assert found.places == []


def test_plugins_are_told_of_the_run(toy_config: Callable[..., Config], tmp_path: Path) -> None:
    told: list[Any] = []

    class Plugin:
        @hookimpl
        def detkit_run_started(self, run: Run) -> None:
            told.append(("started", run.step))

        @hookimpl
        def detkit_run_finished(self, run: Run, error: BaseException | None) -> None:
            told.append(("finished", run.step, error))

        @hookimpl
        def detkit_environment(self) -> dict[str, str]:
            return {"cluster": "north"}

    config = toy_config()
    registry().register(Plugin(), "listener")
    training.train(config, tmp_path / "run")
    assert told == [("started", 0), ("finished", 6, None)]
    [start] = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert start["plugins"]["listener"] == {"cluster": "north"}
    assert {"torch", "det-core", "toy"} <= start["versions"].keys()


def test_a_plugin_that_objects_stops_the_run(toy_config: Callable[..., Config], tmp_path: Path) -> None:
    class Plugin:
        @hookimpl
        def detkit_run_started(self, run: Run) -> None:
            raise RuntimeError("no licence for this dataset")

    config = toy_config()
    registry().register(Plugin(), "lawyer")
    with pytest.raises(RuntimeError, match="no licence"):
        training.train(config, tmp_path / "run")


def test_the_norm_is_reported_before_clipping() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert float(Clipping([weight], norm=1.0, value=None)()) == 5
    assert weight.grad.norm() == pytest.approx(1.0)


def a_run(**state: Any) -> Any:
    return SimpleNamespace(**{"best": None, "best_step": 0, "misses": 0, "step": 1, **state})


@pytest.mark.parametrize(
    ("name", "before", "value", "better"),
    [
        (None, None, 0.2, True),
        (None, 0.2, 0.3, True),
        (None, 0.3, 0.3, False),
        ("validation/loss", 0.3, 0.2, True),
        ("validation/loss", 0.2, 0.3, False),
    ],
)
def test_what_is_better(name: str | None, before: float | None, value: float, better: bool) -> None:
    run = a_run(best=before)
    assert Monitor(name, None).see(run, {name or "bbox/AP": value}) is better
    assert run.best == (value if better else before)


def test_an_undefined_metric_is_never_the_best() -> None:
    run = a_run()
    assert not Monitor(None, 1).see(run, {})
    assert run.best is None and Monitor(None, 1).gives_up(run)


def test_metrics_of_later_steps_and_broken_lines_are_dropped(tmp_path: Path) -> None:
    kept = '{"step": 1, "bbox/AP": 0.3}\n{"step": 2, "loss": 1.0}\n'
    (tmp_path / "metrics.jsonl").write_text(kept + '{"step": 2, "bbox/AP": 0.4}\n{"step": 3, "loss": 1.0}\n{"st')
    journal = Journal(tmp_path, {}, [], Progress(3, 1, quiet=True), step=2, evaluated_step=1)
    journal.evaluation(2, {"bbox/AP": 0.5})
    journal.close()
    assert (tmp_path / "metrics.jsonl").read_text() == kept + '{"step": 2, "bbox/AP": 0.5}\n'


METRICS = {
    "loss": 1.25,
    "loss_box": 1.25,
    "lr": 0.01,
    "images_per_second": 8.0,
    "step_seconds": 0.5,
    "data_seconds": 0.05,
    "memory_gb": 2.0,
}


def test_a_line_of_progress_says_what_one_wants_to_know() -> None:
    file = io.StringIO()
    Progress(100, 10, console=Console(file=file, width=200)).training(20, METRICS)
    assert file.getvalue() == (
        "step 20/100  loss 1.25 (loss_box 1.25)  lr 0.01  8.0 images/s  data 10%  2.0 GB  40 s left\n"
    )


def test_a_terminal_shows_a_live_display() -> None:
    file = io.StringIO()
    progress = Progress(100, 10, console=Console(file=file, force_terminal=True, width=120, highlight=False))
    progress.training(20, METRICS)
    progress.advance(21)
    with progress.phase("evaluating"):
        progress.say("step 20: AP 0.5")
    progress.close()
    for text in ("step 20/100", "epoch 2.0", "40 s left", "8.0 images/s", "waiting for data 10%", "step 20: AP 0.5"):
        assert text in file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"), [(48.4, "48 s"), (720, "12 min"), (12000, "3 h 20 min"), (187200, "2 d 4 h")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_run_folders_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "mask-1").mkdir()
    assert next_folder("mask", tmp_path) == tmp_path / "mask-2"


def test_what_is_undefined_is_left_out_of_the_curves() -> None:
    assert flatten({"bbox": {"AP": 0.5, "APl": None, "note": "text", "images": 3}}) == {
        "bbox/AP": 0.5,
        "bbox/images": 3,
    }


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"AP": 0.5})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"AP": torch.zeros(1)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"AP": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_count_of_one_process_is_its_own_mean() -> None:
    count: Tensor = torch.tensor(3)
    assert average_count(count) is count
