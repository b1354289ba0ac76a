"""The one form in which every bench tells what it found: a table, and build/bench/NAME.json.

    {"load": [1, 5, 15 minutes], "rows": [{"name", "value", "unit", "goal", "ok"}], ...}

A goal is written `<= 1.2` or `>= 3`; a row without one is a figure to read. `ok` is null where
there is no goal, or no value. A missed goal is shown and fails nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "build" / "bench"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Row:
    """One figure; the value None: it could not be had."""

    name: str
    value: float | None
    unit: str = ""
    goal: str | None = None
    ok: bool | None = None


def figure(name: str, value: float | None, unit: str = "") -> Row:
    """Return a figure that nothing is asked of."""
    return Row(name, _short(value), unit)


def at_most(name: str, value: float | None, limit: float, unit: str = "") -> Row:
    """Return a figure that should not be more than `limit`."""
    ok = None if value is None else value <= limit
    return Row(name, _short(value), unit, f"<= {limit:g}", ok)


def at_least(name: str, value: float | None, limit: float, unit: str = "") -> Row:
    """Return a figure that should not be less than `limit`."""
    ok = None if value is None else value >= limit
    return Row(name, _short(value), unit, f">= {limit:g}", ok)


def line(row: Row) -> str:
    """Return a row as people read it."""
    value = NOT_MEASURED if row.value is None else f"{row.value:,.12g}"
    said = {True: "ok", False: "missed", None: ""}[row.ok]
    return f"{row.name:<62}{value:>14} {row.unit:<8}{row.goal or '':<10}{said}".rstrip()


def publish(name: str, rows: Sequence[Row], more: Mapping[str, Any] | None = None) -> Path:
    """Print the table and write the file; return where it is.

    `more` are further keys of the file.
    """
    load = tuple(round(one, 2) for one in os.getloadavg())
    print("", *(line(row) for row in rows), "", sep="\n")
    print(f"{_count(rows)}; {os.cpu_count()} CPUs, load {load} (1, 5, 15 minutes)")
    content = {"load": load, "rows": [asdict(row) for row in rows], "cpus": os.cpu_count()}
    path = FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**(more or {}), **content}, indent=2) + "\n")
    print(f"written to {path.relative_to(FOLDER.parents[1])}")
    return path


def _count(rows: Iterable[Row]) -> str:
    asked = [row for row in rows if row.goal is not None]
    met = sum(row.ok is True for row in asked)
    silent = sum(row.ok is None for row in asked)
    return f"{met} of {len(asked)} goals met" + (f", {silent} {NOT_MEASURED}" if silent else "")


def _short(value: float | None) -> float | None:
    """Return the value with four digits that count: more of them are noise."""
    return (
        None if value is None else float(f"{value:.4g}") if abs(value) < 1000 else round(value, 1)
    )
