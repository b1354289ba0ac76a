"""What people read of a unit whose pod does not come, does not start, or cannot be reached."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NOW, make_deployment, make_model, make_node, make_report, refusing
from skerry_operator.decide.facts import UnitFacts
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.stuck import PATIENCE, STUCK_LIMIT, Stuck, stuck
from skerry_operator.decide.fleet.units import OnTrial, unit_facts
from skerry_operator.decide.observed import Observed, Pod
from skerry_runtime.contract import Failure, FailureReason
from world import World

OOM = "OOMKilled, code 137"


@pytest.fixture
def world() -> World:
    """Two units that have just been given their first version."""
    world = World(make_deployment(), make_model(), (make_node("a"), make_node("b")))
    world.carry_out(world.plan())
    return world


def pods_of(world: World, **changes: object) -> tuple[Pod, ...]:
    world.pods_follow()
    plain = {"ready": False, **changes}
    return tuple(replace(pod, **plain) for pod in world.observed().pods)  # type: ignore[arg-type]


def seen(world: World, **changes: object) -> Observed:
    """Return what is observed; no pod answers, unless the test says so."""
    return replace(world.observed(), **{"reports": {}, **changes})  # type: ignore[arg-type]


def with_uids(observed: Observed) -> Observed:
    templates = tuple(replace(one, uid=f"uid-{one.name}") for one in observed.templates)
    return replace(observed, templates=templates)


def facts(world: World, observed: Observed) -> list[UnitFacts]:
    fleet = Fleet(observed, world.profiles, world.observed().snapshots)
    trial = OnTrial(str(world.status.target_revision), "", is_stable=False)
    return list(unit_facts(fleet, fleet.listed_cells, trial))


def test_a_unit_whose_pod_may_not_be_made_says_what_forbids_it(world: World) -> None:
    observed = seen(world, pods=(), causes={"a": "FailedCreate: exceeded quota"})
    assert [unit.state for unit in facts(world, observed)] == [
        "FailedCreate: exceeded quota",
        "no pod yet",
    ]


def test_a_pod_that_is_taken_away_says_who_takes_it(world: World) -> None:
    pods = pods_of(world, deleting=True, disruption="PreemptionByScheduler: a pod of more weight")
    assert facts(world, seen(world, pods=pods))[0].state == (
        "its pod is taken away: PreemptionByScheduler: a pod of more weight"
    )


def test_a_pod_without_its_volume_says_which_secret_is_missing(world: World) -> None:
    observed = seen(world, pods=pods_of(world), causes={"a": 'FailedMount: secret "x" not found'})
    assert facts(world, observed)[0].state == 'FailedMount: secret "x" not found'


def test_what_a_container_waits_for_is_newer_than_what_events_said(world: World) -> None:
    pods = pods_of(world, waiting_reason="ErrImagePull", waiting_message="no such image")
    observed = seen(world, pods=pods, causes={"a": "FailedMount: secret not found"})
    assert facts(world, observed)[0].state == "ErrImagePull: no such image"


@pytest.mark.parametrize(
    ("is_started", "silent", "text"),
    [
        (False, {"a"}, "pod is starting"),
        (True, set(), "pod does not answer"),
        (True, {"a"}, "Unreachable: the pod runs, but the operator cannot reach its admin port"),
    ],
    ids=["it starts", "it has just begun", "it runs, and nobody reaches it"],
)
def test_a_pod_that_runs_and_cannot_be_reached_is_not_called_starting(
    world: World, is_started: bool, silent: set[str], text: str
) -> None:
    observed = seen(world, pods=pods_of(world, is_started=is_started), silent=frozenset(silent))
    assert facts(world, observed)[0].state.startswith(text)


def test_a_container_that_starts_again_says_how_it_ended(world: World) -> None:
    observed = seen(world, pods=pods_of(world, last_exit=OOM))
    assert facts(world, observed)[0].state == (
        "pod is starting again; last exit: OOMKilled, code 137: raise "
        "spec.runtime.resources.memoryLimit, or give the node more memory"
    )


def test_a_refusal_for_the_end_of_the_process_says_that_memory_ended_it(world: World) -> None:
    target = str(world.status.target_revision)
    pods = pods_of(world, last_exit=OOM)
    failure = Failure(
        revision=target,
        reason=FailureReason.SELF_REVERTED,
        message="the process ended 2 times",
        at=NOW.timestamp(),
    )
    for unit in "ab":
        report = make_report(unit, assignment=world.reports[unit].assignment, assigned=target)
        world.reports[unit] = report.model_copy(update={"failures": (failure,)})
    observed = seen(world, pods=pods, reports=world.observed().reports)
    text = facts(world, observed)[0].failure or ""
    assert text.startswith("SelfReverted: last exit: OOMKilled, code 137: raise")
    assert text.endswith("the process ended 2 times")


def test_an_exam_that_failed_is_not_blamed_on_an_earlier_exit(world: World) -> None:
    target = str(world.status.target_revision)
    pods = pods_of(world, last_exit=OOM)
    report = make_report("a", assignment=world.reports["a"].assignment)
    world.reports["a"] = refusing(target)(report)
    observed = seen(world, pods=pods, reports=world.observed().reports)
    assert facts(world, observed)[0].failure == "ExamFailed: Accuracy 0.21 < 0.95"


def test_a_crash_loop_names_the_memory_first(world: World) -> None:
    pods = pods_of(
        world,
        last_exit=OOM,
        restarts=2,
        waiting_reason="CrashLoopBackOff",
        waiting_message="back-off",
    )
    assert facts(world, seen(world, pods=pods))[0].failure == (
        "CrashLoop: 2 restarts; last exit: OOMKilled, code 137: raise "
        "spec.runtime.resources.memoryLimit, or give the node more memory; back-off"
    )


# --- who is asked for reasons ---


def test_nobody_is_asked_while_every_unit_has_its_pod(world: World) -> None:
    world.settle()
    assert stuck(with_uids(world.observed())) == ()


def test_one_workload_is_asked_for_all_units_that_it_leaves_without_a_pod(world: World) -> None:
    observed = with_uids(seen(world, pods=()))
    (template,) = observed.templates
    assert stuck(observed) == (Stuck("DaemonSet", template.name, template.uid, ("a", "b")),)


def test_nobody_is_asked_about_a_node_that_is_away(world: World) -> None:
    world.change_node("b", lambda node: replace(node, reachable=False))
    assert [one.units for one in stuck(with_uids(seen(world, pods=())))] == [("a",)]


def test_a_replica_without_a_pod_is_asked_about_at_its_replicaset() -> None:
    placement = {"mode": "Replicas", "replicas": 2}
    world = World(make_deployment(placement=placement), make_model(), (make_node("a"),))
    world.carry_out(world.plan())
    found = stuck(with_uids(seen(world, pods=())))
    assert [(one.kind, len(one.units)) for one in found] == [("ReplicaSet", 1), ("ReplicaSet", 1)]


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, True),
        ({"ip": "10.0.0.1"}, False),
        ({"waiting_reason": "ErrImagePull"}, False),
        ({"is_scheduled": False}, False),
        ({"deleting": True}, False),
        ({"created_at": NOW - PATIENCE + timedelta(seconds=1)}, False),
    ],
    ids=["hangs", "has an address", "says why", "has no node", "is ending", "is young"],
)
def test_a_pod_is_asked_about_when_it_hangs_without_a_word(
    world: World, changes: dict[str, object], asked: bool
) -> None:
    world.pods_follow()
    plain = {"uid": "u", "created_at": NOW - PATIENCE, **changes}
    pods = tuple(replace(pod, **plain) for pod in world.observed().pods)  # type: ignore[arg-type]
    found = stuck(seen(world, pods=pods, now=NOW))
    assert [one.kind for one in found] == (["Pod", "Pod"] if asked else [])


def test_a_large_fleet_asks_about_a_few(world: World) -> None:
    (pod, *_) = pods_of(world, created_at=NOW - PATIENCE)
    many = tuple(replace(pod, name=f"p{i}", uid=f"u{i}", unit=f"n{i}") for i in range(100))
    assert len(stuck(seen(world, pods=many, now=NOW))) == STUCK_LIMIT
