"""Decides what the agent does next: situation in, one action out; no IO and no clock.

The same few rules cover a first start, a swap, a rollback, a restart without a network and a
Sequential swap that failed: choose the goal to bring up now, abandon an attempt at any other,
and take the attempt one milestone further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from skerry_runtime.agent.goal import Goal
from skerry_runtime.contract import FailureReason

MAX_CRASHES = 2
"""Crashes while activating after which a revision is refused on this node."""

PASSING = frozenset(
    {
        FailureReason.FETCH_FAILED,
        FailureReason.DIGEST_MISMATCH,
        FailureReason.SIGNATURE_INVALID,
        FailureReason.DECRYPTION_FAILED,
        FailureReason.INSUFFICIENT_DISK,
        FailureReason.INSUFFICIENT_MEMORY,
    }
)
"""Reasons that lie outside the revision: tried again, slowly, whatever serves meanwhile."""

COSTLY = frozenset({FailureReason.DIGEST_MISMATCH, FailureReason.INSUFFICIENT_MEMORY})
"""Of these, reasons that only a whole download, or the end of what serves, can find out anew."""


@dataclass(frozen=True)
class Unknown:
    """No readable assignment was seen yet."""


@dataclass(frozen=True)
class Nothing:
    """The assignment gives this unit no revision."""


Order = Goal | Nothing | Unknown


class Milestone(IntEnum):
    """What an attempt has behind it."""

    NEW = 0
    VERIFIED = 1
    PROBED = 2
    LOADED = 3
    EXAMINED = 4
    SHADOWED = 5


@dataclass(frozen=True)
class Attempt:
    """The revision being brought up."""

    goal: Goal
    reached: Milestone = Milestone.NEW
    tries: int = 0
    """Times that it ended in a transient failure."""
    retry_at: float = 0.0


@dataclass(frozen=True)
class ServedRevision:
    """The revision that answers requests."""

    revision: str
    sha256: str
    settles_at: float | None = None
    """When the revision counts as good; None: it does."""
    name: str = ""
    """Name under which clients ask for it; empty: whatever the goal says."""


@dataclass(frozen=True)
class Refusal:
    """What is remembered of a goal that failed."""

    reason: FailureReason
    again_at: float = 0.0
    """Earliest next try, where the rules allow one at all."""


@dataclass(frozen=True)
class Situation:
    """Everything a decision may look at."""

    now: float
    order: Order = field(default_factory=Unknown)
    serving: ServedRevision | None = None
    attempt: Attempt | None = None
    on_disk: frozenset[str] = frozenset()
    """Keys of the goals whose files are all in the slots."""
    proven: frozenset[str] = frozenset()
    """Keys of the goals that passed the probe on this node under this runtime."""
    fallbacks: tuple[Goal, ...] = ()
    """Revisions that served here, the current one first."""
    refused: Mapping[str, Refusal] = field(default_factory=dict)


@dataclass(frozen=True)
class Wait:
    """Nothing to do before `until`, or before something changes."""

    until: float | None = None


@dataclass(frozen=True)
class Settle:
    """Count what serves as good."""


@dataclass(frozen=True)
class Rename:
    """Let what serves answer to the goal's name: it is the same in all else."""

    goal: Goal


@dataclass(frozen=True)
class Unload:
    """Serve nothing."""


@dataclass(frozen=True)
class Abandon:
    """Drop the attempt; another revision is wanted, or none."""


@dataclass(frozen=True)
class Fetch:
    """Bring the goal's files into the slots."""

    goal: Goal


@dataclass(frozen=True)
class Verify:
    """Check that the files on disk are the ones the goal names."""

    goal: Goal


@dataclass(frozen=True)
class Probe:
    """Load the model in a child process first."""

    goal: Goal


@dataclass(frozen=True)
class Load:
    """Open the model in this process."""

    goal: Goal


@dataclass(frozen=True)
class Examine:
    """Run the golden exam and warm up."""

    goal: Goal


@dataclass(frozen=True)
class Compare:
    """Let the loaded model answer in the shadow of the one that serves."""

    goal: Goal


@dataclass(frozen=True)
class Switch:
    """Let the loaded model answer."""

    goal: Goal


Step = Fetch | Verify | Probe | Load | Examine | Compare | Switch
"""Actions that take an attempt further."""

Action = Wait | Settle | Rename | Unload | Abandon | Step


def decide(s: Situation) -> Action:
    """Return the next action."""
    if s.serving and s.serving.settles_at is not None and s.serving.settles_at <= s.now:
        return Settle()
    if s.serving and isinstance(s.order, Goal) and is_misnamed(s.serving, s.order):
        return Rename(s.order)
    wanted = choose(s)
    if s.attempt and (wanted is None or s.attempt.goal.key != wanted.key):
        return Abandon()  # a safe point: between two actions
    if wanted:
        return advance(s, wanted)
    if isinstance(s.order, Nothing) and s.serving:
        return Unload()
    return Wait(_next_time(s))


def choose(s: Situation) -> Goal | None:
    """Return the goal to bring up now; None when what serves, or nothing, is right."""
    match s.order:
        case Nothing():
            return None
        case Unknown():
            return None if s.serving else first_fallback(s)
        case Goal() as goal:
            return _choose_for(s, goal)


def first_fallback(s: Situation) -> Goal | None:
    """Return the latest revision that served here, is on disk and is not refused."""
    usable = (g for g in s.fallbacks if g.key in s.on_disk and g.key not in s.refused)
    return next(usable, None)


def _choose_for(s: Situation, goal: Goal) -> Goal | None:
    if is_served(s, goal):
        return None
    spare = None if s.serving else first_fallback(s)
    if not is_open(s, goal):
        return spare
    if spare and (goal.key not in s.on_disk or _is_second_chance(s, goal)):
        return spare  # the network may be down, it failed before: serve first, try then
    return goal


def _is_second_chance(s: Situation, goal: Goal) -> bool:
    """Tell whether the goal failed before, and is not being tried again yet."""
    return goal.key in s.refused and not _is_under_way(s, goal)


def is_served(s: Situation, goal: Goal) -> bool:
    """Tell whether the goal's very file answers requests under its revision."""
    serving = s.serving
    return bool(serving and serving.revision == goal.revision and serving.sha256 == goal.sha256)


def is_misnamed(serving: ServedRevision, goal: Goal) -> bool:
    """Tell whether clients ask by another name for the very model that serves."""
    is_same = serving.revision == goal.revision and serving.sha256 == goal.sha256
    return is_same and serving.name not in ("", goal.name)


def is_open(s: Situation, goal: Goal) -> bool:
    """Tell whether the goal may be tried."""
    refusal = s.refused.get(goal.key)
    if refusal is None:
        return True
    return refusal.reason in PASSING and (_is_under_way(s, goal) or refusal.again_at <= s.now)


def _is_under_way(s: Situation, goal: Goal) -> bool:
    return s.attempt is not None and s.attempt.goal.key == goal.key


def advance(s: Situation, goal: Goal) -> Action:
    """Return the action that takes the attempt at this goal one milestone further."""
    attempt = s.attempt or Attempt(goal)
    match attempt.reached:
        case Milestone.NEW:
            return _bring_to_disk(s, attempt)
        case Milestone.VERIFIED:
            return Load(goal) if goal.key in s.proven else Probe(goal)
        case Milestone.PROBED:
            return Load(goal)
        case Milestone.LOADED:
            return Examine(goal)
        case Milestone.EXAMINED:
            return Compare(goal) if _is_comparable(s, goal) else Switch(goal)
        case Milestone.SHADOWED:
            return Switch(goal)


def _is_comparable(s: Situation, goal: Goal) -> bool:
    """Tell whether a shadow is wanted, and there is another revision to cast it."""
    is_wanted = goal.content.shadow is not None
    return is_wanted and s.serving is not None and s.serving.revision != goal.revision


def _bring_to_disk(s: Situation, attempt: Attempt) -> Action:
    if attempt.retry_at > s.now:
        return Wait(_earliest(attempt.retry_at, _settles_at(s)))
    if attempt.goal.key in s.on_disk:
        return Verify(attempt.goal)
    return Fetch(attempt.goal)


def _next_time(s: Situation) -> float | None:
    return _earliest(_settles_at(s), _second_chance_at(s))


def _settles_at(s: Situation) -> float | None:
    return s.serving.settles_at if s.serving else None


def _second_chance_at(s: Situation) -> float | None:
    if not isinstance(s.order, Goal) or is_served(s, s.order):
        return None
    refusal = s.refused.get(s.order.key)
    return refusal.again_at if refusal and refusal.reason in PASSING else None


def _earliest(*times: float | None) -> float | None:
    return min((t for t in times if t is not None), default=None)


def backoff_s(tries: int, least: float, most: float, jitter: float) -> float:
    """Return the wait after the given number of failures: doubling, capped, spread by jitter.

    Args:
        tries: failures so far, from 1.
        least: wait after the first failure.
        most: cap.
        jitter: 0 to 1; takes away up to a quarter, so that a fleet does not come back at once.
    """
    whole = min(most, least * 2.0 ** min(tries - 1, 30))
    return whole * (1 - 0.25 * jitter)
