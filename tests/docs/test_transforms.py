"""The guide's chapter on augmentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from detkit.config import build
from detkit.interfaces import Transform
from detkit.plugins import registry

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"


def test_the_table_has_every_transform() -> None:
    chapter = GUIDE.read_text(encoding="utf-8").partition("## Augment\n")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`.*?`) \|", chapter, re.MULTILINE)
    named = [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]
    of_core = [each.name for each in registry().components("transform") if each.target.startswith("detkit.")]
    assert sorted(named) == of_core


def test_the_chains_of_transforms_can_be_built() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    chains: list[Mapping[str, Any]] = [tree for tree in map(yaml.safe_load, blocks) if tree.keys() == {"transforms"}]
    assert len(chains) >= 4
    for chain in chains:
        for spec in chain["transforms"]:
            build(spec, Transform)
