"""Reads the API's texts: durations, quantities, counts and percentages.

Impossible numbers are taken as the largest possible ones: what is beyond was let in by an older
CRD, and must not end a look with an overflow.
"""

from __future__ import annotations

import math
import re

LONGEST_S = 720 * 3600.0
"""Longest duration that a spec may ask for, 30 days."""
LARGEST = 2.0**62
"""Largest quantity: it fits the integers of every reader."""

_DURATION_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DAY_S = 86_400.0
_QUANTITY_UNITS = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_DAYS = re.compile(r"[0-9]{1,9}d")
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)$")


def duration_s(text: str, longest_s: float = LONGEST_S) -> float:
    """Return a Go duration, or a number of whole days, in seconds, at most `longest_s`.

    >>> duration_s("1m30s")
    90.0
    >>> duration_s("50ms")
    0.05
    >>> duration_s("99999999h") == LONGEST_S
    True
    >>> duration_s("2d")
    172800.0

    Raises:
        ValueError: not a duration of h, m, s and ms, nor of days.
    """
    if _DAYS.fullmatch(text):
        return min(longest_s, int(text[:-1]) * _DAY_S)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration: write for example 30s, 5m, 1h30m or 2d")
    return min(longest_s, sum(float(number) * _DURATION_UNITS_S[unit] for number, unit in parts))


def quantity(text: str) -> float:
    """Return a Kubernetes quantity as a number in its base unit, at most LARGEST.

    >>> quantity("200Mi")
    209715200.0
    >>> quantity("500m")
    0.5

    Raises:
        ValueError: not a quantity.
    """
    match = _QUANTITY.match(text)
    if match is None or match[2] not in _QUANTITY_UNITS:
        raise ValueError(f"{text!r} is no quantity: write for example 200Mi or 500m")
    return min(LARGEST, float(match[1]) * _QUANTITY_UNITS[match[2]])


def share_of(text: str, total: int) -> int:
    """Return how many of `total` a count or percentage means: rounded up, 1 at least, all at most.

    >>> share_of("25%", 10)
    3
    >>> share_of("1", 10)
    1
    >>> share_of("5", 3)
    3
    >>> share_of("25%", 0)
    0
    """
    if total == 0:
        return 0
    wanted = math.ceil(int(text[:-1]) * total / 100) if text.endswith("%") else int(text)
    return max(1, min(total, wanted))
