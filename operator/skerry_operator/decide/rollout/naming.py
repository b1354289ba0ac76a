"""Units in messages: the first few by name, what is the same of several said once."""

from __future__ import annotations

from collections.abc import Iterable

from skerry_operator.decide.facts import UnitFacts

NAMED_UNITS = 3
"""Units that a message names before it only counts them."""


def described(unit: UnitFacts) -> str:
    """Return what a unit waits for."""
    return unit.waiting or ("not serving it yet" if unit.answered else "no answer")


def by_text(told: Iterable[tuple[str, str]]) -> str:
    """Return what is told of units, name and text; what is the same of several is said once.

    >>> by_text([("a", "no image"), ("b", "no image"), ("c", "no room")])
    'a, b: no image; c: no room'
    >>> by_text((name, "no image") for name in "abcde")
    'a, b, c and 2 more: no image'
    """
    groups: dict[str, list[str]] = {}
    for name, text in told:
        groups.setdefault(text, []).append(name)
    named = [
        f"{_names(names)}: {text}" if text else _names(names) for text, names in groups.items()
    ]
    rest = sum(len(names) for names in list(groups.values())[NAMED_UNITS:])
    return "; ".join(named[:NAMED_UNITS]) + (f"; and {rest} more" if rest > 0 else "")


def _names(names: list[str]) -> str:
    rest = len(names) - NAMED_UNITS
    return ", ".join(names[:NAMED_UNITS]) + (f" and {rest} more" if rest > 0 else "")


def some(texts: list[str]) -> str:
    """Return the first few texts and how many there are beyond them."""
    rest = len(texts) - NAMED_UNITS
    return "; ".join(texts[:NAMED_UNITS]) + (f"; and {rest} more" if rest > 0 else "")
