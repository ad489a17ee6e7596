"""The template of `detkit plugins new`: a distribution that works, to be changed into one's own."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from detkit import __version__
from detkit.plugins.discovery import canonical


def write_plugin(name: str, folder: Path) -> Path:
    """Write a plugin distribution called `name` into a new folder: one backbone, one recipe that uses it, their tests.

    Args:
        name: of the distribution, such as "acme-swin": its first word is the prefix of all its component names.
        folder: where it goes; must not hold anything yet.

    Raises:
        ValueError: the name cannot be used, or the folder is not empty.
    """
    words = canonical(name).split("-")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", canonical(name)):
        raise ValueError(f"{name!r} cannot be a distribution's name; use words of letters and digits, as in acme-swin")
    if words[0] in ("det", "detkit"):
        raise ValueError(
            f"{name!r}: names that begin with {words[0]}- are this project's own; begin with yours: acme-swin"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty; give another folder with --out")
    module = "_".join(words[1:]) or "backbone"
    if module[0].isdigit():
        raise ValueError(f"{name!r}: its second word names a Python module and must begin with a letter")
    major, minor = __version__.split(".")[:2]
    values = {
        "distribution": "-".join(words),
        "package": "_".join(words),
        "prefix": words[0],
        "module": module,
        "component": f"{words[0]}/{module}",
        "class_name": "".join(word.capitalize() for word in module.split("_")),
        "recipe": f"{module}-quickstart",
        "bounds": f">={major}.{minor},<{major}.{int(minor) + 1}",
    }
    _render(files("detkit.testing") / "plugin_template", folder, values)
    return folder


def _render(source: Traversable, target: Path, values: dict[str, str]) -> None:
    """Copy a folder; in file names and contents, the values' names in capitals or after $ are replaced."""
    target.mkdir(parents=True, exist_ok=True)
    for each in source.iterdir():
        name = each.name
        for key in ("package", "module", "recipe"):
            name = name.replace(key.upper(), values[key])
        if each.is_dir():
            _render(each, target / name, values)
        else:
            text = Template(each.read_text(encoding="utf-8")).substitute(values)
            (target / name.removesuffix(".template")).write_text(text, encoding="utf-8")
