"""`detkit config`: show, explain and compare configs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detkit.cli.running import run

if TYPE_CHECKING:
    from detkit.config import Config


def main(argv: list[str]) -> int:
    """`detkit config show | explain | diff`."""
    import click

    settings = {"ignore_unknown_options": True}

    @click.group(help="Show, explain and compare configs. A config is a recipe's name, a YAML file or a run's folder.")
    def config() -> None:
        pass

    @config.command(context_settings=settings)
    @click.argument("source")
    @click.argument("changes", nargs=-1, type=click.UNPROCESSED)
    def show(source: str, changes: tuple[str, ...]) -> None:
        """Print the config SOURCE with every default filled in and CHANGES (key=value) applied."""
        from detkit.config import plain

        click.echo(plain.write(_load(source, changes).tree), nl=False)

    @config.command(context_settings=settings)
    @click.argument("key")
    @click.argument("source", required=False)
    @click.argument("changes", nargs=-1, type=click.UNPROCESSED)
    def explain(key: str, source: str | None, changes: tuple[str, ...]) -> None:
        """Say what KEY (such as train.steps) means, what it takes, and where SOURCE gets its value from."""
        from detkit.config.explain import explain as explanation

        click.echo(explanation(key, None if source is None else _load(source, changes)))

    @config.command()
    @click.argument("first")
    @click.argument("second")
    def diff(first: str, second: str) -> None:
        """Print the options that differ between two configs, defaults included; exit code 1 if any does."""
        from detkit.config.explain import differences

        lines = differences(_load(first, ()).tree, _load(second, ()).tree)
        click.echo("\n".join(lines) if lines else "no difference")
        raise SystemExit(1 if lines else 0)

    return run(config, "config", argv)


def _load(source: str, changes: tuple[str, ...]) -> Config:
    from detkit.config import Config
    from detkit.config.overrides import from_arguments

    return Config.load(source, from_arguments(changes))
