"""Models on disk: `save_model` writes a model directory, `load` reads one, a run, or a recipe.

A model directory holds three files and no code:

    config.yaml         the resolved `model` section, as in an experiment's config
    model.safetensors   the state dict
    meta.json           format      version of this layout, 1
                        categories  names, the dataset's ids, supercategories: label 0 first
                        semantic_categories  likewise those of pixels, where the model labels pixels
                        input       channel order, mean, std, resize rule (`InputSpec`)
                        licence     of the code, the weights and the data they were trained on, or null
                        versions    distribution -> version of Python, torch and every plugin at work when it was saved
                        ...         what the writer knows besides: recipe, step, metrics, source
"""

from __future__ import annotations

import json
import platform
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from detkit.atomic import recover, whole_folder
from detkit.config import Config, build
from detkit.detector import Detector
from detkit.plugins import registry
from detkit.structures.categories import Categories
from detkit.structures.coco import COCO, COCO_PERSON, COCO_PIXELS
from detkit.structures.input_spec import InputSpec
from detkit.weights import differences, read_weights, write_weights

FORMAT = 1
FILES = ("config.yaml", "model.safetensors", "meta.json")
_NEEDED_KEYS = ("format", "categories", "input", "versions")
_OWN_KEYS = (*_NEEDED_KEYS, "semantic_categories")
_UNNAMED_CLASSES = 80  # of a model from a recipe that does not say what data it is for


def save_model(
    model: Detector, folder: str | Path, *, config: Mapping[str, Any], meta: Mapping[str, Any] | None = None
) -> Path:
    """Write a model directory, whole or not at all: if anything fails (a full disk), an existing one stays as it is.

    Args:
        model: its weights are read from any device.
        folder: created, or replaced if it is a model directory.
        config: the resolved `model` section that builds this model, plain mappings and lists.
        meta: further keys for meta.json: `licence`, `recipe`, `step`, `metrics`, `source`, ... of plain values.

    Raises:
        ValueError: `folder` holds anything but a model, `meta` has a key that is the directory's own, or the model was
            optimised for inference.
        OSError: the files cannot be written.
    """
    if model.optimized:
        raise ValueError(
            "this model was optimised for inference: its weights are not those of its config; save it before"
        )
    folder, meta = Path(folder), dict(meta or {})
    if taken := [key for key in _OWN_KEYS if key in meta]:
        raise ValueError(f"meta has {', '.join(taken)}, which save_model fills in from the model; leave them out")
    if folder.exists():
        foreign = [folder] if not folder.is_dir() else [path for path in folder.iterdir() if path.name not in FILES]
        if foreign:
            raise ValueError(
                f"{folder} is not a model directory (it holds {foreign[0].name}), so it is not replaced; "
                "give a new folder, or one that holds a model"
            )
    about = {
        "format": FORMAT,
        "categories": model.categories.to_dict(),
        **({"semantic_categories": model.semantic_categories.to_dict()} if model.semantic_categories else {}),
        "input": model.input.to_dict(),
        "licence": meta.pop("licence", None),
        "versions": versions(),
        **meta,
    }
    tree = json.loads(json.dumps(config))  # tuples become lists, as YAML has no tuples
    with whole_folder(folder) as new:
        (new / "config.yaml").write_text(yaml.safe_dump({"model": tree}, sort_keys=False), encoding="utf-8")
        (new / "meta.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        write_weights(model.state_dict(), new / "model.safetensors")
    return folder


def load(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    categories: Categories | None = None,
    class_frequencies: Callable[[], Sequence[float]] | None = None,
) -> Detector:
    """Load a model in evaluation mode.

    Args:
        source: a model directory; a run's directory (its best model, else its last); or a recipe's name or YAML file,
            which gives random weights and a warning.
        device: where the model is put.
        categories: the classes of a model from a recipe; by default COCO's if the recipe is for COCO, its person with
            keypoints if it is for those, else "class 1" to "class 80". Classes of pixels likewise, 54 for COCO. A model
            directory has its own.
        class_frequencies: gives how often each class occurs, to a model directory whose losses ask for it and whose
            config does not say. Only losses need it.

    Raises:
        ValueError: nothing there, an unknown recipe, a broken file, or weights of another model; says which.
    """
    folder = find_model(source)
    if folder is None:
        model = build_recipe(source, categories).to(device)
        warnings.warn(
            f"the recipe {source} says how to build a model, not what it learned: its weights are random", stacklevel=3
        )
        return model
    if categories is not None:
        raise ValueError(f"{folder} has its own categories; for others, train it on: detkit train ... --init {folder}")
    meta = read_meta(folder)
    own = Categories.from_dict(meta["categories"])
    pixels = Categories.from_dict(meta["semantic_categories"]) if "semantic_categories" in meta else None
    wiring = {"categories": own, "semantic_categories": pixels, "class_frequencies": class_frequencies}
    model = _build(read_config(folder), wiring, folder, meta)
    if model.input != InputSpec.from_dict(meta["input"]):
        raise ValueError(
            f"{folder}: config.yaml and meta.json disagree on the input ({model.input.to_dict()}, {meta['input']}); "
            "they are not of one model"
        )
    state = read_weights(folder / "model.safetensors")
    if problems := differences(model, state):
        raise ValueError(
            f"{folder}: model.safetensors holds the weights of another model than config.yaml describes; arrays "
            + "; ".join(problems)
        )
    model.load_state_dict(state)
    return model.to(device).eval()


def find_model(source: str | Path) -> Path | None:
    """The model directory that `source` means, None if it is a recipe.

    Raises:
        ValueError: `source` is a path that is neither a model directory nor a run with a model.
    """
    folder = Path(source)
    recover(folder)
    if folder.is_dir():
        recover(folder / "best")
        recover(folder / "last")
        for candidate in (folder, folder / "best", folder / "last"):
            if (candidate / "meta.json").is_file() or (candidate / "model.safetensors").is_file():
                return candidate
        raise ValueError(
            f"{folder} is neither a model directory ({', '.join(FILES)}) nor a run that has saved a model (best, last)"
        )
    if folder.suffix in (".yaml", ".yml"):
        return None
    if folder.is_file():
        raise ValueError(
            f"{folder} is a file; a model is a folder with {', '.join(FILES)}. "
            "Checkpoints of other systems are turned into one by detkit convert"
        )
    if isinstance(source, Path) or folder.is_absolute() or source.startswith("."):
        raise ValueError(f"{folder} does not exist; give a model directory, a run's directory or a recipe's name")
    return None


def read_meta(folder: Path) -> dict[str, Any]:
    """The contents of a model directory's meta.json.

    Raises:
        ValueError: it is missing, not JSON, lacks something, or was written by a newer detkit.
    """
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; a model directory holds {', '.join(FILES)}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("format"), int):
        raise ValueError(f"{path} is not the description of a detkit model: it has no format number")
    if meta["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {meta['format']}, this detkit reads up to {FORMAT}; update it: pip install -U det-core"
        )
    if lacking := [key for key in _NEEDED_KEYS if not isinstance(meta.get(key), dict) and key != "format"]:
        raise ValueError(f"{path} lacks {', '.join(lacking)}")
    return meta


def read_config(folder: Path) -> dict[str, Any]:
    """The `model` section in a model directory's config.yaml.

    Raises:
        ValueError: it is missing or not such a file.
    """
    path = folder / "config.yaml"
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; a model directory holds {', '.join(FILES)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
        raise ValueError(f"{path} has no `model` section")
    return tree["model"]


def versions() -> dict[str, str]:
    """Distribution -> version of what makes models behave as they do: Python, torch and every plugin at work."""
    found = {"torch": torch.__version__, "torchvision": metadata.version("torchvision")}
    plugins = {info.name: info.version for info in registry().plugins() if info.state == "loaded"}
    return {"python": platform.python_version(), **found, **dict(sorted(plugins.items()))}


def _build(
    config: Mapping[str, Any],
    wiring: Mapping[str, Any],
    folder: Path,
    meta: Mapping[str, Any],
) -> Detector:
    try:
        model = build(config, Detector, **wiring)
    except ValueError as error:
        absent = sorted(set(meta["versions"]) - set(versions()))
        hint = f" (it was saved with {', '.join(absent)}, not installed here)" if absent else ""
        raise ValueError(f"the model in {folder} cannot be built{hint}: {error}") from error
    return model


def build_recipe(source: str | Path, categories: Categories | None = None, changes: Iterable[str] = ()) -> Detector:
    """The model of a recipe with random weights, in evaluation mode.

    Args:
        source: the recipe's name or a YAML file.
        categories: the classes; by default those that `load` says.
        changes: of the config, such as "model.backbone.depth=101".

    Raises:
        ValueError: there is no such recipe, or it cannot be built.
    """
    if Path(source).suffix not in (".yaml", ".yml"):
        try:
            registry().find("recipe", str(source))
        except ValueError as error:
            raise ValueError(f"there is no folder {source}, and {error}") from error
    config = Config.load(source, changes)
    dataset, unnamed = config.tree["about"].get("dataset"), Categories.numbered(_UNNAMED_CLASSES)
    if categories is None:
        categories = {"coco": COCO, "coco-keypoints": COCO_PERSON}.get(dataset, unnamed)
    pixels = COCO_PIXELS if dataset == "coco" else unnamed
    model = config.build("model", categories=categories, semantic_categories=pixels)
    assert isinstance(model, Detector)
    return model.eval()
