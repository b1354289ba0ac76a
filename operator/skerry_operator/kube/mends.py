"""How often an object was put back, and how long it is left alone when that is always undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from skerry_operator.kube.cache import Key

AT_ONCE = 3
"""So often an object is put back at once: a person who tries something, and tries again."""

FIRST_HOLD_S = 5.0
LONGEST_HOLD_S = 300.0

FORGET_S = 900.0
"""An object that was left alone for so long begins anew; more than the longest hold."""


@dataclass(frozen=True)
class _Fight:
    count: int
    last: float
    until: float


class Mends:
    """Two controllers that undo each other's work must not do so a hundred times a second."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._fights: dict[tuple[str, Key], _Fight] = {}

    def note(self, kind: str, key: Key) -> float:
        """Note that an object was put back; return how long it is left alone now, 0: not at all."""
        now = self._monotonic()
        self._fights = {k: f for k, f in self._fights.items() if now - f.last < FORGET_S}
        before = self._fights.get((kind, key))
        count = before.count + 1 if before else 1
        hold = 0.0
        if count >= AT_ONCE:
            hold = min(LONGEST_HOLD_S, FIRST_HOLD_S * 2.0 ** min(count - AT_ONCE, 30))
        self._fights[kind, key] = _Fight(count, now, now + hold)
        return hold

    def left_s(self, kind: str, key: Key) -> float:
        """Return how long the object is still to be left alone; 0: no more."""
        fight = self._fights.get((kind, key))
        return max(0.0, fight.until - self._monotonic()) if fight else 0.0
