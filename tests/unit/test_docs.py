"""What the documentation says of the tests is true: they exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
ROLLOUTS = (ROOT / "docs" / "rollouts.md").read_text()


@cache
def known_tests() -> set[str]:
    names = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text())
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        names |= {node.name for node in ast.walk(tree) if isinstance(node, functions)}
    return names


def rows(text: str) -> list[list[str]]:
    """Return the cells of the big table, without head and headlines."""
    table = text.partition("## The table")[2].partition("## ")[0]
    cells = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return [row for row in cells[1:] if not row[0].strip().startswith("**")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", page.read_text()))
    assert named - known_tests() == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_file_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"`(tests/[a-z0-9_/]+(?:\.py)?)`", page.read_text()))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_behaviour_names_a_test() -> None:
    bare = [row[0] for row in rows(ROLLOUTS) if not re.search(r"`test_[a-z0-9_]+`", row[-1])]
    assert bare == []
    assert len(rows(ROLLOUTS)) > 40
