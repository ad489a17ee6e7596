from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import detkit
from detkit.atomic import whole_folder
from detkit.detector import Detector
from detkit.model_directory import load, save_model
from detkit.plugins import Registry, use_registry
from detkit.structures.categories import Categories
from detkit.testing.processes import Job, code
from detkit.weights import read_weights, write_weights

CONFIG = {"name": "use/colours", "input": {"min_size": 0}}


@pytest.fixture
def saved(colours: Detector, tmp_path: Path) -> Path:
    return save_model(colours, tmp_path / "model", config=CONFIG, meta={"licence": {"weights": "CC0"}, "step": 7})


def rewrite_meta(folder: Path, **changes: object) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, **changes}))


def test_a_saved_model_loads_equal(colours: Detector, saved: Path) -> None:
    loaded = detkit.load(saved)
    assert loaded.categories == colours.categories
    assert loaded.input == colours.input
    assert not loaded.training
    torch.testing.assert_close(loaded.state_dict(), colours.state_dict(), rtol=0, atol=0)


def test_meta_says_what_the_model_is(saved: Path) -> None:
    meta = json.loads((saved / "meta.json").read_text())
    assert meta["categories"] == {"names": ["red", "green", "blue"], "ids": [3, 7, 11]}
    assert meta["licence"] == {"weights": "CC0"}
    assert meta["step"] == 7
    assert meta["input"]["mean"] == [123.675, 116.28, 103.53]
    assert meta["versions"].keys() >= {"python", "torch", "torchvision", "det-core", "use-toy"}


def test_meta_cannot_contradict_the_model(colours: Detector, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="meta has categories"):
        save_model(colours, tmp_path / "model", config=CONFIG, meta={"categories": {}})


def test_tuples_in_the_config_become_lists(colours: Detector, tmp_path: Path) -> None:
    folder = save_model(
        colours, tmp_path / "m", config={**CONFIG, "input": {"min_size": 0, "std": (58.395, 57.12, 57.375)}}
    )
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["input"]["std"] == [58.395, 57.12, 57.375]
    load(folder)


def test_saving_again_replaces_the_model(colours: Detector, saved: Path) -> None:
    with torch.no_grad():
        colours.backbone.bias.fill_(5)
    save_model(colours, saved, config=CONFIG)
    assert load(saved).backbone.bias.tolist() == [5, 5, 5, 5]
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_folder_with_other_files_is_not_replaced(colours: Detector, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(ValueError, match=r"holds holiday\.jpg\), so it is not replaced"):
        save_model(colours, tmp_path, config=CONFIG)
    assert (tmp_path / "holiday.jpg").exists()


@pytest.mark.xdist_group("processes")  # forked from one
def test_a_full_disk_leaves_the_old_model(
    colours: Detector, tmp_path: Path, use_toy: Path, start: Callable[..., Job]
) -> None:
    """Files of the child process may have 4096 bytes: config.yaml and meta.json fit, the weights do not."""
    folder, config = tmp_path / "model", {**CONFIG, "channels": 1000}
    save_model(type(colours)(categories=colours.categories, channels=1000), folder, config=config)
    script = f"""
import resource, signal
import detkit
from detkit.model_directory import save_model
model = detkit.load({str(folder)!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_model(model, {str(folder)!r}, config={config!r})
except OSError as error:
    print(error)
"""
    done = start(code, script, plugin=use_toy).wait()
    assert done.returncode == 0, done.stderr
    assert "cannot write" in done.stdout
    assert "File too large" in done.stdout
    load(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_process_killed_between_the_renames_loses_nothing(saved: Path) -> None:
    saved.rename(saved.parent / ".model.previous")
    load(saved)
    assert saved.is_dir()


def test_a_process_killed_while_writing_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".new.partial").mkdir()
    (tmp_path / ".new.partial" / "leftover").touch()
    with whole_folder(tmp_path / "new") as folder:
        (folder / "file").write_text("text")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_an_error_while_writing_removes_the_partial_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "new"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_run_gives_its_best_model_else_its_last(colours: Detector, tmp_path: Path) -> None:
    for name, value in (("last", 1.0), ("best", 2.0)):
        with torch.no_grad():
            colours.backbone.bias.fill_(value)
        save_model(colours, tmp_path / name, config=CONFIG)
        assert load(tmp_path).backbone.bias[0] == value


def test_a_run_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ValueError, match=r"neither a model directory .* nor a run that has saved a model"):
        load(tmp_path)


def test_weights_of_another_model_are_listed(saved: Path) -> None:
    state = read_weights(saved / "model.safetensors")
    state["neck.weight"] = state.pop("backbone.bias")
    state["head.scores.bias"] = torch.zeros(81)
    write_weights(state, saved / "model.safetensors")
    with pytest.raises(ValueError, match="weights of another model") as caught:
        load(saved)
    message = str(caught.value)
    assert "1 missing: backbone.bias" in message
    assert "1 unexpected: neck.weight" in message
    assert "1 of another shape: head.scores.bias (81,) instead of (4,)" in message


@pytest.mark.parametrize("content", [b"", b"\x80\x04}q\x00.", b"<html>not found</html>"])
def test_weights_that_are_not_safetensors(saved: Path, content: bytes) -> None:
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is not a complete safetensors file"):
        load(saved)


def test_truncated_weights(saved: Path) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        load(saved)


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "meta.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} does not exist"):
        load(saved)


def test_meta_that_is_not_json(saved: Path) -> None:
    (saved / "meta.json").write_text("{")
    with pytest.raises(ValueError, match=r"meta\.json is not JSON"):
        load(saved)


def test_a_model_of_a_newer_format(saved: Path) -> None:
    rewrite_meta(saved, format=2)
    with pytest.raises(ValueError, match="has format 2, this detkit reads up to 1; update it"):
        load(saved)


def test_config_and_meta_of_two_models(saved: Path) -> None:
    rewrite_meta(saved, input={"min_size": 800})
    with pytest.raises(ValueError, match="disagree on the input"):
        load(saved)


def test_a_model_whose_plugin_is_absent_names_it(saved: Path) -> None:
    with use_registry(Registry()), pytest.raises(ValueError, match=r"was saved with .*use-toy") as caught:
        load(saved)
    assert "no detector is called 'use/colours'" in str(caught.value)


def test_a_recipe_has_random_weights_and_says_so(use_toy: Path) -> None:
    with pytest.warns(UserWarning, match="its weights are random"):
        model = load("use/colours-recipe")
    assert model.categories.names[:2] == ("person", "bicycle")
    assert model.categories.ids[-1] == 90


def test_a_recipe_takes_categories(use_toy: Path) -> None:
    with pytest.warns(UserWarning, match="random"):
        model = load("use/colours-recipe", categories=Categories(("cat",)))
    assert model.head.scores.out_features == 2


def test_an_unknown_recipe_names_a_near_one(use_toy: Path) -> None:
    with pytest.raises(ValueError, match="no folder use/colour-recipe, and no recipe") as caught:
        load("use/colour-recipe")
    assert "did you mean: use/colours-recipe?" in str(caught.value)


def test_a_checkpoint_of_another_system_is_told_how_to_convert(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pkl"
    path.touch()
    with pytest.raises(ValueError, match="detkit convert"):
        load(path)


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        load(tmp_path / "nothing")


def test_arrays_that_share_memory_are_saved(tmp_path: Path) -> None:
    shared = torch.arange(3.0)
    write_weights({"a": shared, "b": shared}, tmp_path / "w.safetensors")
    assert read_weights(tmp_path / "w.safetensors")["b"].tolist() == [0, 1, 2]
