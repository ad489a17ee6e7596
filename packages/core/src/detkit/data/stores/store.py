"""What gives the bytes of images by their names."""

from __future__ import annotations

import os
import re
import urllib.parse
from abc import ABC, abstractmethod
from pathlib import Path

from detkit.data.image import IMAGE_SUFFIXES
from detkit.data.stores.files import Files, files_at, is_url
from detkit.data.stores.kept import LocalCopies, bytes_of
from detkit.data.stores.patterns import expand
from detkit.download import cache_folder

LIMIT = "DETKIT_IMAGE_CACHE"
"""The environment's variable that says how much of images from URLs is kept on this machine, such as 50GB."""

_URL = re.compile(r"[a-z][a-z0-9+.-]+:/")  # `Path` makes one slash of two


class ImageStore(ABC):
    """Where the images of a dataset are. Objects can be sent to other processes, and go on working after a fork."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The contents of an image's file. ValueError naming the place and the image if it cannot be read."""

    @abstractmethod
    def place(self, name: str) -> str:
        """Where an image is: a path, a URL, or a shard and what is in it, written as `shard.tar::name`."""


class FolderStore(ImageStore):
    """Files below a folder or a URL.

    Args:
        folder: the path or URL that names are relative to.
        copies: where what is read is kept, if it is far away.
    """

    def __init__(self, folder: str | Path, copies: LocalCopies | None = None) -> None:
        self.folder = folder
        self._path = None if is_url(folder) else str(Path(folder))
        self._files = files_at(str(folder))
        self._copies = copies

    def read(self, name: str) -> bytes:
        place = self.place(name)
        try:
            if self._copies is not None:
                return self._copies.get(place, lambda: self._files.read(place))
            return self._files.read(place)
        except OSError as error:
            raise ValueError(f"cannot read the image {place}: {error.strerror or error}") from error

    def place(self, name: str) -> str:
        return joined(self.folder, name) if self._path is None else os.path.join(self._path, name)


def joined(url: str | Path, name: str) -> str:
    """The URL of a name below another; that may be one in an archive, `zip://folder::https://...`, and have a query."""
    first, inside, archive = str(url).partition("::")
    if not first.startswith(("http://", "https://")):
        return (
            f"{first.rstrip('/')}/{name}{inside}{archive}"
            if not first.endswith("://")
            else f"{first}{name}{inside}{archive}"
        )
    parts = urllib.parse.urlsplit(first)
    path = f"{parts.path.rstrip('/')}/{urllib.parse.quote(name)}"
    return urllib.parse.urlunsplit(parts._replace(path=path)) + inside + archive


def open_store(location: str | Path | ImageStore) -> ImageStore:
    """The store at a location: a folder, tar shards (`train-{000..009}.tar`, `train-*.tar`, one `.tar`, or a folder of
    them), or a URL of either. What comes from URLs is kept on this machine as far as the variable DETKIT_IMAGE_CACHE
    of the environment allows, such as 50GB; without it, it is read again in each epoch.

    Raises:
        ValueError: there are no such shards, or what reads such URLs is not installed.
    """
    if isinstance(location, ImageStore):
        return location
    text = str(location)
    shards = find_shards(text)
    copies = _copies() if is_url(text) else None
    if shards is None:
        return FolderStore(location, copies)
    from detkit.data.stores.shards import ShardStore

    return ShardStore(shards, copies)


def find_shards(location: str) -> list[str] | None:
    """The tar files that a location means; None if it means a folder of images.

    Raises:
        ValueError: there are none, or they are compressed.
    """
    if location.endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")):
        raise ValueError(f"{location} is compressed, so that no image in it can be read by itself; unpack it to a .tar")
    if not location.endswith(".tar"):
        folder = Path(location)
        return None if is_url(location) or not folder.is_dir() else _shards_in(folder)
    if not is_url(location) and Path(location).is_file():
        return [location]
    found: list[str] = []
    for name in expand(location):
        try:
            found += files_at(name).find(name) if "*" in name else [name]
        except OSError as error:
            raise ValueError(f"cannot list the shards {name}: {error}") from error
    if not found:
        raise ValueError(f"there are no shards {location}")
    return found


def _shards_in(folder: Path) -> list[str] | None:
    """The tar files of a folder that has no images beside them."""
    shards = []
    with os.scandir(folder) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in IMAGE_SUFFIXES:
                return None
            if suffix == ".tar":
                shards.append(entry.path)
    return sorted(shards) or None


def _copies() -> LocalCopies | None:
    limit = os.environ.get(LIMIT)
    if not limit:
        return None
    try:
        return LocalCopies(cache_folder() / "images", bytes_of(limit))
    except ValueError as error:
        raise ValueError(f"{LIMIT}: {error}") from None


def local_file(location: str | Path) -> Path:
    """A file as one of this machine: a path as it is, what is at a URL copied into the cache folder, once for each
    version of it.

    Raises:
        ValueError: the URL cannot be read.
    """
    if not is_url(location):
        return Path(location)
    url = str(location)
    files = files_at(url)
    try:
        return _copied(files, url)
    except OSError as error:
        raise ValueError(f"cannot read {url}: {error}") from error


def local_folder(location: str | Path) -> Path:
    """A folder that must be one of this machine.

    Raises:
        ValueError: it is a URL.
    """
    if _URL.match(str(location)):
        raise ValueError(f"{location} is a URL, and a folder of this machine is needed here; copy or mount it")
    return Path(location)


def _copied(files: Files, url: str) -> Path:
    import hashlib

    from detkit.atomic import whole_file

    state = files.state(url)
    digest = hashlib.sha256(f"{url}\n{state.size}\n{state.version}".encode()).hexdigest()[:16]
    path = cache_folder() / digest / Path(urllib.parse.urlsplit(url.partition("::")[0]).path).name
    if not (path.is_file() and path.stat().st_size == state.size):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(files.read(url))
    return path
