from __future__ import annotations

import http.server
import io
import multiprocessing
import os
import socket
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest

from detkit.data.stores import retry
from detkit.data.stores.shards import write_index
from detkit.data.stores.store import FolderStore, ImageStore, joined, local_file, open_store

CONTENTS = {f"{number:03}.jpg": os.urandom(1000 + number) for number in range(20)}


def make_tar(path: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


class Server(http.server.ThreadingHTTPServer):
    """Serves files with ranges, over connections that stay open; the next responses can be broken off, or errors."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.moved: dict[str, str] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.failures: list[int] = []  # statuses; 0 breaks the connection off
        self.sent = 0
        self.connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        """Close all connections, as servers do after some time without requests."""
        for connection in self.connections:
            with suppress(OSError):  # the other side was first
                connection.shutdown(socket.SHUT_RDWR)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and contents in one packet

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.command, self.path, asked))
        if target := self.server.moved.get(self.path):
            return self.empty(302, target)
        data = self.server.files.get(self.path)
        failure = self.server.failures.pop(0) if self.server.failures else None
        if data is None or failure:
            return self.empty(failure or 404)
        whole = len(data)
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            data = data[int(first) : int(last or whole) + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", str(hash(self.server.files[self.path])))
        self.end_headers()
        if self.command == "GET":
            self.server.sent += len(data)
            self.wfile.write(data[: len(data) // 2] if failure == 0 else data)
        self.close_connection = failure == 0
        return None

    def empty(self, status: int, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Location", location)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DETKIT_IMAGE_CACHE", raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    names = sorted(CONTENTS)
    files = {f"/images/{name}": data for name, data in CONTENTS.items()}
    for shard in range(2):
        path = make_tar(tmp_path / f"{shard}.tar", {name: CONTENTS[name] for name in names[shard::2]})
        files[f"/shards/{shard}.tar"] = path.read_bytes()
    with Server(files) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def test_images_of_a_web_server(server: Server) -> None:
    store = open_store(f"{server.url}/images")
    assert {name: store.read(name) for name in CONTENTS} == CONTENTS
    assert store.place("000.jpg") == f"{server.url}/images/000.jpg"


def test_one_image_of_a_shard_is_one_request_for_its_bytes(server: Server) -> None:
    store = open_store(f"{server.url}/shards/{{0..1}}.tar")
    server.requests.clear()
    server.sent = 0
    assert store.read("003.jpg") == CONTENTS["003.jpg"]
    assert [(command, path) for command, path, _ in server.requests] == [("GET", "/shards/1.tar")]
    assert server.sent == len(CONTENTS["003.jpg"])


def test_a_shard_of_large_images_is_not_read_for_its_index(server: Server, tmp_path: Path) -> None:
    large = make_tar(tmp_path / "large.tar", {f"{number}.jpg": bytes(4_000_000) for number in range(3)})
    server.files["/large.tar"] = large.read_bytes()
    store = open_store(f"{server.url}/large.tar")
    assert server.sent < 5_000_000
    assert store.read("1.jpg") == bytes(4_000_000)


def test_an_index_beside_a_shard_is_used(server: Server, tmp_path: Path) -> None:
    for shard in range(2):
        server.files[f"/shards/{shard}.tar.index"] = write_index(tmp_path / f"{shard}.tar").read_bytes()
    store = open_store(f"{server.url}/shards/{{0..1}}.tar")
    assert not [path for command, path, _ in server.requests if command == "GET" and path.endswith(".tar")]
    assert store.read("003.jpg") == CONTENTS["003.jpg"]


@pytest.mark.parametrize("failures", [[0], [500, 0], [503, 429, 502]])
def test_errors_that_pass_are_tried_again(server: Server, failures: list[int]) -> None:
    store = open_store(f"{server.url}/images")
    server.failures = failures
    assert store.read("000.jpg") == CONTENTS["000.jpg"]


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([0] * 9, r"the connection ended after 500 bytes \(4 times\)"),
        ([500] * 9, r"the server answers 500 .*\(4 times\)"),
        ([403], r"the server answers 403 Forbidden$"),
    ],
)
def test_errors_that_stay_name_the_image(server: Server, failures: list[int], message: str) -> None:
    store = open_store(f"{server.url}/images")
    server.failures = failures
    with pytest.raises(ValueError, match=f"cannot read the image {server.url}/images/000.jpg: {message}"):
        store.read("000.jpg")


def test_images_are_read_over_one_connection(server: Server) -> None:
    store = open_store(f"{server.url}/images")
    for name in CONTENTS:
        store.read(name)
    with pytest.raises(ValueError, match="404"):
        store.read("none.jpg")
    assert store.read("000.jpg") == CONTENTS["000.jpg"]
    assert len(server.connections) == 1


def test_a_connection_that_the_server_has_closed_is_made_anew(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", ())
    store = open_store(f"{server.url}/images")
    for name in sorted(CONTENTS)[:3]:
        assert store.read(name) == CONTENTS[name]
        server.hang_up()
    assert len(server.connections) == 3


def test_after_an_answer_that_was_cut_short_the_next_is_whole(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSES", ())
    store = open_store(f"{server.url}/images")
    store.read("000.jpg")
    server.failures = [0, 0]  # also when it is tried over a new connection
    with pytest.raises(ValueError, match="the connection ended after 500 bytes"):
        store.read("000.jpg")
    assert store.read("001.jpg") == CONTENTS["001.jpg"]


def test_threads_have_connections_of_their_own(server: Server) -> None:
    store = open_store(f"{server.url}/images")
    with ThreadPoolExecutor(4) as pool:
        assert dict(zip(CONTENTS, pool.map(store.read, CONTENTS), strict=True)) == CONTENTS
    assert len(server.connections) <= 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_has_connections_of_its_own(server: Server) -> None:
    store = open_store(f"{server.url}/images")
    store.read("000.jpg")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_read_all, args=(store,)) for _ in range(2)]
    for process in processes:
        process.start()
    assert store.read("001.jpg") == CONTENTS["001.jpg"]
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(server.connections) == 3


def _read_all(store: ImageStore) -> None:
    assert {name: store.read(name) for name in CONTENTS} == CONTENTS


def test_what_has_moved_is_found(server: Server) -> None:
    server.moved["/images/new.jpg"] = f"{server.url}/images/000.jpg"
    store = open_store(f"{server.url}/images")
    assert store.read("new.jpg") == CONTENTS["000.jpg"]
    assert len(server.connections) == 1


def test_proxies_are_those_of_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    server.files["http://far.example/a.jpg"] = b"a"
    assert open_store("http://far.example").read("a.jpg") == b"a"


def test_a_server_that_is_not_there(server: Server) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError, match=r"cannot read the shard http://127\S*\.tar: .*refused"):
        open_store(f"{server.url}/shards/{{0..1}}.tar")


def test_web_servers_list_no_shards(server: Server) -> None:
    with pytest.raises(ValueError, match=r"cannot list the shards .*write the names of shards as \{000\.\.009\}"):
        open_store(f"{server.url}/shards/*.tar")


@pytest.mark.parametrize("location", ["images", "shards/{0..1}.tar"])
def test_what_was_read_is_kept_as_the_environment_says(
    server: Server, quick: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.setenv("DETKIT_IMAGE_CACHE", "1MB")
    store = open_store(f"{server.url}/{location}")
    assert store.read("000.jpg") == CONTENTS["000.jpg"]
    server.requests.clear()
    assert store.read("000.jpg") == CONTENTS["000.jpg"]
    assert not server.requests
    assert [path.read_bytes() for path in (quick / "images").rglob("*") if path.is_file()] == [CONTENTS["000.jpg"]]


def test_a_shard_that_has_changed_is_read_anew(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETKIT_IMAGE_CACHE", "1MB")
    url = f"{server.url}/shards/0.tar"
    assert open_store(url).read("000.jpg") == CONTENTS["000.jpg"]
    server.files["/shards/0.tar"] = make_tar(tmp_path / "new.tar", {"000.jpg": b"new"}).read_bytes()
    assert open_store(url).read("000.jpg") == b"new"


def test_a_limit_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETKIT_IMAGE_CACHE", "lots")
    with pytest.raises(ValueError, match="DETKIT_IMAGE_CACHE: 'lots' is no size"):
        open_store("https://example.org/images")


def test_files_are_copied_once_for_each_version(server: Server) -> None:
    server.files["/train.json"] = b"first"
    url = f"{server.url}/train.json"
    path = local_file(url)
    assert path.name == "train.json"
    assert path.read_bytes() == b"first"
    assert local_file(url) == path
    assert [command for command, *_ in server.requests] == ["HEAD", "GET", "HEAD"]
    server.files["/train.json"] = b"2nd"
    assert local_file(url).read_bytes() == b"2nd"
    with pytest.raises(ValueError, match=r"cannot read http\S*/missing\.json: the server answers 404"):
        local_file(f"{server.url}/missing.json")
    assert local_file(Path("here.json")) == Path("here.json")


@pytest.fixture
def memory() -> Iterator[str]:
    files = fsspec.filesystem("memory")
    files.pipe({f"/stored/images/{name}": data for name, data in CONTENTS.items()})
    yield "memory://stored"
    files.rm("/stored", recursive=True)


def test_folders_and_shards_of_fsspec(memory: str, tmp_path: Path) -> None:
    store = open_store(f"{memory}/images")
    assert {name: store.read(name) for name in CONTENTS} == CONTENTS
    for shard in range(2):
        path = make_tar(tmp_path / f"{shard}.tar", {name: CONTENTS[name] for name in sorted(CONTENTS)[shard::2]})
        fsspec.filesystem("memory").pipe(f"/stored/{shard}.tar", path.read_bytes())
    for location in ("{0..1}.tar", "*.tar"):
        store = open_store(f"{memory}/{location}")
        assert {name: store.read(name) for name in CONTENTS} == CONTENTS
    with pytest.raises(ValueError, match=r"cannot read the image memory://stored/images/x\.jpg: no such file"):
        open_store(f"{memory}/images").read("x.jpg")


def test_images_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("images/a.jpg", b"a")
    store = open_store(f"zip://images::file://{tmp_path}/train.zip")
    assert store.read("a.jpg") == b"a"
    assert isinstance(store, FolderStore)


def test_an_fsspec_service_that_fails_is_tried_again(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = type(fsspec.filesystem("memory"))
    read, failures = files.cat_file, [RuntimeError("throttled")] * 2

    def failing(*arguments: object, **keywords: object) -> bytes:
        if failures:
            raise failures.pop()
        return read(*arguments, **keywords)

    monkeypatch.setattr(files, "cat_file", failing)
    assert open_store(f"{memory}/images").read("000.jpg") == CONTENTS["000.jpg"]
    failures.extend([RuntimeError("throttled")] * 4)
    with pytest.raises(ValueError, match=r"memory://stored/images/000\.jpg: throttled \(4 times\)"):
        open_store(f"{memory}/images").read("000.jpg")


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(ValueError, match=r"pip install 'det-core\[remote\]'"):
        open_store("s3://bucket/images")


def test_an_unknown_or_unavailable_service_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"Install s3fs"):
        open_store("s3://bucket/images").read("a.jpg")
    with pytest.raises(ValueError, match=r"Protocol not known: nowhere"):
        open_store("nowhere://bucket/images").read("a.jpg")


def test_names_are_joined_to_urls() -> None:
    assert joined("https://host/data/?token=1", "a b/c#1.jpg") == "https://host/data/a%20b/c%231.jpg?token=1"
    assert joined("s3://bucket/data/", "a b.jpg") == "s3://bucket/data/a b.jpg"
    assert joined("zip://::https://host/x.zip", "a.jpg") == "zip://a.jpg::https://host/x.zip"
