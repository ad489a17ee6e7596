"""`detkit data`: make, check, convert, split and show datasets."""

from __future__ import annotations

from detkit.cli.running import run

MAKER_PREFIX = "data-make-"
"""Plugins provide `detkit data make NAME` as the command component "data-make-NAME"."""


def main(argv: list[str]) -> int:
    """`detkit data make NAME | check SOURCE | convert SOURCE OUT | split SOURCE OUT | show SOURCE`."""
    import click

    if argv[:1] == ["make"] and len(argv) > 1 and not argv[1].startswith("-"):
        return _make(argv[1], argv[2:])

    @click.group(help="Make, check, convert, split and show datasets.")
    def data() -> None:
        pass

    @data.command(add_help_option=True)
    def make() -> None:
        """Make a practice dataset: `detkit data make NAME --out DIR`. Without NAME, list what can be made."""
        click.echo(_makers())

    from detkit.cli import data_check, data_convert, data_show, data_split

    for part in (data_check, data_convert, data_split, data_show):
        data.add_command(part.command())
    return run(data, "data", argv)


def _make(name: str, argv: list[str]) -> int:
    from detkit.plugins import UnknownComponentError, registry

    if MAKER_PREFIX + name not in registry().names("command"):
        raise UnknownComponentError(f"nothing called {name!r} can be made\n{_makers()}")
    status: int = registry().load("command", MAKER_PREFIX + name)(argv)
    return status


def _makers() -> str:
    from detkit.plugins import registry

    made = [each for each in registry().components("command") if each.name.startswith(MAKER_PREFIX)]
    lines = [f"  {each.name.removeprefix(MAKER_PREFIX)}  {each.summary}" for each in made]
    return "\n".join(["what can be made:", *lines]) if lines else "no plugin makes datasets; pip install det-datasets"
