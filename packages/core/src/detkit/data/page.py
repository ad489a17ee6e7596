"""A page of a dataset for browsers: pictures with their annotations, how often classes occur, how large things are."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from detkit.atomic import write_whole
from detkit.data.targets import rasterized
from detkit.drawing.palette import colour
from detkit.interfaces import Dataset
from detkit.ops.boxes import box_sides
from detkit.structures.batch import UNLABELLED
from detkit.structures.sample import Sample

SIDE = 560  # pixels of the longer side of a picture
MEASURED = 2000
"""Images whose objects are measured, spread over the dataset."""


def write_page(
    path: Path,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    title: str,
    sample: Callable[[int], Sample],
    transforms: str | None = None,
) -> None:
    """Write a file that needs no others.

    Args:
        path: the file.
        dataset: what is shown.
        indices: positions of the images that are shown.
        title: of the page.
        sample: gives the image at a position with its annotations, as it is or augmented.
        transforms: the recipe that it is augmented as, if it is.
    """
    pictures = [_picture(dataset, sample(index)) for index in indices]
    note = f" as training sees them with {escape(transforms)}" if transforms else ""
    body = [
        f"<h1>{escape(title)}</h1>",
        _summary(dataset),
        _problems(dataset),
        f"<section class='charts'>{_classes(dataset)}{_charts(dataset)}</section>",
        f"<h2>{len(indices)} of {len(dataset)} images{note}</h2>",
        _switches(dataset),
        f"<section class='pictures'>{''.join(pictures)}</section>",
    ]
    write_whole(path, _PAGE.replace("%TITLE%", escape(title)).replace("%BODY%", "\n".join(body)))


def _summary(dataset: Dataset) -> str:
    images, labels = dataset.all_labels()
    sizes = dataset.sizes()
    (low, high) = (sizes.amin(0).tolist(), sizes.amax(0).tolist()) if len(sizes) else ([0, 0], [0, 0])
    empty = len(dataset) - len(set(images.tolist()))
    numbers = {
        "images": len(dataset),
        "without objects": empty,
        "objects": len(labels),
        "classes": len(dataset.categories),
    }
    if dataset.semantic_categories is not None:
        numbers["classes of pixels"] = len(dataset.semantic_categories)
    cells = "".join(f"<div><b>{count:,}</b>{escape(what)}</div>" for what, count in numbers.items())
    span = f"{low[1]}&ndash;{high[1]} &times; {low[0]}&ndash;{high[0]}"
    return f"<section class='numbers'>{cells}<div><b>{span}</b>pixels wide and high</div></section>"


def _problems(dataset: Dataset) -> str:
    if not dataset.problems:
        return ""
    lines = "".join(f"<li>{count} {escape(text)}</li>" for text, count in dataset.problems.items())
    return f"<section class='problems'><h2>What the reader noticed</h2><ul>{lines}</ul></section>"


def _classes(dataset: Dataset) -> str:
    """Bars, the most frequent class first."""
    _, labels = dataset.all_labels()
    counts = torch.bincount(labels, minlength=len(dataset.categories)).tolist()
    most = max(counts, default=0)
    order = sorted(range(len(counts)), key=lambda label: -counts[label])
    bars = []
    for label in order:
        width = 100 * counts[label] / max(most, 1)
        name = escape(dataset.categories.names[label])
        bars.append(
            f"<span title='{name}'>{name}</span><i><u style='width:{width:.2f}%;background:{_css(label)}'></u></i>"
            f"<em>{counts[label]:,}</em>"
        )
    caption = "<figcaption>objects of each class</figcaption>"
    return f"<figure class='tall'>{caption}<div class='bars'>{''.join(bars)}</div></figure>"


def _charts(dataset: Dataset) -> str:
    sizes = dataset.sizes().double()
    images, _ = dataset.all_labels()
    per_image = torch.bincount(images, minlength=len(dataset)).tolist()
    charts = [_chart("images by width / height", (sizes[:, 1] / sizes[:, 0]).tolist(), _ratio)]
    charts.append(_chart("images by the longer side, pixels", sizes.amax(1).tolist(), _octave))
    charts.append(_chart("images by number of objects", per_image, _number))
    step = max(1, -(-len(dataset) // MEASURED))
    found = [dataset.target(index)["boxes"].as_subclass(Tensor) for index in range(0, len(dataset), step)]
    boxes = torch.cat(found) if found else torch.zeros(0, 4)
    sides = torch.stack(box_sides(boxes)).double()
    some = "" if step == 1 else f" (in every {step}th image)"
    charts.append(_chart(f"objects by the root of their area, pixels{some}", sides.prod(0).sqrt().tolist(), _octave))
    charts.append(_chart(f"objects by width / height{some}", (sides[0] / sides[1]).tolist(), _ratio))
    return "".join(charts)


def _octave(value: float) -> tuple[int, str]:
    step = max(0, math.floor(math.log2(max(value, 1))))
    return step, f"{2**step}&ndash;{2 ** (step + 1)}"


_RATIOS = (0.25, 0.33, 0.5, 0.67, 0.8, 1.25, 1.5, 2.0, 3.0, 4.0)


def _ratio(value: float) -> tuple[int, str]:
    place = sum(value >= edge for edge in _RATIOS)
    if place == 0:
        return place, f"&lt; {_RATIOS[0]}"
    return place, f"&ge; {_RATIOS[-1]}" if place == len(_RATIOS) else f"{_RATIOS[place - 1]}&ndash;{_RATIOS[place]}"


def _number(value: float) -> tuple[int, str]:
    if value < 5:
        return int(value), str(int(value))
    for place, (low, high) in enumerate(((5, 9), (10, 19), (20, 49), (50, 99)), start=5):
        if value <= high:
            return place, f"{low}&ndash;{high}"
    return 9, "100 or more"


def _chart(title: str, values: Sequence[float], part: Callable[[float], tuple[int, str]]) -> str:
    """A histogram; `part` gives the number and the name of the part that a value is in."""
    counts = Counter(part(value) for value in values if math.isfinite(value))
    most = max(counts.values(), default=1)
    bars = "".join(
        f"<span>{name}</span><i><u style='width:{100 * count / most:.2f}%'></u></i><em>{count:,}</em>"
        for (_, name), count in sorted(counts.items())
    )
    return f"<figure><figcaption>{escape(title)}</figcaption><div class='bars'>{bars}</div></figure>"


def _switches(dataset: Dataset) -> str:
    names = enumerate(dataset.categories.names)
    boxes = "".join(
        f"<label style='--c:{_css(label)}'><input type='checkbox' checked data-class='c{label}'>{escape(name)}</label>"
        for label, name in names
    )
    pixels = "<label><input type='checkbox' data-class='pixels'>labels of pixels</label>"
    return (
        "<nav><button data-all='1'>all</button><button data-all='0'>none</button>"
        f"{pixels if dataset.semantic_categories is not None else ''}{boxes}</nav>"
    )


def _picture(dataset: Dataset, sample: Sample) -> str:
    pixels = sample.image.as_subclass(Tensor).permute(1, 2, 0).numpy()
    height, width = pixels.shape[:2]
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    parts = [f"<image width='{width}' height='{height}' preserveAspectRatio='none' href='{_url(data, 'jpeg')}'/>"]
    if dataset.semantic_categories is not None and "semantic" in sample.target:
        labels = sample.target["semantic"].as_subclass(Tensor).numpy()
        parts.append(f"<g class='pixels off'>{_labels(labels)}</g>")
    parts += _objects(dataset, sample)
    name = escape(str(sample.info.get("path", "")).replace("\\", "/").rpartition("/")[2])
    caption = f"{name} <small>id {escape(str(sample.info.get('image_id', '')))}, {width} &times; {height}</small>"
    return (
        f"<figure><svg viewBox='0 0 {width} {height}' style='aspect-ratio:{width}/{height}'>{''.join(parts)}</svg>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _objects(dataset: Dataset, sample: Sample) -> list[str]:
    """One group of shapes for each object, the largest first, so that the pointer reaches them all."""
    target = sample.target
    boxes = target["boxes"].as_subclass(Tensor)
    labels, crowd = target["labels"].tolist(), target["crowd"].tolist() if "crowd" in target else None
    rings = target["polygons"].rings() if "polygons" in target else [[] for _ in labels]
    masks = rasterized(sample)["masks"].numpy() if "masks" in target else None
    points = target["keypoints"].as_subclass(Tensor).tolist() if "keypoints" in target else [[] for _ in labels]
    sides = torch.stack(box_sides(boxes))
    found = []
    for row in sides.prod(0).argsort(descending=True).tolist():
        label = labels[row]
        called = ("crowd: " if crowd is not None and crowd[row] else "") + dataset.categories.names[label]
        text = f"{called}, class {dataset.categories.ids[label]}, {sides[0, row]:.0f} x {sides[1, row]:.0f}"
        shapes = [_box(boxes[row].tolist())]
        if rings[row]:
            shapes.append(f"<path fill-rule='evenodd' d='{''.join(map(_path, rings[row]))}'/>")
        elif masks is not None and masks[row].any():
            shapes.append(_bitmap(masks[row], colour(label)))
        shapes += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.5'/>" for x, y, seen in points[row] if seen > 0]
        found.append(
            f"<g class='o c{label}' style='--c:{_css(label)}'><title>{escape(text)}</title>{''.join(shapes)}</g>"
        )
    return found


def _box(box: list[float]) -> str:
    if len(box) == 4:
        left, top, right, bottom = box
        return (
            f"<rect x='{left:.1f}' y='{top:.1f}' width='{max(right - left, 0):.1f}' "
            f"height='{max(bottom - top, 0):.1f}'/>"
        )
    x, y, width, height, angle = box
    return (
        f"<rect x='{x - width / 2:.1f}' y='{y - height / 2:.1f}' width='{width:.1f}' height='{height:.1f}' "
        f"transform='rotate({-angle:.2f} {x:.1f} {y:.1f})'/>"
    )


def _path(ring: NDArray[np.float32]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in ring.tolist()) + "Z"


def _bitmap(mask: NDArray[np.uint8], rgb: tuple[int, int, int]) -> str:
    """A mask (H, W) as a picture of its bounding rectangle."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = rows[0], columns[0]
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    picture = np.zeros((*part.shape, 4), np.uint8)
    picture[part > 0] = (*rgb, 130)
    return _placed(picture, left, top)


def _labels(labels: NDArray[np.uint8]) -> str:
    colours = np.array([(*colour(label), 150) for label in range(UNLABELLED)] + [(0, 0, 0, 0)], np.uint8)
    return _placed(colours[labels], 0, 0)


def _placed(picture: NDArray[np.uint8], left: int, top: int) -> str:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    height, width = picture.shape[:2]
    return f"<image x='{left}' y='{top}' width='{width}' height='{height}' href='{_url(data, 'png')}'/>"


def _url(data: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def _css(label: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour(label))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>%TITLE%</title>
<style>
:root{color-scheme:light dark;--ink:#1c2530;--soft:#5d6b7a;--page:#f6f7f9;--card:#fff;--line:#dfe4ea;--bar:#4a7dbd}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf1;--soft:#9aa7b5;--page:#14181d;--card:#1d232a;--line:#313a45}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--page);margin:0 auto;max-width:1400px;
padding:24px}
h1{font-size:24px;margin:0 0 12px;overflow-wrap:anywhere}h2{font-size:17px;margin:24px 0 8px}
figure,.numbers,.problems{background:var(--card);border:1px solid var(--line);border-radius:8px;margin:0}
.numbers{display:flex;flex-wrap:wrap;gap:12px 36px;padding:12px 16px}
.numbers div{color:var(--soft);font-size:13px}.numbers b{display:block;color:var(--ink);font-size:20px}
.problems{border-left:4px solid #d99a2b;padding:2px 16px;margin-top:12px}.problems h2{margin:8px 0 0}
.problems ul{margin:6px 0 10px;padding-left:20px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:12px;margin-top:12px}
.charts figure{padding:10px 14px}.charts .tall{grid-row:span 2;max-height:440px;overflow:auto}
figcaption{font-size:13px;color:var(--soft);margin-bottom:6px;overflow-wrap:anywhere}
.bars{display:grid;grid-template-columns:minmax(64px,max-content) 1fr max-content;gap:3px 8px;align-items:center;
font-size:13px}
.bars span{max-width:160px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bars i{height:12px;background:var(--page);border-radius:3px}
.bars u{display:block;height:100%;min-width:1px;background:var(--bar);border-radius:3px}
.bars em{font-style:normal;color:var(--soft);text-align:right;font-variant-numeric:tabular-nums}
nav{position:sticky;top:0;z-index:1;background:var(--page);padding:8px 0;display:flex;flex-wrap:wrap;gap:4px 12px;
max-height:96px;overflow:auto;font-size:13px}
nav label{cursor:pointer;border-bottom:3px solid var(--c,transparent)}nav input{vertical-align:-2px}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:12px;align-items:start}
.pictures figure{overflow:hidden}.pictures figcaption{padding:6px 10px;margin:0;color:var(--ink)}
small{color:var(--soft)}
svg{display:block;width:100%}
.o rect,.o path{fill:var(--c);fill-opacity:0;stroke:var(--c);stroke-width:2;vector-effect:non-scaling-stroke}
.o path{fill-opacity:.3;stroke-width:1.5}.o circle{fill:#fff;stroke:var(--c);vector-effect:non-scaling-stroke}
.o:hover rect{stroke-width:4}.o:hover path{fill-opacity:.6}
.off{display:none}
</style></head><body>
%BODY%
<script>
function show(box){for(const one of document.getElementsByClassName(box.dataset.class))
one.classList.toggle("off",!box.checked)}
document.querySelectorAll("nav input").forEach(box=>box.addEventListener("change",()=>show(box)));
document.querySelectorAll("nav button").forEach(button=>button.addEventListener("click",()=>
document.querySelectorAll("nav input:not([data-class=pixels])").forEach(box=>{
box.checked=button.dataset.all==="1";show(box)})));
</script></body></html>
"""
