"""All annotations at once against one after the other."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hotcoco import mask as rle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from det_datasets.coco import rows
from det_datasets.coco.columns import build_columns
from det_datasets.coco.schema import CocoFile
from det_datasets.columns import Columns, ColumnsBuilder, spread, taken
from detkit.structures.categories import Categories
from detkit.structures.keypoints import Keypoints

HEIGHT, WIDTH = 6, 8
CATEGORIES = Categories(("b", "a", "c"), ids=(7, 2, 9), keypoints=Keypoints(("x", "y")))

numbers = st.one_of(st.integers(-2, 10), st.floats(-2, 10, width=32).map(lambda value: round(value, 2)))
rings = st.integers(0, 9).flatmap(lambda count: st.lists(numbers, min_size=count, max_size=count))
counts = st.one_of(
    st.just([10, 20, 18]), st.just([48]), st.just([0, 48]), st.lists(st.integers(-1, 30), max_size=4), st.just("garb")
)
masks = st.one_of(
    st.none(),
    st.lists(rings, max_size=3),
    st.lists(st.lists(numbers, min_size=6, max_size=6), min_size=1, max_size=2),
    st.fixed_dictionaries({"size": st.sampled_from([[HEIGHT, WIDTH], [WIDTH, HEIGHT]]), "counts": counts}),
    st.sampled_from(["mask", {}, [1, 2], [[None] * 6], [[[1]]]]),
)
visible = st.lists(st.tuples(numbers, numbers, st.integers(0, 2)), min_size=2, max_size=2)
keypoints = st.one_of(
    visible.map(lambda points: [number for point in points for number in point]),
    st.sampled_from([None, [], [1, 2, 2], [1, 2, 2, 3, 4, 5], "point", [None] * 6]),
)


@st.composite
def boxes(draw: st.DrawFn, *, rotated: bool) -> Any:
    size = draw(st.sampled_from([0, 4, 4, 4, *([5, 5] if rotated else [])]))
    return draw(st.one_of(st.lists(numbers, min_size=size, max_size=size), st.none() if size == 0 else st.nothing()))


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    ids = draw(st.lists(st.integers(-3, 9), min_size=1, max_size=4, unique=True))
    rotated = draw(st.booleans())
    entry = st.fixed_dictionaries(
        {"image_id": st.one_of(st.sampled_from(ids), st.integers(8, 9)), "category_id": st.sampled_from([2, 7, 9])},
        optional={
            "id": st.integers(0, 99),
            "bbox": boxes(rotated=rotated),
            "area": st.one_of(st.none(), numbers),
            "iscrowd": st.integers(0, 1),
            "ignore": st.sampled_from([None, 0, 1, 1.0, False, True]),
            "segmentation": masks,
            "keypoints": keypoints,
            "attributes": st.just({"occluded": [{}]}),
        },
    )
    images = [{"id": id, "file_name": f"é{id}.jpg", "height": HEIGHT, "width": WIDTH} for id in ids]
    return {"images": images, "categories": [{"id": 2, "name": "a"}], "annotations": draw(st.lists(entry, max_size=8))}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files())
def test_columns_are_those_of_the_rules_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, Any]
) -> None:
    monkeypatch.setattr(rows, "_AT_ONCE", 3)
    (tmp_path / "file.json").write_text(json.dumps(data))
    problems: Counter[str] = Counter()
    found = build_columns(CocoFile(tmp_path / "file.json"), CATEGORIES, problems)
    expected, expected_problems = plain_columns(data)
    assert problems == expected_problems
    others = expected.tensors()
    for name, tensor in found.tensors().items():
        assert tensor.dtype == others[name].dtype
        torch.testing.assert_close(tensor, others[name], rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


def plain_columns(data: dict[str, Any]) -> tuple[Columns, Counter[str]]:
    problems: Counter[str] = Counter()
    annotations = data["annotations"]
    rotated = any(len(entry.get("bbox") or ()) == 5 for entry in annotations)
    builder = ColumnsBuilder(rotated=rotated, keypoints=2)
    images = sorted(data["images"], key=lambda image: image["id"])
    unlisted = sum(entry["image_id"] not in [image["id"] for image in images] for entry in annotations)
    problems.update({"belong to images that the file does not list: left out": unlisted} if unlisted else {})
    for image in images:
        builder.image(image["id"], image["file_name"], HEIGHT, WIDTH)
        for entry in annotations:
            if entry["image_id"] == image["id"]:
                add(builder, entry, rotated, problems)
    return builder.build(), problems


def add(builder: ColumnsBuilder, entry: dict[str, Any], rotated: bool, problems: Counter[str]) -> None:
    polygons, code = mask_of(entry.get("segmentation"), problems)
    box = box_of(entry.get("bbox"), polygons, code, rotated)
    if box is None:
        what = "an empty box" if entry.get("bbox") is not None else "neither a usable box nor a usable mask"
        problems[f"have {what}: left out"] += 1
        return
    if not entry.get("bbox"):
        problems["have no box: that of their mask is taken"] += 1
    points = entry.get("keypoints") or [0] * 6
    if not (isinstance(points, list) and len(points) == 6 and None not in points and {*points[2::3]} <= {0, 1, 2}):
        problems["have malformed keypoints: kept without them"] += 1
        points = [0] * 6
    shifted = [(x + 0.5, y + 0.5, seen) if seen else (0, 0, 0) for x, y, seen in zip(*[iter(points)] * 3, strict=True)]
    builder.object(
        CATEGORIES.ids.index(entry["category_id"]),
        box,
        id=entry.get("id", -1),
        area=entry.get("area"),
        crowd=bool(entry.get("iscrowd", 0)),
        difficult=bool(entry.get("ignore")),
        rings=polygons,
        counts=code,
        keypoints=[number for point in shifted for number in point],
    )


def mask_of(mask: Any, problems: Counter[str]) -> tuple[list[list[float]], bytes]:
    if mask is None:
        return [], b""
    if isinstance(mask, list) and all(isinstance(ring, list) for ring in mask):
        if all(isinstance(number, (int, float)) for ring in mask for number in ring):
            good = [ring for ring in mask if len(ring) >= 6 and len(ring) % 2 == 0]
            if len(good) < len(mask) and good:
                problems["have polygons of fewer than 3 points among others: these were left out"] += 1
            elif len(good) < len(mask):
                problems["have no polygon of at least 3 points: kept with their boxes alone"] += 1
            return good, b""
    elif isinstance(mask, dict) and mask.get("size") == [HEIGHT, WIDTH] and isinstance(mask["counts"], list):
        runs = mask["counts"]
        if sum(runs) == HEIGHT * WIDTH and min(runs, default=-1) >= 0 and sum(runs[1::2]):
            pixels = np.repeat(np.arange(len(runs)) % 2, runs).reshape(WIDTH, HEIGHT).T
            code: bytes = rle.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"]
            return [], code
    problems["have a malformed mask: kept with their boxes alone"] += 1
    return [], b""


def box_of(box: Any, polygons: list[list[float]], code: bytes, rotated: bool) -> tuple[float, ...] | None:
    if box and len(box) == 5:
        return tuple(box) if box[2] > 0 and box[3] > 0 else None
    if box:
        left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    elif polygons:
        across, down = [x for ring in polygons for x in ring[::2]], [y for ring in polygons for y in ring[1::2]]
        left, top, right, bottom = (float(np.float32(v)) for v in (min(across), min(down), max(across), max(down)))
    elif code:
        left, top, width, height = rle.toBbox({"size": [HEIGHT, WIDTH], "counts": code}).tolist()
        right, bottom = left + width, top + height
    else:
        return None
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, WIDTH), min(bottom, HEIGHT)
    if right <= left or bottom <= top:
        return None
    if rotated:
        return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top, 0
    return left, top, right, bottom


@pytest.mark.parametrize("values", [np.arange(40), np.arange(80).reshape(40, 2)], ids=["flat", "rows"])
def test_ranges_are_taken_one_after_the_other(values: Any) -> None:
    starts, lengths = np.array([30, 0, 5, 5, 39]), np.array([4, 0, 1, 3, 1])
    expected = [
        number for start, length in zip(starts, lengths, strict=True) for number in range(start, start + length)
    ]
    assert spread(starts, lengths).tolist() == expected
    assert np.array_equal(taken(values, starts, lengths), values[expected])
    assert len(taken(values, starts[:0], lengths[:0])) == 0


def test_many_ranges_are_taken_in_parts() -> None:
    random = np.random.default_rng(0)
    starts, lengths = random.integers(0, 1000, 40_000), random.integers(0, 3, 40_000)
    values = np.arange(2000)
    assert np.array_equal(taken(values, starts, lengths), values[spread(starts, lengths)])


def test_numbers_beyond_64_bits_are_explained(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "1.jpg", "height": 2, "width": 2}
    annotation = {"image_id": 1, "category_id": 2, "id": 1 << 70}
    data = {"images": [image], "categories": [], "annotations": [annotation]}
    (tmp_path / "file.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="whole number of more than 64 bits"):
        build_columns(CocoFile(tmp_path / "file.json"), CATEGORIES, Counter())
    (tmp_path / "file.json").write_text(json.dumps({**data, "images": [{**image, "id": 1 << 70}]}))
    with pytest.raises(ValueError, match="an image has an id of more than 64 bits"):
        build_columns(CocoFile(tmp_path / "file.json"), CATEGORIES, Counter())
