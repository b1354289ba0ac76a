"""Events for units that stop serving, go out of reach, and come back. Pure.

What a unit was at the last look is remembered by the process alone: one that has just begun tells
of what changes from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from skerry_operator.constants import Reason
from skerry_operator.decide.facts import RolloutFacts, UnitFacts
from skerry_operator.decide.planned import EventNote, Sight
from skerry_operator.decide.rollout.naming import by_text
from skerry_operator.decide.rollout.state import clip


def sights(facts: RolloutFacts, replacing: Iterable[str]) -> dict[str, Sight]:
    """Return how every unit is now; `replacing` are units whose pods the operator exchanges."""
    moved = frozenset(replacing)
    return {unit.name: _sight(facts, unit, unit.name in moved) for unit in facts.units}


def _sight(facts: RolloutFacts, unit: UnitFacts, is_moved: bool) -> Sight:
    serving = None if unit.serving is None else facts.named(unit.serving)
    return Sight(unit.reachable, serving, unit.assigned, is_moved, unit.state)


def unit_events(before: Mapping[str, Sight], after: Mapping[str, Sight]) -> Iterator[EventNote]:
    """Yield what happened to units between two looks, one event of a kind however many they are."""
    pairs = [(name, before[name], after[name]) for name in sorted(before.keys() & after.keys())]
    for reason, warning, tell in _KINDS:
        told = [(name, text) for name, was, is_ in pairs if (text := tell(was, is_))]
        if told:
            yield EventNote(warning, reason, clip(by_text(told)))


def _gone(was: Sight, is_: Sight) -> str:
    return "its node does not report any longer" if was.reachable and not is_.reachable else ""


def _back(was: Sight, is_: Sight) -> str:
    if was.reachable or not is_.reachable:
        return ""
    return f"its node reports again; it serves {is_.serving or 'nothing yet'}"


def _stopped(was: Sight, is_: Sight) -> str:
    """Tell of a unit that lost its model unasked."""
    is_asked_for = is_.is_on_its_way or was.is_on_its_way or was.assigned != is_.assigned
    if is_asked_for or not (was.reachable and is_.reachable):
        return ""
    if was.serving is None or is_.serving is not None:
        return ""
    return f"it does not serve {was.serving} any longer: {is_.state or 'no answer'}"


def _serves_again(was: Sight, is_: Sight) -> str:
    is_asked_for = is_.is_on_its_way or was.is_on_its_way or was.assigned != is_.assigned
    if is_asked_for or not (was.reachable and is_.reachable):
        return ""
    return f"it serves {is_.serving}" if was.serving is None and is_.serving is not None else ""


_Tell = Callable[[Sight, Sight], str]
_KINDS: tuple[tuple[Reason, bool, _Tell], ...] = (
    (Reason.UNIT_GONE, True, _gone),
    (Reason.UNIT_RETURNED, False, _back),
    (Reason.UNIT_STOPPED, True, _stopped),
    (Reason.UNIT_SERVES, False, _serves_again),
)
