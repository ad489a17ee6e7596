"""The annotations inside shards, gathered into one COCO file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from detkit.atomic import whole_file
from detkit.data.image import IMAGE_SUFFIXES
from detkit.data.stores.files import Files, State, files_at
from detkit.data.stores.shards import of_each_shard, states_of
from detkit.data.stores.tar_index import member_name, open_tar
from detkit.download import cache_folder


@dataclass(frozen=True)
class ShardSample:
    """An image of a shard and the text of its annotations: where that is, for messages; the image's name; the text."""

    place: str
    image: str
    text: bytes


def gather(shards: Sequence[str], categories: Path) -> Path:
    """A COCO file of all samples of these shards, in the cache folder; made once for each state of the shards.

    Raises:
        ValueError: a shard cannot be read, or a sample is incomplete.
    """
    files = files_at(shards[0])
    states = states_of(files, shards)
    try:
        named = categories.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the categories {categories}: {error.strerror}") from error
    key = msgspec.json.encode([[shard, state.size, state.version] for shard, state in zip(shards, states, strict=True)])
    path = cache_folder() / "webdataset" / f"{hashlib.sha256(key + named).hexdigest()[:32]}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.writelines(_coco(_samples(files, shards, states), named))
    return path


def _samples(files: Files, shards: Sequence[str], states: Sequence[State]) -> Iterator[ShardSample]:
    def read(shard: str, state: State) -> list[ShardSample]:
        return _read_samples(files, shard, state)

    for found in of_each_shard(read, shards, shards, states):
        yield from found


def _read_samples(files: Files, shard: str, state: State) -> list[ShardSample]:
    images: dict[str, str] = {}
    texts: dict[str, bytes] = {}
    with open_tar(files, shard, state.size) as tar:
        for entry in tar:
            key, suffix = _parts(member_name(entry))
            if entry.isreg() and suffix in IMAGE_SUFFIXES:
                images.setdefault(key, member_name(entry))
            elif entry.isreg() and suffix == ".json":
                content = tar.extractfile(entry)
                assert content is not None
                texts[key] = content.read()
    if alone := images.keys() ^ texts.keys():
        key = min(alone)
        missing = f"{key}.json: write one with an empty list of annotations" if key in images else f"image {key}.jpg"
        raise ValueError(f"{shard} has {images.get(key, f'{key}.json')} but no {missing}")
    return [ShardSample(f"{shard}::{key}.json", images[key], texts[key]) for key in images]


def _parts(name: str) -> tuple[str, str]:
    """The key of a sample, up to the first dot after the folder, and the rest, as WebDataset divides names."""
    folder, slash, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return folder + slash + stem, (dot + suffix).lower()


def _coco(samples: Iterator[ShardSample], categories: bytes) -> Iterator[bytes]:
    """The parts of a COCO file; only its images are held in memory."""
    images: list[bytes] = []
    numbered = False
    yield b'{"annotations": ['
    comma = b""
    for number, sample in enumerate(samples, start=1):
        entry = _entry(sample)
        if numbered is not ("id" not in entry) and number > 1:
            raise ValueError(f"{sample.place} and the samples before it differ in whether they have an `id`")
        numbered = "id" not in entry
        entry.setdefault("id", number)
        for annotation in entry.pop("annotations"):
            yield comma + msgspec.json.encode({**annotation, "image_id": entry["id"]})
            comma = b",\n"
        images.append(msgspec.json.encode({**entry, "file_name": sample.image}))
    yield b'],\n"images": [' + b",\n".join(images) + b'],\n"categories": ' + categories + b"}\n"


def _entry(sample: ShardSample) -> dict[str, Any]:
    try:
        entry = msgspec.json.decode(sample.text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError(f"{sample.place} is not a JSON object: {error}") from error
    annotations = entry.get("annotations")
    if not (isinstance(annotations, list) and all(isinstance(one, dict) for one in annotations)):
        raise ValueError(f"{sample.place} has no list of objects `annotations`")
    if not all(isinstance(entry.get(side), int) for side in ("height", "width")):
        raise ValueError(f"{sample.place} has no `height` and `width` of its image")
    return entry
