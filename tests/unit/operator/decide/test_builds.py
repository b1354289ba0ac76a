"""Builds of a model: which Jobs are to be, which results stand, what the model is then."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import CPU, NOW, make_deployment, make_model, make_node, make_variant, sha256_of
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel, Precision
from skerry_operator.api.v1alpha1.edgemodel_optimize import BuildJobPhase, Built
from skerry_operator.constants import Reason
from skerry_operator.decide.builds.effective import effective_spec, hold_of
from skerry_operator.decide.builds.jobs import ObservedJob, StorePlace
from skerry_operator.decide.builds.wanted import optimize_problems, wanted_builds
from skerry_operator.decide.observed import Ending, Pod
from skerry_operator.decide.planned import ModelPlan
from skerry_operator.decide.revision import revision_of
from skerry_operator.manifests.buildjob import JobSettings
from skerry_operator.manifests.buildrecord import read_record
from skerry_operator.manifests.metadata import build_name
from skerry_operator.plan.model import (
    KEPT_RECORDS,
    NO_STORE,
    OFF,
    BuildsObserved,
    OptimizeDefaults,
    plan_model,
)
from skerry_runtime.contract import BuildPhase, BuildVerdict, BuildWorth, Format, StoredBuild
from world import World

STORE = "oci://registry.example/models"
PLACE = f"{STORE}/default/digits"
DEFAULTS = OptimizeDefaults(JobSettings("registry.example/skerry/optimize:1"))
DATA = {"source": {"uri": "https://models.example/data.npz", "sha256": "d" * 64}}
INT8 = {"name": "int8", "from": "fp32", "steps": [{"quantize": {"mode": "Static"}}]}
HALF = {"name": "half", "from": "fp32", "steps": [{"quantize": {"mode": "Float16"}}]}
LIMIT = {"maxSizeRatio": "0.6"}


def optimized(*jobs: dict[str, Any], **more: Any) -> EdgeModel:
    """Return a model with builds that are wanted."""
    optimize = {"store": {"uri": STORE}, "data": DATA, "jobs": list(jobs or (INT8,)), **more}
    return make_model("1.0.0", make_variant(), optimize=optimize)


def name_of(model: EdgeModel, job: str = "int8") -> str:
    (wanted,) = (one for one in wanted_builds(model.spec) if one.name == job)
    return build_name("digits", job, wanted.key)


def verdict(model: EdgeModel, job: str = "int8", **changes: Any) -> BuildVerdict:
    (wanted,) = (one for one in wanted_builds(model.spec) if one.name == job)
    found = BuildVerdict(
        key=wanted.inputs_key,
        phase=BuildPhase.SUCCEEDED,
        seconds=4.2,
        build=StoredBuild(
            uri=f"{PLACE}@sha256:{'b' * 64}", sha256=sha256_of(job), format=Format.ONNX
        ),
        worth=BuildWorth(
            size_bytes=100,
            size_ratio=0.3,
            accuracy=0.97,
            accuracy_drop=0.005,
            latency_ratio=0.9,
            peak_memory_bytes=2**20,
        ),
    )
    return found.model_copy(update=changes)


def ended(words: str, exit_code: int = 0, reason: str = "Completed", **more: Any) -> Pod:
    given = {"unit": "", "cell": "", "template": "", "is_over": True, "created_at": NOW, **more}
    return Pod(name="p", ending=Ending(exit_code, reason, words), **given)


def complete(model: EdgeModel, words: BuildVerdict | str, job: str = "int8") -> ObservedJob:
    text = words if isinstance(words, str) else words.model_dump_json(by_alias=True)
    name = name_of(model, job)
    return ObservedJob(name, "u", is_complete=True, started_at=NOW, pods=(ended(text),))


def look(model: EdgeModel, *jobs: ObservedJob, free: int = 9, **more: Any) -> ModelPlan:
    observed = BuildsObserved(jobs={one.name: one for one in jobs}, free=free, **more)
    return plan_model(model, NOW, observed, DEFAULTS)


def recorded(plan: ModelPlan) -> dict[str, Built]:
    """Return what a plan puts on record, as it is read again, by key."""
    found = [read_record(json.loads(json.dumps(one.body))) for one in plan.records]
    return {one.key: one for one in found if one}


def refused(model: EdgeModel, job: str = "int8") -> BuildVerdict:
    return verdict(model, job, phase=BuildPhase.REFUSED, build=None, message="0.9 of it")


def conditions(plan: ModelPlan) -> dict[str, tuple[str, str]]:
    return {one.type: (str(one.status), one.reason) for one in plan.status.conditions}


def phases(plan: ModelPlan) -> dict[str, BuildJobPhase]:
    return {one.name: one.phase for one in plan.status.jobs}


# what is wanted


def test_precision_and_format_follow_from_the_steps() -> None:
    steps = {
        "slim": [{"prune": {"mode": "Structured", "amount": "50%"}}],
        "int8": [{"prune": {"mode": "Structured", "amount": "50%"}}, *INT8["steps"]],
        "half": HALF["steps"],
        "ort": [*HALF["steps"], {"convert": {"format": "ORT"}}],
        "lite": [{"convert": {"format": "TFLite"}}, *INT8["steps"]],
    }
    jobs = ({"name": name, "from": "fp32", "steps": steps[name]} for name in steps)
    found = {one.name: (one.precision, one.format) for one in wanted_builds(optimized(*jobs).spec)}
    assert found == {
        "slim": (Precision.FP32, Format.ONNX),
        "int8": (Precision.INT8, Format.ONNX),
        "half": (Precision.FP16, Format.ONNX),
        "ort": (Precision.FP16, Format.ORT),
        "lite": (Precision.INT8, Format.TFLITE),
    }


def keys(model: EdgeModel) -> tuple[str, str]:
    (one,) = wanted_builds(model.spec)
    return one.inputs_key, one.key


def test_keys_depend_on_what_makes_and_judges_a_build_and_on_nothing_else() -> None:
    inputs, key = keys(optimized())
    elsewhere = optimized(
        {**INT8, "runsOn": ["npu"], "onFailure": "Block"},
        nodeSelector={"tier": "cloud"},
        resources={"memoryLimit": "4Gi"},
        activeDeadline="1h",
    )
    assert keys(elsewhere) == (inputs, key)
    judged = keys(optimized(guards=LIMIT))
    assert (judged[0] == inputs, judged[1] == key) == (True, False)
    moved = keys(optimized(store={"uri": "oci://other.example/models"}))
    assert (moved[0] == inputs, moved[1] == key) == (True, False)
    others = [
        optimized(retry="again"),
        optimized({**INT8, "steps": HALF["steps"]}),
        optimized(data={"source": {**DATA["source"], "sha256": "e" * 64}}),
    ]
    assert len({inputs, *(keys(one)[0] for one in others)}) == 4


@pytest.mark.parametrize(
    ("job", "more", "says"),
    [
        ({**INT8, "from": "fp64"}, {}, "there is no variant 'fp64': name one of fp32"),
        ({**INT8, "name": "fp32"}, {}, "the name 'fp32' is used twice"),
        (INT8, {"data": None}, "job 'int8' needs it"),
        (INT8, {"guards": {"maxAccuracyDrop": "0.1"}}, "needs spec.golden"),
        ({**INT8, "steps": [{"quantize": {"mode": "Ternary"}}]}, {}, "mode is Ternary, which"),
        ({**INT8, "steps": [{"fly": {}}]}, {}, "a step that this operator does not know"),
        (INT8, {"store": {"uri": "s3://bucket/models"}}, "store.pushSecretRef: an s3:// store"),
        ({**INT8, "onFailure": "Explode"}, {}, "does not know Explode"),
    ],
)
def test_what_no_job_could_make_is_told_with_its_field(
    job: dict[str, Any], more: dict[str, Any], says: str
) -> None:
    model = optimized(job, **more)
    assert says in "; ".join(optimize_problems(model.spec))
    plan = look(model)
    assert conditions(plan)["Ready"] == ("False", Reason.INVALID_SPEC)
    assert not plan.objects
    held = hold_of(model.spec, {})
    assert held is not None
    assert held.reason is Reason.MODEL_INVALID


# from wish to result


def test_a_job_is_begun_and_the_model_is_not_ready_but_under_way() -> None:
    plan = look(optimized())
    assert [one.ref.kind for one in plan.objects] == ["Job"]
    assert phases(plan) == {"int8": BuildJobPhase.PENDING}
    assert conditions(plan) == {
        "Ready": ("False", Reason.OPTIMIZING),
        "Reconciling": ("True", Reason.OPTIMIZING),
    }


def test_a_job_that_is_there_is_not_begun_again() -> None:
    model = optimized()
    running = ObservedJob(name_of(model), "u", pods=(replace(ended(""), is_over=False, node="n"),))
    plan = look(model, running)
    assert not plan.objects
    assert phases(plan) == {"int8": BuildJobPhase.RUNNING}


def test_a_verdict_becomes_a_record_a_variant_and_an_artifact_with_its_figures() -> None:
    model = optimized()
    plan = look(model, complete(model, verdict(model)))
    results = recorded(plan)
    assert [one.phase for one in results.values()] == [BuildPhase.SUCCEEDED]
    spec = effective_spec(model.spec, results)
    assert [one.name for one in spec.variants] == ["int8", "fp32"]
    assert spec.optimize is None
    assert spec.variants[0].source.uri == f"{PLACE}@sha256:{'b' * 64}"
    assert hold_of(model.spec, results) is None
    made = plan.status.artifacts[0]
    assert (made.variant, made.origin, made.job) == ("int8", "Optimized", "int8")
    assert (made.accuracy, made.accuracy_drop, made.latency_ratio) == ("0.9700", "0.0050", "0.9000")
    assert conditions(plan) == {"Ready": ("True", Reason.VALID)}
    assert phases(plan) == {"int8": BuildJobPhase.SUCCEEDED}
    assert not plan.prune, "its log is kept for a while"


def test_what_is_on_record_is_not_made_again_whatever_became_of_status_and_jobs() -> None:
    model = optimized()
    results = recorded(look(model, complete(model, verdict(model))))
    plan = look(model, results=results)
    assert not plan.objects
    assert conditions(plan)["Ready"] == ("True", Reason.VALID)
    assert look(optimized(retry="again"), results=results).objects


def test_a_record_that_is_right_is_not_written_again_and_one_that_lost_its_owner_is() -> None:
    model = optimized()
    first = look(model, complete(model, verdict(model)))
    results, record = recorded(first), first.records[0]
    right = look(model, results=results, records=((record.ref.name, record.digest),))
    assert not right.records
    orphaned = look(model, results=results, records=((record.ref.name, ""),))
    assert [one.digest for one in orphaned.records] == [record.digest]


def test_a_refused_build_is_left_out_and_told_with_its_numbers() -> None:
    model = optimized(INT8, HALF)
    plan = look(
        model, complete(model, refused(model)), complete(model, verdict(model, "half"), "half")
    )
    assert phases(plan) == {"int8": BuildJobPhase.REFUSED, "half": BuildJobPhase.SUCCEEDED}
    results = recorded(plan)
    assert [one.name for one in effective_spec(model.spec, results).variants] == ["half", "fp32"]
    assert conditions(plan)["Ready"] == ("True", Reason.VALID)
    assert "job int8 is Refused: 0.9 of it" in plan.status.conditions[0].message
    assert [one.reason for one in plan.events] == [Reason.BUILD_REFUSED, Reason.BUILD_SUCCEEDED]


def test_a_job_that_has_to_succeed_holds_the_model_back() -> None:
    model = optimized({**INT8, "onFailure": "Block"})
    plan = look(model, complete(model, refused(model)))
    assert conditions(plan) == {
        "Ready": ("False", Reason.OPTIMIZATION_FAILED),
        "Stalled": ("True", Reason.OPTIMIZATION_FAILED),
    }
    hold = hold_of(model.spec, recorded(plan))
    assert hold is not None
    assert "job int8 is Refused: 0.9 of it" in hold.message


def test_a_job_that_was_given_up_has_failed_with_what_its_last_pod_said() -> None:
    model = optimized()
    oom = ended("", 137, "OOMKilled")
    job = ObservedJob(name_of(model), "u", failure="BackoffLimitExceeded: no more", pods=(oom,))
    plan = look(model, job)
    assert phases(plan) == {"int8": BuildJobPhase.FAILED}
    told = plan.status.jobs[0].message
    assert told.startswith(
        "BackoffLimitExceeded: no more; the last try: OOMKilled, exit status 137"
    )
    assert "raise optimize.resources.memoryLimit" in told
    away = ended("the store is away", 75, "Error")
    job = replace(job, pods=(away,))
    assert look(model, job).status.jobs[0].message.endswith("the last try: the store is away")


def test_a_verdict_that_went_with_its_pod_is_asked_for_again() -> None:
    model = optimized()
    gone = ObservedJob(name_of(model), "u", is_complete=True)
    plan = look(model, gone)
    assert [one.name for one in plan.prune] == [gone.name]
    assert not plan.records
    assert plan.requeue_after_s
    assert look(model).objects


def test_last_words_that_are_still_on_their_way_are_waited_for() -> None:
    model = optimized()
    job = complete(model, verdict(model))
    early = replace(job, pods=tuple(replace(pod, is_over=False, ending=None) for pod in job.pods))
    plan = look(model, early)
    assert [plan.prune, plan.records, plan.objects] == [(), (), ()]
    assert plan.requeue_after_s
    assert conditions(plan)["Ready"] == ("False", Reason.OPTIMIZING)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("", "last words are none: nothing"),
        ("Traceback \x1b[31m", "last words are none: Traceback [31m"),
        ("[" * 4096, "last words are none"),
        ({"key": "0" * 64}, "it answers another order"),
        ({"build": None}, "it succeeded and names no file"),
        ({"uri": "https://evil.example/x.onnx"}, "is not in oci://registry.example/models/"),
        ({"uri": f"{PLACE}-2@sha256:{'b' * 64}"}, "is not in"),
        ({"uri": f"{PLACE}/../../other@sha256:{'b' * 64}"}, "is not in"),
        ({"uri": f"{PLACE}@sha256:short"}, "no address of a file"),
        ({"format": "TFLite"}, "its file is TFLite, not ONNX"),
        ({"phase": "Glorious"}, "phase Glorious is not known"),
    ],
)
def test_what_any_pod_may_have_written_is_believed_no_further_than_it_may_be(
    change: str | dict[str, Any], says: str
) -> None:
    model = optimized()
    words = change
    if isinstance(change, dict):
        content = json.loads(verdict(model).model_dump_json(by_alias=True))
        inner = {name: one for name, one in change.items() if name in ("uri", "format")}
        outer = {name: one for name, one in change.items() if name not in inner}
        build = {**content["build"], **inner} if inner else content["build"]
        words = json.dumps({**content, "build": build, **outer})
    assert isinstance(words, str)
    plan = look(model, complete(model, words))
    assert phases(plan) == {"int8": BuildJobPhase.FAILED}
    assert says in plan.status.jobs[0].message
    assert plan.status.jobs[0].message.isprintable()
    assert [one.name for one in effective_spec(model.spec, recorded(plan)).variants] == ["fp32"]


@pytest.mark.parametrize(
    ("uri", "is_held"),
    [
        ("s3://bucket/p/ns/m/abc.onnx", True),
        ("s3://bucket/p/ns/m2/abc.onnx", False),
        ("s3://bucket/p/ns/m/../x/abc.onnx", False),
        ("s3://bucket/p/ns/m", False),
    ],
)
def test_a_bucket_holds_what_is_in_the_model_s_own_place(uri: str, is_held: bool) -> None:
    assert StorePlace("s3://bucket/p/ns/m").holds(uri) is is_held


# limits


def test_jobs_wait_for_one_another() -> None:
    model = optimized(INT8, HALF)
    plan = look(model, free=1)
    assert len(plan.objects) == 1
    assert plan.requeue_after_s
    assert "it waits for others" in plan.status.jobs[1].message
    assert not look(model, free=-3).objects


def test_jobs_that_nobody_wants_any_more_are_ended() -> None:
    model, plain = optimized(), make_model("1.0.0", make_variant())
    running = ObservedJob(name_of(model), "u")
    assert [one.name for one in look(plain, running).prune] == [running.name]
    assert [one.name for one in look(optimized(HALF), running).prune] == [running.name]
    assert not look(model, running).prune


def test_earlier_results_are_remembered_up_to_a_limit() -> None:
    model = optimized()
    others = tuple((f"digits-{number:03}", "d") for number in range(KEPT_RECORDS + 2))
    pruned = [one.name for one in look(model, records=others).prune]
    assert pruned == ["digits-000", "digits-001"]


def test_where_no_builds_are_made_people_are_told_what_to_set() -> None:
    plan = plan_model(optimized(), NOW, BuildsObserved(free=9), None)
    assert conditions(plan)["Ready"] == ("False", Reason.INVALID_SPEC)
    assert plan.status.conditions[0].message == OFF
    nowhere = optimized(store=None)
    plan = plan_model(nowhere, NOW, BuildsObserved(free=9), DEFAULTS)
    assert plan.status.conditions[0].message == NO_STORE
    assert not plan.objects
    usual = replace(DEFAULTS, store=STORE, push_secret="push", pull_secret="pull")  # noqa: S106
    plan = plan_model(nowhere, NOW, BuildsObserved(free=9), usual)
    order = plan.objects[0].body["spec"]["template"]["metadata"]["annotations"]["skerry.dev/order"]
    assert json.loads(order)["store"] == {"uri": PLACE, "secret": "push"}
    plan = plan_model(
        nowhere,
        NOW,
        BuildsObserved(jobs={name_of(nowhere): complete(nowhere, verdict(nowhere))}, free=9),
        usual,
    )
    (result,) = recorded(plan).values()
    assert result.pull_secret is not None
    assert result.pull_secret.name == "pull"


def test_what_was_made_stays_where_no_more_builds_are_made() -> None:
    model = optimized()
    results = recorded(look(model, complete(model, verdict(model))))
    plan = plan_model(model, NOW, BuildsObserved(results=results), None)
    assert conditions(plan)["Ready"] == ("True", Reason.VALID)


# deployments


def test_how_builds_are_made_is_in_no_revision_and_what_was_made_is() -> None:
    model, deployment = optimized(), make_deployment().spec
    plain = make_model("1.0.0", make_variant()).spec
    assert revision_of(effective_spec(model.spec, {}), deployment) == revision_of(plain, deployment)
    results = recorded(look(model, complete(model, verdict(model))))
    made = revision_of(effective_spec(model.spec, results), deployment)
    assert made != revision_of(plain, deployment)
    later = {
        key: one.model_copy(update={"started_at": NOW + timedelta(days=1), "accuracy": "0.1"})
        for key, one in results.items()
    }
    assert revision_of(effective_spec(model.spec, later), deployment) == made


def test_deployments_keep_what_they_have_while_builds_are_made_and_go_on_with_them() -> None:
    deployment = make_deployment(rollout={"steps": [{"units": "100%", "soak": "1s"}]})
    world = World(deployment, make_model(), (make_node("n0"), make_node("n1")), profiles=(CPU,))
    world.settle()
    stable = world.status.stable_revision
    model = optimized()
    world.model = model.model_copy(update={"spec": effective_spec(model.spec, {})})
    world.model_hold = hold_of(model.spec, {})
    world.turn(seconds=3)
    found = {one.type: (str(one.status), one.reason) for one in world.status.conditions}
    assert found["Ready"] == ("False", Reason.OPTIMIZING)
    assert found["Reconciling"] == ("True", Reason.OPTIMIZING)
    assert "Stalled" not in found
    assert world.status.stable_revision == stable
    results = recorded(look(model, complete(model, verdict(model))))
    world.model = model.model_copy(update={"spec": effective_spec(model.spec, results)})
    world.model_hold = hold_of(model.spec, results)
    world.settle()
    assert world.status.stable_revision != stable
