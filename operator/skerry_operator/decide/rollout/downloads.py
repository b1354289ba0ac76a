"""Downloads in words: how far they are, how long they take yet, and which field gives them time."""

from __future__ import annotations

from collections.abc import Iterable

from skerry_operator.api.v1alpha1.edgedeployment import Rollout
from skerry_operator.decide.facts import Fetching, UnitFacts
from skerry_runtime.contract import size_text, size_unit

_NAMED = 3


def fetched_text(one: Fetching) -> str:
    """Return for example `1.0 of 4.0 MiB (25 %), 3 min at this rate`."""
    if one.total is None:
        return size_text(one.fetched)
    percent = 100 * one.fetched // one.total if one.total else 100
    factor, unit = size_unit(one.total)
    text = f"{one.fetched / factor:.1f} of {one.total / factor:.1f} {unit} ({percent} %)"
    left = seconds_left(one)
    return text if left is None else f"{text}, {duration_text(left)} at this rate"


def seconds_left(one: Fetching) -> float | None:
    """Return how long the rest takes at the rate so far; None: nobody knows."""
    if one.total is None or not one.bytes_per_s:
        return None
    return max(0, one.total - one.fetched) / one.bytes_per_s


def duration_text(seconds: float) -> str:
    """Return a duration for people, in its largest unit.

    >>> duration_text(90), duration_text(7300), duration_text(8)
    ('2 min', '2 h', '8 s')
    """
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def remedy(units: Iterable[UnitFacts], spec: Rollout) -> str:
    """Return how far the downloads under way are, and which field gives them more time."""
    told = [
        f"{unit.name} has {fetched_text(unit.fetching)}"
        for unit in units
        if unit.fetching and unit.fetching.is_under_way
    ]
    if not told:
        return ""
    most = spec.download.max_rate
    rate = f" spec.rollout.download.maxRate ({most}), or" if most else ""
    return (
        f". Fetched: {'; '.join(told[:_NAMED])}. Raise{rate} spec.rollout.download.deadline "
        f"({spec.download.deadline}) for a download that moves, spec.rollout.progressDeadline "
        f"({spec.progress_deadline}) for one that does not"
    )
