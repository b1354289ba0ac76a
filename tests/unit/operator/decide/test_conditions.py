"""Conditions and phase: what kstatus, Helm and people are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rollout_sim import (
    BAD,
    HELD,
    QUICK,
    T0,
    V1,
    V2,
    facts,
    failed,
    later,
    rolling,
    settled,
    unit,
    units,
)
from skerry_operator.api.base import Condition, ConditionStatus
from skerry_operator.api.v1alpha1.edgedeployment import OnFailure, Rollout
from skerry_operator.api.v1alpha1.edgedeployment_status import Phase, Stage
from skerry_operator.constants import Reason
from skerry_operator.decide.facts import RolloutFacts
from skerry_operator.decide.rollout.engine import EngineState, step
from skerry_operator.decide.told.conditions import Hindrance, Standing, conditions, phase

MIXED = (unit("n0", V2), *(unit(f"n{i}", V1) for i in range(1, 4)))


def standing(state: EngineState, seen: RolloutFacts, spec: Rollout = QUICK) -> Standing:
    return Standing(generation=7, facts=seen, transition=step(spec, state, seen))


def told(at: Standing, previous: tuple[Condition, ...] = ()) -> dict[str, tuple[str, str]]:
    """Return type -> (status, reason)."""
    return {
        condition.type: (str(condition.status), condition.reason)
        for condition in conditions(previous, at)
    }


def kstatus(at: Standing) -> str:
    """Return what kstatus makes of the conditions, in its own order."""
    said = told(at)
    if said.get("Reconciling", ("", ""))[0] == "True":
        return "InProgress"
    if said.get("Stalled", ("", ""))[0] == "True":
        return "Failed"
    return "Current" if said["Ready"][0] == "True" else "InProgress"


AT_REST = standing(settled(), facts(units(3, V1), wanted=V1))
ROLLED_BACK = standing(settled(failed=(failed(),)), facts(units(3, V1)))
FIRST_FAILED = standing(
    EngineState(target=V2, failed=(failed(),)),
    facts((unit("n0", V2), unit("n1", V2, serving=None))),
)
FAILURE_PAUSE = standing(
    rolling(Stage.SOAKING, best_serving=1, soak_started_at=T0),
    facts(MIXED, assessment=BAD),
    QUICK.model_copy(update={"on_failure": OnFailure.PAUSE}),
)
GOING_BACK = standing(rolling(), facts(MIXED, assessment=BAD))
NO_MODEL = Standing(
    generation=7,
    facts=facts(units(2, V1), wanted=""),
    transition=None,
    hindrance=Hindrance(Reason.MODEL_NOT_FOUND, "EdgeModel 'digits' does not exist"),
)
APPLY_FAILED = replace(AT_REST, hindrance=Hindrance(Reason.APPLY_FAILED, "quota exceeded"))
INVALID = replace(NO_MODEL, hindrance=Hindrance(Reason.MODEL_INVALID, "no variant"))
NO_NODES = Standing(
    generation=7,
    facts=facts(()),
    transition=step(QUICK, EngineState(), facts(())),
    hindrance=Hindrance(Reason.NO_ELIGIBLE_NODES, "2 nodes match, none fits"),
)


def test_at_rest_everything_is_true_and_nothing_is_under_way() -> None:
    assert told(AT_REST) == {
        "Ready": ("True", "Stable"),
        "Available": ("True", "Serving"),
        "Progressing": ("False", "Stable"),
    }


def test_every_condition_speaks_of_the_generation_it_was_made_for() -> None:
    assert {condition.observed_generation for condition in conditions((), AT_REST)} == {7}


def test_during_a_rollout_the_model_is_available_and_the_spec_is_not_ready() -> None:
    said = told(standing(rolling(), facts(MIXED)))
    assert said["Available"][0] == "True"
    assert said["Ready"] == ("False", "Soaking")
    assert (said["Progressing"], said["Reconciling"][0]) == (("True", "Soaking"), "True")
    assert "Stalled" not in said


def test_after_a_rollback_it_is_available_not_ready_and_stalled() -> None:
    assert told(ROLLED_BACK) == {
        "Ready": ("False", "RolledBack"),
        "Available": ("True", "Serving"),
        "Progressing": ("False", "RolledBack"),
        "Stalled": ("True", "RolledBack"),
    }


def test_after_a_rollback_the_message_names_both_revisions_and_the_numbers() -> None:
    ready = conditions((), ROLLED_BACK)[0]
    for part in (V1, V2, "MetricFailed", "212 ms"):
        assert part in ready.message


@pytest.mark.parametrize(
    ("at", "word", "shown"),
    [
        pytest.param(AT_REST, "Current", Phase.STABLE, id="at rest"),
        pytest.param(
            standing(rolling(), facts(MIXED)), "InProgress", Phase.PROGRESSING, id="a rollout"
        ),
        pytest.param(
            standing(EngineState(), facts(units(2))),
            "InProgress",
            Phase.DEPLOYING,
            id="a first deployment",
        ),
        pytest.param(
            standing(EngineState(target=V2), facts(units(2, V2))),
            "InProgress",
            Phase.DEPLOYING,
            id="a first deployment that is watched",
        ),
        pytest.param(GOING_BACK, "InProgress", Phase.ROLLING_BACK, id="a rollback under way"),
        pytest.param(ROLLED_BACK, "Failed", Phase.ROLLED_BACK, id="a rollback that is over"),
        pytest.param(FIRST_FAILED, "Failed", Phase.FAILED, id="a first deployment that failed"),
        pytest.param(FAILURE_PAUSE, "Failed", Phase.PAUSED, id="a failure that only pauses"),
        pytest.param(NO_MODEL, "InProgress", Phase.DEGRADED, id="no model"),
        pytest.param(INVALID, "Failed", Phase.DEGRADED, id="a model that is invalid"),
        pytest.param(NO_NODES, "InProgress", Phase.PENDING, id="no nodes"),
        pytest.param(APPLY_FAILED, "InProgress", Phase.DEGRADED, id="an apply that failed"),
    ],
)
def test_what_tools_and_people_make_of(at: Standing, word: str, shown: Phase) -> None:
    assert (kstatus(at), phase(at)) == (word, shown)


@pytest.mark.parametrize("at", [NO_MODEL, APPLY_FAILED, INVALID, NO_NODES])
def test_a_hindrance_is_the_reason_that_it_is_not_ready(at: Standing) -> None:
    assert at.hindrance is not None
    assert told(at)["Ready"] == ("False", at.hindrance.reason)


def test_a_missing_model_leaves_what_runs_available() -> None:
    assert told(NO_MODEL)["Available"][0] == "True"


def test_a_unit_that_serves_nothing_makes_it_unavailable_and_not_ready() -> None:
    seen = facts((unit("n0", V1), unit("n1", V1, serving=None)), wanted=V1)
    at = standing(settled(), seen)
    assert told(at)["Available"] == ("False", "NotServing")
    assert told(at)["Ready"] == ("False", "NotServing")
    assert phase(at) is Phase.DEGRADED


def test_an_offline_unit_does_not_make_it_unavailable() -> None:
    seen = facts((unit("n0", V1), unit("n1", V1, reachable=False, serving=None)), wanted=V1)
    available = conditions((), standing(settled(), seen))[1]
    assert available.status is ConditionStatus.TRUE
    assert available.message == "1 of 1 reachable units serve, 1 offline"


def test_a_fleet_that_is_offline_as_a_whole_is_unknown() -> None:
    seen = facts(units(2, V1, reachable=False), wanted=V1)
    assert told(standing(settled(), seen))["Available"][0] == "Unknown"


def test_availability_stays_as_known_when_the_pods_were_not_asked() -> None:
    silent = facts(units(3, V1, serving=None, answered=False), wanted=V1)
    unasked = replace(standing(settled(), silent), polled=False)
    assert told(unasked, conditions((), AT_REST))["Available"] == ("True", "Serving")
    assert told(unasked, conditions((), AT_REST))["Ready"] == ("True", "Stable")
    assert told(unasked)["Available"][0] == "Unknown"


def test_a_transition_time_moves_only_with_the_status() -> None:
    before = conditions((), AT_REST)
    seen = facts(MIXED, now=later(60))
    after = conditions(before, standing(rolling(), seen))
    times = {one.type: one.last_transition_time for one in after}
    assert (times["Available"], times["Ready"]) == (T0, later(60))
    again = conditions(after, standing(rolling(), facts(MIXED, now=later(61), assessment=HELD)))
    assert {one.type: one.last_transition_time for one in again} == times


def test_a_condition_that_comes_back_has_a_new_time() -> None:
    cleared = conditions(conditions((), ROLLED_BACK), AT_REST)
    assert "Stalled" not in {one.type for one in cleared}
    late = replace(ROLLED_BACK, facts=replace(ROLLED_BACK.facts, now=later(9)))
    back = {one.type: one for one in conditions(cleared, late)}
    assert back["Stalled"].last_transition_time == later(9)


def test_paused_by_the_spec_is_shown_as_paused() -> None:
    spec = QUICK.model_copy(update={"paused": True})
    assert phase(standing(rolling(), facts(MIXED), spec)) is Phase.PAUSED
    assert phase(standing(settled(), facts(units(2, V1)), spec)) is Phase.PAUSED


def returned(**changes: object) -> Standing:
    """One of three units is back with the revision of yesterday."""
    seen = facts((*units(2, V2), unit("late", V2, serving=V1, **changes)))
    return standing(settled(V2), seen)


def test_a_unit_that_returns_is_waited_for_before_the_spec_counts_as_running() -> None:
    said = told(returned(waiting="Fetching: 20 of 90 MB"))
    assert said["Ready"] == ("False", "WaitingForUnits")
    assert said["Available"][0] == "True"
    assert "late: Fetching" in conditions((), returned(waiting="Fetching: 20 of 90 MB"))[0].message
    assert phase(returned()) is Phase.PROGRESSING


def test_a_unit_that_refuses_what_is_stable_needs_a_person() -> None:
    at = returned(failure="InsufficientDisk: 90 MB wanted, 3 MB free")
    assert told(at)["Ready"] == ("False", "UnitFailed")
    assert (kstatus(at), phase(at)) == ("Failed", Phase.DEGRADED)


def test_a_unit_that_refuses_what_is_stable_is_named_when_it_is_tolerated() -> None:
    at = replace(returned(failure="InsufficientDisk: 90 MB wanted"), failure_limit=1)
    ready = conditions((), at)[0]
    assert (ready.status, ready.reason) == (ConditionStatus.TRUE, Reason.STABLE)
    assert "late: InsufficientDisk: 90 MB wanted" in ready.message
    assert (kstatus(at), phase(at)) == ("Current", Phase.STABLE)


def test_no_long_sentence_stands_in_three_conditions() -> None:
    for one in (standing(rolling(), facts(MIXED)), returned(failure="ExamFailed: 0.2 < 0.9")):
        long = [said.message for said in conditions((), one) if "; " in said.message]
        assert all(long.count(message) <= 2 for message in long)
