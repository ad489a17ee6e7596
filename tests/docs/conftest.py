"""The code blocks of every page, found once, and the commands in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.packages import ROOT

PAGES = sorted(page for pattern in ("*.md", "docs/**/*.md", "packages/*/README.md") for page in ROOT.glob(pattern))
BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("detkit", "nox", "pip")


@dataclass(frozen=True)
class Block:
    """One fenced code block."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """All code blocks in a language."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match["language"] == language:
                line = text.count("\n", 0, match.start()) + 2
                found.append(Block(page, line, textwrap.dedent(match["text"])))
    return found


def commands() -> list[list[str]]:
    """The words of every command in `sh` blocks and in tables' backticks, `python -m PROGRAM` read as PROGRAM."""
    texts = [block.text.replace("\\\n", " ") for block in blocks("sh")]
    for page in PAGES:
        texts += re.findall(r"`((?:detkit|nox|python -m) [^`]+)`", page.read_text(encoding="utf-8"))
    lines = [line.partition("  #")[0] for text in texts for line in text.splitlines()]
    calls = [shlex.split(call, comments=True) for line in lines for call in re.split(r"&&|;|\|", line)]
    calls = [words[2:] if words[:2] == ["python", "-m"] else words for words in calls]
    return [list(words) for words in dict.fromkeys(map(tuple, calls)) if words]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `page`, `python_block`, `yaml_block`, `tool` (a module run with python -m) or
    `detkit_words` (the arguments of a documented call; so `nox_words`, `pip_words`) runs once for each of them."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
    for language in ("python", "yaml"):
        if f"{language}_block" in metafunc.fixturenames:
            found = blocks(language)
            metafunc.parametrize(f"{language}_block", found, ids=map(str, found))
    for program in PROGRAMS:
        if f"{program}_words" in metafunc.fixturenames:
            calls = [words for words in commands() if words[0] == program]
            metafunc.parametrize(f"{program}_words", [words[1:] for words in calls], ids=map(" ".join, calls))
    if "tool" in metafunc.fixturenames:
        metafunc.parametrize("tool", sorted({words[0] for words in commands() if words[0].startswith("tools.")}))
