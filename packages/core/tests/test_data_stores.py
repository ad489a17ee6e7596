from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.data.stores import shards as shard_module
from detkit.data.stores.kept import LocalCopies, bytes_of
from detkit.data.stores.patterns import expand
from detkit.data.stores.shards import ShardStore, write_index
from detkit.data.stores.store import FolderStore, ImageStore, find_shards, open_store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DETKIT_IMAGE_CACHE", raising=False)
    return tmp_path / "cache"


def make_tar(path: Path, contents: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


CONTENTS = {f"{number:03}.jpg": os.urandom(1000 + number) for number in range(20)}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of two shards."""
    names = sorted(CONTENTS)
    for shard in range(2):
        make_tar(tmp_path / f"shards/train-{shard:03}.tar", {name: CONTENTS[name] for name in names[shard::2]})
    return tmp_path / "shards"


@pytest.mark.parametrize("written", ["", "/train-{000..001}.tar", "/train-*.tar", "/{train-000,train-001}.tar"])
def test_images_are_read_from_shards_however_these_are_written(shards: Path, written: str) -> None:
    store = open_store(f"{shards}{written}")
    assert isinstance(store, ShardStore)
    assert {name: store.read(name) for name in CONTENTS} == CONTENTS
    assert store.place("003.jpg") == f"{shards}/train-001.tar::003.jpg"


def test_a_folder_with_images_is_one_though_a_tar_file_lies_in_it(tmp_path: Path) -> None:
    make_tar(tmp_path / "images/all.tar", CONTENTS)
    (tmp_path / "images/one.JPG").write_bytes(b"1")
    store = open_store(tmp_path / "images")
    assert isinstance(store, FolderStore)
    assert store.read("one.JPG") == b"1"
    assert isinstance(open_store(tmp_path / "images/all.tar"), ShardStore)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_any_tar_format_and_long_names(tmp_path: Path, format: int) -> None:
    contents = {f"{'deep/' * 19}{number}.jpg": bytes([number]) * number * 700 for number in range(5)}
    if format != tarfile.USTAR_FORMAT:
        contents[f"{'long' * 60}é.jpg"] = b"named"
    store = open_store(make_tar(tmp_path / "one.tar", contents, format))
    assert {name: store.read(name) for name in contents} == contents


def test_names_may_leave_out_the_folder_that_all_are_in(tmp_path: Path) -> None:
    store = open_store(make_tar(tmp_path / "one.tar", {"./train2017/a.jpg": b"a", "./train2017/b/c.jpg": b"c"}))
    assert store.read("train2017/a.jpg") == store.read("a.jpg") == b"a"
    assert store.read("b/c.jpg") == b"c"
    deeper = open_store(make_tar(tmp_path / "two.tar", {"data/train/a1.jpg": b"1", "data/train/a2.jpg": b"2"}))
    assert deeper.read("a2.jpg") == deeper.read("data/train/a2.jpg") == b"2"


def test_the_second_of_two_members_of_a_name_counts_as_when_it_is_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "one.tar", "w") as tar:
        for data in (b"first", b"second"):
            entry = tarfile.TarInfo("a.jpg")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    assert open_store(tmp_path / "one.tar").read("a.jpg") == b"second"


def test_the_index_is_found_once_and_made_anew_when_a_shard_has_changed(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(shards)
    walk = shard_module.read_members
    walked: list[str] = []
    monkeypatch.setattr(shard_module, "read_members", lambda *call: walked.append(call[1]) or walk(*call))
    assert open_store(shards).read("003.jpg") == CONTENTS["003.jpg"]
    assert not walked
    make_tar(shards / "train-001.tar", {"new.jpg": b"new"})
    assert open_store(shards).read("new.jpg") == b"new"
    assert len(walked) == 2


def test_a_damaged_index_is_made_anew(shards: Path, cache: Path) -> None:
    open_store(shards)
    (index,) = (cache / "shards").iterdir()
    index.write_bytes(index.read_bytes()[:100])
    assert open_store(shards).read("003.jpg") == CONTENTS["003.jpg"]


def test_an_index_beside_a_shard_saves_walking_through_it(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shard in shards.glob("*.tar"):
        write_index(shard)
    monkeypatch.setattr(shard_module, "read_members", None)
    store = open_store(shards)
    assert {name: store.read(name) for name in CONTENTS} == CONTENTS


def test_an_index_of_another_shard_is_not_believed(shards: Path) -> None:
    index = write_index(shards / "train-000.tar")
    index.rename(shards / "train-001.tar.index")
    make_tar(shards / "train-001.tar", {"other.jpg": b"x" * 30_000})
    assert open_store(shards).read("other.jpg") == b"x" * 30_000


def test_an_index_that_cannot_be_kept_is_used_all_the_same(
    shards: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "file"))
    store = pickle.loads(pickle.dumps(open_store(shards)))
    assert store.read("003.jpg") == CONTENTS["003.jpg"]
    assert "is not kept" in caplog.text


def _send(store: ImageStore, names: list[str], queue: multiprocessing.Queue[list[bytes]]) -> None:
    queue.put([store.read(name) for name in names])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_side_by_side(shards: Path, method: str) -> None:
    store = open_store(shards)
    store.read("000.jpg")  # the shard is open before the fork
    context = multiprocessing.get_context(method)
    queues = [context.Queue() for _ in range(2)]
    names = sorted(CONTENTS) * 5
    workers = [context.Process(target=_send, args=(store, names, queue)) for queue in queues]
    for worker in workers:
        worker.start()
    for queue in queues:
        assert queue.get(timeout=60) == [CONTENTS[name] for name in names]
    for worker in workers:
        worker.join()


def test_the_index_is_not_multiplied_by_workers(shards: Path) -> None:
    assert len(pickle.dumps(open_store(shards))) < 1500


def broken(tmp_path: Path) -> Iterator[tuple[str, str]]:
    make_tar(tmp_path / "good.tar", {"a.jpg": b"a" * 2000})
    cut = (tmp_path / "good.tar").read_bytes()[:1500]
    (tmp_path / "cut.tar").write_bytes(cut)
    (tmp_path / "text.tar").write_text("no tar file " * 100)
    make_tar(tmp_path / "empty.tar", {})
    make_tar(tmp_path / "twice-0.tar", {"a.jpg": b"a"})
    make_tar(tmp_path / "twice-1.tar", {"a.jpg": b"b"})
    yield "missing.tar", r"cannot read the shard .*missing\.tar: No such file"
    yield "cut.tar", r"cannot read the shard .*cut\.tar: .*cut short"
    yield "text.tar", r"cannot read the shard .*text\.tar: it is no uncompressed tar file"
    yield "empty.tar", r"there is no file in shard .*empty\.tar"
    yield "none-*.tar", r"there are no shards .*none-\*\.tar"
    yield "images.tar.gz", r"images\.tar\.gz is compressed"
    yield "twice-{0..1}.tar", r"twice-0\.tar and .*twice-1\.tar both hold a\.jpg"
    yield "x-{3..1}.tar", r"\{3\.\.1\} ends before it starts"


def test_broken_shards_are_named(tmp_path: Path) -> None:
    for location, message in broken(tmp_path):
        with pytest.raises(ValueError, match=message):
            open_store(tmp_path / location)


def test_missing_images_are_named(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"image x\.jpg: it is not in 2 shards .*000\.tar to .*001\.tar"):
        open_store(shards).read("x.jpg")
    with pytest.raises(ValueError, match=r"cannot read the image .*empty/x\.jpg: No such file"):
        open_store(tmp_path / "empty").read("x.jpg")


def test_a_shard_that_shrinks_while_it_is_read_is_an_error(shards: Path) -> None:
    store = open_store(shards)
    os.truncate(shards / "train-001.tar", 6000)
    with pytest.raises(ValueError, match=r"train-001\.tar::019\.jpg: the shard ends after 0 of its 1019 bytes"):
        store.read("019.jpg")


def test_more_shards_than_are_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detkit.data.stores.files.OPEN_FILES", 2)
    for number in range(5):
        make_tar(tmp_path / f"{number}.tar", {f"{number}.jpg": bytes([number])})
    store = open_store(tmp_path / "{0..4}.tar")
    assert all(store.read(f"{number}.jpg") == bytes([number]) for number in (0, 1, 2, 3, 4, 1, 0))


@given(st.integers(0, 99), st.integers(0, 30), st.integers(1, 4))
def test_expands_ranges(first: int, count: int, width: int) -> None:
    found = expand(f"a{{{first:0{width}}..{first + count}}}b")
    assert found == [f"a{number:0{max(width, len(str(first)))}}b" for number in range(first, first + count + 1)]


def test_expands_as_shells_do() -> None:
    assert expand("{a,b}-{1..2}.tar") == ["a-1.tar", "a-2.tar", "b-1.tar", "b-2.tar"]
    assert expand("{}-{x}.tar") == ["{}-{x}.tar"]


def test_finds_no_shards_in_a_folder_of_folders(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert find_shards(str(tmp_path)) is None


def test_copies_are_limited_and_the_oldest_go_first(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path / "copies", 100_000)

    def size() -> int:
        return sum(path.stat().st_size for path in (tmp_path / "copies").rglob("*") if path.is_file())

    for number in range(200):
        data = bytes([number % 256]) * 1000
        assert copies.get(str(number), lambda data=data: data) == data
        assert copies.get("0", bytes) == b"\0" * 1000  # used again and again, and kept
        if number % 20 == 0:
            assert size() <= 100_000 * (1 + 2 / 64)
    asked: list[str] = []
    copies.get("1", lambda: asked.append("1") or b"")
    copies.get("199", lambda: asked.append("199") or b"")
    assert asked == ["1"]


def test_copies_that_cannot_be_kept_are_read_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert LocalCopies(tmp_path / "file", 100_000).get("key", lambda: b"data") == b"data"
    assert "is not kept" in caplog.text


def test_sizes_in_words() -> None:
    assert [bytes_of(size) for size in ("1000", "50GB", "1.5 TB", "3kB", "20M")] == [1000, 50e9, 1.5e12, 3000, 20e6]
    with pytest.raises(ValueError, match="'much' is no size"):
        bytes_of("much")
