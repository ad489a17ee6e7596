"""The guide for plugin authors leaves nothing out."""

from __future__ import annotations

import inspect

import pytest

from detkit.plugins import KINDS, hookspecs
from tools.packages import ROOT

GUIDE = ROOT / "docs/plugins.md"
HOOKS = [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("detkit_")]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_signature(hook: str) -> None:
    signature = f"{hook}{inspect.signature(getattr(hookspecs, hook))}".replace("'", "")
    assert signature in GUIDE.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_documented(kind: str) -> None:
    assert f"`{kind}`" in GUIDE.read_text(encoding="utf-8")
