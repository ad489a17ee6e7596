"""Files from the web, checked and kept: published weights."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

BLOCK = 1 << 20
TIMEOUT = 30  # seconds without a byte


def cache_folder() -> Path:
    """Where downloads are kept: DETKIT_CACHE, else detkit in the user's cache folder."""
    if folder := os.environ.get("DETKIT_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "detkit"


def download(url: str, sha256: str | None = None) -> Path:
    """The file at `url`, from the cache or fetched into it. An interrupted download is taken up where it stopped.

    Args:
        url: http or https.
        sha256: the file's checksum in hexadecimal, or its first digits (as many as its publisher gives, 8 at least);
            None for files without a published checksum.

    Returns:
        A path in the cache; it exists only when the file is complete and its checksum is right.

    Raises:
        ValueError: it cannot be fetched, or its checksum is wrong; says what to do.
    """
    target = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / url.rsplit("/", 1)[-1]
    if target.is_file():
        return target
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
    if sha256 is not None:
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(sha256.lower()):
            part.unlink()
            raise ValueError(
                f"{url} has arrived with sha256 {found}, but {sha256} is published: the download is damaged or the "
                "file has been replaced. It is not used; try again"
            )
    part.replace(target)
    return target


def _fetch(url: str, part: Path) -> None:
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
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
