"""`detkit data`: make, check, convert, split, tile and show datasets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from detkit.cli.running import run

if TYPE_CHECKING:
    import click

MAKER_PREFIX = "data-make-"
"""Plugins provide `detkit data make NAME` as the command component "data-make-NAME"."""

PREFIX = "data-"
"""Plugins provide `detkit data NAME` as the command component "data-NAME", and `detkit data acme/NAME` as
"acme/data-NAME"."""


def main(argv: list[str]) -> int:
    """`detkit data make NAME | check SOURCE | convert | split | tile SOURCE OUT | show SOURCE`."""
    import click

    if argv[:1] == ["make"] and len(argv) > 1 and not argv[1].startswith("-"):
        return _make(argv[1], argv[2:])

    @click.group(help="Make, check, convert, split, tile and show datasets.")
    def data() -> None:
        pass

    @data.command(add_help_option=True)
    def make() -> None:
        """Make a practice dataset: `detkit data make NAME --out DIR`. Without NAME, list what can be made."""
        click.echo(_makers())

    from detkit.cli import data_check, data_convert, data_show, data_split, data_tile

    for part in (data_check, data_convert, data_split, data_tile, data_show):
        data.add_command(part.command())
    _add_plugins(data)
    return run(data, "data", argv)


def _add_plugins(data: click.Group) -> None:
    """The commands of plugins, which see to their own arguments."""
    import click

    from detkit.plugins import registry

    for each in registry().components("command"):
        owner, slash, last = each.name.rpartition("/")
        name = owner + slash + last.removeprefix(PREFIX)
        if name == each.name or last.startswith(MAKER_PREFIX) or name in data.commands:
            continue
        given = click.Argument(["given"], nargs=-1, type=click.UNPROCESSED)
        settings = {"ignore_unknown_options": True}
        callback = partial(_run_plugin, each.name)
        data.add_command(click.Command(name, settings, callback, [given], each.summary, add_help_option=False))


def _run_plugin(name: str, given: tuple[str, ...]) -> None:
    from detkit.plugins import registry

    raise SystemExit(registry().load("command", name)(list(given)))


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
