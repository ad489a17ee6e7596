"""What is wrong with a config, all of it at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Problem(NamedTuple):
    """One thing that is wrong: where (`model.backbone.depth`; empty for the whole config), and what to do about it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(ValueError):
    """A config that cannot be used.

    Args:
        problems: everything that is wrong.
        source: the file or recipe it is wrong in, where there is one.
    """

    def __init__(self, problems: Iterable[Problem | tuple[str, str]], source: str = "") -> None:
        self.problems = tuple(Problem(*problem) for problem in problems)
        self.source = source
        super().__init__(self.problems, source)

    def __str__(self) -> str:
        inside = f" in {self.source}" if self.source else ""
        if len(self.problems) == 1:
            return f"{self.source}: {self.problems[0]}" if self.source else str(self.problems[0])
        return "\n  ".join([f"{len(self.problems)} problems{inside}:", *map(str, self.problems)])


def join(path: str, part: str | int) -> str:
    """The path of a part of what is at `path`."""
    return f"{path}.{part}" if path else str(part)


def suggest(word: str, known: Iterable[str]) -> str:
    """The known words that look like `word`, as the end of a message: "; did you mean 'depth'?"; else all of them."""
    import difflib  # only errors need it

    known = list(known)
    if near := difflib.get_close_matches(word, known, n=2):
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; there are: {', '.join(known)}" if known else ""
