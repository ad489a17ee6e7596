"""Parts of files on web servers."""

from __future__ import annotations

import http.client
import io
import os
import threading
import urllib.error
import urllib.request
import urllib.response
from typing import Any

from detkit.data.stores.files import Files, State
from detkit.data.stores.retry import Final, persistently

TIMEOUT = 30  # seconds without a byte


class HttpFiles(Files):
    """Files of web servers, by range requests over connections that stay open; tries again after errors that may pass.

    Proxies are those that the environment names, as for all of Python's own downloads.
    """

    def __init__(self) -> None:
        self._connections = _Connections()
        self._opener = urllib.request.build_opener(self._connections)

    def __reduce__(self) -> tuple[type[HttpFiles], tuple[()]]:
        return HttpFiles, ()

    def __del__(self) -> None:
        self._connections.shut()

    def read(self, location: str, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return b""
        last = "" if length is None else start + length - 1
        headers = {} if start == 0 and length is None else {"Range": f"bytes={start}-{last}"}

        def once() -> bytes:
            answer = self._answer(location, "GET", headers)
            data: bytes = answer.read()
            if answer.status == 200 and headers:  # the server knows no ranges and has sent everything
                data = data[start:] if length is None else data[start : start + length]
            return data

        return persistently(once)

    def state(self, location: str) -> State:
        headers = persistently(lambda: self._answer(location, "HEAD", {})).headers
        size = headers.get("Content-Length")
        if size is None:
            raise Final("the server does not say how long the file is")
        return State(int(size), headers.get("ETag") or headers.get("Last-Modified") or "")

    def find(self, pattern: str) -> list[str]:
        raise Final("a web server does not list its files: write the names of shards as {000..009} instead of *")

    def _answer(self, location: str, method: str, headers: dict[str, str]) -> urllib.response.addinfourl:
        request = urllib.request.Request(location, headers=headers, method=method)
        try:
            answer: urllib.response.addinfourl = self._opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            passing = error.code >= 500 or error.code in (408, 429)
            raise (OSError if passing else Final)(f"the server answers {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise OSError(str(error.reason)) from error
        except http.client.IncompleteRead as error:
            raise OSError(f"the connection ended after {len(error.partial)} bytes") from error
        except http.client.HTTPException as error:
            raise OSError(repr(error)) from error
        return answer


class _Connections(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Lets urllib, which knows redirections and proxies, keep connections: one for each thread and server. A process
    that was forked makes its own."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[tuple[object, ...], http.client.HTTPConnection] = {}

    def shut(self) -> None:
        for connection in self._kept.values():
            connection.close()

    def do_open(self, http_class: Any, req: urllib.request.Request, **http_conn_args: Any) -> Any:
        """The whole answer, so that the connection is free for the next request."""
        headers = {name.title(): value for name, value in {**req.headers, **req.unredirected_hdrs}.items()}
        tunnel: str | None = req._tunnel_host  # type: ignore[attr-defined]
        password = headers.pop("Proxy-Authorization", None) if tunnel else None  # for the proxy alone
        key = (os.getpid(), threading.get_ident(), http_class, req.host, tunnel)
        connection = self._kept.get(key)
        if connection is None:
            connection = self._kept[key] = http_class(req.host, timeout=req.timeout, **http_conn_args)
            if tunnel:
                connection.set_tunnel(tunnel, headers={"Proxy-Authorization": password} if password else None)
        was_open = connection.sock is not None
        try:
            return _exchange(connection, req, headers)
        except (OSError, http.client.HTTPException) as error:
            if not was_open or isinstance(error, TimeoutError):
                raise
        return _exchange(connection, req, headers)  # the server had closed what was not used for some time


def _exchange(
    connection: http.client.HTTPConnection, request: urllib.request.Request, headers: dict[str, str]
) -> urllib.response.addinfourl:
    try:
        connection.request(request.get_method(), request.selector, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    except BaseException:  # what comes next on it is not the answer to another request
        connection.close()
        raise
    whole = urllib.response.addinfourl(io.BytesIO(body), answer.headers, request.full_url, answer.status)
    whole.msg = answer.reason  # type: ignore[attr-defined]
    return whole
