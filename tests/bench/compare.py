"""Puts the figures of two runs of a bench side by side.

python -P tests/bench/compare.py BEFORE.json AFTER.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

Rows = dict[str, dict[str, Any]]


def main() -> None:
    """Print a table: before, after, and what one is of the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    given = parser.parse_args()
    before, after = (json.loads(path.read_text()) for path in (given.before, given.after))
    print(f"load before {before['load']}, after {after['load']}")
    print("\n".join(compared(_by_name(before), _by_name(after))))


def compared(before: Rows, after: Rows) -> list[str]:
    """Return a line for every figure of either run."""
    names = [*before, *(name for name in after if name not in before)]
    head = f"{'':<62}{'before':>12}{'after':>12}{'ratio':>8}  goal"
    return [head, *(_line(name, before.get(name), after.get(name)) for name in names)]


def _by_name(content: dict[str, Any]) -> Rows:
    return {row["name"]: row for row in content["rows"]}


def _line(name: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    values = [row["value"] if row else None for row in (before, after)]
    texts = ["-" if value is None else f"{value:,.12g}" for value in values]
    ratio = f"{values[1] / values[0]:.2f}" if None not in values and values[0] else ""
    goal = (after or before or {}).get("goal") or ""
    said = {True: "ok", False: "missed"}.get((after or {}).get("ok"), "")
    return f"{name:<62}{texts[0]:>12}{texts[1]:>12}{ratio:>8}  {goal:<10}{said}".rstrip()


if __name__ == "__main__":
    main()
