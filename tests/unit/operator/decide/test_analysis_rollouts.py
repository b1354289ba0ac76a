"""Numbers that are missing, late, odd or gone, through the whole plan: what a rollout then does."""

from __future__ import annotations

import math
from typing import Any

import pytest

from builders import make_deployment, make_model, make_node
from counted import counted, counters
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.decide.observed import Sample, SampleState
from skerry_runtime.contract import Counters
from world import World

QUERY = "min(ovens_ok)"
OVENS: dict[str, Any] = {"name": "ovens-ok", "prometheus": {"query": QUERY}, "min": "1"}
ERRORS = {"name": "ErrorRate", "max": "0.01", "minSamples": 50}
RATIO = {"name": "LatencyP95", "maxRatioToStable": "1.5", "minSamples": 50}
DOWN = Sample(SampleState.DOWN, problem="Prometheus is not to be had: HTTP 503")
EMPTY = Sample(SampleState.EMPTY, problem="the query gives no series")
GOOD, BAD = Sample(SampleState.READ, 1), Sample(SampleState.READ, 0)


def canary_of(*metrics: dict[str, Any], nodes: int = 2, deadline: str = "10m") -> World:
    """Return a fleet that serves 1.0.0 and has just given 2.0.0 to its canary."""
    world = at_rest(*metrics, nodes=nodes, deadline=deadline)
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    return world


def at_rest(*metrics: dict[str, Any], nodes: int = 2, deadline: str = "10m") -> World:
    """Return a fleet that serves 1.0.0, from now on with these metrics."""
    steps = [{"units": "1", "soak": "30s"}, {"units": "100%", "soak": "30s"}]
    rollout = {"steps": steps, "progressDeadline": deadline}
    names = (make_node(f"n{index}") for index in range(nodes))
    world = World(make_deployment(rollout=rollout), make_model(), tuple(names))
    world.settle()
    world.change(rollout={**rollout, "analysis": {"interval": "10s", "metrics": list(metrics)}})
    world.turn()
    return world


def count(world: World, version: str, total: Counters, recent: Counters | None = None) -> None:
    """Let every pod that serves the version have answered so many requests on it."""
    for unit, report in world.reports.items():
        if report.serving and report.serving.version == version:
            entry = counted(report.serving.revision, total, recent)
            world.reports[unit] = report.model_copy(update={"counters": (entry,)})


def turn_for(world: World, seconds: float, every: float = 5) -> None:
    for _ in range(round(seconds / every)):
        world.turn(every)


def is_rolled_back(world: World) -> bool:
    return set(world.served().values()) == {"1.0.0"} and "RolledBack" in world.events


# --- a source ---


def test_prometheus_that_is_down_for_ten_minutes_holds_and_harms_nothing_before_the_deadline() -> (
    None
):
    world = canary_of(OVENS, deadline="15m")
    world.samples[QUERY] = DOWN
    turn_for(world, 600)
    assert world.status.rollout.stage is Stage.SOAKING
    assert sorted(world.served().values()) == ["1.0.0", "2.0.0"]
    assert "HTTP 503" in message_of(world)
    world.samples[QUERY] = GOOD
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}


def test_a_source_that_is_still_down_at_the_deadline_takes_the_target_back_and_says_so() -> None:
    world = canary_of(OVENS, deadline="5m")
    world.samples[QUERY] = DOWN
    world.settle()
    assert is_rolled_back(world)
    assert "HTTP 503" in world.status.failed_revisions[0].message
    assert world.status.failed_revisions[0].reason == "ProgressDeadlineExceeded"


def test_a_good_rollout_goes_on_past_an_outage_that_ended_before_the_soak_did() -> None:
    world = canary_of(OVENS)
    world.samples[QUERY] = DOWN
    turn_for(world, 20)
    world.samples[QUERY] = GOOD
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}


def test_a_bad_number_takes_the_target_back_in_the_middle_of_the_soak() -> None:
    world = canary_of(OVENS)
    world.samples[QUERY] = BAD
    world.settle()
    assert is_rolled_back(world)
    assert "ovens-ok is 0, limit 1" in world.status.failed_revisions[0].message


@pytest.mark.parametrize(
    "sample",
    [
        Sample(SampleState.READ, math.nan),
        Sample(SampleState.READ, math.inf),
        Sample(SampleState.ODD, problem="the query gives 3 series"),
    ],
    ids=["NaN", "+Inf", "several series"],
)
def test_a_number_that_decides_nothing_holds_until_it_does(sample: Sample) -> None:
    world = canary_of(OVENS)
    world.samples[QUERY] = sample
    turn_for(world, 120)
    assert world.status.rollout.stage is Stage.SOAKING
    world.samples[QUERY] = GOOD
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}


def test_an_empty_answer_waits_and_at_the_deadline_pauses_instead_of_going_back() -> None:
    world = canary_of(OVENS, deadline="2m")
    world.samples[QUERY] = EMPTY
    turn_for(world, 300)
    assert world.status.rollout.stage is Stage.PAUSED
    assert sorted(world.served().values()) == ["1.0.0", "2.0.0"]
    world.samples[QUERY] = GOOD
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}


def test_an_empty_answer_under_no_data_pass_passes() -> None:
    world = canary_of({**OVENS, "noData": "Pass"})
    world.samples[QUERY] = EMPTY
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}


def test_an_empty_answer_under_no_data_fail_has_the_whole_soak_to_come() -> None:
    world = canary_of({**OVENS, "noData": "Fail"})
    world.samples[QUERY] = EMPTY
    turn_for(world, 25)
    assert world.status.rollout.stage is Stage.SOAKING
    world.settle()
    assert is_rolled_back(world)


# --- traffic ---


def test_zero_traffic_holds_and_at_the_deadline_pauses() -> None:
    world = canary_of(ERRORS, deadline="2m")
    count(world, "2.0.0", counters(0))
    turn_for(world, 300)
    assert world.status.rollout.stage is Stage.PAUSED
    assert "has 0 of 50 requests" in (world.status.rollout.pause_reason or "")


def test_a_first_sample_that_is_late_ends_the_wait() -> None:
    world = canary_of(ERRORS)
    turn_for(world, 120)
    assert world.status.rollout.stage is Stage.SOAKING
    count(world, "2.0.0", counters(50))
    world.turn()
    assert world.status.rollout.step == 1


def test_a_first_sample_that_comes_after_the_pause_ends_that_too() -> None:
    world = canary_of(ERRORS, deadline="1m")
    turn_for(world, 200)
    assert world.status.rollout.stage is Stage.PAUSED
    count(world, "2.0.0", counters(50))
    turn_for(world, 10)
    assert (world.status.rollout.stage, world.status.rollout.step) == (Stage.SOAKING, 1)


def test_a_pod_that_restarted_counts_from_zero_and_is_waited_for_again() -> None:
    world = canary_of(ERRORS)
    count(world, "2.0.0", counters(5000, 10))
    turn_for(world, 20)
    count(world, "2.0.0", counters(3))
    turn_for(world, 60)
    assert (world.status.rollout.stage, world.status.rollout.step) == (Stage.SOAKING, 0)
    assert "has 3 of 50 requests" in message_of(world)
    count(world, "2.0.0", counters(60))
    world.turn()
    assert world.status.rollout.step == 1


def test_restarts_on_the_target_take_it_back() -> None:
    world = canary_of({"name": "Restarts", "max": "1"})
    target = world.status.target_revision or ""
    for unit, report in world.reports.items():
        world.reports[unit] = report.model_copy(update={"restarts": {target: 2}})
    world.settle()
    assert is_rolled_back(world)
    assert "Restarts in cell" in world.status.failed_revisions[0].message


# --- beside stable ---


def test_a_slower_target_is_found_out_beside_the_stable_of_the_same_minute() -> None:
    world = canary_of(RATIO)
    count(world, "1.0.0", counters(9000, ms=1), recent=counters(500, ms=20))
    count(world, "2.0.0", counters(200, ms=25))
    turn_for(world, 20)  # 25 ms beside 20 ms is good, however quick stable once was
    assert world.status.rollout.stage is Stage.SOAKING
    count(world, "2.0.0", counters(200, ms=60))
    world.settle()
    assert is_rolled_back(world)


def test_a_cell_of_one_node_is_held_against_what_its_stable_did_before() -> None:
    world = at_rest(RATIO, nodes=1)
    count(world, "1.0.0", counters(9000, ms=20), recent=counters(500, ms=20))
    world.model = make_model("2.0.0")
    world.turn_until(Stage.SOAKING)
    assert [(entry.metric, entry.samples) for entry in world.status.rollout.baseline] == [
        ("LatencyP95", 500)
    ]
    count(world, "2.0.0", counters(200, ms=60))
    world.settle()
    assert is_rolled_back(world)
    assert "recorded before the step (500 requests)" in world.status.failed_revisions[0].message
    assert world.status.rollout.baseline == ()  # it ends with the rollout


def test_the_last_step_is_held_against_the_stable_that_was_there_until_then() -> None:
    world = canary_of(RATIO)
    count(world, "1.0.0", counters(500, ms=20))
    count(world, "2.0.0", counters(200, ms=20))
    turn_for(world, 60)
    count(world, "2.0.0", counters(200, ms=20))
    world.turn()
    assert (world.status.rollout.stage, world.status.rollout.step) == (Stage.SOAKING, 1)
    count(world, "2.0.0", counters(200, ms=80))
    world.settle()
    assert is_rolled_back(world)


def test_a_first_deployment_with_a_ratio_waits_and_says_what_is_missing() -> None:
    steps = [{"units": "100%", "soak": "10s"}]
    rollout = {"steps": steps, "progressDeadline": "1m", "analysis": {"metrics": [RATIO]}}
    world = World(make_deployment(rollout=rollout), make_model(), (make_node("a"),))
    world.turn_until(Stage.SOAKING)
    count(world, "1.0.0", counters(500))
    turn_for(world, 120)
    assert world.status.rollout.stage is Stage.PAUSED
    assert "no stable revision to be compared with" in (world.status.rollout.pause_reason or "")


def test_a_first_deployment_with_a_ratio_under_no_data_pass_is_promoted() -> None:
    steps = [{"units": "100%", "soak": "10s"}]
    metric = {**RATIO, "noData": "Pass"}
    rollout = {"steps": steps, "analysis": {"metrics": [metric]}}
    world = World(make_deployment(rollout=rollout), make_model(), (make_node("a"),))
    world.turn_until(Stage.SOAKING)
    count(world, "1.0.0", counters(500))
    world.settle()
    assert world.status.stable_revision is not None


def message_of(world: World) -> str:
    """Return what the conditions say of the rollout."""
    return " ".join(condition.message for condition in world.status.conditions)


# --- a second look ---


AGAIN = {**ERRORS, "max": "0.1", "minSamples": 20, "failureLimit": 1}


def test_one_bad_window_of_twenty_requests_is_tolerated_where_the_spec_says_so() -> None:
    world = canary_of(AGAIN)
    count(world, "2.0.0", counters(20, failures=10))
    turn_for(world, 40)
    assert world.status.rollout.stage is Stage.SOAKING
    assert "1 of 1 measurements are beyond the limit" in message_of(world)
    canary = next(unit for unit, version in world.served().items() if version == "2.0.0")
    for requests in range(40, 800, 20):
        count(world, "2.0.0", counters(requests))
        report = world.reports[canary]
        entry = counted(report.counters[0].revision, counters(requests, failures=10))
        world.reports[canary] = report.model_copy(update={"counters": (entry,)})
        world.turn(10)
        if world.status.history[0].version == "2.0.0":
            break
    assert set(world.served().values()) == {"2.0.0"}
    assert world.status.rollout.measured == ()


def test_a_second_bad_window_takes_the_target_back_also_under_another_operator() -> None:
    world = canary_of(AGAIN)
    count(world, "2.0.0", counters(20, failures=10))
    world.turn(10)
    world.marks = {}  # it was killed
    world.turn(10)
    count(world, "2.0.0", counters(40, failures=20))
    world.turn(10)
    world.turn(10)
    world.settle()
    assert is_rolled_back(world)
    assert "2 of 2 measurements" in world.status.failed_revisions[0].message


def test_a_retry_of_a_rollout_that_only_paused_begins_without_the_bad_windows() -> None:
    world = canary_of(AGAIN)
    rollout = world.deployment.spec.rollout.to_dict()
    world.change(rollout=rollout | {"onFailure": "Pause"})
    for requests in (20, 40):
        count(world, "2.0.0", counters(requests, failures=requests // 2))
        world.turn(10)
        world.turn(10)
    assert world.status.rollout.stage is Stage.PAUSED
    world.change(rollout=rollout | {"onFailure": "Pause", "retry": "again"})
    turn_for(world, 20)
    assert world.status.rollout.stage is Stage.SOAKING
    assert world.status.failed_revisions == ()


def test_the_same_window_ends_the_rollout_where_it_says_nothing() -> None:
    world = canary_of({**AGAIN, "failureLimit": 0})
    count(world, "2.0.0", counters(20, failures=10))
    world.turn(10)
    world.settle()
    assert is_rolled_back(world)
