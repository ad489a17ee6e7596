"""Parts of files on web servers."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from detkit.data.stores.files import Files, State
from detkit.data.stores.retry import Final, persistently

TIMEOUT = 30  # seconds without a byte


class HttpFiles(Files):
    """Files of web servers, by range requests; tries again after errors that may pass."""

    def read(self, location: str, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return b""
        last = "" if length is None else start + length - 1
        headers = {} if start == 0 and length is None else {"Range": f"bytes={start}-{last}"}
        return persistently(lambda: _get(location, headers, start, length))

    def state(self, location: str) -> State:
        return persistently(lambda: _head(location))

    def find(self, pattern: str) -> list[str]:
        raise Final("a web server does not list its files: write the names of shards as {000..009} instead of *")


def _get(location: str, headers: dict[str, str], start: int, length: int | None) -> bytes:
    with _request(location, "GET", headers) as response:
        try:
            data: bytes = response.read()
        except http.client.IncompleteRead as error:
            raise OSError(f"the connection ended after {len(error.partial)} bytes") from error
        except http.client.HTTPException as error:
            raise OSError(repr(error)) from error
        if response.status == 200 and headers:  # the server knows no ranges and has sent everything
            data = data[start:] if length is None else data[start : start + length]
    return data


def _head(location: str) -> State:
    with _request(location, "HEAD", {}) as response:
        size = response.headers.get("Content-Length")
        if size is None:
            raise Final("the server does not say how long the file is")
        return State(int(size), response.headers.get("ETag") or response.headers.get("Last-Modified") or "")


def _request(location: str, method: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    request = urllib.request.Request(location, headers=headers, method=method)
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        passing = error.code >= 500 or error.code in (408, 429)
        raise (OSError if passing else Final)(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from error
    except http.client.HTTPException as error:
        raise OSError(repr(error)) from error
    return response
