"""The guide names everything that `detkit data check` tells apart, and every format that can be written."""

from __future__ import annotations

from detkit.data.problems import PROBLEMS
from detkit.plugins import registry
from tools.packages import ROOT

GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")


def test_every_problem_is_in_the_guide() -> None:
    assert [code for code in PROBLEMS if f"`{code}`" not in GUIDE] == []


def test_every_format_is_in_the_guide() -> None:
    assert [name for name in registry().names("dataset_writer") if f"`{name}`" not in GUIDE] == []
