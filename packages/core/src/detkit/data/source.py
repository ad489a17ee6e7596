"""What `data=...` means: a folder whose layout a dataset reader knows, or a YAML file that names the splits."""

from __future__ import annotations

import inspect
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any, Protocol, get_type_hints

from detkit.config.schema import alternatives
from detkit.data.mixture import Member, Mixture
from detkit.data.stores.files import is_url
from detkit.interfaces import Dataset
from detkit.plugins import registry

DEFAULT_READER = "coco"
PYTHON_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""A function in a module, as Python users name one: "package.module:function"."""
YAML = (".yaml", ".yml")
_EXAMPLE = "`train: {images: FOLDER, annotations: FILE}`"
_HINTS = 3  # places in a message


class Openable(Protocol):
    """A split that has been found and not been read yet."""

    def open(self) -> Dataset:
        """Read the annotations. ValueError if they are not what they should be."""


@dataclass(frozen=True)
class Split:
    """One split of a data source: the name of the dataset component that reads it, and its arguments."""

    reader: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def open(self) -> Dataset:
        """Read the annotations.

        Raises:
            ValueError: the reader does not take these arguments, or finds the files wanting.
        """
        cls = registry().load("dataset", self.reader)
        try:
            inspect.signature(cls).bind(**self.arguments)
        except TypeError as error:
            taken = ", ".join(inspect.signature(cls).parameters)
            raise ValueError(f"the dataset reader {self.reader!r}: {error}; it takes: {taken}") from None
        dataset: Dataset = cls(**self.arguments)
        return dataset


@dataclass(frozen=True)
class Part:
    """One of the datasets that a split is mixed of; see `detkit.data.mixture.Member`."""

    name: str
    source: Openable
    weight: float | None = None
    rename: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MixedSplit:
    """A split that several datasets make up together."""

    parts: Sequence[Part]

    def open(self) -> Mixture:
        """Read the annotations of all of them.

        Raises:
            ValueError: one of them cannot be read, or they do not go together.
        """
        return Mixture([Member(part.name, part.source.open(), part.weight, part.rename) for part in self.parts])


def open_split(path: str | Path, split: str = "train") -> Dataset:
    """Open one split of a data source.

    Raises:
        ValueError: there is no such source, it has no such split, or its files are not what they should be.
    """
    splits = find_splits(path)
    if split not in splits:
        raise ValueError(f"{path} has no split {split!r}; it has: {', '.join(splits)}")
    return splits[split].open()


def find_splits(path: str | Path) -> dict[str, Openable]:
    """The splits ("train", "val", "test", ...) of a folder or a file that an installed reader knows, or of a YAML file:

        train: {images: photos, annotations: train.json}
        val:   {name: coco, images: photos, annotations: val.json}

    where `name` is the reader ("coco" if it is missing) and the rest are its arguments, paths relative to the YAML
    file. Instead of a reader's arguments, `{data: FOLDER, split: NAME}` is a split of a folder that a reader knows, by
    default the one of the same name. A list of such entries is a mixture of datasets, see `detkit.data.mixture`, and
    each of them may have

        member: what it is called; the name of the folder, or of the reader, by default
        weight: its share of the samples in training, relative to those of the others
        rename: {its own name of a class: the name in the mixture}

    Raises:
        ValueError: no reader knows the layout; the message says what they look for.
    """
    given, path = str(path), Path(path).expanduser()
    if is_url(given):
        raise ValueError(
            f"{given} is a URL, and the splits below a URL cannot be found; name them in a YAML file, such as "
            "`train: {images: URL, annotations: URL}`"
        )
    if not path.exists():
        if PYTHON_NAME.fullmatch(given):
            raise ValueError(
                f"{given} names a function, and neither the command line nor a YAML file runs code for data; in Python "
                f"detkit.train(RECIPE, OUT, data={given!r}) does"
            )
        raise ValueError(f"there is no data at {path}: no such file or folder")
    if path.is_file():
        return _from_yaml(path)
    if found := _known_to_readers(path):
        return found
    layouts = {name: registry().load("dataset", name).layout for name in registry().names("dataset")}
    if not layouts:
        raise ValueError(f"no dataset reader is installed to read {path}; pip install det-datasets")
    looked_for = [f"{name}: {layout}" for name, layout in layouts.items() if layout]
    near = " or ".join(f"data={place}" for place in islice(_near(path), _HINTS))
    advice = f"did you mean {near}?" if near else "or name the splits in a YAML file: " + _EXAMPLE
    raise ValueError("\n  ".join([f"no dataset found in {path}; looked for", *looked_for, advice]))


def _near(path: Path) -> Iterator[Path]:
    """Sources in a folder that is none itself, or the folder around it if that is one: for a message."""
    around = Path(os.path.normpath(path / ".."))
    inside = sorted(path.iterdir())
    for place in [around, *(each for each in inside if each.is_dir() or each.suffix in YAML)]:
        try:
            if _from_yaml(place) if place.is_file() else _known_to_readers(place):
                yield place
        except (OSError, ValueError):
            continue


def _known_to_readers(path: Path) -> dict[str, Openable] | None:
    """The splits of a folder or a file that the first reader finds who knows it; None if nobody does."""
    for reader in registry().names("dataset"):
        found = registry().load("dataset", reader).splits(path)
        if found:
            return {name: Split(reader, arguments) for name, arguments in found.items()}
    return None


def _from_yaml(path: Path) -> dict[str, Openable]:
    import yaml  # only for this kind of source

    if path.suffix not in YAML:
        example = _EXAMPLE.replace("FILE", path.name, 1) if path.suffix == ".json" else _EXAMPLE
        raise ValueError(f"{path} is neither a folder nor a .yaml file that names splits; write one, such as {example}")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict) or not tree:
        raise ValueError(f"{path} names no splits; write, say, {_EXAMPLE}")
    ours = all(isinstance(entry, dict) or _is_mixture(entry) for entry in tree.values())
    if not ours and (found := _known_to_readers(path)):  # another format is YAML too
        return found
    return {str(name): _split(path, str(name), entry) for name, entry in tree.items()}


def _is_mixture(entry: Any) -> bool:
    return isinstance(entry, list) and all(isinstance(each, dict) for each in entry)


def _split(path: Path, split: str, entry: Any) -> Openable:
    """What the YAML file at `path` says of one split."""
    if not isinstance(entry, list):
        return _dataset(path, split, split, entry)
    if not entry:
        raise ValueError(f"{path}: split {split!r} is an empty list; name at least one dataset")
    parts: list[Part] = []
    for number, each in enumerate(entry):
        label = f"{split}.{number}"
        own = _options(path, label, each)
        weight, rename, called = (own.pop(key, None) for key in ("weight", "rename", "member"))
        if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int | float)):
            raise ValueError(f"{path}: {label}.weight is {weight!r}; a number is needed")
        texts = [*rename, *rename.values()] if isinstance(rename, dict) else [rename or ""]
        if not (isinstance(rename, dict) or rename is None) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{path}: {label}.rename is {rename!r}; {{own name: name in the mixture}} is needed")
        parts.append(Part(str(called or _name(path, own)), _dataset(path, split, label, own), weight, rename or {}))
    return MixedSplit(_distinct(parts))


def _name(path: Path, entry: Mapping[str, Any]) -> str:
    """What a dataset of a mixture is called by default."""
    if "data" in entry:
        return (path.parent / str(entry["data"])).resolve().name
    return str(entry.get("name", DEFAULT_READER)).rpartition("/")[2]


def _distinct(parts: Sequence[Part]) -> list[Part]:
    """The parts, those of one name numbered: coco-1, coco-2."""
    often = Counter(part.name for part in parts)
    so_far: Counter[str] = Counter()
    found = []
    for part in parts:
        so_far[part.name] += 1
        name = f"{part.name}-{so_far[part.name]}" if often[part.name] > 1 else part.name
        found.append(replace(part, name=name))
    return found


def _options(path: Path, label: str, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
        raise ValueError(f"{path}: split {label!r} is {entry!r}; a mapping of the reader's arguments is needed")
    return dict(entry)


def _dataset(path: Path, split: str, label: str, entry: Any) -> Openable:
    """One dataset of the YAML file at `path`; `label` is where it is written."""
    arguments = _options(path, label, entry)
    if "data" in arguments:
        return _other_source(path, split, label, arguments)
    reader = str(arguments.pop("name", DEFAULT_READER))
    hints = get_type_hints(registry().load("dataset", reader).__init__)
    for key, value in arguments.items():
        kinds = alternatives(hints.get(key))
        if Path in kinds and isinstance(value, str):
            is_address = is_url(value) and str in kinds
            arguments[key] = value if is_address else _beside(path, f"{label}.{key}", value)
        elif Path in kinds and {Path, str, NoneType} >= set(kinds):
            raise ValueError(f"{path}: {label}.{key} is {value!r}; a path is needed")
    return Split(reader, arguments)


def _beside(path: Path, label: str, value: str) -> Path:
    """What a path in the YAML file at `path` means."""
    if is_url(value):
        raise ValueError(
            f"{path}: {label} is the URL {value}; files of this machine are needed here: copy or mount them"
        )
    return path.parent / Path(value).expanduser()


def _other_source(path: Path, split: str, label: str, entry: Mapping[str, Any]) -> Openable:
    if strangers := entry.keys() - {"data", "split"}:
        raise ValueError(
            f"{path}: {label} has `data`, beside which there can be `split`, not {', '.join(sorted(strangers))}: the "
            "reader of a folder is found by itself; to choose one, give `name` and its arguments without `data`"
        )
    source = _beside(path, f"{label}.data", str(entry["data"]))
    if source.is_file():  # files could name each other in a circle
        raise ValueError(f"{path}: {label}.data is the file {source}; give a folder, or write its entries here")
    splits, wanted = find_splits(source), str(entry.get("split", split))
    if wanted not in splits:
        raise ValueError(f"{path}: {label}: {source} has no split {wanted!r}; it has: {', '.join(splits)}")
    return splits[wanted]
