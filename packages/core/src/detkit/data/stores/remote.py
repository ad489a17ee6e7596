"""Parts of files at URLs that fsspec knows: s3://, gs://, zip://, memory://, ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from detkit.data.stores.files import Files, State
from detkit.data.stores.retry import Final, persistently

T = TypeVar("T")


class RemoteFiles(Files):
    """Files that fsspec reads; what URLs look like, and where it finds passwords, is told in its documentation.

    Raises:
        ValueError: it is not installed.
    """

    def __init__(self) -> None:
        try:
            import fsspec  # noqa: F401
        except ImportError:
            raise ValueError("URLs other than http(s) are read by fsspec; pip install 'det-core[remote]'") from None

    def read(self, location: str, start: int = 0, length: int | None = None) -> bytes:
        end = None if length is None else start + length
        return _tried(location, lambda files, path: bytes(files.cat_file(path, start=start, end=end)))

    def state(self, location: str) -> State:
        found = _tried(location, lambda files, path: files.info(path))
        if found.get("size") is None:
            raise Final("its size is not known")
        version = next(
            (found[key] for key in ("ETag", "etag", "mtime", "LastModified", "created") if found.get(key)), ""
        )
        return State(int(found["size"]), str(version))

    def find(self, pattern: str) -> list[str]:
        return _tried(
            pattern, lambda files, path: [files.unstrip_protocol(found) for found in sorted(files.glob(path))]
        )


def _tried(location: str, call: Callable[[Any, str], T]) -> T:
    """`call` with fsspec's file system and the path in it. fsspec keeps one file system of each kind in a process and
    makes new ones after a fork."""
    from fsspec.core import url_to_fs

    def once() -> T:
        try:
            files, path = url_to_fs(location)
            return call(files, path)
        except FileNotFoundError:
            raise Final("no such file") from None
        except (PermissionError, ImportError, ValueError) as error:  # these say what to install, or what is wrong
            raise Final(str(error)) from error
        except Exception as error:  # the errors of services are of their own types
            raise OSError(str(error) or repr(error)) from error

    return persistently(once)
