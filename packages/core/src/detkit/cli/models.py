"""`detkit models`: the recipes that can be trained by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from detkit.cli.running import run

OTHER = "other"  # the task of a recipe that does not say

_HELP = """List the recipes of the installed plugins by task, with the results that were published for them.

PATTERN, such as "mask-rcnn-*" or "x101", chooses by name; without wildcards it may stand anywhere in the name.
"""


def main(argv: list[str]) -> int:
    """`detkit models [PATTERN] [--task TASK] [--json]`."""
    import click

    @click.command(help=_HELP)
    @click.argument("pattern", default="*")
    @click.option("--task", help="Only recipes of this task, such as 'keypoints'.")
    @click.option("--json", "as_json", is_flag=True, help="For programs.")
    def models(pattern: str, task: str | None, as_json: bool) -> None:
        everything = describe_recipes()
        found = choose(everything, pattern, task)
        if as_json:
            import json

            click.echo(json.dumps(found, indent=2))
        elif found:
            click.echo("\n".join(table(found)))
        else:
            click.echo("no plugin provides a recipe; try: pip install det-heads")

    return run(models, "models", argv)


def choose(recipes: Sequence[dict[str, Any]], pattern: str = "*", task: str | None = None) -> list[dict[str, Any]]:
    """The recipes whose names match and which are for the task.

    Raises:
        ValueError: none is, though there are recipes; says which there are.
    """
    from fnmatch import fnmatchcase

    if task is not None and recipes and task not in {recipe["task"] for recipe in recipes}:
        tasks = sorted({recipe["task"] for recipe in recipes})
        raise ValueError(f"there is no recipe for the task {task!r}; there are recipes for: {', '.join(tasks)}")
    wild = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    found = [
        recipe for recipe in recipes if fnmatchcase(recipe["name"], wild) and (task is None or recipe["task"] == task)
    ]
    if recipes and not found:
        raise ValueError(f"no recipe is called {pattern!r}; `detkit models` lists all {len(recipes)}")
    return found


def table(recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of text: a heading for each task, then one line for each recipe."""
    width = max(len(recipe["name"]) for recipe in recipes)
    lines: list[str] = []
    for task, group in groupby(recipes, key=lambda recipe: recipe["task"]):
        lines += ["", task] if lines else [task]
        for recipe in group:
            numbers = ", ".join(f"{metric} {value}" for metric, value in recipe["published"].items())
            lines.append(f"  {recipe['name']:{width}}  {recipe['summary']}" + (f": {numbers}" if numbers else ""))
    return lines


def describe_recipes() -> list[dict[str, Any]]:
    """What is known of every recipe, by task and name: name, plugin, task, summary, published (metric -> value),
    "published by", "model id", paper and licence. Reads the files alone: no model is imported."""
    from detkit.config.problems import ConfigError
    from detkit.config.sources import layers, merge_layers
    from detkit.plugins import registry

    found = []
    for component in registry().components("recipe"):
        try:
            about = merge_layers(layers(component.name)).get("about")
        except ConfigError as error:
            about = {"summary": f"cannot be read: {error}"}
        about = about if isinstance(about, dict) else {}
        published = about.get("published")
        found.append(
            {
                "name": component.name,
                "plugin": ", ".join(info.name for info in registry().providers("recipe", component.name)),
                "task": str(about.get("task") or OTHER),
                "summary": about.get("summary") or component.summary,
                "published": published if isinstance(published, dict) else {},
                **{key: about.get(key) for key in ("published by", "model id", "paper", "licence")},
            }
        )
    return sorted(found, key=lambda recipe: (recipe["task"] == OTHER, recipe["task"], recipe["name"]))
