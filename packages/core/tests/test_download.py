import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from detkit.download import digits_in_name, download, fetch

BODY = bytes(range(256)) * 40_000  # 10 MB


class Server(http.server.ThreadingHTTPServer):
    """Serves BODY, with ranges; can break off a response once."""

    break_after: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(BODY):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(BODY)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        end = self.server.break_after or len(BODY)
        self.server.break_after = None
        self.wfile.write(BODY[start:end])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def url(server: Server, name: str = "model.pkl") -> str:
    return f"http://127.0.0.1:{server.server_port}/{name}"


def test_a_file_is_fetched_once(server: Server) -> None:
    checksum = hashlib.sha256(BODY).hexdigest()
    first, second = download(url(server), checksum), download(url(server), checksum)
    assert first == second
    assert first.name == "model.pkl"
    assert first.read_bytes() == BODY
    assert len(server.ranges) == 1


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server) -> None:
    server.break_after = 3_000_000
    with pytest.raises(ValueError, match=r"cannot be downloaded: .*what has arrived is kept"):
        download(url(server))
    path = download(url(server), hashlib.sha256(BODY).hexdigest()[:8])
    assert path.read_bytes() == BODY
    assert server.ranges == [None, "bytes=3000000-"]


def test_a_wrong_checksum_is_not_used_and_not_kept(server: Server) -> None:
    with pytest.raises(ValueError, match=r"but 00000000 is wanted.*try again"):
        download(url(server), "00000000")
    assert download(url(server), hashlib.sha256(BODY).hexdigest()).read_bytes() == BODY


def test_the_checksum_of_what_arrived_is_kept_and_checked(server: Server) -> None:
    found = fetch(url(server))
    assert found.sha256 == hashlib.sha256(BODY).hexdigest()
    assert found.path.with_name("model.pkl.sha256").read_text() == f"{found.sha256}  model.pkl\n"
    found.path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=rf"but had {found.sha256} when it was downloaded: delete it"):
        fetch(url(server))
    found.path.unlink()
    assert fetch(url(server)) == found


def test_a_kept_file_must_have_the_checksum_that_is_asked_for(server: Server) -> None:
    found = fetch(url(server))
    assert fetch(url(server), found.sha256[:12].upper()) == found
    with pytest.raises(ValueError, match=r"but 11111111 is wanted: delete it"):
        fetch(url(server), "11111111")


def test_a_file_put_there_by_hand_is_used_from_then_on(server: Server) -> None:
    with pytest.raises(ValueError, match=r"put the file there by hand: ") as caught:
        fetch(url(server, "missing.pkl"))
    path = Path(str(caught.value).rsplit(": ", 1)[-1])
    path.write_bytes(BODY)
    assert fetch(url(server, "missing.pkl")).sha256 == hashlib.sha256(BODY).hexdigest()
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="when it was downloaded"):
        fetch(url(server, "missing.pkl"))


def test_a_checksum_of_too_few_digits_is_refused(server: Server) -> None:
    with pytest.raises(ValueError, match=r"sha256 is 'beef'; give .* the first 8 of them at least"):
        fetch(url(server), "beef")


def test_a_missing_file_names_the_address_and_where_to_put_it(server: Server) -> None:
    with pytest.raises(ValueError, match=r"/missing.pkl cannot be downloaded: .*Not Found.*put the file there by hand"):
        download(url(server, "missing.pkl"))


def test_offline_is_a_clear_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"127.0.0.1:9/model.pkl cannot be downloaded: .*refused"):
        download("http://127.0.0.1:9/model.pkl")


@pytest.mark.parametrize(
    ("file", "digits"),
    [
        ("resnet18-f37072fd.pth", "f37072fd"),
        ("vgg16_features-amdegroot-88682ab5.pth", "88682ab5"),
        ("R-50.pkl", None),
        ("X-101-32x8d.pkl", None),
        ("swin_tiny_patch4_window7_224.pth", None),
    ],
)
def test_a_name_may_end_with_digits_of_the_checksum(file: str, digits: str | None) -> None:
    assert digits_in_name(f"https://example.org/v0.1-deadbeef/{file}") == digits
