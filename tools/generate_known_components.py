"""Write the table from which `detkit` says what to install for a name that nothing installed provides.

    python -m tools.generate_known_components           # write it
    python -m tools.generate_known_components --check   # exit 1 if it is out of date

The table holds kind -> name -> distribution for every component of this repository's packages, which must be installed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tools.packages import ROOT, Package, find_packages

TABLE = ROOT / "packages/core/src/detkit/plugins/known_components.json"


def known_components(packages: Iterable[Package]) -> dict[str, dict[str, str]]:
    """Kind -> name -> distribution, sorted.

    Raises:
        ValueError: two packages declare one name.
    """
    found: dict[str, dict[str, str]] = {}
    for package in packages:
        if package.plugin_module is None:
            continue
        for component in importlib.import_module(package.plugin_module).detkit_components():
            names = found.setdefault(component.kind, {})
            if component.name in names:
                other = names[component.name]
                raise ValueError(
                    f"{other} and {package.name} both declare {component.kind} {component.name!r}; rename one"
                )
            names[component.name] = package.name
    return {kind: dict(sorted(names.items())) for kind, names in sorted(found.items())}


def main(arguments: list[str] | None = None, table: Path = TABLE) -> int:
    """Write or check the table; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the table is out of date")
    options = parser.parse_args(arguments)
    text = json.dumps(known_components(find_packages().values()), indent=2) + "\n"
    current = table.read_text(encoding="utf-8") if table.exists() else ""
    if text == current:
        return 0
    if options.check:
        print(f"{table.name} is out of date; run: python -m tools.generate_known_components", file=sys.stderr)
        return 1
    table.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
