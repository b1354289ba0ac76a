"""When the engine looks again although nothing happened."""

from __future__ import annotations

from datetime import datetime

from skerry_operator.api.quantity import duration_s
from skerry_operator.api.v1alpha1.edgedeployment import Rollout
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.decide.rollout.look import Look

POLL_S = 1.0
"""How soon to look again while units change."""
ROLLBACK_POLL_S = 0.2
"""The same while units go back: people wait for this one."""
SOONEST_S = 0.05
"""Never look again sooner, so that a soak that is nearly over makes no busy loop."""
SHORTEST_INTERVAL_S = 0.5
"""A shorter analysis interval than this is taken as this: each look reads pods and may write."""


def interval_s(spec: Rollout) -> float:
    """Return the time between two looks at the numbers."""
    return max(SHORTEST_INTERVAL_S, duration_s(spec.analysis.interval))


def requeue_after_s(look: Look) -> float | None:
    """Return when to look again: also when a download window opens or shuts, for its word."""
    usual_s = _usual_requeue_s(look)
    if usual_s is None or look.line.until is None:
        return usual_s
    return _soonest(usual_s, look.line.until, look.now)


def _usual_requeue_s(look: Look) -> float | None:  # noqa: PLR0911 (a ladder)
    """Return when to look again although nothing happened."""
    interval = interval_s(look.spec)
    # a window is waited for
    if _is_waiting_for_window(look):
        return _soonest(interval, look.outlook.until, look.now)
    # the clock stands still, or a person is waited for: only failures are looked for
    if look.stage is not Stage.IDLE and look.state.rollout.paused_at is not None:
        return interval
    match look.stage:
        case Stage.IDLE:
            # what became of the wanted revision is known to the next look only
            is_news = look.state.stable is None and look.facts.target != look.facts.wanted
            return POLL_S if is_news else None
        case Stage.ROLLING_BACK:
            return ROLLBACK_POLL_S
        case Stage.DEPLOYING | Stage.STEPPING | Stage.PROMOTING:
            return POLL_S
        case Stage.PAUSED:
            return interval
        case Stage.SOAKING:
            return _soonest(interval, look.soak_ends_at, look.now)


def _is_waiting_for_window(look: Look) -> bool:
    """Tell whether nothing but a window is waited for."""
    is_held = look.stage is Stage.PROMOTING and look.is_shut
    return bool(look.due) or (is_held and bool(look.late or look.takes_away))


def _soonest(interval: float, at: datetime | None, now: datetime) -> float:
    """Return the time to a moment, if it comes before the interval is over."""
    left = (at - now).total_seconds() if at else 0.0
    return max(SOONEST_S, min(interval, left) if left > 0 else interval)
