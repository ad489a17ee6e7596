"""Files from the web, checked and kept: published weights."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20
TIMEOUT = 30  # seconds without a byte


def cache_folder() -> Path:
    """Where downloads are kept: DETKIT_CACHE, else detkit in the user's cache folder."""
    if folder := os.environ.get("DETKIT_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detkit"


@dataclass(frozen=True)
class Fetched:
    """A file in the cache, complete and checked.

    path: of the file; url: where it came from; sha256: its checksum in hexadecimal.
    """

    path: Path
    url: str
    sha256: str


def digits_in_name(url: str) -> str | None:
    """The first digits of a file's checksum, where its publisher ends its name with them, as torchvision and timm do:
    f37072fd of resnet18-f37072fd.pth; None for other names."""
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", url)
    return match and match[1]


def download(url: str, sha256: str | None = None) -> Path:
    """The path of what `fetch` returns."""
    return fetch(url, sha256).path


def fetch(url: str, sha256: str | None = None) -> Fetched:
    """The file at `url`, from the cache or downloaded into it. An interrupted download is taken up where it stopped.

    The checksum of what arrived is written beside the file, and has to be the same whenever the file is used again:
    what has no published checksum cannot change unnoticed either.

    Args:
        url: http or https.
        sha256: the file's checksum in hexadecimal, or its first digits (as many as its publisher gives, 8 at least);
            None for files without a published checksum.

    Raises:
        ValueError: it cannot be fetched, or its checksum is wrong; says what to do.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{8,64}", sha256):
        raise ValueError(f"sha256 is {sha256!r}; give the checksum's hexadecimal digits, the first 8 of them at least")
    target = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / url.rsplit("/", 1)[-1]
    note = target.with_name(target.name + ".sha256")
    if target.is_file():
        found = _checksum(target)
        known = note.read_text(encoding="ascii").split()[0] if note.is_file() else found
        if found != known or not found.startswith((sha256 or "").lower()):
            raise ValueError(
                f"{target}, kept from {url}, has sha256 {found}, but "
                + (f"had {known} when it was downloaded" if found != known else f"{sha256} is wanted")
                + ": delete it, and it is downloaded again"
            )
        if not note.is_file():  # somebody put the file there by hand
            _write_note(note, found, target.name)
        return Fetched(target, url, found)
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ValueError(
            f"{url} cannot be downloaded: {reason}. Try again (what has arrived is kept), or put the file there by "
            f"hand: {target}"
        ) from error
    found = _checksum(part)
    if not found.startswith((sha256 or "").lower()):
        part.unlink()
        raise ValueError(
            f"{url} has arrived with sha256 {found}, but {sha256} is wanted: the download is damaged or the "
            "file has been replaced. It is not used; try again"
        )
    _write_note(note, found, target.name)
    part.replace(target)
    return Fetched(target, url, found)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_note(note: Path, sha256: str, name: str) -> None:
    """As the program sha256sum writes it, which can check it too."""
    note.write_text(f"{sha256}  {name}\n", encoding="ascii")


def _fetch(url: str, part: Path) -> None:
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing beyond what is here: it was complete, or it is stale
            total = (error.headers.get("Content-Range") or "").rsplit("/", 1)[-1]
            if total == str(have):
                return
            part.unlink()
            return _fetch(url, part)
        raise
    with response, part.open("ab" if response.status == 206 else "wb") as file:
        expected = int(response.headers.get("Content-Length") or 0)
        written = 0
        while block := response.read(BLOCK):
            file.write(block)
            written += len(block)
    if written < expected:
        raise OSError(f"the connection ended after {written} of {expected} bytes")
