"""`detkit plugins`: list, check and create plugins."""

from __future__ import annotations

from pathlib import Path

from detkit.cli.running import run


def main(argv: list[str]) -> int:
    """`detkit plugins list | check [NAME] | new NAME`."""
    import click

    @click.group(help="List, check and create plugins.")
    def plugins() -> None:
        pass

    @plugins.command("list")
    @click.option("--kind", help="Only the components of this kind.")
    @click.option("--json", "as_json", is_flag=True, help="For programs.")
    def list_(kind: str | None, as_json: bool) -> None:
        """Installed plugins, their state, and what they provide."""
        from detkit.plugins import KINDS

        if kind is not None and kind not in KINDS:
            raise click.UsageError(f"there is no kind {kind!r}; the kinds are {', '.join(KINDS)}")
        click.echo(_listed_json(kind) if as_json else _listed(kind))

    @plugins.command()
    @click.argument("name", required=False)
    def check(name: str | None) -> None:
        """Check the plugin NAME, or all, against every rule of the contract; exit code 1 if one is broken."""
        raise SystemExit(_check(name))

    @plugins.command()
    @click.argument("name")
    @click.option("--out", type=click.Path(path_type=Path), help="Folder to write [default: NAME].")
    def new(name: str, out: Path | None) -> None:
        """Start a plugin: write a distribution called NAME (such as acme-swin) that works, with tests."""
        from detkit.testing.template import write_plugin

        folder = write_plugin(name, out or Path(name))
        click.echo(
            f"wrote {folder}; next:\n  pip install -e {folder}\n  detkit plugins check {name}\n  pytest {folder}"
        )

    return run(plugins, "plugins", argv)


def _listed(kind: str | None) -> str:
    from detkit.plugins import registry

    lines = []
    for info in registry().plugins():
        components = [each for each in info.components if kind in (None, each.kind)]
        if kind is not None and not components:
            continue
        notes = f": {info.problem}" if info.problem else ""
        notes += f" (slow: imports {', '.join(info.heavy)}, {info.seconds:.1f} s)" if info.heavy else ""
        lines.append(f"{info.name} {info.version}  {info.state}{notes}")
        width = max((len(each.name) for each in components), default=0)
        lines += [f"  {each.kind:18}  {each.name:{width}}  {each.summary}".rstrip() for each in components]
    return "\n".join(lines) or "no plugin is installed"


def _listed_json(kind: str | None) -> str:
    import json
    from dataclasses import asdict

    from detkit.plugins import registry

    return json.dumps(
        [
            {
                "name": info.name,
                "version": info.version,
                "module": info.module,
                "state": info.state,
                "problem": info.problem,
                "seconds": round(info.seconds, 3),
                "heavy": info.heavy,
                "components": [asdict(each) for each in info.components if kind in (None, each.kind)],
            }
            for info in registry().plugins()
        ],
        indent=2,
    )


def _check(name: str | None) -> int:
    from detkit.config.problems import suggest
    from detkit.plugins import registry
    from detkit.plugins.checking import check_plugin
    from detkit.plugins.discovery import canonical

    found = [info for info in registry().plugins() if name is None or canonical(info.name) == canonical(name)]
    if not found and name is not None:
        known = [info.name for info in registry().plugins()]
        raise ValueError(f"no plugin is called {name!r}{suggest(name, known)}")
    broken = 0
    for info in found:
        print(f"{info.name} {info.version}")
        for rule, problem in check_plugin(registry(), info):
            broken += bool(problem)
            print(f"  FAIL  {rule}: {problem}" if problem else f"  ok    {rule}")
    print(f"{broken} rules broken" if broken else "every rule is kept")
    return 1 if broken else 0
