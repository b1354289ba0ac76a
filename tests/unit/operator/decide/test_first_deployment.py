"""Before anything is stable: a first deployment that fails is not a dead end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import having, make_deployment, make_model, make_node, make_variant
from rollout_sim import (
    BAD,
    GOOD,
    HELD,
    QUICK,
    V1,
    V2,
    V3,
    facts,
    failed,
    later,
    reasons,
    stored,
    unit,
    units,
)
from skerry_operator.api.v1alpha1.edgedeployment import OnFailure, Rollout
from skerry_operator.api.v1alpha1.edgedeployment_status import FailedRevision, RolloutStatus, Stage
from skerry_operator.constants import ConditionType, Reason
from skerry_operator.decide.facts import Assessment, UnitFacts
from skerry_operator.decide.rollout.engine import EngineState, Transition, step
from world import World

RAN_OUT = failed(V1).model_copy(update={"reason": Reason.DEADLINE_EXCEEDED})
BAD_EXAM = failed(V1).model_copy(update={"reason": Reason.UNIT_FAILED})
LATE = unit("n1", V1, serving=None, waiting="Fetching: 12 %")
ONE_LATE = (unit("n0", V1), LATE)


def deploying(*seen: UnitFacts, spec: Rollout = QUICK) -> EngineState:
    """A first deployment of V1 that began at T0 on these units, and has noted who serves."""
    fresh = [replace(one, assigned=None, serving=None, failure=None) for one in seen]
    begun = step(spec, EngineState(), facts(fresh, V1)).state
    return step(spec, begun, facts(seen, V1)).state


def at_the_deadline(
    *seen: UnitFacts, spec: Rollout = QUICK, verdict: Assessment = GOOD
) -> Transition:
    state = deploying(*seen, spec=spec)
    return step(spec, state, facts(seen, V1, now=later(60), assessment=verdict))


def failed_first(entry: FailedRevision = RAN_OUT) -> EngineState:
    return EngineState(target=V1, failed=(entry,))


# --- the deadline alone


def test_a_deadline_that_one_slow_node_missed_makes_stable_what_serves() -> None:
    result = at_the_deadline(*ONE_LATE)
    assert (result.state.stable, result.state.rollout.stage) == (V1, Stage.IDLE)
    assert result.state.failed == ()
    assert result.desired == {"n0": V1, "n1": V1}
    assert reasons([result]) == [Reason.STEP_COMPLETED, Reason.PROMOTED]
    assert "n1: Fetching" in result.events[0].message


@pytest.mark.parametrize("on_failure", list(OnFailure))
@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        pytest.param((unit("n0", V1), replace(LATE, cell="b")), GOOD, id="a cell has none"),
        pytest.param(ONE_LATE, HELD, id="numbers are missing"),
        pytest.param((replace(ONE_LATE[0], serving=None), LATE), GOOD, id="nobody serves"),
    ],
)
def test_the_deadline_fails_a_first_deployment_that_has_not_shown_enough(
    seen: tuple[UnitFacts, ...], verdict: Assessment, on_failure: OnFailure
) -> None:
    spec = QUICK.model_copy(update={"on_failure": on_failure})
    result = at_the_deadline(*seen, spec=spec, verdict=verdict)
    assert result.state.stable is None
    assert [entry.reason for entry in result.state.failed] == [Reason.DEADLINE_EXCEEDED]


def test_a_cell_that_is_out_of_reach_is_not_waited_for_at_the_deadline() -> None:
    away = replace(LATE, name="n2", cell="b", reachable=False)
    assert at_the_deadline(*ONE_LATE, away).state.stable == V1


def test_refusals_within_the_limit_and_a_late_unit_are_no_failure_together() -> None:
    refusing = unit("n2", V1, serving=None, failure="FetchFailed: HTTP 404")
    spec = QUICK.model_copy(update={"failure_limit": 1})
    assert at_the_deadline(*ONE_LATE, refusing, spec=spec).state.stable == V1


# --- what ran out of time and serves later


def test_a_first_deployment_that_comes_late_is_watched_and_becomes_stable_by_itself() -> None:
    seen = facts(units(2, V1), V1, now=later(500))
    watched = step(QUICK, failed_first(), seen)
    assert watched.state.rollout.stage is Stage.SOAKING
    assert watched.state.failed == ()
    done = step(QUICK, watched.state, replace(seen, now=later(600)))
    assert done.state.stable == V1


@pytest.mark.parametrize(
    ("entry", "changes"),
    [
        pytest.param(BAD_EXAM, {}, id="it was refused"),
        pytest.param(RAN_OUT, {"assessment": BAD}, id="its numbers are bad"),
        pytest.param(RAN_OUT, {"assessment": HELD}, id="its numbers are missing"),
        pytest.param(RAN_OUT, {"abort": V1}, id="a person forbids it"),
    ],
)
def test_what_failed_for_another_reason_stays_failed_though_all_serve(
    entry: FailedRevision, changes: dict[str, object]
) -> None:
    seen = facts(units(2, V1), V1, **changes)
    result = step(QUICK, failed_first(entry), seen)
    assert (result.state, result.reason) == (failed_first(entry), Reason.FIRST_DEPLOYMENT_FAILED)


def test_a_late_first_deployment_does_not_begin_while_paused() -> None:
    paused = QUICK.model_copy(update={"paused": True})
    state = failed_first()
    assert step(paused, state, facts(units(2, V1), V1)).state == state


@pytest.mark.parametrize("entry", [RAN_OUT, BAD_EXAM])
def test_the_message_of_a_failed_first_deployment_names_the_remedy(entry: FailedRevision) -> None:
    long = entry.model_copy(update={"message": "x" * 1024})
    message = step(QUICK, failed_first(long), facts(units(2, V1, serving=None), V1)).message
    assert "skerry retry" in message
    assert "by itself" in message or entry is BAD_EXAM
    assert len(message) <= 1024


# --- the next version


def test_the_version_after_a_failed_first_one_has_its_canary() -> None:
    result = step(QUICK, failed_first(), facts((*units(2, V1), replace(LATE, name="n2"))))
    state = result.state
    assert (state.rollout.stage, state.interim, state.stable) == (Stage.STEPPING, V1, None)
    assert sorted(result.desired.values(), key=str) == [V1, V1, V2]
    assert result.default == V1
    assert stored(state) == state


def test_what_nobody_serves_is_nothing_to_return_to() -> None:
    result = step(QUICK, failed_first(BAD_EXAM), facts(units(2, V1, serving=None)))
    assert (result.state.rollout.stage, result.state.interim) == (Stage.DEPLOYING, None)


def test_what_has_no_snapshot_any_more_is_nothing_to_return_to() -> None:
    seen = facts(units(2, V1), restorable=frozenset({V2}))
    assert step(QUICK, failed_first(), seen).state.interim is None


def trying(wanted: str = V2, *, stage: Stage = Stage.STEPPING) -> EngineState:
    rollout = RolloutStatus(stage=stage, started_at=later(0), progress_at=later(0))
    return EngineState(target=wanted, interim=V1, failed=(RAN_OUT,), rollout=rollout)


REFUSING = (unit("n0", V2, serving=V1, failure="ExamFailed: 0.1"), unit("n1", V1))


def test_a_canary_that_fails_goes_back_to_what_served_which_is_not_called_stable() -> None:
    back = step(QUICK, trying(), facts(REFUSING))
    assert back.state.rollout.stage is Stage.ROLLING_BACK
    assert set(back.desired.values()) == {V1}
    done = step(QUICK, back.state, facts(units(2, V1)))
    assert (done.state.stable, done.state.interim, done.state.target) == (None, V1, V1)
    assert done.reason is Reason.FIRST_DEPLOYMENT_FAILED
    assert f"{V2} was taken back, {V1} serves and never was stable" in done.message
    assert not done.active


def test_the_version_after_a_failed_canary_goes_back_to_the_same() -> None:
    seen = facts((unit("n0", V2), unit("n1", V2), unit("n2", V1)), V3)
    result = step(QUICK, trying(), seen)
    assert (result.state.target, result.state.interim) == (V3, V1)


def test_a_canary_that_passes_becomes_stable_and_the_way_back_is_open() -> None:
    state = trying(stage=Stage.PROMOTING)
    done = step(QUICK, state, facts(units(2, V2)))
    assert (done.state.stable, done.state.interim, done.state.failed) == (V2, None, ())
    back = step(QUICK, done.state, facts(units(2, V2), V1))
    assert back.state.rollout.stage is Stage.STEPPING


def test_a_spec_that_goes_back_to_what_serves_goes_back_at_once() -> None:
    back = step(QUICK, trying(), facts((unit("n0", V2), unit("n1", V1)), V1, target=V2))
    assert back.state.rollout.stage is Stage.ROLLING_BACK
    assert set(back.desired.values()) == {V1}
    assert [entry.revision for entry in back.state.failed] == [V1]


def test_a_spec_that_goes_back_where_nothing_serves_is_followed_though_that_failed() -> None:
    state = EngineState(target=V2, failed=(failed(V2), BAD_EXAM))
    result = step(QUICK, state, facts(units(2, V2, serving=None), V1))
    assert (result.state.rollout.stage, result.state.target) == (Stage.DEPLOYING, V1)
    again = step(QUICK, replace(result.state, failed=(BAD_EXAM,)), facts(units(2), V1))
    assert again.state.target == V1


def test_an_interim_revision_that_came_late_becomes_stable_when_the_spec_is_back_at_it() -> None:
    state = replace(trying(), target=V1, rollout=RolloutStatus())
    result = step(QUICK, state, facts(units(2, V1), V1))
    assert (result.state.rollout.stage, result.state.interim) == (Stage.SOAKING, None)


# --- with placement, objects and pods


def condition(world: World, kind: ConditionType) -> tuple[str, str]:
    found = next(one for one in world.status.conditions if one.type == kind)
    return found.status, found.reason


def failed_world() -> World:
    """Three units, one of which is alone in its cell and cannot take version 1 in time."""
    nodes = (make_node("n0"), make_node("n1"), make_node("n2", having("nvidia.com/gpu")))
    steps = {"steps": [{"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"}]}
    spec = {"rollout": steps | {"progressDeadline": "20s"}}
    world = World(make_deployment(**spec), make_model(), nodes)
    world.broken_units = {"n2"}
    world.settle()
    assert condition(world, ConditionType.READY) == ("False", Reason.FIRST_DEPLOYMENT_FAILED)
    return world


def test_a_node_that_was_too_slow_for_a_first_deployment_ends_its_failure_by_serving() -> None:
    world = failed_world()
    world.broken_units.clear()
    world.settle()
    assert condition(world, ConditionType.READY) == ("True", Reason.STABLE)
    assert set(world.served().values()) == {"1.0.0"}


def test_after_a_failed_first_deployment_a_bad_version_reaches_one_unit_and_goes_back() -> None:
    world = failed_world()
    world.refusals = {(unit, "2.0.0") for unit in ("n0", "n1", "n2")}
    world.model = make_model("2.0.0", make_variant(version="2.0.0"))
    world.turn()
    given = {
        cell.assignment.revision_of(unit)
        for cell in world.observed().cells
        for unit in ("n0", "n1", "n2")
    }
    assert len(given) == 2
    world.settle()
    assert world.served() == {"n0": "1.0.0", "n1": "1.0.0"}
    assert world.status.stable_revision is None
    assert world.status.interim_revision is not None
    assert world.least_serving == 2


def test_after_a_failed_first_deployment_a_good_version_is_promoted_step_by_step() -> None:
    world = failed_world()
    world.broken_units.clear()
    world.model = make_model("2.0.0")
    world.turn()
    assert world.status.interim_revision is not None
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
    assert world.status.interim_revision is None
    assert condition(world, ConditionType.READY) == ("True", Reason.STABLE)
