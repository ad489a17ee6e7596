"""`detkit models`: the recipes that can be trained by name."""

from __future__ import annotations

from typing import Any

from detkit.cli.running import run


def main(argv: list[str]) -> int:
    """`detkit models [--json]`."""
    import click

    @click.command(help="List the recipes of the installed plugins, with the results that were published for them.")
    @click.option("--json", "as_json", is_flag=True, help="For programs.")
    def models(as_json: bool) -> None:
        found = describe_recipes()
        if as_json:
            import json

            click.echo(json.dumps(found, indent=2))
            return
        width = max((len(recipe["name"]) for recipe in found), default=0)
        for recipe in found:
            numbers = ", ".join(f"{metric} {value}" for metric, value in recipe["published"].items())
            source = f" ({recipe['published by']})" if recipe["published by"] else ""
            click.echo(f"{recipe['name']:{width}}  {recipe['summary']}" + (f": {numbers}{source}" if numbers else ""))
        if not found:
            click.echo("no plugin provides a recipe; try: pip install det-heads")

    return run(models, "models", argv)


def describe_recipes() -> list[dict[str, Any]]:
    """name, plugin, summary, published (metric -> value), "published by", paper and licence of every recipe. Reads the
    files alone: no model is imported."""
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
                "summary": about.get("summary") or component.summary,
                "published": published if isinstance(published, dict) else {},
                "published by": about.get("published by"),
                "paper": about.get("paper"),
                "licence": about.get("licence"),
            }
        )
    return found
