"""`detkit train`: train a model on a dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from detkit.cli.running import run

if TYPE_CHECKING:
    from detkit.config import Config
    from detkit.engine.run import Run

_HELP = """Train RECIPE, a recipe's name or a YAML file, on data=PATH.

KEY=VALUE changes any option of the recipe: train.epochs=12 model.backbone.depth=101. `detkit config explain KEY` says
what an option does; `detkit models` lists the recipes.

With --resume or --extend, RECIPE may be left out: the run in --out has its own config.

Exit codes: 0 done; 75 asked to stop (SIGTERM, Ctrl-C), saved, can be resumed; 2 something to mend; 1 anything else.
"""


def main(argv: list[str]) -> int:
    """`detkit train RECIPE data=PATH [KEY=VALUE ...]`."""
    import click

    @click.command(help=_HELP, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="RECIPE data=PATH [KEY=VALUE ...]")
    @click.option("--out", type=click.Path(path_type=Path), help="Run directory [default: runs/RECIPE-N].")
    @click.option("--resume", is_flag=True, help="Continue the run in --out from its newest checkpoint.")
    @click.option("--init", metavar="MODEL", help="Start from the weights of a model (a model directory or a run).")
    @click.option(
        "--extend", type=float, metavar="N", help="Train the finished run in --out for N more epochs (or steps)."
    )
    @click.option("--processes", type=click.IntRange(1), help="Train in this many processes on this machine.")
    def train(
        arguments: tuple[str, ...],
        out: Path | None,
        resume: bool,
        init: str | None,
        extend: float | None,
        processes: int | None,
    ) -> None:
        again = resume or extend is not None
        if again and out is None:
            raise click.UsageError("--resume and --extend need --out, the directory of the run")
        config, name = _config(arguments, out if again else None)
        if out is None:
            if "RANK" in os.environ:
                raise click.UsageError("processes that torchrun starts need --out, to agree on it")
            from detkit.engine.run import next_folder

            out = next_folder(name)
        if processes is not None and processes > 1 and "RANK" not in os.environ:
            from detkit.engine.launch import launch

            words = [*arguments, "--out", str(out), *(["--resume"] if resume else [])]
            words += ["--init", init] if init is not None else []
            words += ["--extend", str(extend)] if extend is not None else []
            raise SystemExit(launch(["train", *words], processes))
        raise SystemExit(_train(config, out, resume=resume, init=init, extend=extend))

    return run(train, "train", argv)


def _config(arguments: tuple[str, ...], out: Path | None) -> tuple[Config, str]:
    """The config and the name of the recipe, from the words of the command line; from the run in `out` if they name
    none."""
    import click

    from detkit.config import Config
    from detkit.config.overrides import from_arguments

    words = list(arguments)
    if words and "=" not in words[0] and not words[0].startswith("-"):
        source = words.pop(0)
    elif out is not None:
        source = str(out / "config.yaml")
    else:
        raise click.UsageError("give a recipe or a YAML file first; `detkit models` lists the recipes")
    is_file = source.endswith((".yaml", ".yml"))
    name = Path(source).stem if is_file else source.replace("/", "-")
    return Config.load(Path(source) if is_file else source, from_arguments(words)), name


def _train(config: Config, out: Path, *, resume: bool, init: str | None, extend: float | None) -> int:
    import sys

    from detkit.engine.loop import Stopped
    from detkit.engine.stop import EXIT_STOPPED
    from detkit.engine.train import train

    try:
        result = train(config, out, resume=resume, init=init, extend=extend)
    except Stopped as stopped:
        print(f"{stopped}; continue with: detkit train --resume --out {out}", file=sys.stderr)
        return EXIT_STOPPED
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if result.processes.first:
        print(_where(result))
    return 0


def _where(result: Run) -> str:
    """Where everything is, and what to try next."""
    out = result.folder
    best = out / "best"
    model = best if best.is_dir() else out / "last"
    lines = [f"trained {result.step} steps ({result.step / result.steps_per_epoch:.3g} epochs); results are in {out}"]
    if best.is_dir() and result.best is not None:
        lines.append(f"  best/          the best model, from step {result.best_step}: {result.best:.3f}")
    lines += [
        "  last/          the last model",
        "  metrics.jsonl  losses and metrics over time",
    ]
    if (out / "metrics.json").exists():
        lines.append("  metrics.json   the last evaluation")
    lines += [
        "  config.yaml    every option of this run",
        "  checkpoints/   to resume or extend it",
        f"try: detkit predict {model} IMAGE --out pictures",
    ]
    return "\n".join(lines)
