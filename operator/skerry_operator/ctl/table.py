"""Plain text for terminals: tables, sections, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

INDENT = "  "
NOTHING = "-"
"""Stands in a cell of a table that has no value."""


def printable(text: str) -> str:
    r"""Return the text as a terminal may have it: lines, and characters that people see.

    What comes from the cluster (names, messages of pods, texts of other people's specs) may hold
    sequences that a terminal obeys. The form is also that of JSON, so that its texts stay what
    they are.

    >>> printable("1.0\x1b[31m")
    '1.0\\u001b[31m'
    """
    return "".join(one if one.isprintable() or one == "\n" else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    return json.dumps(character, ensure_ascii=True)[1:-1] if character != "\x7f" else "\\u007f"


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
    return NOTHING if value is None or value == "" else " ".join(str(value).split("\n"))


def _line(values: Sequence[str], widths: Sequence[int]) -> str:
    padded = (value.ljust(width) for value, width in zip(values, widths, strict=True))
    return (INDENT + INDENT.join(padded)).rstrip()
