"""What readers make of annotation files, kept in files that are mapped into memory: opened in no time, shared by all
processes, and out of the way when memory is short."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from det_datasets.columns import Columns
from detkit.download import cache_folder
from detkit.structures.categories import Categories

log = logging.getLogger(__name__)

FORMAT = 2
"""Of the files; another number for each change of `Columns` or of this module that old files do not fit."""

SMALL = 16 << 20
"""Bytes of annotations that are read in a fraction of a second, so that they are not kept. A file counts as 4 KB at
least."""

LIMIT = 10 << 30
"""Bytes of all files that are kept. When there are more, those that were not used for longest are deleted."""

_IN_USE = 86400.0  # seconds after its last opening for which a file is never deleted
_BLOCK = 1 << 24


@dataclass
class Annotations:
    """What a reader makes of its files.

    columns, categories, problems: see `AnnotatedImages`; extra: what else the format needs, as JSON has it.
    """

    columns: Columns
    categories: Categories
    problems: Counter[str]
    extra: Any = None


def cached(
    build: Callable[[], Annotations],
    *,
    reader: str,
    sources: Sequence[Path] = (),
    watched: Sequence[str | Path] = (),
    arguments: Mapping[str, Any] | None = None,
    slow: bool = False,
) -> Annotations:
    """What `build` returns, from the cache if it holds that for the same reader, files and arguments.

    It lies in the folder `annotations` of `detkit.download.cache_folder`, unless DETKIT_CACHE_ANNOTATIONS is 0. What it
    holds is checked before it is used, and built anew when it is damaged; where it cannot be written, a warning is
    logged and annotations stay in memory. Several processes may build at the same time: the last one's file stays.

    Args:
        build: reads the files; it is the one to say what is wrong with them.
        reader: name and version of the reader's rules, "coco 1"; raise the version when these change.
        sources: the annotation files. Each counts with its contents.
        watched: more files that the result depends on, too many or too large to be read each time: images that tell
            their sizes, thousands of text files. Each counts with its path, its size and the time of its last change.
        arguments: what else the result depends on, as JSON has it.
        slow: reading takes long for so few files, as of pictures: they count a hundred times.
    """
    try:
        before = _stamps([*sources, *watched])
        weight = sum(max(size, 4096) for _, size, _ in before[: len(sources)])
        weight += 4096 * len(watched) * (100 if slow else 1)
        if weight < SMALL or os.environ.get("DETKIT_CACHE_ANNOTATIONS") == "0":
            return build()
        key = [FORMAT, reader, arguments, [size for _, size, _ in before[: len(sources)]], before[len(sources) :]]
        folder, start = cache_folder() / "annotations", _hash(key, 16)
        new = next(folder.glob(f"{start}-*"), None) is None
    except (OSError, RuntimeError):  # a file is missing, which the reader explains; or this user has no home
        return build()
    with ThreadPoolExecutor(1) as thread:
        contents = thread.submit(lambda: [_digest(_file_blocks(path)) for path in sources])
        made = build() if new else None  # while checksums are computed
        try:
            path = folder / f"{start}-{_hash(contents.result(), 32)}.safetensors"
        except OSError:
            return made or build()
    found = None if new else _open(path)
    if found is not None:
        return found
    made = made or build()
    return _keep(made, path) if _stamps([*sources, *watched]) == before else made  # else: changed while it was read


def _hash(key: Any, digits: int) -> str:
    return sha256(msgspec.json.encode(key)).hexdigest()[:digits]


def _stamps(paths: Iterable[str | Path]) -> list[tuple[str, int, int]]:
    found = []
    for path in paths:
        state = os.stat(path)
        found.append((os.fspath(path), state.st_size, state.st_mtime_ns))
    return found


def _open(path: Path) -> Annotations | None:
    """What the file holds; None if there is none or it is damaged."""
    try:
        found = _read(path)
    except FileNotFoundError:
        return None
    except Exception as error:  # damage can lead to anything
        log.warning("%s is damaged (%s): the annotations are read anew", path, error)
        return None
    with suppress(OSError):
        os.utime(path)  # it is in use
    return found


def _read(path: Path) -> Annotations:
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    if metadata.get("sha256") != _checksum(metadata.get("rest", ""), tensors):
        raise ValueError("its checksum is wrong")
    rest = msgspec.json.decode(metadata["rest"])
    return Annotations(
        Columns.of_tensors(tensors, path),
        Categories.from_dict(rest["categories"]),
        Counter(rest["problems"]),
        rest["extra"],
    )


def _keep(made: Annotations, path: Path) -> Annotations:
    """Write the file, and return what it holds; what was made if that fails."""
    rest = {"categories": made.categories.to_dict(), "problems": made.problems, "extra": made.extra}
    text, tensors = msgspec.json.encode(rest).decode(), made.columns.tensors()
    # Others may be writing the same, hence a name of its own; the checksum makes it needless to wait for the disk.
    part = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(tensors, part, {"rest": text, "sha256": _checksum(text, tensors)})
            part.chmod(0o644)  # for all who share the folder
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        log.warning(
            "annotations cannot be kept in %s (%s): they are read anew each time. DETKIT_CACHE names another folder, "
            "and DETKIT_CACHE_ANNOTATIONS=0 does without",
            path.parent,
            error,
        )
        return made
    log.info("annotations are kept in %s", path)
    _tidy(path.parent)
    return _open(path) or made


def _tidy(folder: Path) -> None:
    """Delete what was not used for longest until the rest is within `LIMIT`, and what was never completed."""
    with suppress(OSError):  # others may be tidying too
        files = sorted(((path.stat(), path) for path in folder.iterdir()), key=lambda item: item[0].st_mtime)
        total = sum(state.st_size for state, _ in files)
        for state, path in files:
            idle = state.st_mtime < time.time() - _IN_USE
            if idle and (total > LIMIT or path.suffix == ".partial"):
                path.unlink()
                total -= state.st_size


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    parts = [text.encode()]
    blocks: list[Callable[[], Any]] = []
    for name in sorted(tensors):
        tensor = tensors[name]
        parts.append(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if not tensor.numel():
            continue  # an empty one may have strides that cannot be viewed as bytes
        flat = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        blocks += [partial(flat.__getitem__, slice(at, at + _BLOCK)) for at in range(0, len(flat), _BLOCK)]
    return sha256(b"\0".join(parts) + _digest(blocks).encode()).hexdigest()


def _file_blocks(path: Path) -> list[Callable[[], Any]]:
    def read(at: int) -> bytes:
        with path.open("rb", buffering=0) as file:
            file.seek(at)
            return file.read(_BLOCK)

    return [partial(read, at) for at in range(0, path.stat().st_size, _BLOCK)]


def _digest(blocks: Sequence[Callable[[], Any]]) -> str:
    """Of the checksums of blocks, which several threads compute: this is what opening waits for."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        found = threads.map(lambda block: sha256(block()).digest(), blocks)
        return sha256(b"".join(found)).hexdigest()
