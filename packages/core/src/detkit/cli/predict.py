"""`detkit predict`: find objects in images, and write pictures and tables of them."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from detkit.cli.running import run

if TYPE_CHECKING:
    from detkit.detector import Detector
    from detkit.predict.sources import Source

_HELP = """Find objects in images.

MODEL is a model directory, a run's directory (its best model, else its last) or a recipe's name. A SOURCE is an image,
a folder of images or a pattern in quotes, such as "photos/**/*.jpg".

Writes DIR/NAME.png with boxes, masks, names and scores drawn (images); DIR/predictions.json in COCO's results form,
with the dataset's own category ids (json); DIR/predictions.csv, one row for each detection (csv). Of a model that
labels pixels, json also writes DIR/panoptic.json with DIR/panoptic/NAME.png, or DIR/semantic/NAME.png.

DIR/proposals.npz (proposals) has all boxes, whatever their scores, for models that take --proposals.

Images that cannot be read are reported and left out; the exit status is then 1.
"""


def main(argv: list[str]) -> int:
    """`detkit predict MODEL SOURCE... [--out DIR] [--save images,json,...]`; 1 if some images could not be read."""
    import click

    params: list[click.Parameter] = [
        click.Argument(["model"]),
        click.Argument(["sources"], nargs=-1, required=True, metavar="SOURCE..."),
        click.Option(
            ["--out"],
            type=click.Path(path_type=Path),
            default=Path("predictions"),
            metavar="DIR",
            show_default=True,
            help="Folder for the results; must be new or empty.",
        ),
        click.Option(["--overwrite"], is_flag=True, help="Let DIR hold files; those of the same name are replaced."),
        click.Option(["--save"], default="images", show_default=True, help="Some of images,json,csv,proposals."),
        click.Option(["--score"], default=0.5, show_default=True, help="Leave out detections with a lower score."),
        click.Option(["--labels"], metavar="NAME,NAME", help="Classes to keep; all by default."),
        click.Option(
            ["--batch-size"], type=click.IntRange(1), default=1, show_default=True, help="Images, or tiles, at a time."
        ),
        click.Option(
            ["--proposals"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Boxes to start from (.npz, .pkl), for models that make none: found by the images' names.",
        ),
        click.Option(["--tta"], is_flag=True, help="Test-time augmentation: several sizes, each also mirrored."),
        click.Option(
            ["--tile"], type=click.IntRange(1), metavar="PIXELS", help="See large images in tiles of this size."
        ),
        click.Option(
            ["--overlap"],
            type=click.IntRange(0),
            default=200,
            show_default=True,
            metavar="PIXELS",
            help="Of tiles: at least as long as most objects are.",
        ),
        click.Option(["--device"], default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps, ..."),
        click.Option(["--optimize/--no-optimize"], default=True, help="Fold norms into convolutions [default: yes]."),
    ]
    return run(click.Command("predict", callback=_predict, params=params, help=_HELP), "predict", argv)


def _predict(
    model: str,
    sources: tuple[str, ...],
    out: Path,
    overwrite: bool,
    save: str,
    score: float,
    labels: str | None,
    batch_size: int,
    proposals: Path | None,
    tta: bool,
    tile: int | None,
    overlap: int,
    device: str,
    optimize: bool,
) -> None:
    from rich.console import Console
    from rich.progress import track

    from detkit.data.loader import EVALUATION_PROPOSALS
    from detkit.data.proposals import read_proposals
    from detkit.predict import stream
    from detkit.predict.proposals import SavedProposals
    from detkit.predict.results import KINDS, ResultFiles
    from detkit.predict.sources import find_sources
    from detkit.tiling import Tiling

    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    kinds = _split(save)
    if unknown := [kind for kind in kinds if kind not in (*KINDS, "proposals")]:
        raise ValueError(f"--save has {', '.join(unknown)}; there are {', '.join(KINDS)}, proposals")
    if out.exists() and not overwrite and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty; give another --out, or --overwrite to replace files of the same name")
    images = list(find_sources(sources))
    given = None
    if proposals is not None:
        table = read_proposals(proposals)
        given = [table.of_file(image.path or "", EVALUATION_PROPOSALS) for image in images]
    saved = SavedProposals(out / "proposals.npz") if "proposals" in kinds else None
    detector, notes = _load(model, device)
    for note in notes:
        console.print(f"note: {note}")
    unreadable: list[Source] = []

    def skip(source: Source, error: ValueError) -> None:
        unreadable.append(source)
        console.print(f"skipped: {error}")

    pairs = stream(
        detector,
        images,
        score_threshold=score if saved is None else -math.inf,
        labels=None if labels is None else _split(labels),
        batch_size=batch_size,
        tta=tta,
        tile=None if tile is None else Tiling(size=tile, overlap=overlap),
        proposals=given,
        optimize=optimize,
        on_unreadable=skip,
    )
    found: Counter[str] = Counter()
    with ResultFiles(out, kinds, detector.categories, detector.semantic_categories) as files:
        quiet = not console.is_terminal
        for image, prediction in track(
            pairs, "predicting", len(images), console=console, disable=quiet, transient=True
        ):
            if saved is not None:
                saved.add(prediction)
                prediction = prediction.select(prediction.scores >= score)
            files.add(image, prediction)
            if "labels" in prediction:
                found.update(detector.categories.names[label] for label in prediction.labels.tolist())
            else:
                found["of no class"] += len(prediction)
        if saved is not None:
            saved.write()
    print(_summary(len(images), len(unreadable), found, out, kinds))
    raise SystemExit(1 if unreadable else 0)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _load(source: str, device: str) -> tuple[Detector, list[str]]:
    """The model, and what it warns of."""
    import warnings

    from detkit.devices import pick_device
    from detkit.model_directory import load

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = load(source, device=pick_device(device))
    return model, [str(warning.message) for warning in caught]


def _summary(images: int, unreadable: int, found: Counter[str], out: Path, kinds: list[str]) -> str:
    by_name = ", ".join(
        f"{count} {name}" for name, count in sorted(found.items(), key=lambda item: (-item[1], item[0]))
    )
    lines = [f"{found.total()} objects in {images - unreadable} images" + (f": {by_name}" if by_name else "")]
    if unreadable:
        lines.append(f"{unreadable} images could not be read")
    written = {
        "images": f"{out}/*.png",
        "json": f"{out}/predictions.json",
        "csv": f"{out}/predictions.csv",
        "proposals": f"{out}/proposals.npz",
    }
    paths = [path for kind, path in written.items() if kind in kinds]
    paths += [str(out / name) for name in ("panoptic.json", "semantic") if "json" in kinds and (out / name).exists()]
    lines.append("written: " + ", ".join(paths))
    return "\n".join(lines)
