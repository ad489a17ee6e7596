"""`detkit eval`: measure a model on a dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.cli.running import run

if TYPE_CHECKING:
    from detkit.detector import Detector
    from detkit.interfaces import Dataset, Evaluator
    from detkit.tiling import Tiling
    from detkit.tta import Augmentation

_HELP = """Measure MODEL, a model directory or a run (its best model, else its last), on data=PATH.

Prints the tables of each evaluator, and writes into --out metrics.json (reasons.json says why some are null), result
files with the dataset's own ids, and report.html: metrics, curves, confusion, kinds of errors and the images with most
of them, in one file for a browser.

split=NAME chooses the split (val, if there is one), evaluators=[NAME, ...] what is measured (what the run measured,
else what suits the data and the model), tta=true or tta.scales=[0.5,1,1.5] tta.flip=false test-time augmentation,
tile=1024 or tile.size=1024 tile.overlap=200 tile.nms_iou=0.5 that large images are seen in overlapping tiles.
"""

_KEYS = ("data", "split", "evaluators", "tta", "tile")


def main(argv: list[str]) -> int:
    """`detkit eval MODEL data=PATH [split=NAME] [evaluators=...] [--out DIR]`."""
    import click

    params: list[click.Parameter] = [
        click.Argument(["model"]),
        click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED, metavar="data=PATH [KEY=VALUE ...]"),
        click.Option(
            ["--out"], type=click.Path(path_type=Path), help="Folder for results [default: runs/eval-NAME-N]."
        ),
        click.Option(["--report/--no-report"], default=True, help="Write report.html [default: yes]."),
        click.Option(["--losses"], is_flag=True, help="Also compute the mean losses on these images."),
        click.Option(["--batch-size"], type=click.IntRange(1), default=1, show_default=True, help="Images at a time."),
        click.Option(["--workers"], type=click.IntRange(0), default=2, show_default=True, help="That load images."),
        click.Option(["--device"], default="auto", show_default=True, help="auto, cpu or cuda."),
        click.Option(["--optimize/--no-optimize"], default=True, help="Fold norms into convolutions [default: yes]."),
        click.Option(["--processes"], type=click.IntRange(1), default=1, help="Share the images among N processes."),
    ]
    command = click.Command(
        "eval", callback=_evaluate, params=params, help=_HELP, context_settings={"ignore_unknown_options": True}
    )
    return run(command, "eval", argv)


def _evaluate(
    model: str,
    arguments: tuple[str, ...],
    out: Path | None,
    report: bool,
    losses: bool,
    batch_size: int,
    workers: int,
    device: str,
    optimize: bool,
    processes: int,
) -> None:
    from detkit.engine.run import next_folder

    options = _options(arguments)
    name = Path(model).resolve().name or "model"
    if out is None and "RANK" in os.environ:
        raise ValueError("processes that torchrun starts need --out, to agree on it")
    out = out or next_folder(f"eval-{name}")
    if processes > 1 and "RANK" not in os.environ:
        from detkit.engine.launch import launch

        again = [model, *arguments, "--out", str(out), "--batch-size", str(batch_size), "--workers", str(workers)]
        again += ["--device", device, *(["--losses"] if losses else [])]
        again += [*([] if optimize else ["--no-optimize"]), *([] if report else ["--no-report"])]
        raise SystemExit(launch(["eval", *again], processes))
    _run(
        model,
        options,
        out,
        report=report,
        losses=losses,
        batch_size=batch_size,
        workers=workers,
        device=device,
        optimize=optimize,
    )


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    """The values of data, split, evaluators, tta and tile."""
    from detkit.config.overrides import apply, from_arguments

    found = apply({}, from_arguments(arguments))
    if unknown := sorted(set(found) - set(_KEYS)):
        raise ValueError(
            f"detkit eval does not know {', '.join(unknown)}; there are {', '.join(_KEYS[:-1])} and {_KEYS[-1]}"
        )
    if not isinstance(found.get("data"), str):
        raise ValueError("give data=PATH: a folder with images and annotations, or a YAML file that names its splits")
    return found


def _run(
    source: str,
    options: dict[str, Any],
    out: Path,
    *,
    report: bool,
    losses: bool,
    batch_size: int,
    workers: int,
    device: str,
    optimize: bool,
) -> None:
    from detkit.data.samplers import frequencies
    from detkit.data.source import find_splits
    from detkit.engine.processes import Processes
    from detkit.engine.run import write_json
    from detkit.evaluation import evaluate, relabellings_of
    from detkit.model_directory import load
    from detkit.report.page import reasons_of, write_report

    splits = find_splits(options["data"])
    split = options.get("split") or ("val" if "val" in splits else next(iter(splits)))
    if split not in splits:
        raise ValueError(f"{options['data']} has no split {split!r}; it has: {', '.join(splits)}")
    tta, tile = _augmentation(options.get("tta")), _tiling(options.get("tile"))
    with Processes(device) as processes:
        dataset = splits[split].open()
        counted = partial(frequencies, dataset) if losses else None
        model = load(source, device=processes.device, class_frequencies=counted)
        evaluators = _evaluators(source, options.get("evaluators"), model, dataset, report=report)
        missing = [name for relabelling in relabellings_of(model, dataset) for name in relabelling.missing]
        metrics = evaluate(
            model,
            dataset,
            evaluators,
            batch_size=batch_size,
            workers=workers,
            losses=losses,
            tta=tta,
            tile=tile,
            optimize=optimize,
            processes=processes,
        )
        if not processes.first:
            return
        out.mkdir(parents=True, exist_ok=True)
        for evaluator in evaluators:
            evaluator.save(out)
        write_json(out / "metrics.json", metrics)
        write_json(out / "reasons.json", reasons_of(evaluators, metrics))
        if report:
            settings = {
                "batch size": batch_size,
                "test-time augmentation": tta or "no",
                "tiles": tile or "no",
                "norms folded": optimize,
            }
            facts = _facts(source, options["data"], split, model, dataset, settings)
            write_report(out / "report.html", f"{Path(source).name} on {split}", facts, evaluators, metrics)
    print(f"{source} on {len(dataset)} images of {options['data']}, split {split}")
    if missing:
        print(f"classes that the model does not know, none of whose objects it can find: {', '.join(missing)}")
    _show(evaluators, metrics)
    print("written: " + ", ".join(str(out / name) for name in ("metrics.json", *(["report.html"] if report else []))))


def _augmentation(spec: Any) -> Augmentation | None:
    from detkit.tta import Augmentation

    if not spec:
        return None
    if spec is True:
        return Augmentation()
    if not isinstance(spec, dict) or not set(spec) <= {"scales", "flip"}:
        raise ValueError(f"tta is {spec!r}; it must be true, or have scales (numbers) and flip (true or false)")
    return Augmentation(**spec)


def _tiling(spec: Any) -> Tiling | None:
    from detkit.tiling import Tiling

    if spec is None:
        return None
    numbers = {"size": spec} if not isinstance(spec, dict) else spec
    if not set(numbers) <= {"size", "overlap", "nms_iou"} or any(
        isinstance(value, bool) or not isinstance(value, (int, float) if name == "nms_iou" else int)
        for name, value in numbers.items()
    ):
        raise ValueError(f"tile is {spec!r}; it must be a number of pixels, or have size, overlap (pixels) and nms_iou")
    return Tiling(**numbers)


def _facts(
    source: str, data: str, split: str, model: Detector, dataset: Dataset, settings: Mapping[str, Any]
) -> dict[str, str]:
    """What the report says of an evaluation: nothing that changes from one time to the next."""
    from detkit.model_directory import find_model, read_meta, versions

    folder = find_model(source)
    meta = {} if folder is None else read_meta(folder)
    licence, step = meta.get("licence"), meta.get("step")
    return {
        "model": source + ("" if step is None else f", step {step}"),
        **({"recipe": str(meta["recipe"])} if meta.get("recipe") else {}),
        "licence": _listed(licence) if licence else "not stated",
        "parameters": f"{sum(each.numel() for each in model.parameters()):,}",
        "data": f"{data}, split {split}: {len(dataset):,} images, {len(dataset.categories)} classes of objects"
        + (f", {len(dataset.semantic_categories)} of pixels" if dataset.semantic_categories else ""),
        "settings": _listed(settings),
        "versions": _listed(versions()),
    }


def _listed(values: Any) -> str:
    """A mapping as text."""
    if not isinstance(values, Mapping):
        return str(values)
    words = {True: "yes", False: "no", None: "not stated"}
    return ", ".join(
        f"{name} {words[value] if value is None or isinstance(value, bool) else value}"
        for name, value in values.items()
    )


def _evaluators(source: str, spec: Any, model: Detector, dataset: Dataset, *, report: bool) -> Sequence[Evaluator]:
    """Those that are asked for; else those of the run, for a report with the one that explains errors; else those that
    suit the model and the dataset."""
    from detkit.config import Config, build
    from detkit.evaluation import DIAGNOSIS, evaluators_for
    from detkit.interfaces import Evaluator

    if spec is not None:
        entries = spec if isinstance(spec, list) else [spec]
        return [build(entry, Evaluator) for entry in entries]
    folder = Path(source)
    for run_folder in (folder, folder.parent):
        if (run_folder / "checkpoints").is_dir() and (run_folder / "config.yaml").is_file():
            evaluators: list[Evaluator] = list(Config.load(run_folder / "config.yaml").build("evaluators"))
            if not evaluators:
                break
            known = {type(evaluator) for evaluator in evaluators}
            explaining = evaluators_for(model, dataset, only=(DIAGNOSIS,)) if report else []
            return [*evaluators, *(each for each in explaining if type(each) not in known)]
    return evaluators_for(model, dataset, without=() if report else (DIAGNOSIS,))


def _show(evaluators: Sequence[Evaluator], metrics: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    for evaluator in evaluators:
        for title, columns, rows in evaluator.tables():
            table = Table(title=title, title_justify="left")
            for index, column in enumerate(columns):
                numbers = all(
                    row[index].removeprefix("-").replace(".", "").isdecimal() or row[index] == "n/a" for row in rows
                )
                table.add_column(column, justify="right" if numbers else "left")
            for row in rows:
                table.add_row(*row)
            console.print(table)
    for name, value in metrics.get("validation", {}).items():
        console.print(f"{name}: {value:.4f}")
