from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from detkit.data.mixture import Mixture
from detkit.data.source import find_splits, open_split
from detkit.interfaces import Dataset
from detkit.plugins import Component, Registry, hookimpl, use_registry
from detkit.structures.categories import Categories
from detkit.structures.sample import Sample


class Letters(Dataset):
    """A split is a file of letters, each an image."""

    layout = "train.txt and val.txt"

    def __init__(self, file: Path, upper: bool = False) -> None:
        self.categories = Categories(("letter",))
        try:
            self.letters = file.read_text()
        except OSError:
            raise ValueError(f"no letters at {file}") from None

    @classmethod
    def splits(cls, path: Path) -> Mapping[str, Mapping[str, Any]] | None:
        return {file.stem: {"file": file} for file in sorted(path.glob("*.txt"))} or None

    def __len__(self) -> int:
        return len(self.letters)

    def size(self, index: int) -> tuple[int, int]:
        return 1, 1

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError

    def ground_truth(self) -> None:
        return None


class Plugin:
    @hookimpl
    def detkit_components(self) -> list[Component]:
        return [Component(kind="dataset", name="acme/letters", target=f"{__name__}:Letters")]


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())
    registry = Registry()
    registry.register(Plugin(), "acme-letters")
    with use_registry(registry):
        yield


def _this_module() -> Any:
    import types

    module = types.ModuleType(__name__)
    module.Letters = Letters  # type: ignore[attr-defined]
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.txt").write_text("abc")
    (tmp_path / "val.txt").write_text("de")
    return tmp_path


def test_a_reader_recognises_its_folder(folder: Path) -> None:
    assert set(find_splits(folder)) == {"train", "val"}
    assert len(open_split(folder)) == 3
    assert len(open_split(folder, "val")) == 2


def test_a_yaml_file_names_splits_relative_to_itself(folder: Path) -> None:
    source = folder / "source.yaml"
    source.write_text(
        "train: {name: acme/letters, file: train.txt}\nday: {name: acme/letters, file: val.txt, upper: true}"
    )
    assert len(open_split(source)) == 3
    assert len(open_split(source, "day")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "is not YAML"),
        ("", "names no splits"),
        ("- train", "names no splits"),
        ("train: photos", "split 'train' is 'photos'; a mapping"),
        ("train: {1: 2}", "a mapping of the reader's arguments"),
        ("train: {name: acme/leters, file: a}", "did you mean: acme/letters"),
        ("train: {name: acme/letters, file: 3}", "train.file is 3; a path is needed"),
        ("train: {name: acme/letters, files: a}", "it takes: file, upper"),
        ("train: {name: acme/letters}", "missing a required argument: 'file'"),
        ("train: {name: acme/letters, file: nowhere.txt}", "no letters at .*nowhere.txt"),
        ("val: {name: acme/letters, file: val.txt}", "has no split 'train'; it has: val"),
    ],
)
def test_a_wrong_yaml_file_is_explained(folder: Path, text: str, message: str) -> None:
    source = folder / "source.yaml"
    source.write_text(text)
    with pytest.raises(ValueError, match=message):
        open_split(source)


def test_a_list_is_a_mixture(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "train.txt").write_text("fghij")
    source = folder / "source.yaml"
    source.write_text(
        """
        train:
          - {name: acme/letters, file: train.txt, weight: 1, rename: {letter: sign}}
          - {name: acme/letters, file: val.txt, weight: 2.5, member: late}
          - {data: more, weight: 1}
          - {data: more, split: train, weight: 1}
        """
    )
    mixture = open_split(source)
    assert isinstance(mixture, Mixture)
    assert [member.name for member in mixture.members] == [
        "letters",
        "late",
        "more-1",
        "more-2",
    ]
    assert [member.weight for member in mixture.members] == [1, 2.5, 1, 1]
    assert mixture.categories.names == ("sign", "letter")
    assert len(mixture) == 3 + 2 + 5 + 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: []", "split 'train' is an empty list"),
        ("train: [photos]", "split 'train.0' is 'photos'; a mapping"),
        ("train: [{name: acme/letters, file: train.txt, weight: much}]", "train.0.weight is 'much'; a number"),
        ("train: [{name: acme/letters, file: train.txt, rename: [a]}]", r"train.0.rename is \['a'\]"),
        ("train: [{name: acme/letters, file: 3}]", "train.0.file is 3; a path is needed"),
        ("train: [{data: ., file: train.txt}]", "beside which there can be `split`, not file"),
        ("train: [{data: ., split: night}]", "has no split 'night'; it has: train, val"),
        ("train: [{data: source.yaml}]", "give a folder, or write its entries here"),
    ],
)
def test_a_wrong_list_is_explained(folder: Path, text: str, message: str) -> None:
    source = folder / "source.yaml"
    source.write_text(text)
    with pytest.raises(ValueError, match=message):
        open_split(source)


def test_a_name_of_a_function_is_not_called() -> None:
    with pytest.raises(ValueError, match=r"neither the command line nor a YAML file runs code.*detkit\.train\("):
        find_splits("os:getcwd")


def test_a_source_that_is_none_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"looked for\n  acme/letters: train\.txt and val\.txt"):
        open_split(tmp_path)
    with pytest.raises(ValueError, match="no such file or folder"):
        open_split(tmp_path / "nowhere")
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(ValueError, match=r"neither a folder nor a \.yaml file.*annotations: data\.json"):
        open_split(tmp_path / "data.json")


def test_a_folder_beside_a_source_leads_to_it(folder: Path) -> None:
    inner = folder / "images"
    inner.mkdir()
    with pytest.raises(ValueError, match=f"did you mean data={re.escape(str(folder))}\\?"):
        open_split(inner)


def test_a_folder_with_sources_names_them(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outer = tmp_path_factory.mktemp("outer")
    folder.rename(outer / "letters")
    (outer / "data.yaml").write_text("train: {name: acme/letters, file: letters/train.txt}")
    (outer / "notes.yaml").write_text("- none")
    with pytest.raises(ValueError, match=r"did you mean data=\S+/data\.yaml or data=\S+/letters\?"):
        open_split(outer)


def test_without_readers_the_package_to_install_is_named(tmp_path: Path) -> None:
    with use_registry(Registry()), pytest.raises(ValueError, match="pip install det-datasets"):
        open_split(tmp_path)
