"""Plain text for terminals: tables, sections, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

INDENT = "  "
NOTHING = "-"
"""Stands in a cell of a table that has no value."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return aligned columns under their names; without rows, nothing.

    >>> print(table(["CELL", "UNITS"], [["digits-cpu", "1/2"]]))
      CELL        UNITS
      digits-cpu  1/2
    """
    body = [[_cell(value) for value in row] for row in rows]
    if not body:
        return ""
    lines = [list(head), *body]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(_line(line, widths) for line in lines)


def section(title: str, body: str) -> str:
    """Return the body under its title; without a body, nothing."""
    return f"{title}\n{body}" if body else ""


def page(*parts: str) -> str:
    """Return the parts that say something, one below the other."""
    return "\n\n".join(part for part in parts if part)


def as_json(value: object) -> str:
    """Return the value as JSON for scripts."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _cell(value: object) -> str:
    return NOTHING if value is None or value == "" else str(value)


def _line(values: Sequence[str], widths: Sequence[int]) -> str:
    padded = (value.ljust(width) for value, width in zip(values, widths, strict=True))
    return (INDENT + INDENT.join(padded)).rstrip()
