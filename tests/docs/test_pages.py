"""Links lead somewhere; Python and YAML in the documentation are valid and name what exists."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from detkit.config import Config
from tools.packages import find_packages

if TYPE_CHECKING:
    from conftest import Block

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FIRST_PARTY = {package.import_name for package in find_packages().values()}


def test_links_lead_to_files_and_headings(page: Path) -> None:
    for match in LINK.finditer(page.read_text(encoding="utf-8")):
        address, _, heading = match["target"].partition("#")
        if address.startswith(("http://", "https://", "mailto:")):
            continue
        target = (page.parent / address).resolve() if address else page
        assert target.exists(), match["target"]
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, match["target"]


def test_names_in_the_text_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"`(detkit(?:\.\w+)+)", text)
    names += [f"detkit.testing.{name}" for name in re.findall(r"`(\w+\.\w+Contract)`", text)]
    for name in names:
        pkgutil.resolve_name(name)


def test_python_compiles_and_imports_what_exists(python_block: Block) -> None:
    for node in ast.walk(ast.parse(python_block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FIRST_PARTY:
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in FIRST_PARTY:
            assert hasattr(importlib.import_module(node.value.id), node.attr)


def test_yaml_is_valid_and_configs_load(yaml_block: Block) -> None:
    tree = yaml.safe_load(yaml_block.text)
    if "base" in tree:
        Config.load(tree).build("train")
