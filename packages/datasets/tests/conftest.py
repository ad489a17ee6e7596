from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from det_datasets.coco.dataset import CocoDataset

HEIGHT, WIDTH = 30, 40


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Annotations of large files that tests make are kept here."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETKIT_CACHE", str(folder))
        yield folder


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., CocoDataset]:
    """Writes images 1, 2, ... and a COCO file with these annotations (id, image_id, category_id and iscrowd are
    filled in where they are missing), and opens them. Other keyword arguments replace top-level entries of the
    file."""

    def write(annotations: list[dict[str, Any]] | None = None, *, images: int = 1, **entries: Any) -> CocoDataset:
        pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        names = [f"{number}.jpg" for number in range(1, images + 1)]
        for name in names:
            Image.fromarray(pixels).save(tmp_path / "images" / name)
        data = {
            "images": [
                {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}
                for number, name in enumerate(names, start=1)
            ],
            "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}],
            "annotations": [
                {"id": number, "image_id": 1, "category_id": 3, "iscrowd": 0, **annotation}
                for number, annotation in enumerate(annotations or (), start=1)
            ],
            **entries,
        }
        file = tmp_path / "annotations.json"
        file.write_text(json.dumps(data))
        return CocoDataset(images=tmp_path / "images", annotations=file)

    return write
