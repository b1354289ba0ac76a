"""Events for units that stop serving, go and come back: once each, and not for what was asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import make_deployment, make_model, make_node
from skerry_operator.decide.planned import EventNote, Sight
from skerry_operator.decide.told.sights import unit_events
from world import World

WELL = Sight(True, "1.0.0 (r1-a)", "r1-a", is_on_its_way=False, state="")
SILENT = replace(WELL, serving=None, state="CrashLoopBackOff: back-off")
AWAY = replace(SILENT, reachable=False, state="")


def told(before: dict[str, Sight], after: dict[str, Sight]) -> list[tuple[str, str]]:
    return [(note.reason, note.message) for note in unit_events(before, after)]


@pytest.mark.parametrize(
    ("was", "is_", "reason", "text"),
    [
        (WELL, SILENT, "UnitStopped", "a: it does not serve 1.0.0 (r1-a) any longer: CrashLoop"),
        (SILENT, WELL, "UnitServes", "a: it serves 1.0.0 (r1-a)"),
        (WELL, AWAY, "UnitGone", "a: its node does not report any longer"),
        (AWAY, WELL, "UnitReturned", "a: its node reports again; it serves 1.0.0 (r1-a)"),
        (AWAY, SILENT, "UnitReturned", "a: its node reports again; it serves nothing yet"),
    ],
    ids=["stops", "serves again", "goes", "returns", "returns without its model"],
)
def test_what_happens_to_a_unit_is_told(was: Sight, is_: Sight, reason: str, text: str) -> None:
    ((said, message),) = told({"a": was}, {"a": is_})
    assert said == reason
    assert message.startswith(text)


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        (WELL, WELL),
        (SILENT, SILENT),
        (AWAY, AWAY),
        (WELL, replace(SILENT, is_on_its_way=True)),
        (WELL, replace(SILENT, assigned="r1-b")),
        (replace(SILENT, is_on_its_way=True), WELL),
    ],
    ids=["well", "silent", "away", "its pod is replaced", "it is given another", "replaced"],
)
def test_what_stays_and_what_was_asked_for_is_not_told(was: Sight, is_: Sight) -> None:
    assert told({"a": was}, {"a": is_}) == []


def test_the_first_look_and_new_units_tell_nothing() -> None:
    assert told({}, {"a": WELL}) == []
    assert told({"a": WELL}, {}) == []


def test_a_site_that_goes_is_one_event() -> None:
    names = [f"n{number}" for number in range(300)]
    ((_, message),) = told(dict.fromkeys(names, WELL), dict.fromkeys(names, AWAY))
    assert message == "n0, n1, n10 and 297 more: its node does not report any longer"


def test_a_rollout_that_goes_well_tells_of_no_unit() -> None:
    steps = {"steps": [{"units": "1", "soak": "3s"}, {"units": "100%", "soak": "3s"}]}
    world = World(make_deployment(rollout=steps), make_model(), (make_node("a"), make_node("b")))
    world.settle()
    world.model = make_model("2.0.0")
    said: list[EventNote] = []
    before = world.plan().sights
    for _ in range(40):
        after = world.turn().sights
        said += unit_events(before, after)
        before = after
    assert world.served() == {"a": "2.0.0", "b": "2.0.0"}
    assert said == []
