"""Rollouts in windows: what waits for one, what never does, and a deadline that stands still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import builders
from builders import make_deployment, make_model, make_node, offline
from kstatus import kstatus
from phase_stories import as_object
from rollout_sim import BAD, GOOD, V1, V2, V3, FakeFleet, facts, later, rolling, unit, units
from skerry_operator.api.v1alpha1.edgedeployment import OnUncovered, Rollout, Step
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.api.v1alpha1.edgedeployment_windows import TimeWindow
from skerry_operator.constants import ConditionType, Reason
from skerry_operator.decide.facts import Uncovered
from skerry_operator.decide.rollout.engine import step
from skerry_operator.decide.rollout.look import is_immediate
from skerry_operator.decide.windows import outlook
from world import World

NIGHT = TimeWindow(start="02:00", duration="2h")
"""The simulation begins at midnight of UTC."""
SPEC = Rollout(
    steps=(Step(units="1", soak="10s"), Step(units="100%", soak="10s")),
    progress_deadline="60s",
    windows=(NIGHT,),
)
HOUR = 3600.0


def fleet(count: int = 4, **changes: Any) -> FakeFleet:
    """Return a fleet that serves V1 at midnight, and wants V2."""
    found = FakeFleet.of(count)
    found.spec = SPEC
    found.run(20)
    found.wanted = V2
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def given_target(found: FakeFleet, revision: str = V2) -> int:
    return sum(device.assigned == revision for device in found.devices.values())


def test_a_first_deployment_waits_for_no_window() -> None:
    found = FakeFleet.of(3)
    found.spec = SPEC
    found.run(20)
    assert found.state.stable == V1


def test_the_first_unit_of_a_step_waits_and_the_message_says_until_when() -> None:
    found = fleet()
    result = found.run(5)[-1]
    assert given_target(found) == 0
    assert result.active
    assert result.reason is Reason.WAITING_FOR_WINDOW
    assert "1 unit waits for a window of spec.rollout.windows" in result.message
    assert "shut until 2026-01-01 02:00 UTC" in result.message


def test_it_goes_on_when_the_window_opens_and_ends_within_it() -> None:
    found = fleet()
    found.run(2 * HOUR, every=60)
    assert given_target(found) == 0
    found.run(120)
    assert found.state.stable == V2


def test_the_deadline_stands_still_outside_of_windows() -> None:
    found = fleet()
    found.run(HOUR, every=30)
    assert found.state.rollout.stage is Stage.STEPPING
    assert not found.state.failed


def test_time_in_windows_counts_for_the_deadline() -> None:
    canary = unit("n0", V2, serving=V1, waiting="Fetching")
    state = rolling(progress_at=later(2 * HOUR))
    seen = facts([canary, *units(3, V1)[1:]], now=later(2 * HOUR + 61))
    assert step(SPEC, state, seen).state.rollout.stage is Stage.ROLLING_BACK


def test_a_unit_that_was_given_it_before_the_window_shut_is_not_held_against_the_deadline() -> None:
    canary = unit("n0", V2, serving=V1, waiting="Fetching")
    state = rolling(progress_at=later(4 * HOUR - 30))
    for hours in (4, 5, 12, 25.9):
        seen = facts([canary, *units(3, V1)[1:]], now=later(hours * HOUR))
        state = step(SPEC, state, seen).state
        assert state.rollout.stage is Stage.STEPPING, hours
    seen = facts([canary, *units(3, V1)[1:]], now=later(26 * HOUR + 31))
    assert step(SPEC, state, seen).state.rollout.stage is Stage.ROLLING_BACK


def test_a_rollback_does_not_wait() -> None:
    found = fleet()
    found.now = later(4 * HOUR - 5)
    found.run(3)
    assert given_target(found) == 1
    found.broken = {V2}
    for device in found.devices.values():
        device.serving = V1
    found.now = later(5 * HOUR)
    found.run(5)
    assert given_target(found) == 0
    assert found.state.failed[0].revision == V2
    assert found.serving() <= {V1}


def test_bad_numbers_take_it_back_outside_of_windows() -> None:
    found = fleet()
    found.now = later(4 * HOUR - 5)
    found.run(10)
    found.verdict = BAD
    found.run(5)
    assert given_target(found) == 0
    assert found.state.stable == V1


def test_an_abort_does_not_wait() -> None:
    found = fleet()
    found.run(5)
    found.abort = V2
    found.run(3)
    assert found.state.rollout.stage is Stage.IDLE
    assert found.state.failed[0].reason == Reason.ABORTED


def test_the_spec_that_goes_back_does_not_wait() -> None:
    found = fleet()
    found.now = later(4 * HOUR - 5)
    found.run(10)
    found.wanted = V1
    found.run(3)
    assert given_target(found) == 0
    assert found.state.rollout.stage is Stage.IDLE


def test_the_way_to_history_does_not_wait() -> None:
    found = fleet()
    found.now = later(2 * HOUR)
    found.run(60)
    assert found.state.stable == V2
    found.now = later(12 * HOUR)
    found.wanted = V1
    found.run(20)
    assert found.state.stable == V1


def test_a_unit_that_returns_takes_what_it_was_given() -> None:
    found = fleet()
    found.devices["n3"].reachable = False
    found.now = later(2 * HOUR)
    found.run(60)
    assert found.state.stable == V2
    found.now = later(12 * HOUR)
    found.devices["n3"].reachable = True
    found.run(5)
    assert found.devices["n3"].serving == V2


def test_a_begun_step_is_watched_outside_and_the_next_one_waits() -> None:
    found = fleet()
    found.now = later(4 * HOUR - 5)
    found.run(30)
    assert found.state.rollout.step == 1
    assert given_target(found) == 1
    found.now = later(26 * HOUR)
    found.run(60)
    assert found.state.stable == V2


def test_a_window_that_shuts_in_a_step_keeps_the_rest_of_its_units() -> None:
    """Two of four have it: the step takes all, and its soak does not begin without the others."""
    holders = [unit("n0", V2), unit("n1", V2)]
    seen = facts([*holders, *units(4, V1)[2:]], now=later(5 * HOUR))
    result = step(SPEC, rolling(step=1, progress_at=later(3 * HOUR)), seen)
    assert [result.desired[f"n{index}"] for index in range(4)] == [V2, V2, V1, V1]
    assert result.reason is Reason.WAITING_FOR_WINDOW
    assert "2 of 2 units serve" in result.message
    assert "2 units wait" in result.message


def test_a_promotion_waits_with_what_would_be_given_anew() -> None:
    state = rolling(Stage.PROMOTING, step=1)
    seen = facts([*units(3, V2), unit("n3", V1)], now=later(5 * HOUR))
    result = step(SPEC, state, seen)
    assert result.state.rollout.stage is Stage.PROMOTING
    assert result.desired["n3"] == V1
    assert result.reason is Reason.WAITING_FOR_WINDOW
    opened = step(SPEC, result.state, facts(seen.units, now=later(26 * HOUR)))
    assert opened.desired["n3"] == V2


def test_a_promotion_that_gives_nobody_anything_new_does_not_wait() -> None:
    seen = facts(units(3, V2), now=later(5 * HOUR))
    assert step(SPEC, rolling(Stage.PROMOTING, step=1), seen).state.stable == V2


def test_a_promotion_that_takes_a_model_away_waits() -> None:
    spec = SPEC.model_copy(update={"on_uncovered": OnUncovered.ALLOW})
    bare = (Uncovered("n9", "b", V1, "no variant"),)
    seen = facts(units(3, V2), now=later(5 * HOUR), uncovered=bare)
    state = rolling(Stage.PROMOTING, step=1)
    assert step(spec, state, seen).reason is Reason.WAITING_FOR_WINDOW
    assert step(SPEC, state, seen).state.stable == V2, "else it keeps what it has"
    opened = facts(units(3, V2), now=later(27 * HOUR), uncovered=bare)
    assert step(spec, state, opened).state.stable == V2


def test_a_newer_version_waits_for_its_own_window() -> None:
    found = fleet()
    found.now = later(4 * HOUR - 5)
    found.run(10)
    found.wanted = V3
    found.run(5)
    assert found.state.target == V3
    assert given_target(found, V3) == 0
    assert found.serving() == {V1}


def test_it_is_looked_at_when_the_window_opens() -> None:
    spec = SPEC.model_copy(update={"analysis": SPEC.analysis.model_copy(update={"interval": "5m"})})
    result = step(spec, rolling(), facts(units(2, V1), now=later(2 * HOUR - 7)))
    assert result.requeue_after_s == pytest.approx(7)
    assert step(spec, rolling(), facts(units(2, V1))).requeue_after_s == pytest.approx(300)


def test_an_operator_whose_clock_says_1970_gives_nobody_anything_new_and_takes_back() -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    waiting = step(SPEC, rolling(), facts(units(2, V1), now=epoch))
    assert waiting.reason is Reason.WAITING_FOR_WINDOW
    assert set(waiting.desired.values()) == {V1}
    bad = facts([unit("n0", V2), unit("n1", V1)], now=epoch, assessment=BAD)
    assert step(SPEC, rolling(), bad).state.rollout.stage is Stage.ROLLING_BACK
    # the clock is set: fifty-six years are no delay
    right = step(SPEC, waiting.state, facts(units(2, V1), now=later(2 * HOUR)))
    assert right.state.rollout.stage is Stage.STEPPING
    assert V2 in right.desired.values()


@pytest.mark.parametrize("windows", [(), (NIGHT,)])
def test_a_clock_that_is_set_right_fails_no_rollout(windows: tuple[TimeWindow, ...]) -> None:
    spec = SPEC.model_copy(update={"windows": windows})
    epoch = datetime(1970, 1, 1, 0, 5, tzinfo=UTC)
    wrong = step(spec, rolling(), facts([unit("n0", V2, serving=V1), unit("n1", V1)], now=epoch))
    right = step(spec, wrong.state, facts([unit("n0", V2, serving=V1), unit("n1", V1)]))
    assert right.state.rollout.stage is Stage.STEPPING


happenings = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([1, 5, 61, 1800, 3600, 7200, 50_000])),
    st.tuples(st.just("looks"), st.sampled_from([3, 15])),
    st.tuples(st.just("wanted"), st.sampled_from([V1, V2, V3])),
    st.tuples(st.just("verdict"), st.sampled_from([GOOD, BAD])),
    st.tuples(st.just("broken"), st.sampled_from([set(), {V2}, {V3}])),
    st.tuples(st.just("off"), st.sampled_from(["n0", "n1", "n2", "n3"])),
    st.tuples(st.just("clock"), st.sampled_from([timedelta(0), timedelta(days=-20_000)])),
)


@given(st.lists(happenings, max_size=40))
@settings(max_examples=150, deadline=None)
def test_nobody_is_given_a_new_revision_outside_of_windows_and_no_way_back_waits(
    story: list[tuple[str, Any]],
) -> None:
    found = fleet()
    right = found.now
    for what, value in story:
        if what == "wait":
            found.pass_time(value)
        elif what == "clock":
            found.now = right + value if value else right
        elif what == "off":
            found.devices[value].reachable ^= True
        elif what != "looks":
            setattr(found, what, value)
        for _ in range(value if what == "looks" else 1):
            _look(found)
            found.pass_time(1)
            right += timedelta(seconds=1)


def _look(found: FakeFleet) -> None:
    seen = found.facts()
    result = found.look()
    state = result.state
    if state.rollout.stage is Stage.ROLLING_BACK:
        assert set(result.desired.values()) <= {state.base}, "a way back waits"
    is_free = outlook(found.spec.windows, found.now).is_open or is_immediate(state)
    if is_free or state.base is None or state.rollout.stage is Stage.IDLE:
        return
    for one in seen.units:
        if one.reachable and one.assigned is not None and result.desired[one.name] == state.target:
            assert one.assigned == state.target, f"{one.name} is given it outside of a window"


def at_night(**rollout: Any) -> World:
    """Return a world at rest, whose windows are hours away, that is told to take 2.0.0."""
    opens = (builders.NOW + timedelta(hours=3)).strftime("%H:%M")
    asked = {
        "steps": [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}],
        "windows": [{"start": opens, "duration": "1h"}],
        **rollout,
    }
    nodes = tuple(make_node(name) for name in ("n0", "n1", "n2"))
    world = World(make_deployment(rollout=asked), make_model(), nodes)
    world.settle()
    world.model = make_model("2.0.0")
    return world


def test_a_deployment_that_waits_is_in_progress_for_every_tool() -> None:
    world = at_night()
    for _ in range(5):
        world.turn()
    assert set(world.served().values()) == {"1.0.0"}
    found = {one.type: one for one in world.status.conditions}
    assert kstatus(as_object(world)) == "InProgress"
    assert found[ConditionType.PROGRESSING].reason == Reason.WAITING_FOR_WINDOW
    assert "shut until" in found[ConditionType.PROGRESSING].message
    assert world.status.phase == "Progressing"


def test_a_wait_for_a_window_writes_its_status_once() -> None:
    world = at_night()
    for _ in range(3):
        world.turn()
    before = world.status
    for _ in range(20):
        world.turn()
    assert world.status == before


def test_a_node_that_joins_and_one_that_returns_do_not_wait() -> None:
    world = at_night()
    for _ in range(3):
        world.turn()
    world.change_node("n1", offline)
    world.turn()
    world.nodes = (*(make_node(name) for name in ("n0", "n1", "n2")), make_node("n9"))
    for _ in range(6):
        world.turn()
    assert world.served() == dict.fromkeys(("n0", "n1", "n2", "n9"), "1.0.0")


def test_a_zone_that_is_none_is_named_and_what_runs_goes_on() -> None:
    world = at_night()
    wrong = [{"start": "02:00", "duration": "1h", "timeZone": "Mars/Olympus"}]
    world.change(rollout={"windows": wrong})
    for _ in range(4):
        world.turn()
    ready = next(one for one in world.status.conditions if one.type == ConditionType.READY)
    assert ready.reason == Reason.INVALID_SPEC
    assert "spec.rollout.windows[0].timeZone: 'Mars/Olympus'" in ready.message
    assert set(world.served().values()) == {"1.0.0"}
