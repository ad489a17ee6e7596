from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import detkit
from detkit.config import Config
from detkit.engine import loop
from detkit.engine.train import train
from detkit.interfaces import Callback
from detkit.weights import read_weights

Configure = Callable[..., Config]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in lines(folder) if "loss" in line]


def weights(folder: Path) -> dict[str, Tensor]:
    return read_weights(folder / "last" / "model.safetensors")


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_loop_can_be_read_at_one_sitting() -> None:
    assert len(inspect.getsource(loop).splitlines()) <= 200


def test_a_run_leaves_its_files(toy_config: Configure, tmp_path: Path) -> None:
    config = toy_config()
    train(config, tmp_path / "run")
    found = {path.name for path in (tmp_path / "run").iterdir()}
    assert found == {
        "best", "last", "checkpoints", "config.yaml", "environment.json", "metrics.json", "metrics.jsonl"
    }  # fmt: skip
    assert Config.load(tmp_path / "run" / "config.yaml") == config


def test_the_run_can_be_loaded_and_knows_its_categories(toy_config: Configure, tmp_path: Path) -> None:
    train(toy_config(), tmp_path / "run")
    model = detkit.load(tmp_path / "run")
    assert model.categories.names == ("red", "green") and model.categories.ids == (3, 7)


def test_metrics_hold_losses_rates_and_evaluations(toy_config: Configure, tmp_path: Path) -> None:
    train(toy_config(), tmp_path / "run")
    found = lines(tmp_path / "run")
    assert [line["step"] for line in found] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert {"loss", "loss_class", "loss_box", "lr", "gradient_norm", "images_per_second", "epoch"} <= found[0].keys()
    assert {"bbox/AP", "validation/loss", "validation/loss_class"} <= found[-1].keys()
    assert found[0]["loss"] == pytest.approx(found[0]["loss_class"] + found[0]["loss_box"])


def test_metrics_json_is_the_newest_evaluation(toy_config: Configure, tmp_path: Path) -> None:
    run = train(toy_config(), tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert stored == run.metrics
    assert stored["bbox"]["images"] == stored["bbox"]["distinct"] == 6


def test_training_lowers_the_losses(toy_config: Configure, tmp_path: Path) -> None:
    run = train(toy_config(steps=40, eval_every=20, save_every=40), tmp_path / "run")
    found = losses(tmp_path / "run")
    assert sum(found[-4:]) < 0.7 * sum(found[:4])
    assert run.metrics["validation"]["loss"] < found[0]


def test_the_same_seed_gives_the_same_run(toy_config: Configure, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(toy_config(seed=seed), tmp_path / name)
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_logging_and_evaluating_do_not_change_the_weights(toy_config: Configure, tmp_path: Path) -> None:
    train(toy_config(), tmp_path / "often")
    train(toy_config(log_every=4, eval_every=6, save_every=6, workers=1), tmp_path / "seldom")
    assert equal(weights(tmp_path / "often"), weights(tmp_path / "seldom"))


def test_a_logged_loss_is_the_mean_since_the_last_line(toy_config: Configure, tmp_path: Path) -> None:
    train(toy_config(), tmp_path / "each")
    train(toy_config(log_every=3), tmp_path / "third")
    each = losses(tmp_path / "each")
    assert losses(tmp_path / "third") == pytest.approx([each[0], sum(each[1:3]) / 2, sum(each[3:]) / 3])


def test_epochs_are_counted_in_images(toy_config: Configure, tmp_path: Path) -> None:
    run = train(toy_config(steps=None, epochs=1.5), tmp_path / "run")
    assert run.step == 6  # 24 of 16 images, 4 a step
    assert lines(tmp_path / "run")[-2]["epoch"] == 1.5


@pytest.mark.parametrize("length", [{"epochs": 1}, {"steps": None}])
def test_steps_and_epochs_exclude_each_other(toy_config: Configure, tmp_path: Path, length: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give exactly one of them"):
        train(toy_config(**length), tmp_path / "run")


def test_the_learning_rate_scales_with_the_batch(toy_config: Configure, tmp_path: Path) -> None:
    train(toy_config(optimizer={"name": "sgd", "lr": 0.02}, lr_batch_size=16), tmp_path / "run")
    assert lines(tmp_path / "run")[0]["lr"] == pytest.approx(0.02 * 4 / 16)


def test_the_schedule_sets_the_learning_rate(toy_config: Configure, tmp_path: Path) -> None:
    schedule = {"name": "multistep", "milestones": [4], "warmup": 2, "warmup_factor": 0.5}
    train(toy_config(schedule=schedule), tmp_path / "run")
    rates = [line["lr"] for line in lines(tmp_path / "run") if "lr" in line]
    assert rates == pytest.approx([0.005, 0.0075, 0.01, 0.01, 0.001, 0.001])


def test_the_schedule_scales_every_group_and_the_log_has_the_rate_without_factors(
    toy_config: Configure, tmp_path: Path
) -> None:
    optimizer = {"name": "sgd", "lr": 0.01, "lr_factors": {"body": 0.1}, "bias_lr_factor": 2}
    train(toy_config(optimizer=optimizer, schedule={"name": "constant", "warmup": 6}), tmp_path / "run")
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    groups = torch.load(newest / "trainer.pt", weights_only=True)["optimizer"]["param_groups"]
    rates = [line["lr"] for line in lines(tmp_path / "run") if "lr" in line]
    assert sorted(group["lr"] / rates[-1] for group in groups) == pytest.approx([0.1, 0.1, 0.2, 1.0, 2.0])
    assert rates[-1] == pytest.approx(0.01 * (0.001 + 0.999 * 5 / 6))


def test_accumulated_parts_count_as_one_batch(toy_config: Configure, toy_data: Path, tmp_path: Path) -> None:
    toy_data.write_text("train: {name: toy/toy, images: 1}\n")  # every part holds the same image
    train(toy_config(accumulate=2), tmp_path / "parts")
    train(toy_config(), tmp_path / "whole")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_a_batch_that_cannot_be_split_is_an_error(toy_config: Configure, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size 4 cannot be split into accumulate 3"):
        train(toy_config(accumulate=3), tmp_path / "run")


def last_update(toy_config: Configure, folder: Path, **train_options: Any) -> Tensor:
    """What the second step adds to the weights, at a learning rate of 1."""
    optimizer = {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    runs = [train(toy_config(steps=n, optimizer=optimizer, **train_options), folder / str(n)) for n in (1, 2)]
    before, after = (torch.cat([each.detach().flatten() for each in run.model.parameters()]) for run in runs)
    return after - before


def test_gradients_are_clipped_by_their_norm(toy_config: Configure, tmp_path: Path) -> None:
    assert float(last_update(toy_config, tmp_path, clip_norm=0.01).norm()) == pytest.approx(0.01, rel=1e-3)


def test_gradients_are_clipped_by_their_value(toy_config: Configure, tmp_path: Path) -> None:
    assert float(last_update(toy_config, tmp_path, clip_value=1e-3).abs().max()) == pytest.approx(1e-3, rel=1e-2)


def test_bfloat16_trains_and_keeps_float32_weights(toy_config: Configure, tmp_path: Path) -> None:
    run = train(toy_config(precision="bfloat16"), tmp_path / "run")
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
    train(toy_config(), tmp_path / "float32")
    assert losses(tmp_path / "run")[0] == pytest.approx(losses(tmp_path / "float32")[0], rel=0.05)
    assert losses(tmp_path / "run") != losses(tmp_path / "float32")


def test_the_moving_average_is_what_is_saved(toy_config: Configure, tmp_path: Path) -> None:
    run = train(toy_config(ema=0.9), tmp_path / "run")
    saved = weights(tmp_path / "run")
    assert equal(saved, run.evaluated.state_dict())
    assert not equal(saved, run.model.state_dict())


def test_the_best_model_is_kept(toy_config: Configure, tmp_path: Path) -> None:
    run = train(toy_config(steps=12, eval_every=1, monitor="validation/loss"), tmp_path / "run")
    evaluated = {line["step"]: line["validation/loss"] for line in lines(tmp_path / "run") if "bbox/AP" in line}
    assert run.best == min(evaluated.values())
    meta = json.loads((tmp_path / "run" / "best" / "meta.json").read_text())
    assert meta["step"] == run.best_step and evaluated[run.best_step] == run.best
    assert meta["metrics"]["validation"]["loss"] == run.best


def test_training_stops_early_without_progress(toy_config: Configure, tmp_path: Path) -> None:
    optimizer = {"name": "sgd", "lr": 1e-12}
    run = train(
        toy_config(steps=20, eval_every=2, patience=2, monitor="bbox/images", optimizer=optimizer), tmp_path / "run"
    )
    assert (run.step, run.best_step, run.finished) == (6, 2, True)


def test_an_unknown_metric_is_an_error_that_lists_the_metrics(toy_config: Configure, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'segm/AP'; this run's metrics are bbox/AP, .*validation/loss"):
        train(toy_config(monitor="segm/AP"), tmp_path / "run")


def test_without_validation_images_training_goes_on_with_a_warning(
    toy_config: Configure, toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_data.write_text("train: {name: toy/toy, images: 16}\n")
    run = train(toy_config(), tmp_path / "run")
    assert run.finished and not (tmp_path / "run" / "best").exists()
    assert "the data has no split 'val'" in capsys.readouterr().err


def test_splits_of_different_classes_are_an_error(toy_config: Configure, toy_data: Path, tmp_path: Path) -> None:
    toy_data.write_text("train: {name: toy/toy}\nval: {name: toy/toy, classes: [red, blue]}\n")
    with pytest.raises(ValueError, match="the splits have different classes; train has red, green; val has red, blue"):
        train(toy_config(), tmp_path / "run")


def test_an_empty_training_set_is_an_error(toy_config: Configure, toy_data: Path, tmp_path: Path) -> None:
    toy_data.write_text("train: {name: toy/toy, images: 0}\n")
    with pytest.raises(ValueError, match="has no images; there is nothing to train on"):
        train(toy_config(), tmp_path / "run")


def test_a_loss_that_is_not_finite_names_its_images_and_harms_no_checkpoint(
    toy_config: Configure, toy_data: Path, tmp_path: Path
) -> None:
    toy_data.write_text("train: {name: toy/toy, images: 16, broken: 5}\n")
    with pytest.raises(FloatingPointError) as error:
        train(toy_config(save_every=1), tmp_path / "run")
    message = str(error.value)
    assert "a loss is not finite" in message and "loss_class nan" in message
    assert "image_id 1005  toy/5.jpg" in message and message.count("image_id") == 4
    step = int(message.split("stopped at step ")[1].split(":")[0])
    if step > 1:
        assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_suspicious_settings_are_pointed_out(
    toy_config: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(toy_config(schedule={"name": "constant"}, batch_size=32, patience=1, eval_every=6), tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert "half of the 6 steps pass before the learning rate is warmed up" in said
    assert "a batch of 32 holds some of the 16 training images more than once" in said
    assert "train.patience has no effect" in said


def test_callbacks_see_the_run(toy_config: Configure, tmp_path: Path) -> None:
    seen: list[Callback] = []

    config = toy_config(callbacks=["toy/toy"], steps=2, eval_every=2, save_every=2, log_every=2)
    import toy_engine.callback

    class Seen(toy_engine.callback.ToyCallback):
        def on_start(self, run: Any) -> None:
            seen.append(self)
            super().on_start(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_engine.callback, "ToyCallback", Seen)
        train(config, tmp_path / "run")
    assert seen[0].events == ["start", "step 1", "step 2", "save 2", "evaluate 2", "save 2", "finish"]


def test_a_config_without_data_says_how_to_give_it(toy_config: Configure, tmp_path: Path) -> None:
    config = toy_config()
    config.tree["data"] = None
    with pytest.raises(ValueError, match="give data=PATH"):
        train(config, tmp_path / "run")


def test_a_cuda_device_that_is_not_there_is_an_error(
    toy_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no CUDA GPU"):
        train(toy_config(device="cuda"), tmp_path / "run")


def test_tensorboard_receives_the_curves(toy_config: Configure, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(toy_config(trackers=["tensorboard"]), tmp_path / "run")
    curves = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in curves.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in curves.Scalars("bbox/AP")] == [3, 6]


def test_tensorboard_that_is_not_installed_names_the_extra(
    toy_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'det-core\[tensorboard\]'"):
        train(toy_config(trackers=["tensorboard"]), tmp_path / "run")


def test_a_sampler_says_how_long_an_epoch_is(
    toy_config: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(toy_config(steps=None, epochs=1.5, sampler={"name": "subset", "count": 8}), tmp_path / "run")
    assert run.step == 3  # 12 of 8 images, 4 a step
    assert "16 images, 8 in an epoch, 6 for validation" in capsys.readouterr().err


def test_a_mixture_is_evaluated_with_its_classes(toy_config: Configure, toy_data: Path, tmp_path: Path) -> None:
    toy_data.write_text(
        "train: [{name: toy/toy, weight: 1}, {name: toy/toy, classes: [blue, red], weight: 2, member: blue}]\n"
        "val: {name: toy/toy, images: 6, classes: [blue, green]}\n"
    )
    config = toy_config()
    config.tree["evaluators"] = []  # the toy's knows no mixtures
    run = train(config, tmp_path / "run")
    assert run.model.categories.names == ("red", "green", "blue")
    assert run.metrics["validation"]["loss"] > 0
