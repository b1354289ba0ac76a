"""One meaning a name: no class name stands for two things, and the code's own words are told."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORDS = (ROOT / "ARCHITECTURE.md").read_text("utf-8").partition("## Words")[2].partition("\n## ")[0]


def places() -> dict[str, set[str]]:
    """Class name -> the modules that define it."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in ("operator", "runtime"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "_pb2" in path.name:
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    found[node.name].add(str(path.relative_to(ROOT)))
    return found


def test_no_class_name_is_defined_twice() -> None:
    assert {name: sorted(at) for name, at in places().items() if len(at) > 1} == {}


GLOSSARY = """
    profile variant unit cell revision stable target assignment slot step soak verdict snapshot
    flavor tier trial stage move look facts finding hindrance standing berth seat row wish
    incumbent fit unfit capacity spill climb refusal nudge outage evidence measurand yardstick
    baseline restorable adopt digest record swap exam probe shadow lane bound skew feed
    attempt milestone manifest exchange layout header supply keyring
"""


@pytest.mark.parametrize("word", GLOSSARY.split())
def test_a_word_of_the_code_stands_in_the_glossary(word: str) -> None:
    rows = [line.split("|")[1] for line in WORDS.splitlines() if line.startswith("| ")]
    named = {one.strip() for row in rows for one in row.replace("/", ",").split(",")}
    assert word in named
