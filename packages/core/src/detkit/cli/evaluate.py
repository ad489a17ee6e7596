"""`detkit eval`: measure a model on a dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.cli.running import run

if TYPE_CHECKING:
    from detkit.interfaces import Evaluator
    from detkit.tta import Augmentation

_HELP = """Measure MODEL, a model directory or a run (its best model, else its last), on data=PATH.

Prints the tables of each evaluator, and writes metrics.json and result files with the dataset's own ids into --out.

split=NAME chooses the split (val, if there is one), evaluators=[NAME, ...] what is measured (what the run measured,
else coco), tta=true or tta.scales=[0.5,1,1.5] tta.flip=false test-time augmentation.
"""


def main(argv: list[str]) -> int:
    """`detkit eval MODEL data=PATH [split=NAME] [evaluators=...] [--out DIR]`."""
    import click

    params: list[click.Parameter] = [
        click.Argument(["model"]),
        click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED, metavar="data=PATH [KEY=VALUE ...]"),
        click.Option(
            ["--out"], type=click.Path(path_type=Path), help="Folder for results [default: runs/eval-NAME-N]."
        ),
        click.Option(["--losses"], is_flag=True, help="Also compute the losses on these images."),
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
        again += [] if optimize else ["--no-optimize"]
        raise SystemExit(launch(["eval", *again], processes))
    _run(model, options, out, losses=losses, batch_size=batch_size, workers=workers, device=device, optimize=optimize)


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    """The values of data, split, evaluators and tta."""
    from detkit.config.overrides import apply, from_arguments

    found = apply({}, from_arguments(arguments))
    if unknown := sorted(set(found) - {"data", "split", "evaluators", "tta"}):
        raise ValueError(f"detkit eval does not know {', '.join(unknown)}; there are data, split, evaluators and tta")
    if not isinstance(found.get("data"), str):
        raise ValueError("give data=PATH: a folder with images and annotations, or a YAML file that names its splits")
    return found


def _run(
    source: str,
    options: dict[str, Any],
    out: Path,
    *,
    losses: bool,
    batch_size: int,
    workers: int,
    device: str,
    optimize: bool,
) -> None:
    from detkit.data.source import find_splits
    from detkit.engine.processes import Processes
    from detkit.engine.run import write_json
    from detkit.evaluation import evaluate, relabellings_of
    from detkit.model_directory import load

    splits = find_splits(options["data"])
    split = options.get("split") or ("val" if "val" in splits else next(iter(splits)))
    if split not in splits:
        raise ValueError(f"{options['data']} has no split {split!r}; it has: {', '.join(splits)}")
    evaluators = _evaluators(source, options.get("evaluators"))
    tta = _augmentation(options.get("tta"))
    with Processes(device) as processes:
        model = load(source, device=processes.device)
        dataset = splits[split].open()
        missing = [name for relabelling in relabellings_of(model, dataset) for name in relabelling.missing]
        metrics = evaluate(
            model,
            dataset,
            evaluators,
            batch_size=batch_size,
            workers=workers,
            losses=losses,
            tta=tta,
            optimize=optimize,
            processes=processes,
        )
        if not processes.first:
            return
        out.mkdir(parents=True, exist_ok=True)
        for evaluator in evaluators:
            evaluator.save(out)
        write_json(out / "metrics.json", metrics)
    print(f"{source} on {len(dataset)} images of {options['data']}, split {split}")
    if missing:
        print(f"classes that the model does not know, none of whose objects it can find: {', '.join(missing)}")
    _show(evaluators, metrics)
    print(f"written: {out / 'metrics.json'}")


def _augmentation(spec: Any) -> Augmentation | None:
    from detkit.tta import Augmentation

    if not spec:
        return None
    if spec is True:
        return Augmentation()
    if not isinstance(spec, dict) or not set(spec) <= {"scales", "flip"}:
        raise ValueError(f"tta is {spec!r}; it must be true, or have scales (numbers) and flip (true or false)")
    return Augmentation(**spec)


def _evaluators(source: str, spec: Any) -> Sequence[Evaluator]:
    """Those that are asked for, else those of the run, else COCO's."""
    from detkit.config import Config, build
    from detkit.interfaces import Evaluator

    if spec is not None:
        entries = spec if isinstance(spec, list) else [spec]
        return [build(entry, Evaluator) for entry in entries]
    folder = Path(source)
    for run_folder in (folder, folder.parent):
        if (run_folder / "checkpoints").is_dir() and (run_folder / "config.yaml").is_file():
            evaluators: Sequence[Evaluator] = Config.load(run_folder / "config.yaml").build("evaluators")
            return evaluators
    return [build("coco", Evaluator)]


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
