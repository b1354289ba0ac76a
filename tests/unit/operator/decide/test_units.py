"""Facts: what counts as serving, refusing and waiting."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from builders import (
    all_reduced,
    busy,
    make_deployment,
    make_model,
    make_node,
    make_report,
    reduced,
    refusing,
    serving,
    sha256_of,
)
from skerry_operator.api.v1alpha1.edgedeployment_status import Stage
from skerry_operator.decide.facts import UnitFacts
from skerry_operator.decide.fleet.fleet import Fleet
from skerry_operator.decide.fleet.units import OnTrial, unit_facts
from skerry_operator.decide.observed import Observed, Pod
from skerry_operator.plan import plan
from skerry_runtime.contract import SwapPhase
from world import World

STEPS = {"steps": [{"units": "100%", "soak": "60s"}]}


@pytest.fixture
def world() -> World:
    """One unit that has just been given version 2."""
    world = World(make_deployment(rollout=STEPS), make_model(), (make_node("n"),))
    world.settle()
    world.model = make_model("2.0.0")
    world.carry_out(world.plan())
    return world


def the_pod(world: World) -> Pod:
    return next(iter(world.pods.values()))


def facts(world: World, observed: Observed | None = None, retry: str = "") -> UnitFacts:
    fleet = Fleet(observed or world.observed(), world.profiles, world.observed().snapshots)
    since = world.status.rollout.started_at
    trial = OnTrial(str(world.status.target_revision), retry, is_stable=False, since=since)
    return unit_facts(fleet, fleet.listed_cells, trial)[0]


def with_pod(world: World, **changes: object) -> Observed:
    pod = replace(the_pod(world), **changes)  # type: ignore[arg-type]
    return replace(world.observed(), pods=(pod,), reports={})


def test_a_refusal_counts_once_the_unit_was_given_the_target(world: World) -> None:
    target = str(world.status.target_revision)
    world.reports["n"] = refusing(target)(make_report("n", assignment=sha256_of("x")))
    world.pods = {name: replace(pod, nudge="") for name, pod in world.pods.items()}
    assert facts(world).failure == "ExamFailed: Accuracy 0.21 < 0.95"


def test_a_refusal_of_yesterday_does_not_count_before_the_new_file_is_read(world: World) -> None:
    target = str(world.status.target_revision)
    world.reports["n"] = refusing(target, age_s=3600)(make_report("n", assignment=sha256_of("old")))
    assert facts(world).failure is None


def test_a_refusal_under_another_retry_text_does_not_count(world: World) -> None:
    target = str(world.status.target_revision)
    digest = world.observed().cells[0].digest
    world.reports["n"] = refusing(target)(make_report("n", assignment=digest))
    assert facts(world, retry="again").failure is None
    assert facts(world).failure is not None


@pytest.mark.parametrize(
    ("restarts", "counts"), [(1, False), (2, True)], ids=["one crash may be bad luck", "two not"]
)
def test_a_crash_loop_is_a_failure(world: World, restarts: int, counts: bool) -> None:
    observed = with_pod(
        world, waiting_reason="CrashLoopBackOff", waiting_message="code 139", restarts=restarts
    )
    failure = facts(world, observed).failure
    assert failure == ("CrashLoop: 2 restarts; code 139" if counts else None)


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerError", "Unschedulable"])
def test_a_pod_that_cannot_start_waits_and_says_why(world: World, reason: str) -> None:
    found = facts(world, with_pod(world, waiting_reason=reason, waiting_message="no such thing"))
    assert (found.failure, found.waiting) == (None, f"{reason}: no such thing")


def test_a_crash_loop_on_stable_is_no_failure_of_the_target(world: World) -> None:
    observed = with_pod(world, waiting_reason="CrashLoopBackOff", restarts=9, template="other")
    assert facts(world, observed).failure is None


def test_the_target_in_a_pod_of_another_template_is_not_served(world: World) -> None:
    target = str(world.status.target_revision)
    report = reduced(make_report("n", serving(target, "2.0.0")))
    own = replace(world.observed(), reports={"n": report})
    other = replace(own, pods=(replace(the_pod(world), template="other"),))
    assert facts(world, own).serving == target
    assert facts(world, other).serving is None


def test_a_pod_that_is_being_deleted_does_not_answer_for_the_unit(world: World) -> None:
    observed = replace(world.observed(), pods=(replace(the_pod(world), deleting=True),))
    found = facts(world, observed)
    assert (found.answered, found.serving, found.waiting) == (
        False,
        None,
        "its pod is ending, another is to come",
    )


def test_the_canary_label_and_the_site_come_from_the_node(world: World) -> None:
    node = make_node("n")
    labels = {**node.labels, "skerry.dev/canary": "true", "topology.kubernetes.io/zone": "quay"}
    world.nodes = (replace(node, labels=labels),)
    found = facts(world)
    assert (found.canary, found.site) == (True, "quay")


def test_a_rollout_goes_on_when_the_answer_comes(world: World) -> None:
    world.turn_until(Stage.SOAKING)
    assert facts(world).serving == world.status.target_revision


def test_a_pod_that_waits_for_its_place_speaks_for_the_unit(world: World) -> None:
    found = facts(
        world,
        with_pod(
            world,
            is_scheduled=False,
            waiting_reason="Unschedulable",
            waiting_message="Insufficient hailo.ai/h8",
        ),
    )
    assert found.state == "Unschedulable: Insufficient hailo.ai/h8"


def test_a_pod_that_has_the_place_counts_before_a_newer_one_that_waits_for_it(world: World) -> None:
    target = str(world.status.target_revision)
    late = replace(the_pod(world), name="zz", is_scheduled=False, created_at=world.now)
    report = reduced(make_report("n", serving(target, "2.0.0")))
    observed = replace(world.observed(), pods=(the_pod(world), late), reports={"n": report})
    assert facts(world, observed).serving == target


def test_what_keeps_a_unit_has_no_moving_numbers(world: World) -> None:
    target = str(world.status.target_revision)
    half, more = (
        replace(
            world.observed(),
            reports=all_reduced(
                {"n": make_report("n", busy(target, SwapPhase.FETCHING, f"{part} of 9 MB"))}
            ),
        )
        for part in (4, 5)
    )
    assert facts(world, half).waiting != facts(world, more).waiting
    assert facts(world, half).state == facts(world, more).state == "Fetching"


def test_the_conditions_name_what_keeps_a_unit(world: World) -> None:
    reason = {"waiting_reason": "ImagePullBackOff", "waiting_message": "no such image"}
    made = plan(with_pod(world, **reason), world.profiles, world.settings)
    assert made.status
    said = {one.type: one.message for one in made.status.conditions}
    for condition in ("Ready", "Available", "Progressing"):
        assert "n: ImagePullBackOff: no such image" in said[condition]


def test_people_are_told_why_a_report_is_refused(world: World) -> None:
    why = "its report is refused as garbage: serving.exam.samples: too small"
    observed = replace(with_pod(world, ready=True), refused_reports={"n": why})
    assert facts(world, observed).state == why


def test_a_long_word_of_a_registry_does_not_fill_a_condition(world: World) -> None:
    observed = with_pod(world, waiting_reason="ErrImagePull", waiting_message="x" * 5000)
    made = plan(observed, world.profiles, world.settings)
    assert made.status
    assert all(len(one.message) < 1000 for one in made.status.conditions)


def test_a_refusal_says_itself_under_which_retry_text_it_was_made(world: World) -> None:
    target = str(world.status.target_revision)
    digest = world.observed().cells[0].digest
    world.reports["n"] = refusing(target, retry="before")(make_report("n", assignment=digest))
    assert facts(world).failure is None
    world.reports["n"] = refusing(target, retry="")(world.reports["n"])
    assert facts(world).failure is not None


def test_progress_that_failed_under_another_retry_text_does_not_count(world: World) -> None:
    target = str(world.status.target_revision)
    told = refusing(target, retry="before")(make_report("n"))
    world.reports["n"] = told.model_copy(update={"failures": ()})
    assert facts(world).failure is None
    told = refusing(target, retry="")(make_report("n"))
    world.reports["n"] = told.model_copy(update={"failures": ()})
    assert facts(world).failure is not None


@pytest.mark.parametrize(
    ("ended_s", "counts"), [(-60, False), (5, True)], ids=["before the retry", "after it"]
)
def test_a_crash_loop_counts_for_the_trial_in_which_it_crashed(
    world: World, ended_s: float, counts: bool
) -> None:
    began = world.status.rollout.started_at
    assert began is not None
    ended = began + timedelta(seconds=ended_s)
    observed = with_pod(world, waiting_reason="CrashLoopBackOff", restarts=4, ended_at=ended)
    assert (facts(world, observed).failure is not None) == counts
