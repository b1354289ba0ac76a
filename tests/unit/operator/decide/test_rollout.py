"""The rollout engine, one rule at a time: state in, state out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rollout_sim import (
    BAD,
    GOOD,
    HELD,
    QUICK,
    T0,
    V1,
    V2,
    V3,
    FakeFleet,
    facts,
    failed,
    later,
    reasons,
    rolling,
    settled,
    stored,
    unit,
    units,
)
from skerry_operator.api.v1alpha1.edgedeployment import OnFailure, Rollout, Step
from skerry_operator.api.v1alpha1.edgedeployment_status import (
    HistoryEntry,
    RolloutStatus,
    Stage,
)
from skerry_operator.constants import Reason
from skerry_operator.decide.facts import Assessment, RolloutFacts, Verdict
from skerry_operator.decide.rollout.engine import EngineState, step, step_label, subject_of

MIXED = (unit("n0", V2), *(unit(f"n{i}", V1) for i in range(1, 4)))
"""Four units, the first of which has V2 and serves it."""
LOADING = (unit("n0", V2, serving=V1), *(unit(f"n{i}", V1) for i in range(1, 4)))
REFUSING = (unit("n0", V2, serving=V1, failure="ExamFailed: 0.1"), *MIXED[1:])
SOAKED = {"soak_started_at": T0, "best_serving": 1}
PAUSING = Rollout(
    steps=(Step(units="1", soak="10s"), Step(pause=True), Step(units="100%", soak="10s"))
)
ERROR = Assessment(Verdict.ERROR, "a pod reports a histogram with other buckets", "LatencyP95")
NO_DATA_FAILS = Assessment(Verdict.FAILED, "0 of 50 requests", "ErrorRate", no_data=True)


def stage_after(state: EngineState, seen: RolloutFacts, spec: Rollout = QUICK) -> Stage:
    return step(spec, state, seen).state.rollout.stage


# --- steps, soak and promotion


def test_a_new_revision_starts_at_the_first_step_with_one_unit() -> None:
    result = step(QUICK, settled(), facts(units(4, V1)))
    assert result.state.rollout.stage is Stage.STEPPING
    assert sorted(str(r) for r in result.desired.values()) == [V1, V1, V1, V2]
    assert (result.default, result.state.stable, result.state.target) == (V1, V1, V2)
    assert [note.reason for note in result.events] == [Reason.ROLLOUT_STARTED]
    assert result.active
    assert step_label(QUICK, result.state) == "1/3"


def test_a_step_waits_until_its_unit_serves() -> None:
    result = step(QUICK, rolling(), facts(LOADING))
    assert result.state.rollout.stage is Stage.STEPPING
    assert (result.reason, result.message) == (
        Reason.WAITING_FOR_UNITS,
        f"step 1/3: 0 of 1 units serve {V2}",
    )


def test_a_unit_that_serves_the_target_without_being_given_it_does_not_count() -> None:
    assert stage_after(rolling(), facts([unit("n0", V1, serving=V2)])) is Stage.STEPPING


def test_a_step_whose_units_all_serve_is_watched() -> None:
    result = step(QUICK, rolling(), facts(MIXED, now=later(5)))
    assert result.state.rollout.stage is Stage.SOAKING
    assert result.state.rollout.soak_started_at == later(5)
    assert result.requeue_after_s == 10


def test_a_watched_step_goes_on_when_its_soak_is_over_and_the_verdict_is_good() -> None:
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), facts(MIXED, now=later(10)))
    assert (result.state.rollout.stage, result.state.rollout.step) == (Stage.STEPPING, 1)
    assert list(result.desired.values()).count(V2) == 2
    assert result.desired["n0"] == V2
    assert reasons([result]) == [Reason.STEP_COMPLETED]


def test_a_new_step_begins_with_a_deadline_and_a_maximum_of_its_own() -> None:
    state = rolling(Stage.PAUSED, step=1, paused_at=T0, soak_started_at=T0, best_serving=3)
    begun = step(PAUSING, state, facts(MIXED, now=later(500), promote=V2)).state.rollout
    assert (begun.stage, begun.step) == (Stage.STEPPING, 2)
    assert (begun.progress_at, begun.soak_started_at) == (later(500), None)
    assert (begun.best_serving, begun.paused_at) == (1, None)


def test_a_soak_is_looked_at_again_exactly_when_it_ends() -> None:
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), facts(MIXED, now=later(7)))
    assert result.requeue_after_s == 3


def test_after_the_last_step_the_target_is_everybodys_default_and_then_stable() -> None:
    spec = Rollout(steps=(Step(units="100%", soak="0s"),))
    done = step(spec, rolling(), facts(units(2, V2), versions={V2: "2.0.0"}))
    assert (done.state.stable, done.default, done.state.rollout.stage) == (V2, V2, Stage.IDLE)
    assert [(e.revision, e.version) for e in done.state.history] == [(V2, "2.0.0"), (V1, "1")]
    assert reasons([done])[-1] == Reason.PROMOTED


def test_promotion_waits_until_every_reachable_unit_is_given_the_target() -> None:
    seen = facts((unit("n0", V2), unit("n1", V1), unit("n2", V1, reachable=False)))
    waiting = step(QUICK, rolling(Stage.PROMOTING), seen)
    assert (waiting.state.rollout.stage, waiting.default) == (Stage.PROMOTING, V2)
    assert set(waiting.desired.values()) == {V2}
    done = facts((unit("n0", V2), unit("n1", V2), unit("n2", V1, reachable=False)))
    assert step(QUICK, rolling(Stage.PROMOTING), done).state.stable == V2


def test_the_history_keeps_the_stable_revision_and_as_many_earlier_ones_as_the_spec_says() -> None:
    past = tuple(HistoryEntry(revision=f"r{i}", version="", promoted_at=T0) for i in range(6))
    state = rolling(Stage.PROMOTING)
    state = EngineState(V1, V2, (), past, state.rollout)
    spec = Rollout(history_limit=2)
    done = step(spec, state, facts(units(1, V2)))
    assert [entry.revision for entry in done.state.history] == [V2, "r0", "r1"]


def test_steps_that_end_below_everyone_get_a_last_one() -> None:
    spec = Rollout(steps=(Step(units="1", soak="0s"),))
    result = step(spec, rolling(), facts(MIXED))
    assert (result.state.rollout.step, step_label(spec, result.state)) == (1, "2/2")
    assert set(result.desired.values()) == {V2}


def test_an_offline_unit_is_in_no_denominator_and_returns_to_what_is_current() -> None:
    seen = facts((unit("n0", V2), unit("off", V1, reachable=False, serving=None, answered=False)))
    spec = Rollout(steps=(Step(units="100%", soak="0s"),))
    result = step(spec, rolling(), seen)
    assert (result.state.stable, result.desired["off"], result.default) == (V2, V2, V2)


def test_an_offline_unit_stays_on_stable_while_a_rollout_is_under_way() -> None:
    seen = facts((*MIXED, unit("off", V1, reachable=False)))
    assert step(QUICK, rolling(step=2), seen).desired["off"] == V1


# --- losing a unit, progress and the deadline


def test_a_unit_that_loses_the_target_breaks_the_soak_off() -> None:
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), facts(LOADING, now=later(5)))
    assert result.state.rollout.stage is Stage.STEPPING
    assert result.state.rollout.progress_at == T0


def test_a_unit_that_does_not_answer_once_breaks_nothing_off_but_ends_no_soak() -> None:
    silent = (unit("n0", V2, serving=None, answered=False), *MIXED[1:])
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), facts(silent, now=later(11)))
    assert result.state.rollout.stage is Stage.SOAKING
    assert result.reason is Reason.WAITING_FOR_UNITS


def test_no_step_ends_on_what_a_unit_said_before_the_last_write() -> None:
    before = (unit("n0", V2, is_confirmed=False), *MIXED[1:])
    begun = step(QUICK, rolling(), facts(before))
    assert (begun.state.rollout.stage, begun.reason) == (Stage.STEPPING, Reason.WAITING_FOR_UNITS)
    soaked = rolling(Stage.SOAKING, **SOAKED)
    for now in (later(11), later(7200)):  # not a failure either, however late it is
        stays = step(QUICK, soaked, facts(before, now=now)).state.rollout
        assert (stays.stage, stays.step) == (Stage.SOAKING, 0)
    after = step(QUICK, soaked, facts(MIXED, now=later(11)))
    assert after.state.rollout.step == 1


def test_a_rollback_ends_on_what_units_say_after_it_was_written() -> None:
    back = rolling(Stage.ROLLING_BACK)
    before = facts(units(3, V1, is_confirmed=False), wanted=V1)
    assert step(QUICK, back, before).state.rollout.stage is Stage.ROLLING_BACK
    assert step(QUICK, back, facts(units(3, V1), wanted=V1)).state.rollout.stage is Stage.IDLE


TWO_HOLD = (unit("n0", V2), unit("n1", V2, serving=None, answered=False), unit("n2", V1))
"""Two units have V2; one of them does not answer this time."""


def test_a_step_does_not_pass_while_one_of_its_units_is_silent() -> None:
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), facts(TWO_HOLD, now=later(11)))
    assert (result.state.rollout.stage, result.state.rollout.step) == (Stage.SOAKING, 0)


def test_at_the_deadline_a_silent_unit_is_no_mere_lack_of_numbers() -> None:
    seen = facts(TWO_HOLD, assessment=HELD, now=later(70))
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), seen)
    assert result.state.rollout.stage is Stage.ROLLING_BACK
    assert "n1: no answer" in result.state.failed[0].message


def test_a_cell_that_joins_during_a_soak_is_given_its_unit_first() -> None:
    seen = facts((*MIXED, unit("npu", V1, cell="b")), now=later(5))
    every_cell = Rollout(steps=(Step(units="1%", soak="10s"), Step(units="100%")))
    result = step(every_cell, rolling(Stage.SOAKING, **SOAKED), seen)
    assert (result.state.rollout.stage, result.desired["npu"]) == (Stage.STEPPING, V2)


def test_a_cell_that_joins_a_step_of_one_unit_breaks_nothing_off() -> None:
    seen = facts((*MIXED, unit("npu", V1, cell="b")), now=later(5))
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), seen)
    assert (result.state.rollout.stage, result.desired["npu"]) == (Stage.SOAKING, V1)


def test_a_unit_that_joins_a_watched_step_waits_and_does_not_break_it_off() -> None:
    seen = facts((*MIXED, unit("new", None, canary=True)), now=later(5))
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), seen)
    assert (result.state.rollout.stage, result.desired["new"]) == (Stage.SOAKING, V1)


def test_only_a_new_maximum_of_serving_units_is_progress() -> None:
    state = rolling(step=1, best_serving=1)
    half = (unit("n0", V2), unit("n1", V2, serving=V1), unit("n2", V1), unit("n3", V1))
    assert step(QUICK, state, facts(half, now=later(30))).state.rollout.progress_at == T0
    more = (unit("n0", V2), unit("n1", V2), unit("n2", V2, serving=V1), unit("n3", V1))
    moved = step(QUICK, state, facts(more, now=later(30))).state.rollout
    assert (moved.progress_at, moved.best_serving) == (later(30), 2)


def test_without_progress_until_the_deadline_the_rollout_fails_and_says_what_is_waited_for() -> (
    None
):
    waiting = (unit("n0", V2, serving=V1, waiting="Fetching: HTTP 503; next try in 4 s"),)
    result = step(QUICK, rolling(), facts((*waiting, *MIXED[1:]), now=later(60)))
    assert result.state.rollout.stage is Stage.ROLLING_BACK
    assert result.state.failed[0].reason == Reason.DEADLINE_EXCEEDED
    assert "n0: Fetching: HTTP 503; next try in 4 s" in result.state.failed[0].message
    assert f"0 of 1 units serve {V2}" in result.state.failed[0].message


def test_a_soak_longer_than_the_deadline_is_watched_to_its_end() -> None:
    spec = QUICK.model_copy(update={"steps": (Step(units="1", soak="1h"), Step(units="100%"))})
    seen = facts(MIXED, now=later(3599))
    assert stage_after(rolling(Stage.SOAKING, **SOAKED), seen, spec) is Stage.SOAKING


def test_the_deadline_of_a_verdict_begins_when_the_soak_is_over() -> None:
    spec = QUICK.model_copy(update={"steps": (Step(units="1", soak="1h"), Step(units="100%"))})
    state = rolling(Stage.SOAKING, **SOAKED)
    held = facts(MIXED, assessment=HELD, now=later(3659))
    assert stage_after(state, held, spec) is Stage.SOAKING
    late = facts(MIXED, assessment=HELD, now=later(3660))
    assert stage_after(state, late, spec) is Stage.PAUSED


def test_an_operator_that_was_away_past_the_deadline_finds_a_step_that_serves_and_goes_on() -> None:
    assert stage_after(rolling(), facts(MIXED, now=later(7200))) is Stage.SOAKING


# --- failures


def test_a_unit_that_fails_beyond_the_limit_starts_the_rollback() -> None:
    result = step(QUICK, rolling(), facts(REFUSING))
    assert result.state.rollout.stage is Stage.ROLLING_BACK
    assert set(result.desired.values()) == {V1}
    assert result.state.failed[0].reason == Reason.UNIT_FAILED
    assert "n0: ExamFailed: 0.1" in result.state.failed[0].message
    assert result.events[0].warning


def test_one_refusal_more_than_is_tolerated_is_enough_though_others_serve() -> None:
    refusing = unit("n1", V2, serving=V1, failure="ExamFailed: 0.1")
    seen = facts((unit("n0", V2), refusing, unit("n2", V2, serving=V1)))
    assert stage_after(rolling(step=2), seen) is Stage.ROLLING_BACK
    tolerant = QUICK.model_copy(update={"failure_limit": 1})
    assert stage_after(rolling(step=2), seen, tolerant) is Stage.STEPPING
    more = facts((*seen.units, replace(refusing, name="n3")))
    assert stage_after(rolling(step=2), more, tolerant) is Stage.ROLLING_BACK


def test_a_crash_loop_is_called_one() -> None:
    looping = (unit("n0", V2, serving=None, answered=False, failure="CrashLoop: 3 restarts"),)
    result = step(QUICK, rolling(), facts((*looping, *MIXED[1:])))
    assert result.state.failed[0].reason == Reason.CRASH_LOOP


def test_failures_within_the_limit_let_the_step_complete_without_their_units() -> None:
    spec = QUICK.model_copy(update={"failure_limit": 1})
    seen = facts((unit("n0", V2), unit("n1", V2, serving=V1, failure="x"), *units(0)))
    result = step(spec, rolling(step=2), seen)
    assert result.state.rollout.stage is Stage.SOAKING
    assert result.desired["n1"] == V2


def test_tolerated_failures_fail_the_rollout_when_nobody_is_left_to_try() -> None:
    spec = QUICK.model_copy(update={"failure_limit": 3})
    assert stage_after(rolling(), facts(REFUSING), spec) is Stage.ROLLING_BACK


def test_a_failure_of_a_unit_that_cannot_be_reached_does_not_count() -> None:
    seen = facts((unit("off", V2, reachable=False, failure="x"), *MIXED))
    assert stage_after(rolling(), seen) is Stage.SOAKING


def test_a_failure_of_a_unit_that_was_not_given_the_target_yet_does_not_count() -> None:
    assert stage_after(rolling(), facts([unit("n0", V1, failure="x")])) is Stage.STEPPING


def test_a_failure_of_another_revision_is_not_held_against_the_target() -> None:
    assert stage_after(rolling(), facts(REFUSING, target=V1)) is Stage.STEPPING
    assert stage_after(rolling(), facts(MIXED, target=V1, assessment=BAD)) is Stage.SOAKING


def test_facts_that_name_no_subject_speak_of_the_target_they_were_gathered_for() -> None:
    seen = facts(MIXED, wanted=V3, target=None, assessment=BAD)
    over = facts(units(4, V3), wanted=V3, target=None, assessment=BAD)
    for one in (seen, over):
        result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), one)
        assert (result.state.target, result.state.failed) == (V3, ())


@pytest.mark.parametrize("stage", [Stage.STEPPING, Stage.SOAKING])
def test_a_metric_that_fails_starts_the_rollback_at_any_time(stage: Stage) -> None:
    state = rolling(stage, best_serving=1, soak_started_at=T0)
    result = step(QUICK, state, facts(MIXED, assessment=BAD))
    assert result.state.failed[0].message == BAD.message
    assert result.state.rollout.stage is Stage.ROLLING_BACK


def test_a_bad_number_counts_only_once_a_unit_serves_the_target() -> None:
    assert stage_after(rolling(), facts(LOADING, assessment=BAD)) is Stage.STEPPING


def test_numbers_whose_absence_is_a_failure_have_the_whole_soak_to_come() -> None:
    soaking = rolling(Stage.SOAKING, **SOAKED)
    early = facts(MIXED, assessment=NO_DATA_FAILS, now=later(9))
    assert stage_after(soaking, early) is Stage.SOAKING
    late = facts(MIXED, assessment=NO_DATA_FAILS, now=later(10))
    assert stage_after(soaking, late) is Stage.ROLLING_BACK


def test_failed_revisions_are_bounded_and_newest_first() -> None:
    state = rolling()
    old = tuple(failed(f"r{i}") for i in range(20))
    result = step(QUICK, EngineState(V1, V2, old, (), state.rollout), facts(REFUSING))
    assert len(result.state.failed) == 20
    assert result.state.failed[0].revision == V2


def test_a_long_message_is_cut_to_what_the_status_takes() -> None:
    seen = facts((unit("n0", V2, serving=V1, failure="x" * 5000), *MIXED[1:]))
    result = step(QUICK, rolling(), seen)
    assert stored(result.state) == result.state


# --- missing numbers


@pytest.mark.parametrize("verdict", [HELD, ERROR, Assessment(Verdict.INCONCLUSIVE, "NaN")])
def test_a_verdict_that_is_not_there_holds_the_step(verdict: Assessment) -> None:
    seen = facts(MIXED, assessment=verdict, now=later(30))
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), seen)
    assert (result.state.rollout.stage, result.reason) == (
        Stage.SOAKING,
        Reason.WAITING_FOR_METRICS,
    )
    assert verdict.message in result.message


def test_at_the_deadline_numbers_that_are_merely_missing_pause_the_rollout() -> None:
    seen = facts(MIXED, assessment=HELD, now=later(70))
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), seen)
    assert result.state.rollout.stage is Stage.PAUSED
    assert (result.state.rollout.pause_reason or "").startswith(Reason.WAITING_FOR_METRICS)
    assert result.state.failed == ()


def test_at_the_deadline_a_source_that_is_down_is_a_failure() -> None:
    seen = facts(MIXED, assessment=ERROR, now=later(70))
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), seen)
    assert result.state.rollout.stage is Stage.ROLLING_BACK
    assert ERROR.message in result.state.failed[0].message


def test_a_source_that_is_down_for_ten_minutes_within_the_deadline_rolls_nothing_back() -> None:
    fleet = FakeFleet.of(4, cells=2)
    fleet.run(80)
    fleet.spec = QUICK.model_copy(update={"progress_deadline": "15m"})
    fleet.wanted, fleet.verdict = V2, ERROR
    story = fleet.run(600, every=5)
    assert (fleet.state.rollout.stage, fleet.state.rollout.step) == (Stage.SOAKING, 0)
    assert reasons(story) == [Reason.ROLLOUT_STARTED]
    fleet.verdict = GOOD
    fleet.run(120)
    assert (fleet.state.stable, fleet.state.failed) == (V2, ())


@pytest.mark.parametrize(
    ("verdict", "stage", "index"),
    [(HELD, Stage.PAUSED, 0), (GOOD, Stage.STEPPING, 1), (BAD, Stage.ROLLING_BACK, 0)],
)
def test_a_wait_for_numbers_ends_by_itself_with_a_verdict(
    verdict: Assessment, stage: Stage, index: int
) -> None:
    state = rolling(Stage.PAUSED, **SOAKED, paused_at=later(70), reason=Reason.WAITING_FOR_METRICS)
    result = step(QUICK, state, facts(MIXED, assessment=verdict, now=later(900)))
    assert (result.state.rollout.stage, result.state.rollout.step) == (stage, index)


def test_a_person_can_vouch_for_numbers_that_are_missing() -> None:
    state = rolling(Stage.PAUSED, **SOAKED, paused_at=later(70), reason=Reason.WAITING_FOR_METRICS)
    seen = facts(MIXED, assessment=HELD, now=later(900), promote=V2)
    assert step(QUICK, state, seen).state.rollout.step == 1


# --- rolling back


def back(serving: str, seconds: float = 1.5) -> RolloutFacts:
    return facts((unit("n0", V1, serving=serving), *MIXED[1:]), now=later(seconds))


def rolling_back() -> EngineState:
    state = rolling(
        Stage.ROLLING_BACK, rollback_at=T0, reason=Reason.METRIC_FAILED, message=BAD.message
    )
    return state.with_failed(failed())


def test_a_rollback_lasts_until_every_reachable_unit_serves_stable() -> None:
    assert stage_after(rolling_back(), back(V2)) is Stage.ROLLING_BACK
    offline = facts((unit("n0", V1, serving=None, reachable=False), *MIXED[1:]))
    assert stage_after(rolling_back(), offline) is Stage.IDLE


def test_a_rollback_without_progress_until_the_deadline_is_over_and_names_who_is_missing() -> None:
    gone = unit("n0", V1, serving=None, answered=False, waiting="ImagePullBackOff: no such image")
    late = step(QUICK, rolling_back(), facts((gone, *MIXED[1:]), now=later(30)))
    assert late.state.rollout.stage is Stage.ROLLING_BACK
    assert (late.state.rollout.best_serving, late.state.rollout.progress_at) == (3, later(30))
    waiting = step(QUICK, late.state, facts((gone, *MIXED[1:]), now=later(89)))
    assert waiting.state == late.state
    over = step(QUICK, late.state, facts((gone, *MIXED[1:]), now=later(90)))
    assert (over.state.rollout.stage, over.reason) == (Stage.IDLE, Reason.ROLLED_BACK)
    assert set(over.desired.values()) == {V1}
    for part in (V1, V2, "n0: ImagePullBackOff", "3 of 4 units", "212 ms"):
        assert part in over.events[0].message


def test_a_rollback_that_is_over_names_both_revisions_the_check_and_the_time_it_took() -> None:
    result = step(QUICK, rolling_back(), back(V1))
    (note,) = result.events
    assert (note.warning, note.reason) == (True, Reason.ROLLED_BACK)
    for part in (V1, V2, "1.5 s", "212 ms", "MetricFailed"):
        assert part in note.message
    assert result.state.target == V1
    assert result.reason is Reason.ROLLED_BACK
    assert not result.active


def test_a_failed_revision_is_not_tried_again() -> None:
    result = step(QUICK, settled(failed=(failed(),)), facts(units(4, V1)))
    assert (result.state.rollout.stage, result.reason) == (Stage.IDLE, Reason.ROLLED_BACK)
    assert set(result.desired.values()) == {V1}
    assert "212 ms" in result.message


def test_a_revision_that_failed_before_the_last_one_is_refused_too() -> None:
    result = step(QUICK, settled(failed=(failed(V3), failed())), facts(units(4, V1)))
    assert result.reason is Reason.FAILED_BEFORE


def test_a_new_retry_text_tries_it_again_and_forgets_the_failure() -> None:
    spec = QUICK.model_copy(update={"retry": "after-fix"})
    result = step(spec, settled(failed=(failed(),)), facts(units(4, V1)))
    assert result.state.rollout.stage is Stage.STEPPING
    assert result.state.failed == ()


def test_a_fix_goes_out_from_a_rollback_that_cannot_end() -> None:
    seen = facts(units(4, V1, serving=None, answered=False), wanted=V3)
    result = step(QUICK, rolling_back(), seen)
    assert (result.state.rollout.stage, result.state.target) == (Stage.STEPPING, V3)


# --- what changes on the way


def test_a_newer_revision_restarts_at_the_first_step_and_stable_stays() -> None:
    seen = facts((unit("n0", V2), unit("n1", V2), unit("n2", V1), unit("n3", V1)), wanted=V3)
    result = step(QUICK, rolling(Stage.SOAKING, step=1, **SOAKED), seen)
    assert (result.state.stable, result.state.target) == (V1, V3)
    assert (result.state.rollout.stage, result.state.rollout.step) == (Stage.STEPPING, 0)
    assert sorted(str(r) for r in result.desired.values()) == [V1, V1, V1, V3]


def test_a_spec_that_is_back_at_stable_goes_back_at_once_and_remembers_no_failure() -> None:
    seen = facts(MIXED, wanted=V1)
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), seen)
    assert (result.state.rollout.stage, result.reason) == (Stage.ROLLING_BACK, Reason.ROLLING_BACK)
    assert (set(result.desired.values()), result.state.failed) == ({V1}, ())
    ended = step(QUICK, result.state, facts(units(4, V1), wanted=V1, target=V2))
    assert (ended.state.rollout.stage, ended.reason) == (Stage.IDLE, Reason.STABLE)
    assert [note.warning for note in ended.events] == [False]


def test_a_revision_that_was_stable_before_goes_to_everyone_at_once_without_analysis() -> None:
    old = HistoryEntry(revision=V3, version="", promoted_at=T0)
    state = settled(history=(*settled().history, old))
    result = step(QUICK, state, facts(units(4, V1), wanted=V3))
    assert set(result.desired.values()) == {V3}
    done = step(QUICK, result.state, facts(units(4, V3), wanted=V3, assessment=BAD))
    assert done.state.stable == V3


def test_a_revision_that_left_the_history_goes_through_the_steps_again() -> None:
    result = step(QUICK, settled(), facts(units(4, V1), wanted=V3))
    assert list(result.desired.values()).count(V3) == 1


def test_the_way_back_to_a_revision_that_was_stable_before_still_needs_every_unit() -> None:
    old = HistoryEntry(revision=V3, version="", promoted_at=T0)
    state = step(QUICK, settled(history=(*settled().history, old)), facts(units(2, V1), wanted=V3))
    seen = facts(
        (unit("n0", V3), unit("n1", V3, serving=V1, failure="FetchFailed: 404")), wanted=V3
    )
    failed_ = step(QUICK, state.state, seen)
    assert failed_.state.rollout.stage is Stage.ROLLING_BACK
    assert set(failed_.desired.values()) == {V1}


def test_a_change_to_a_revision_that_failed_before_gives_the_target_up() -> None:
    state = rolling().with_failed(failed(V3))
    result = step(QUICK, state, facts(MIXED, wanted=V3, target=V2))
    assert result.state.rollout.stage is Stage.ROLLING_BACK
    assert [entry.revision for entry in result.state.failed] == [V3]


# --- pauses, promote and abort


def paused_step(**changes: object) -> RolloutFacts:
    return facts(MIXED, now=later(500), **changes)


def test_a_pause_step_waits_for_a_person() -> None:
    result = step(PAUSING, rolling(Stage.SOAKING, **SOAKED), facts(MIXED, now=later(10)))
    assert (result.state.rollout.stage, result.reason) == (Stage.PAUSED, Reason.PAUSED)
    assert result.state.rollout.pause_reason == "step 2 waits for promote"
    assert list(result.desired.values()).count(V2) == 1
    waited = step(PAUSING, result.state, paused_step())
    assert (waited.state, waited.desired) == (result.state, result.desired)


def test_promote_ends_a_pause_and_a_promote_of_another_revision_does_not() -> None:
    state = rolling(Stage.PAUSED, step=1, paused_at=T0, reason=Reason.PAUSED)
    assert step(PAUSING, state, paused_step(promote=V2)).state.rollout.step == 2
    assert step(PAUSING, state, paused_step(promote=V3)).state == state


def test_a_failure_during_a_pause_rolls_back() -> None:
    state = rolling(Stage.PAUSED, step=1, paused_at=T0, reason=Reason.PAUSED)
    assert stage_after(state, paused_step(assessment=BAD), PAUSING) is Stage.ROLLING_BACK


def test_a_pause_step_that_comes_first_gives_nobody_the_target() -> None:
    spec = Rollout(steps=(Step(pause=True), Step(units="100%")))
    result = step(spec, settled(), facts(units(2, V1)))
    assert (result.state.rollout.stage, set(result.desired.values())) == (Stage.PAUSED, {V1})


def test_a_pause_that_is_taken_out_of_the_steps_holds_nobody() -> None:
    state = rolling(Stage.PAUSED, step=1, paused_at=T0, reason=Reason.PAUSED)
    assert stage_after(state, paused_step(), QUICK) is Stage.STEPPING


def test_paused_starts_nothing() -> None:
    spec = QUICK.model_copy(update={"paused": True})
    result = step(spec, settled(), facts(units(4, V1)))
    assert (result.state, result.reason) == (settled(), Reason.PAUSED)


def test_paused_does_not_change_to_a_newer_revision() -> None:
    spec = QUICK.model_copy(update={"paused": True})
    result = step(spec, rolling(), facts(MIXED, wanted=V3, target=V2))
    assert (result.state.target, result.reason) == (V2, Reason.PAUSED)
    assert V3 not in result.desired.values()


def test_paused_does_not_keep_the_spec_from_going_back_to_stable() -> None:
    spec = QUICK.model_copy(update={"paused": True})
    assert stage_after(rolling(), facts(MIXED, wanted=V1), spec) is Stage.ROLLING_BACK


def test_paused_asks_no_new_unit_and_lets_the_soak_time_count_on() -> None:
    spec = QUICK.model_copy(update={"paused": True})
    seen = facts(MIXED, now=later(20))
    frozen = step(spec, rolling(Stage.SOAKING, **SOAKED), seen)
    assert (frozen.state.rollout.stage, frozen.reason) == (Stage.SOAKING, Reason.PAUSED)
    assert frozen.state.rollout.step == 0
    resumed = step(QUICK, frozen.state, facts(MIXED, now=later(21)))
    assert resumed.state.rollout.step == 1


def test_paused_stops_the_deadline_and_resuming_leaves_what_was_left() -> None:
    spec = QUICK.model_copy(update={"paused": True})
    frozen = step(spec, rolling(), facts(LOADING, now=later(50))).state
    assert stage_after(frozen, facts(LOADING, now=later(5000)), spec) is Stage.STEPPING
    resumed = step(QUICK, frozen, facts(LOADING, now=later(5000))).state
    assert stage_after(resumed, facts(LOADING, now=later(5009))) is Stage.STEPPING
    assert stage_after(resumed, facts(LOADING, now=later(5010))) is Stage.ROLLING_BACK


def test_paused_after_a_soak_leaves_the_verdict_what_was_left_of_its_deadline() -> None:
    spec = QUICK.model_copy(update={"paused": True})
    held = facts(MIXED, assessment=HELD, now=later(30))
    frozen = step(spec, rolling(Stage.SOAKING, **SOAKED), held).state
    resumed = step(QUICK, frozen, facts(MIXED, assessment=HELD, now=later(5000))).state
    for seconds, stage in ((5039, Stage.SOAKING), (5040, Stage.PAUSED)):
        seen = facts(MIXED, assessment=HELD, now=later(seconds))
        assert stage_after(resumed, seen) is stage


def test_paused_does_not_keep_a_failure_from_rolling_back() -> None:
    spec = QUICK.model_copy(update={"paused": True})
    assert stage_after(rolling(), facts(REFUSING), spec) is Stage.ROLLING_BACK


def test_a_fleet_that_is_offline_as_a_whole_stops_the_deadline() -> None:
    offline = tuple(unit(f"n{i}", V1, reachable=False) for i in range(3))
    frozen = step(QUICK, rolling(), facts(offline, now=later(10)))
    assert stage_after(frozen.state, facts(offline, now=later(90_000))) is Stage.STEPPING
    assert stage_after(frozen.state, facts(LOADING, now=later(90_000))) is Stage.STEPPING


def test_abort_rolls_back_and_is_remembered() -> None:
    result = step(QUICK, rolling(Stage.SOAKING, **SOAKED), facts(MIXED, abort=V2))
    assert result.state.rollout.stage is Stage.ROLLING_BACK
    assert result.state.failed[0].reason == Reason.ABORTED


def test_abort_rolls_back_where_failures_only_pause() -> None:
    spec = QUICK.model_copy(update={"on_failure": OnFailure.PAUSE})
    assert stage_after(rolling(), facts(MIXED, abort=V2), spec) is Stage.ROLLING_BACK


@pytest.mark.parametrize("abort", [V1, V2, V3])
def test_abort_with_nothing_under_way_changes_nothing(abort: str) -> None:
    result = step(QUICK, settled(), facts(units(2, V1), wanted=V1, abort=abort))
    assert (result.state, result.events) == (settled(), ())


def test_a_stale_abort_is_ignored() -> None:
    assert stage_after(rolling(), facts(MIXED, abort=V1)) is Stage.SOAKING


def test_a_revision_that_an_abort_names_is_not_started() -> None:
    result = step(QUICK, settled(), facts(units(2, V1), abort=V2))
    assert (result.state, result.reason) == (settled(), Reason.ABORTED)


def test_on_failure_pause_keeps_things_as_they_are_until_a_retry() -> None:
    spec = QUICK.model_copy(update={"on_failure": OnFailure.PAUSE})
    result = step(spec, rolling(), facts(REFUSING))
    assert (result.state.rollout.stage, result.reason) == (Stage.PAUSED, Reason.UNIT_FAILED)
    assert result.desired["n0"] == V2
    again = step(spec, result.state, facts(REFUSING, now=later(900), promote=V2))
    assert (again.state, again.events) == (result.state, ())
    retry = spec.model_copy(update={"retry": "2"})
    assert stage_after(result.state, facts(MIXED), retry) is Stage.SOAKING


# --- the first deployment, and a status that knows nothing


def first(seen: RolloutFacts, spec: Rollout = QUICK) -> EngineState:
    return step(spec, EngineState(), seen).state


def test_a_first_deployment_gives_everyone_the_target_at_once() -> None:
    result = step(QUICK, EngineState(), facts(units(3)))
    assert result.state.rollout.stage is Stage.DEPLOYING
    assert (result.default, set(result.desired.values())) == (V2, {V2})
    assert reasons([result]) == [Reason.FIRST_DEPLOYMENT]


def test_a_first_deployment_is_watched_as_long_as_the_last_step() -> None:
    spec = Rollout(steps=(Step(units="1", soak="1s"), Step(units="100%", soak="30s")))
    soaking = step(spec, first(facts(units(3)), spec), facts(units(3, V2))).state
    assert soaking.rollout.stage is Stage.SOAKING
    assert stage_after(soaking, facts(units(3, V2), now=later(29)), spec) is Stage.SOAKING
    done = step(spec, soaking, facts(units(3, V2), now=later(30)))
    assert (done.state.stable, done.state.rollout.stage) == (V2, Stage.IDLE)


def test_a_first_deployment_that_fails_has_nothing_to_go_back_to_and_takes_nothing_away() -> None:
    seen = facts((unit("n0", V2), unit("n1", V2, serving=None, failure="ExamFailed: 0.1")))
    result = step(QUICK, first(facts(units(2))), seen)
    assert (result.state.rollout.stage, result.state.stable) == (Stage.IDLE, None)
    assert result.reason is Reason.FIRST_DEPLOYMENT_FAILED
    assert result.message.startswith("first deployment: nothing to roll back to: UnitFailed: ")
    assert (set(result.desired.values()), result.default) == ({V2}, V2)
    assert not result.active
    again = step(QUICK, result.state, seen)
    assert (again.state, again.events) == (result.state, ())


def test_a_changed_spec_is_a_new_first_deployment_at_once() -> None:
    state = EngineState(target=V2, failed=(failed(),))
    result = step(QUICK, state, facts(units(2, V2, serving=None), wanted=V3))
    assert (result.state.rollout.stage, set(result.desired.values())) == (Stage.DEPLOYING, {V3})


def test_a_first_deployment_can_be_retried() -> None:
    state = EngineState(target=V2, failed=(failed(),))
    retry = QUICK.model_copy(update={"retry": "2"})
    assert stage_after(state, facts(units(2, V2, serving=None)), retry) is Stage.DEPLOYING


def test_without_a_single_unit_nothing_is_started() -> None:
    result = step(QUICK, EngineState(), facts(()))
    assert (result.state, result.reason) == (EngineState(), Reason.NO_ELIGIBLE_NODES)


def test_a_wiped_status_adopts_what_serves_on_most_units_and_rolls_on_from_there() -> None:
    result = step(QUICK, EngineState(), facts(MIXED))
    assert (result.state.stable, result.state.target) == (V1, V2)
    assert reasons([result]) == [Reason.ADOPTED, Reason.ROLLOUT_STARTED]
    assert result.desired["n0"] == V2
    assert list(result.desired.values()).count(V2) == 1


def test_a_wiped_status_adopts_the_wanted_revision_where_it_serves() -> None:
    result = step(QUICK, EngineState(), facts(units(3, V2)))
    assert (result.state.stable, result.state.rollout.stage) == (V2, Stage.IDLE)


def test_a_wiped_status_of_a_silent_fleet_adopts_what_it_was_given() -> None:
    silent = units(3, V1, serving=None, answered=False, reachable=False)
    assert step(QUICK, EngineState(), facts(silent)).state.stable == V1


def test_what_was_given_but_never_seen_to_serve_is_still_a_first_deployment() -> None:
    silent = units(3, V2, serving=None, answered=False)
    assert first(facts(silent)).rollout.stage is Stage.DEPLOYING


def test_a_revision_without_a_snapshot_is_not_adopted() -> None:
    seen = facts(units(3, V1), restorable=frozenset({V2}))
    assert first(seen).rollout.stage is Stage.DEPLOYING


def test_a_status_that_knows_nothing_takes_nothing_away() -> None:
    spec = QUICK.model_copy(update={"paused": True})
    result = step(spec, EngineState(), facts(units(2, "v1-lost"), restorable=frozenset({V2})))
    assert (result.state, set(result.desired.values())) == (EngineState(), {"v1-lost"})


# --- states that nobody wrote

STRANGE = [
    EngineState(rollout=RolloutStatus(stage=stage), stable=stable, target=target)
    for stage in Stage
    for stable in (None, V1)
    for target in (None, V1, V2)
]


@pytest.mark.parametrize("state", STRANGE, ids=lambda s: f"{s.rollout.stage}-{s.stable}-{s.target}")
@pytest.mark.parametrize("wanted", [V1, V2])
def test_a_state_that_contradicts_itself_leads_to_a_safe_one(
    state: EngineState, wanted: str
) -> None:
    seen = facts(MIXED, wanted=wanted)
    result = step(QUICK, state, seen)
    again = step(QUICK, result.state, seen)
    assert (again.state, again.desired, again.events) == (result.state, result.desired, ())
    assert set(result.desired.values()) <= {V1, V2}


def test_at_rest_the_target_is_the_stable_revision() -> None:
    state = settled(target=V2, failed=(failed(),))
    assert step(QUICK, state, facts(MIXED)).state.target == V1


def test_a_stage_of_another_version_reads_as_idle() -> None:
    assert RolloutStatus.model_validate({"stage": "Mirroring"}).stage is Stage.IDLE


def test_a_step_that_the_spec_no_longer_has_is_the_last_one() -> None:
    result = step(QUICK, rolling(step=9), facts(MIXED))
    assert step_label(QUICK, result.state) == "3/3"


@pytest.mark.parametrize(
    ("state", "subject"),
    [(EngineState(), V3), (settled(), V3), (rolling(), V2), (rolling(Stage.ROLLING_BACK), V2)],
)
def test_facts_speak_of_the_target_under_way_or_else_of_the_wanted_revision(
    state: EngineState, subject: str
) -> None:
    assert subject_of(state, V3) == subject


# --- whole stories


def test_a_first_deployment_then_a_rollout_then_a_bad_one_that_comes_back() -> None:
    fleet = FakeFleet.of(6, cells=2)
    fleet.run(80)
    assert (fleet.state.stable, fleet.serving()) == (V1, {V1})
    fleet.wanted = V2
    story = fleet.run(120)
    assert (fleet.state.stable, fleet.serving()) == (V2, {V2})
    assert reasons(story) == ["RolloutStarted", *["StepCompleted"] * 3, "Promoted"]
    fleet.wanted, fleet.verdict = V3, BAD
    story = fleet.run(20)
    assert (fleet.state.stable, fleet.serving()) == (V2, {V2})
    assert reasons(story) == ["RolloutStarted", "MetricFailed", "RolledBack"]
    assert max(list(t.desired.values()).count(V3) for t in story) == 1


def test_v3_that_replaces_v2_on_the_way_and_fails_goes_back_to_v1() -> None:
    fleet = FakeFleet.of(4)
    fleet.run(80)
    fleet.wanted = V2
    fleet.run(15)
    fleet.wanted, fleet.broken = V3, {V3}
    fleet.run(10)
    assert (fleet.state.stable, fleet.serving()) == (V1, {V1})
    assert [entry.revision for entry in fleet.state.failed] == [V3]


def test_a_unit_that_returns_after_the_rollout_takes_what_is_current() -> None:
    fleet = FakeFleet.of(4)
    fleet.run(80)
    fleet.devices["n0"].reachable = False
    fleet.wanted = V2
    fleet.run(120)
    assert fleet.state.stable == V2
    fleet.devices["n0"].reachable = True
    fleet.pass_time(1)
    assert fleet.devices["n0"].serving == V2


def test_stable_that_is_broken_does_not_keep_a_fix_from_going_out() -> None:
    fleet = FakeFleet.of(3)
    fleet.run(80)
    for device in fleet.devices.values():
        device.serving = None
    fleet.wanted, fleet.broken = V2, {V1}
    fleet.run(120)
    assert (fleet.state.stable, fleet.serving()) == (V2, {V2})
