"""What holds for every rollout, whatever happens to the fleet, the spec and the operator."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rollout_rules import hold
from rollout_sim import BAD, GOOD, HELD, QUICK, V1, V2, V3, FakeFleet, facts, rolling, unit
from skerry_operator.api.v1alpha1.edgedeployment import OnFailure
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.decide.rollout.engine import step

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
            hold(fleet.spec, before, seen, result)


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
