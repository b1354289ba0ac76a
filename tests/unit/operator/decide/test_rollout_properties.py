"""What holds for every rollout, whatever happens to the fleet, the spec and the operator."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_sim import BAD, GOOD, HELD, QUICK, V1, V2, V3, FakeFleet, facts, rolling, unit
from skerry_operator.api.v1alpha1.edgedeployment import OnFailure, Rollout
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.constants import Reason
from skerry_operator.decide.facts import RolloutFacts
from skerry_operator.decide.rollout import EngineState, Transition, step

NAMES = [f"n{index}" for index in range(5)]
LAST_STEP = len(QUICK.steps) - 1

happenings = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([1, 1, 1, 5, 11, 61, 4000])),
    st.tuples(st.just("wait"), st.just("12 looks")),
    st.tuples(st.just("die"), st.just(None)),
    st.tuples(st.just("wanted"), st.sampled_from([V1, V2, V3])),
    st.tuples(st.just("verdict"), st.sampled_from([GOOD, HELD, BAD])),
    st.tuples(st.just("refuse"), st.sampled_from([V1, V2, V3])),
    st.tuples(st.just("reachable"), st.sampled_from(NAMES)),
    st.tuples(st.just("responsive"), st.sampled_from(NAMES)),
    st.tuples(st.just("crash"), st.sampled_from(NAMES)),
    st.tuples(st.just("retry"), st.sampled_from(["", "a", "b"])),
    st.tuples(st.just("paused"), st.booleans()),
    st.tuples(st.just("on_failure"), st.sampled_from(OnFailure)),
)


def happen(fleet: FakeFleet, what: str, value: Any) -> None:
    """Change the world; what names a switch of a device or of a revision turns it over."""
    match what:
        case "wait":
            fleet.pass_time(value)
        case "wanted" | "verdict":
            setattr(fleet, what, value)
        case "refuse":
            fleet.broken ^= {value}
        case "reachable" | "responsive":
            device = fleet.devices[value]
            setattr(device, what, not getattr(device, what))
        case "crash":
            fleet.devices[value].serving = None
        case _:
            fleet.spec = fleet.spec.model_copy(update={what: value})


def check(spec: Rollout, before: EngineState, seen: RolloutFacts, result: Transition) -> None:
    """Assert all that must hold of one look."""
    after = result.state
    # the same facts again: the same state, the same desires, nothing more to tell
    again = step(spec, after, seen)
    assert (again.state, again.desired, again.events) == (after, result.desired, ())
    # stable is never lost, and changes only by promotion or adoption
    events = {note.reason for note in result.events}
    if after.stable != before.stable:
        assert after.stable is not None
        assert events & {Reason.PROMOTED, Reason.ADOPTED}
    # never two targets
    assert set(result.desired.values()) <= {after.stable, after.target}
    assert set(result.desired) == {one.name for one in seen.units}
    # a revision that failed is given to nobody anew, unless there is nothing else
    refused = {entry.revision for entry in after.failed if entry.retry == spec.retry}
    if after.stable is not None:
        for one in seen.units:
            given = result.desired[one.name]
            assert given not in refused or given in {one.assigned, after.stable}
    # promotion only when all who can be reached and were asked serve the target
    is_promoting = after.rollout.stage is Stage.PROMOTING or Reason.PROMOTED in events
    if is_promoting and before.rollout.stage is not Stage.PROMOTING:
        promoted = after.target if after.rollout.stage is Stage.PROMOTING else after.stable
        asked = [one for one in seen.units if one.reachable and one.assigned == promoted]
        assert asked
        assert all(one.serving == promoted for one in asked)
    # at rest nothing but the world sets it in motion
    if after.rollout.stage is Stage.IDLE:
        assert not result.active
        tomorrow = facts(
            seen.units,
            seen.wanted,
            now=seen.now + timedelta(days=1),
            target=seen.wanted,
            assessment=seen.assessment,
        )
        assert step(spec, after, tomorrow).state == after


@given(st.lists(happenings, max_size=40))
@settings(max_examples=150, deadline=None)
def test_whatever_happens_the_rules_hold(story: list[tuple[str, Any]]) -> None:
    fleet = FakeFleet.of(len(NAMES), cells=2)
    dies = False
    for what, value in story:
        if what == "die":
            dies = True
            continue
        for what_now, value_now in [("wait", 5)] * 12 if value == "12 looks" else [(what, value)]:
            happen(fleet, what_now, value_now)
            before, seen = fleet.state, fleet.facts()
            result = fleet.look(dies=dies)
            dies = False
            assert fleet.state == result.state, "the status keeps less than the state"
            check(fleet.spec, before, seen, result)


@given(st.lists(happenings, max_size=40))
@settings(max_examples=100, deadline=None)
def test_when_the_world_calms_down_every_reachable_unit_ends_on_one_good_revision(
    story: list[tuple[str, Any]],
) -> None:
    fleet = FakeFleet.of(len(NAMES), cells=2)
    for what, value in story:
        if what != "die" and value != "12 looks":
            happen(fleet, what, value)
            fleet.look()
    fleet.spec = QUICK.model_copy(update={"retry": "calm"})
    fleet.broken, fleet.verdict, fleet.wanted = set(), GOOD, V3
    for device in fleet.devices.values():
        device.reachable = device.responsive = True
    fleet.run(200)
    assert (fleet.state.stable, fleet.state.rollout.stage) == (V3, Stage.IDLE)
    assert fleet.serving() == {V3}


@given(st.lists(st.integers(0, 59), max_size=30, unique=True))
@settings(max_examples=30, deadline=None)
def test_an_operator_that_dies_between_its_two_writes_changes_nothing(deaths: list[int]) -> None:
    """Each death delays the writes by one look; the revisions that serve come out the same."""
    fleet = FakeFleet.of(4)
    fleet.run(80)
    fleet.wanted = V2
    for look in range(200):
        fleet.look(dies=look in deaths)
        fleet.pass_time(1)
    assert (fleet.state.stable, fleet.serving()) == (V2, {V2})


@given(st.lists(st.frozensets(st.sampled_from(NAMES[:4])), min_size=60, max_size=130))
@settings(max_examples=40, deadline=None)
def test_flapping_never_extends_the_deadline(serving: list[frozenset[str]]) -> None:
    """All units but the last flap at will, once a second; the last one never serves."""
    state, best, progress = rolling(step=2), 0, 0
    for second, up in enumerate(serving, start=1):
        fleet = [unit(name, V2, serving=V2 if name in up else None) for name in NAMES]
        seen = facts(fleet, now=facts([]).now + timedelta(seconds=second))
        if len(up) > best:
            best, progress = len(up), second
        state = step(QUICK, state, seen).state
        is_over = second >= progress + 60
        assert (state.rollout.stage is Stage.STEPPING) is not is_over
        if is_over:
            return


@given(st.lists(st.booleans(), min_size=150, max_size=150))
@settings(max_examples=50, deadline=None)
def test_a_unit_that_flaps_gains_one_soak_in_all(serving: list[bool]) -> None:
    """Deadline 60 s, soak 10 s: after the first service it has 70 s to begin its last soak."""
    state = rolling(step=2)
    limit = 60
    for second, is_up in enumerate(serving, start=1):
        if is_up and state.rollout.best_serving == 0:
            limit = second + 60 + 10 + 10
        one = unit("n0", V2, serving=V2 if is_up else None)
        seen = facts([one], now=facts([]).now + timedelta(seconds=second))
        state = step(SHORT, state, seen).state
        if state.rollout.stage not in {Stage.STEPPING, Stage.SOAKING}:
            return
        assert second < limit


SHORT = QUICK.model_copy(
    update={"steps": tuple(one.model_copy(update={"soak": "10s"}) for one in QUICK.steps)}
)
