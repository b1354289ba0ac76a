"""Who of a site fetches a file, while the others wait for it. Pure.

One claim at a time for the whole site, so that its line sees one download. Who claims and is slow
loses it; and a namespace waits for the others' claims for a bounded time only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from skerry_runtime.cache.ledger import Key

STILL_ASKING_S = 15.0
"""Who has not asked again for this long has gone elsewhere."""


class Ruling(StrEnum):
    """What becomes of somebody who asks for a file."""

    HERE = "here"  # it is whole: read it
    FOLLOW = "follow"  # it comes in, or has begun to: read what there is
    FETCH = "fetch"  # get it where it comes from, and feed it
    WAIT = "wait"  # others fetch: ask again
    ALONE = "alone"  # get it where it comes from: it cannot be kept here


@dataclass(frozen=True)
class ClaimPace:
    """How claims are held and lost."""

    at_a_time: int = 1
    """ClaimDesk of the whole site."""
    turn_s: float = 60.0
    """A namespace that has waited so long for claims of others gets one beside them."""
    begin_s: float = 60.0
    """Time from a claim to its first byte."""
    window_s: float = 60.0
    window_bytes: int = 64 * 1024
    """A claim under which fewer bytes than this come within the window is lost."""


@dataclass
class Claim:
    """Somebody's right and duty to fetch a file."""

    key: Key
    token: str
    since: float
    is_fed: bool = False
    window_began: float = 0.0
    window_got: int = 0


@dataclass
class _Waiting:
    since: float
    last: float


class ClaimDesk:
    """All claims of the site."""

    def __init__(self, pace: ClaimPace, new_token: Callable[[], str]) -> None:
        self._pace = pace
        self._new_token = new_token
        self._claims: dict[Key, Claim] = {}
        self._waiting: dict[str, _Waiting] = {}

    def of(self, key: Key) -> Claim | None:
        """Return the claim to a file."""
        return self._claims.get(key)

    @property
    def busy(self) -> set[Key]:
        """Return the files that somebody fetches."""
        return set(self._claims)

    def ask(self, key: Key, now: float) -> Claim | None:
        """Return a new claim to a file that nobody else has claimed; None: wait, and ask again."""
        namespace = key[0]
        waiting = self._waiting.setdefault(namespace, _Waiting(now, now))
        if now - waiting.last > STILL_ASKING_S:
            waiting.since = now
        waiting.last = now
        if not self._may_begin(namespace, waiting, now):
            return None
        del self._waiting[namespace]
        claim = self._claims[key] = Claim(key, self._new_token(), now)
        return claim

    def _may_begin(self, namespace: str, waiting: _Waiting, now: float) -> bool:
        if len(self._claims) < self._pace.at_a_time:
            return not any(
                one.since < waiting.since and now - one.last <= STILL_ASKING_S
                for name, one in self._waiting.items()
                if name != namespace and not self._has_claim(name)
            )
        is_due = now - waiting.since >= self._pace.turn_s
        return is_due and not self._has_claim(namespace)

    def _has_claim(self, namespace: str) -> bool:
        return any(key[0] == namespace for key in self._claims)

    def begin(self, key: Key, token: str, now: float) -> bool:
        """Note that the file is fed from now on; false: the claim is another one's, or lost."""
        claim = self._claims.get(key)
        if claim is None or claim.token != token or claim.is_fed:
            return False
        claim.is_fed, claim.window_began, claim.window_got = True, now, 0
        return True

    def note(self, key: Key, count: int) -> None:
        """Count bytes that were fed."""
        if claim := self._claims.get(key):
            claim.window_got += count

    def end(self, key: Key, token: str) -> bool:
        """Give a claim back; false: it is another one's."""
        claim = self._claims.get(key)
        if claim is None or claim.token != token:
            return False
        del self._claims[key]
        return True

    def lapse(self, now: float) -> list[Claim]:
        """Take claims away that were not used, or are too slow; return them."""
        lost = [claim for claim in self._claims.values() if self._is_lost(claim, now)]
        for claim in lost:
            del self._claims[claim.key]
        gone = [n for n, one in self._waiting.items() if now - one.last > STILL_ASKING_S]
        for namespace in gone:
            del self._waiting[namespace]
        return lost

    def _is_lost(self, claim: Claim, now: float) -> bool:
        if not claim.is_fed:
            return now - claim.since > self._pace.begin_s
        if now - claim.window_began < self._pace.window_s:
            return False
        is_slow = claim.window_got < self._pace.window_bytes
        claim.window_began, claim.window_got = now, 0
        return is_slow
