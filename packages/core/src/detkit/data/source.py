"""What `data=...` means: a folder whose layout a dataset reader knows, or a YAML file that names the splits."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from detkit.interfaces import Dataset
from detkit.plugins import registry

DEFAULT_READER = "coco"


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


def open_split(path: str | Path, split: str = "train") -> Dataset:
    """Open one split of a data source.

    Raises:
        ValueError: there is no such source, it has no such split, or its files are not what they should be.
    """
    splits = find_splits(path)
    if split not in splits:
        raise ValueError(f"{path} has no split {split!r}; it has: {', '.join(splits)}")
    return splits[split].open()


def find_splits(path: str | Path) -> dict[str, Split]:
    """The splits ("train", "val", "test", ...) of a folder that an installed reader knows, or of a YAML file:

        train: {images: photos, annotations: train.json}
        val:   {name: coco, images: photos, annotations: val.json}

    where `name` is the reader ("coco" if it is missing) and the rest are its arguments, paths relative to the YAML
    file.

    Raises:
        ValueError: no reader knows the layout; the message says what they look for.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"there is no data at {path}: no such file or folder")
    if path.is_file():
        return _from_yaml(path)
    looked_for = []
    for reader in registry().names("dataset"):
        cls = registry().load("dataset", reader)
        found = cls.splits(path)
        if found:
            return {name: Split(reader, arguments) for name, arguments in found.items()}
        looked_for.append(f"{reader}: {cls.layout}")
    if not looked_for:
        raise ValueError(f"no dataset reader is installed to read {path}; pip install det-datasets")
    raise ValueError(f"no dataset found in {path}; looked for\n  " + "\n  ".join(looked_for))


def _from_yaml(path: Path) -> dict[str, Split]:
    import yaml  # only for this kind of source

    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(
            f"{path} is neither a folder nor a .yaml file that names splits; see the guide on data sources"
        )
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict) or not tree:
        raise ValueError(f"{path} names no splits; write, say, `train: {{images: FOLDER, annotations: FILE}}`")
    splits = {}
    for name, entry in tree.items():
        if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
            raise ValueError(f"{path}: split {name!r} is {entry!r}; a mapping of the reader's arguments is needed")
        reader = str(entry.get("name", DEFAULT_READER))
        arguments = {key: value for key, value in entry.items() if key != "name"}
        hints = get_type_hints(registry().load("dataset", reader).__init__)
        for key, value in arguments.items():
            if hints.get(key) in (Path, Path | None):
                if not isinstance(value, str):
                    raise ValueError(f"{path}: {name}.{key} is {value!r}; a path is needed")
                arguments[key] = path.parent / Path(value).expanduser()
        splits[str(name)] = Split(reader, arguments)
    return splits
