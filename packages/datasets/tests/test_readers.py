"""What holds for all readers of formats with many small files: they are kept, and read anew when a file changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from det_datasets import cache
from det_datasets.annotated import AnnotatedImages
from det_datasets.dota.make import make_dota
from det_datasets.openimages.make import make_openimages
from det_datasets.voc.make import VocWriter, make_voc
from det_datasets.yolo.make import make_yolo
from detkit.cli.main import main
from detkit.data.source import find_splits, open_split
from detkit.data.subset import Subset
from detkit.plugins import registry

MAKERS: dict[str, Callable[..., None]] = {
    "voc": make_voc,
    "yolo": make_yolo,
    "dota": make_dota,
    "openimages": make_openimages,
}
TEXTS = {
    "voc": "Annotations/*.xml",
    "yolo": "labels/train/*.txt",
    "dota": "train/labelTxt/*.txt",
    "openimages": "train-annotations-bbox.csv",
}


def opened(folder: Path) -> AnnotatedImages:
    data = open_split(folder)
    assert isinstance(data, AnnotatedImages)
    return data


def counts(data: AnnotatedImages) -> list[int]:
    return [len(data.labels(index)) for index in range(len(data))]


@pytest.mark.parametrize("name", MAKERS)
def test_annotations_are_kept_until_a_file_changes(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    MAKERS[name](tmp_path / "data", images=6, val_images=1, size=64)
    plain = opened(tmp_path / "data")
    monkeypatch.setattr(cache, "SMALL", 0)
    first, second = opened(tmp_path / "data"), opened(tmp_path / "data")
    assert plain._columns.file is None
    assert second._columns.file == first._columns.file is not None
    assert second.problems == plain.problems
    assert second.categories == plain.categories
    for index in range(len(plain)):
        expected = plain[index]
        assert torch.equal(second[index].image, expected.image)
        for key, value in second[index].target.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(expected.target[key])), key
    texts = sorted((tmp_path / "data").glob(TEXTS[name]), key=lambda path: -path.stat().st_size)
    text = texts[0].read_text()
    one = text[text.rindex("\t<object>") : text.rindex("</annotation>")] if name == "voc" else text.splitlines()[-1]
    texts[0].write_text(text.replace(one, "").strip() + ("" if name == "voc" else "\n"))
    assert sum(counts(opened(tmp_path / "data"))) == sum(counts(plain)) - 1


@pytest.mark.parametrize("name", MAKERS)
def test_every_reader_knows_its_own_folders_alone(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path, images=2, val_images=1, size=64)
    found = find_splits(tmp_path)
    assert {"train", "val"} <= found.keys()
    assert {split.reader for split in found.values()} == {name}  # type: ignore[attr-defined]
    others = [other for other in registry().names("dataset") if other != name]
    assert [other for other in others if registry().load("dataset", other).splits(tmp_path)] == []


@pytest.mark.parametrize("name", MAKERS)
def test_commands_write_what_functions_write(tmp_path: Path, name: str) -> None:
    arguments: dict[str, Any] = {"images": 2, "val_images": 1, "size": 64, "seed": 3}
    MAKERS[name](tmp_path / "function", **arguments)
    words = [word for key, value in arguments.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    assert main(["data", "make", name, "--out", str(tmp_path / "command"), *words]) == 0
    files = {
        folder: {
            path.relative_to(tmp_path / folder): path.read_bytes().replace(folder.encode(), b"")
            for path in (tmp_path / folder).rglob("*")
            if path.is_file()
        }
        for folder in ("function", "command")
    }
    assert files["function"] == files["command"]


def test_parts_of_a_dataset_keep_what_is_difficult(tmp_path: Path) -> None:
    make_voc(tmp_path / "all", images=8, val_images=1, size=64)
    data = opened(tmp_path / "all")
    chosen = [index for index in range(len(data)) if data.difficult(index).any()]
    VocWriter().write({"train": Subset(data, chosen)}, tmp_path / "part")
    part = opened(tmp_path / "part")
    assert chosen
    for position, index in enumerate(chosen):
        assert part.image_id(position) == data.image_id(index)
        assert torch.equal(part.difficult(position), data.difficult(index))
