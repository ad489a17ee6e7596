from __future__ import annotations

import functools
import http.server
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from det_datasets.coco.dataset import CocoDataset
from det_datasets.shapes.make import make_shapes
from detkit.data.loader import train_loader
from detkit.data.source import open_split


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes in a folder, and the same images in two shards."""
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, images=6, val_images=1, seed=2)
    images = sorted(path for path in (folder / "train").rglob("*") if path.suffix in (".jpg", ".png"))
    for shard in range(2):
        with tarfile.open(folder / f"train-{shard}.tar", "w") as tar:
            for image in images[shard::2]:
                tar.add(image, image.relative_to(folder))
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def url(data: Path) -> Iterator[str]:
    """Of the folder, on a web server that knows no ranges."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=os.fspath(data))
    ) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def same(first: CocoDataset, second: CocoDataset) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one.image, other.image)
        and torch.equal(one.target["boxes"], other.target["boxes"])
        and one.info["image_id"] == other.info["image_id"]
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("images", ["train-{0..1}.tar", "train-*.tar"])
def test_a_yaml_file_names_shards(data: Path, images: str) -> None:
    (data / "data.yaml").write_text(f'train: {{images: "{images}", annotations: train/annotations.json}}\n')
    dataset = open_split(data / "data.yaml")
    assert same(dataset, open_split(data))
    assert dataset[0].info["path"].startswith(f"{data}/train-0.tar::")


def test_a_yaml_file_names_urls(data: Path, url: str) -> None:
    shards, annotations = f"{url}/train-{{0..1}}.tar", f"{url}/train/annotations.json"
    (data / "data.yaml").write_text(f'train: {{images: "{shards}", annotations: "{annotations}"}}\n')
    dataset = open_split(data / "data.yaml")
    assert same(dataset, open_split(data))
    assert dataset[1].info["path"].startswith(f"{url}/train-1.tar::")


@pytest.mark.parametrize("remote", [False, True], ids=["local", "web"])
def test_workers_load_from_shards(data: Path, url: str, remote: bool) -> None:
    dataset = CocoDataset(
        images=f"{url if remote else data}/train-{{0..1}}.tar", annotations=data / "train/annotations.json"
    )
    streams = [
        train_loader(source, (), batch_size=2, divisor=1, seed=1, workers=workers)
        for source, workers in ((dataset, 2), (open_split(data), 0))
    ]
    for _ in range(6):
        ours, expected = (next(stream) for stream in streams)
        assert torch.equal(ours.images, expected.images)


def test_an_image_that_is_in_no_shard_is_named(data: Path) -> None:
    dataset = CocoDataset(images=data / "train-0.tar", annotations=data / "train/annotations.json")
    with pytest.raises(ValueError, match=r"cannot read the image .*: it is not in shard .*train-0\.tar"):
        list(dataset)
