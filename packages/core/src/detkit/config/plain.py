"""Plain values (what YAML can hold), read strictly and written so that they read back equal."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detkit.config.problems import ConfigError, Problem, join

_DEEPEST = 40  # levels; configs have about 8, a YAML alias that contains itself has no end
_LARGEST = 2**63  # beyond it lie typing errors and numbers that YAML cannot read back


def read(text: bytes | str, source: str) -> Any:
    """The plain value in a YAML text.

    Raises:
        ConfigError: not YAML, a key given twice, or something that is not plain, such as a date.
    """
    import yaml

    try:
        value = _parse(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        what = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError([Problem("", f"{where}not valid YAML: {what}")], source) from error
    except (ValueError, RecursionError, OverflowError) as error:  # 2001-99-99, a number of 5000 digits, [[[[...
        raise ConfigError([Problem("", f"not valid YAML: {error}")], source) from error
    return plain(value, source)


def write(value: Any, *, inline: bool = False) -> str:
    """A plain value as YAML, in one line if `inline`."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    options: dict[str, Any] = {"Dumper": Dumper, "sort_keys": False, "allow_unicode": True}
    if inline:
        text: str = yaml.dump(value, default_flow_style=True, width=10**6, **options)
        return text.removesuffix("...\n").strip()
    text = yaml.dump(value, default_flow_style=None, width=110, **options)
    return text


def plain(value: Any, source: str = "") -> Any:
    """The same value made of dicts with text keys, lists, text, numbers, booleans and None; tuples become lists, paths
    become text.

    Raises:
        ConfigError: it holds something else; lists all such places.
    """
    problems: list[Problem] = []
    result = _plain(value, "", 0, problems)
    if problems:
        raise ConfigError(problems, source)
    return result


def _plain(value: Any, path: str, depth: int, problems: list[Problem]) -> Any:
    if depth > _DEEPEST:
        problems.append(Problem(path, f"more than {_DEEPEST} levels deep; does an alias contain itself?"))
        return None
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                problems.append(Problem(join(path, str(key)), f"the key {key!r} is not text; put it in quotes"))
        items = [(str(key), item) for key, item in value.items()]
        return {key: _plain(item, join(path, key), depth + 1, problems) for key, item in items}
    if isinstance(value, list | tuple):
        return [_plain(item, join(path, index), depth + 1, problems) for index, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            problems.append(Problem(path, f"{value!r} is not valid Unicode text"))
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < _LARGEST:
        return value
    if isinstance(value, float) and not math.isnan(value):
        return value
    if isinstance(value, int | float):
        problems.append(Problem(path, "the number is too large" if isinstance(value, int) else "not a number (nan)"))
    else:
        problems.append(
            Problem(
                path, f"got {value!r} ({type(value).__name__}), which a config cannot hold; is it text without quotes?"
            )
        )
    return None


@functools.lru_cache(maxsize=512)  # hundreds of recipes are based on a few others; `plain` copies what is kept here
def _parse(text: bytes | str) -> Any:
    import yaml

    return yaml.load(text, _loader())


@functools.cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """The safe loader, which also refuses a key given twice."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            node: Any = super().compose_mapping_node(anchor)
            seen: set[tuple[str, str]] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if (key.tag, key.value) in seen:
                        raise yaml.composer.ComposerError(None, None, f"{key.value!r} is given twice", key.start_mark)
                    seen.add((key.tag, key.value))
            return node

    return Loader
