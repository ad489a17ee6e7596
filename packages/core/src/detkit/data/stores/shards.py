"""Images in tar files, the layout of WebDataset."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from detkit.atomic import whole_file
from detkit.data.stores.files import Files, LocalFiles, State, files_at, is_url
from detkit.data.stores.kept import LocalCopies
from detkit.data.stores.store import ImageStore
from detkit.data.stores.tar_index import Member, as_text, from_text, read_members
from detkit.download import cache_folder

log = logging.getLogger(__name__)

T = TypeVar("T")

SUFFIX = ".index"
READERS = 16  # shards that are looked at side by side, where they are far away

_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("offset", "<i8"), ("size", "<i8"), ("shard", "<i4")])
"""A member: the two halves of the digest of its name, and where it is. Rising in `high`."""


class ShardStore(ImageStore):
    """Images in uncompressed tar files, found by their names in these.

    Where all members are below one folder (`tar cf train2017.tar train2017`), names may leave that out. The places of
    the members are found once, from a file `SHARD.tar.index` beside a shard if there is one (see `write_index`), and
    kept in the cache folder, from which all processes share them.

    Args:
        shards: paths or URLs.
        copies: where what is read is kept, if it is far away.

    Raises:
        ValueError: a shard is missing, compressed or cut short, or two hold members of one name.
    """

    def __init__(self, shards: Sequence[str], copies: LocalCopies | None = None) -> None:
        if not shards:
            raise ValueError("there are no shards")
        self.shards = list(shards)
        self._files = files_at(self.shards[0])
        self._copies = copies
        states = states_of(self._files, self.shards)
        key = "\n".join(f"{shard}\t{state.size}\t{state.version}" for shard, state in zip(shards, states, strict=True))
        self._path = cache_folder() / "shards" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        self._entries = _opened(self._path)
        if self._entries is None:
            self._entries = self._indexed(states)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if isinstance(self._entries, np.memmap):  # the other process maps the same file
            state["_entries"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._entries is None:
            self._entries = _opened(self._path)
            if self._entries is None:
                raise ValueError(f"{self._path} has gone, while the shards that it is the index of are read")

    def read(self, name: str) -> bytes:
        found = self._find(name)
        if found is None:
            raise ValueError(f"cannot read the image {name}: it is not in {_named(self.shards)}")
        shard, offset, size = found
        try:
            if self._copies is None:
                data = self._files.read(self.shards[shard], offset, size)
            else:
                key = f"{self._path.stem}::{self.shards[shard]}::{name}"  # shards that have changed have another index
                data = self._copies.get(key, lambda: self._files.read(self.shards[shard], offset, size))
        except OSError as error:
            raise ValueError(f"cannot read the image {self.place(name)}: {error.strerror or error}") from error
        if len(data) < size:
            raise ValueError(
                f"cannot read the image {self.place(name)}: the shard ends after {len(data)} of its {size} bytes"
            )
        return data

    def place(self, name: str) -> str:
        found = self._find(name)
        return f"{_named(self.shards) if found is None else self.shards[found[0]]}::{name}"

    def _find(self, name: str) -> tuple[int, int, int] | None:
        """Shard, offset and size of a member."""
        assert self._entries is not None
        high, low = _digest(name)
        place = int(np.searchsorted(self._entries["high"], np.uint64(high)))
        while place < len(self._entries) and int(self._entries["high"][place]) == high:
            entry = self._entries[place]
            if int(entry["low"]) == low:
                return int(entry["shard"]), int(entry["offset"]), int(entry["size"])
            place += 1
        return None

    def _indexed(self, states: Sequence[State]) -> NDArray[Any]:
        log.info("finding the members of %s; this is done once", _named(self.shards))
        members = members_of(self._files, self.shards, states)
        entries = _entries(self.shards, members)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self._path) as file:
                np.save(file, entries)
        except OSError as error:
            log.warning("the index of %s is not kept: %s", _named(self.shards), error)
            return entries
        return entries if (kept := _opened(self._path)) is None else kept


def states_of(files: Files, shards: Sequence[str]) -> list[State]:
    """What each shard is like now. ValueError naming one that cannot be read."""
    return list(of_each_shard(files.state, shards, shards))


def members_of(files: Files, shards: Sequence[str], states: Sequence[State]) -> list[list[Member]]:
    """The members of each shard, from the file beside it or from itself. ValueError naming one that is missing,
    compressed or cut short."""

    def members(shard: str, state: State) -> list[Member]:
        try:
            known = from_text(files.read(_beside(shard)).decode(), state.size)
        except (OSError, ValueError):
            known = None  # most shards have none beside them
        return read_members(files, shard, state.size) if known is None else known

    return list(of_each_shard(members, shards, shards, states))


def of_each_shard(call: Callable[..., T], shards: Sequence[str], *arguments: Sequence[Any]) -> Iterator[T]:
    """What a call gives for each shard, in their order; an `OSError` of it becomes a ValueError naming the shard."""

    def named(shard: str, *each: Any) -> T:
        try:
            return call(*each)
        except OSError as error:
            raise ValueError(f"cannot read the shard {shard}: {error.strerror or error}") from error

    if not is_url(shards[0]):
        yield from map(named, shards, *arguments)
        return
    with ThreadPoolExecutor(READERS) as pool:  # nearly all of the time is waiting for an answer
        yield from pool.map(named, shards, *arguments)


def write_index(shard: Path) -> Path:
    """Write the file beside a local shard that saves its readers from walking through it."""
    size = shard.stat().st_size
    path = Path(_beside(str(shard)))
    path.write_text(as_text(read_members(LocalFiles(), str(shard), size), size), encoding="utf-8")
    return path


def _beside(shard: str) -> str:
    first, inside, archive = shard.partition("::")
    path, query, rest = first.partition("?") if is_url(first) else (first, "", "")
    return path + SUFFIX + query + rest + inside + archive


def _named(shards: Sequence[str]) -> str:
    return f"shard {shards[0]}" if len(shards) == 1 else f"{len(shards)} shards {shards[0]} to {shards[-1]}"


def _entries(shards: Sequence[str], members: Sequence[list[Member]]) -> NDArray[Any]:
    """All members by the digests of their names, and again by their names without the folder that all are below."""
    found: dict[str, tuple[int, Member]] = {}
    for shard, inside in enumerate(members):
        for member in inside:  # of two with one name in a shard the second replaces the first, as when it is unpacked
            if member.name in found and (other := found[member.name][0]) != shard:
                raise ValueError(f"{shards[other]} and {shards[shard]} both hold {member.name}; names must differ")
            found[member.name] = shard, member
    if not found:
        raise ValueError(f"there is no file in {_named(shards)}")
    shared = os.path.commonprefix([min(found), max(found)]).rpartition("/")[0]  # noqa: RUF071 - cut at a slash
    starts = (0, len(shared) + 1) if shared else (0,)
    rows = [
        (*_digest(name[start:]), member.offset, member.size, shard)
        for start in starts
        for name, (shard, member) in found.items()
    ]
    entries = np.array(rows, _ENTRY)
    return entries[np.argsort(entries["high"], kind="stable")]


def _digest(name: str) -> tuple[int, int]:
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _opened(path: Path) -> NDArray[Any] | None:
    """The entries of a file, mapped into memory; None if it is missing or damaged."""
    try:
        entries: NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return entries if entries.dtype == _ENTRY else None
