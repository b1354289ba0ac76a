"""Read, plan, write: in the order of the plan, with what failed told on the next look."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from builders import NOW, all_reduced, make_report, serving
from fake_kube import FakeKube, refusal
from owned import controlled, made, workload
from skerry_operator.api.base import Condition, ConditionStatus
from skerry_operator.api.v1alpha1.edgedeployment_status import (
    EdgeDeploymentStatus,
    Phase,
    RolloutStatus,
    Stage,
    UnitCounts,
)
from skerry_operator.constants import ANNOTATION_NUDGE, LABEL_CELL, LABEL_DEPLOYMENT, LABEL_REVISION
from skerry_operator.decide.facts import Value
from skerry_operator.decide.fleet.stuck import Stuck
from skerry_operator.decide.observed import Observed, Pod, Sample, SampleState
from skerry_operator.decide.planned import (
    EventNote,
    Manifest,
    ModelPlan,
    Nudge,
    ObjectRef,
    Plan,
    Sight,
)
from skerry_operator.kube.causes import FIRST_S
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.errors import Conflict, Forbidden, Invalid
from skerry_operator.kube.events import Recorder
from skerry_operator.kube.read import child_entry, deployment_entry, node_entry, pod_entry
from skerry_operator.kube.tables import Cache
from skerry_operator.kube.writer import Writer
from skerry_operator.loop import AT_ONCE_S, PUT_OFF_S
from skerry_operator.reconcile import FOLLOWED_AGAIN_S, PATIENCE_S, Edges, Planner, Reconciler
from skerry_operator.reports.base import Question, ReadError, ReadResult
from skerry_operator.reports.cadence import Cadence
from skerry_operator.reports.poller import Clocks, Poller
from skerry_operator.reports.table import SILENCE_S
from skerry_operator.telemetry import Telemetry
from skerry_runtime.contract import ASSIGNMENT_FILE, Assignment, Execution, StatusReport

KEY = ("edge", "digits")
ROOT = "/api/v1/namespaces/edge"
DEPLOYMENT = "/apis/skerry.dev/v1alpha1/namespaces/edge/edgedeployments/digits"
IDLE_S = 60.0


class FakeClock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time


class Pods:
    """Answers for the pods; a unit without a report is silent."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.reports: dict[str, StatusReport] = {}

    async def __call__(self, question: Question) -> bytes:
        self.asked.append(question.pod.unit)
        report = self.reports.get(question.pod.unit)
        if report is None:
            raise ReadError(ReadResult.TIMEOUT, "no answer in time")
        return report.model_dump_json(by_alias=True).encode()


class Bench:
    """A reconciler over a fake API server, with the plan in the test's hand."""

    def __init__(self, kube: FakeKube, client: KubeClient) -> None:
        self.kube = kube
        self.cache = Cache()
        self.source = Pods()
        self.clock = FakeClock()
        self.woken: list[tuple[str, str]] = []
        self.telemetry = Telemetry()
        self.threads = Threads(8)
        self.plan = Plan()
        self.observed: list[Observed] = []
        self.questions: list[str] = []
        self.stuck: list[Stuck] = []
        self.answer = Sample(SampleState.READ, 3.0)
        recorder = Recorder(client, "me", self.clock.now)
        self.poller = Poller(
            self.source,
            self.telemetry,
            slots=64,
            cadence=Cadence(Random(1), IDLE_S),
            clocks=Clocks(self.monotonic, self.clock.now),
            wake=self.woken.append,
        )
        edges = Edges(
            cache=self.cache,
            writer=Writer(self.cache, client, self.threads, recorder),
            reports=self.poller,
            ask_prometheus=self.ask,
            clock=self.clock,
            telemetry=self.telemetry,
            wake=self.woken.append,
            ask_events=self.ask_events,
            monotonic=self.monotonic,
        )
        self.reconciler = Reconciler(edges, Planner(self._decide, lambda *_: ModelPlan(None)))  # type: ignore[arg-type]
        self.put()
        self.put_workload("ds")

    async def ask_events(self, _namespace: str, of: Stuck) -> str:
        self.stuck.append(of)
        return "exceeded quota"

    def monotonic(self) -> float:
        return (self.clock.time - NOW).total_seconds()

    def pass_time(self, seconds: float) -> None:
        self.clock.time += timedelta(seconds=seconds)

    async def answers(self) -> None:
        """Let all pods that are due be asked, and answer or not."""
        self.poller.start_due()
        for _ in range(20):
            await asyncio.sleep(0)

    async def ask(self, text: str) -> Sample:
        self.questions.append(text)
        return self.answer

    def _decide(self, observed: Observed, _: object) -> Plan:
        self.observed.append(observed)
        return self.plan

    def put(self, **spec: Any) -> None:
        body = {"metadata": {"name": "digits"}, "spec": {"modelRef": {"name": "digits"}, **spec}}
        raw = self.kube.put(DEPLOYMENT, {**body, "status": {}})
        self.cache.deployments.seen(deployment_entry(raw))

    def put_child(self, kind: str, name: str) -> None:
        root = ROOT if kind == "ConfigMap" else ROOT.replace("/api/v1", "/apis/apps/v1")
        entry = self.cache.deployments.get(KEY)
        assert entry
        body = made({"metadata": {"name": name}}, uid=entry.uid)
        raw = self.kube.put(f"{root}/{kind.lower()}s/{name}", body)
        self.cache.children[kind].seen(child_entry(kind, raw))

    def put_workload(self, uid: str, owner_uid: str | None = None) -> None:
        """Put a DaemonSet of the deployment, or of another owner."""
        entry = self.cache.deployments.get(KEY)
        assert entry
        raw = workload(uid, uid=owner_uid or entry.uid)
        self.cache.children["DaemonSet"].seen(child_entry("DaemonSet", raw))

    def put_pod(
        self,
        unit: str,
        *,
        made_by: str = "ds",
        phase: str = "Running",
        ip: str = "10.0.0.1",
        version: int = 1,
        restarts: int = 0,
        nudge: str = "",
        cell: str = "",
    ) -> None:
        raw = {
            "metadata": {
                "name": f"pod-{unit}",
                "namespace": "edge",
                "uid": unit,
                "resourceVersion": str(version),
                "labels": {
                    LABEL_DEPLOYMENT: "digits",
                    LABEL_CELL: cell,
                    LABEL_REVISION: "v1-a",
                },
                "annotations": {ANNOTATION_NUDGE: nudge},
            },
            "spec": {"nodeName": unit},
            "status": {
                "phase": phase,
                "podIP": ip,
                "containerStatuses": [{"restartCount": restarts}],
            },
        }
        self.cache.pods.seen(pod_entry(controlled(raw, made_by)))

    def put_status(self, status: EdgeDeploymentStatus) -> None:
        raw = self.kube.put(
            DEPLOYMENT, {**self.kube.objects[DEPLOYMENT], "status": status.to_dict()}
        )
        self.cache.deployments.seen(deployment_entry(raw))

    def put_assignment(self, unit: str, revision: str) -> None:
        assignment = Assignment(
            deployment="edge/digits",
            cell="digits-cpu",
            execution=Execution(profile="cpu"),
            units={unit: revision},
        )
        metadata = {"name": "digits-cpu", "labels": {LABEL_DEPLOYMENT: "digits"}}
        data = {ASSIGNMENT_FILE: assignment.model_dump_json(by_alias=True)}
        entry = self.cache.deployments.get(KEY)
        assert entry
        body = made({"metadata": metadata, "data": data}, uid=entry.uid)
        raw = self.kube.put(f"{ROOT}/configmaps/digits-cpu", body)
        self.cache.children["ConfigMap"].seen(child_entry("ConfigMap", raw))

    def put_node(self, name: str, *, ready: bool, version: int = 1) -> None:
        condition = {"type": "Ready", "status": "True" if ready else "Unknown"}
        metadata = {"name": name, "uid": name, "resourceVersion": str(version)}
        self.cache.nodes.seen(
            node_entry({"metadata": metadata, "status": {"conditions": [condition]}})
        )

    async def look_only(self) -> float | None:
        return await self.reconciler.reconcile("EdgeDeployment", KEY)

    async def look(self) -> float | None:
        """Look; when that was too early, let answers come and look again."""
        for _ in range(100):
            again_s = await self.reconciler.reconcile("EdgeDeployment", KEY)
            if again_s != PUT_OFF_S:
                return again_s
            await self.answers()
            self.pass_time(PUT_OFF_S)
        raise AssertionError("put off for ever")


@pytest.fixture
def bench(kube: FakeKube, client: KubeClient) -> Iterator[Bench]:
    bench = Bench(kube, client)
    yield bench
    bench.threads.close()


def manifest(kind: str, name: str) -> Manifest:
    version = "v1" if kind == "ConfigMap" else "apps/v1"
    body = {"metadata": {"name": name, "namespace": "edge"}}
    return Manifest(ObjectRef(version, kind, name), body, "d1")


STABLE = EdgeDeploymentStatus(phase=Phase.STABLE)
PROMOTED = EventNote(warning=False, reason="Promoted", message="v1-a is stable")
WHOLE = Plan(
    records=(manifest("ControllerRevision", "r"),),
    status=STABLE,
    objects=(manifest("ConfigMap", "c"), manifest("DaemonSet", "d")),
    nudges=(Nudge("p", "v1-a", "x"),),
    prune=(ObjectRef("v1", "ConfigMap", "old"),),
    events=(PROMOTED,),
)


async def test_the_order_is_records_status_objects_nudges_prune_events(
    bench: Bench, kube: FakeKube
) -> None:
    kube.put(f"{ROOT}/pods/p", {"metadata": {"name": "p"}})
    bench.put_child("ConfigMap", "old")
    bench.plan = WHOLE
    await bench.look()
    assert kube.writes == [
        "PATCH controllerrevisions/r",
        "PATCH edgedeployments/digits/status",
        "PATCH configmaps/c",
        "PATCH daemonsets/d",
        "PATCH pods/p",
        "DELETE configmaps/old",
        "POST events",
    ]
    assert bench.telemetry.rollouts.labels("promoted")._value.get() == 1


async def test_an_equal_status_is_not_written(bench: Bench, kube: FakeKube) -> None:
    bench.plan = Plan(status=STABLE)
    assert await bench.look() == AT_ONCE_S
    assert await bench.look() is None
    assert kube.writes == ["PATCH edgedeployments/digits/status"]


async def test_the_next_look_sees_what_this_one_wrote_though_no_watch_told_it(
    bench: Bench,
) -> None:
    bench.plan = WHOLE
    await bench.look()
    await bench.look()
    assert bench.observed[1].deployment.status.phase is Phase.STABLE
    assert bench.cache.children["ConfigMap"].get(("edge", "c"))


async def test_an_old_copy_from_the_watch_does_not_turn_the_status_back(bench: Bench) -> None:
    before = bench.cache.deployments.get(KEY)
    assert before
    bench.plan = WHOLE
    await bench.look()
    bench.cache.deployments.seen(before)
    await bench.look()
    assert bench.observed[1].deployment.status.phase is Phase.STABLE


async def test_a_decision_on_an_old_spec_writes_nothing_but_the_record(
    bench: Bench, kube: FakeKube
) -> None:
    kube.put(DEPLOYMENT, {"metadata": {"name": "digits"}, "spec": {"changed": True}})
    bench.plan = WHOLE
    with pytest.raises(Conflict):
        await bench.look()
    assert kube.writes == ["PATCH controllerrevisions/r", "PATCH edgedeployments/digits/status"]


async def test_an_object_that_was_deleted_under_our_hands_is_no_error(
    bench: Bench, kube: FakeKube
) -> None:
    del kube.objects[DEPLOYMENT]
    bench.plan = replace(WHOLE, records=())
    assert await bench.look() is None
    assert kube.writes == ["PATCH edgedeployments/digits/status"]
    assert await bench.look() is None


async def test_a_refused_object_is_told_to_people_and_to_the_next_look_until_it_is_taken(
    bench: Bench, kube: FakeKube
) -> None:
    kube.script("PATCH configmaps/c", refusal(422, "Invalid", "no such field"))
    bench.plan = WHOLE
    with pytest.raises(Invalid):
        await bench.look()
    assert "PATCH daemonsets/d" not in kube.writes
    reasons = [r.body["reason"] for r in kube.requests if r.name == "POST events"]
    assert sorted(reasons) == ["ApplyFailed", "Promoted"]
    assert await bench.look() == AT_ONCE_S
    assert "no such field" in (bench.observed[1].apply_error or "")
    await bench.look()
    assert bench.observed[2].apply_error is None


def waiting_for(samples: int, **status: Any) -> EdgeDeploymentStatus:
    ready = Condition(
        type="Ready",
        status=ConditionStatus.FALSE,
        reason="WaitingForMetrics",
        message=f"{samples} of 1000 samples",
        last_transition_time=NOW,
    )
    return EdgeDeploymentStatus(phase=Phase.PROGRESSING, conditions=(ready,), **status)


async def test_new_numbers_in_a_message_are_written_but_do_not_hurry_the_next_look(
    bench: Bench, kube: FakeKube
) -> None:
    bench.plan = Plan(status=waiting_for(1), requeue_after_s=10)
    assert await bench.look() == AT_ONCE_S
    bench.plan = Plan(status=waiting_for(2), requeue_after_s=10)
    assert await bench.look() == 10
    assert kube.writes == ["PATCH edgedeployments/digits/status"] * 2
    bench.plan = Plan(status=waiting_for(3, units=UnitCounts(serving=1)), requeue_after_s=10)
    assert await bench.look() == AT_ONCE_S


async def test_what_failed_for_an_object_of_this_name_before_is_not_held_against_the_new_one(
    bench: Bench, kube: FakeKube
) -> None:
    kube.script("PATCH configmaps/c", refusal(422, "Invalid", "no such field"))
    bench.plan = WHOLE
    with pytest.raises(Invalid):
        await bench.look()
    del kube.objects[DEPLOYMENT]
    bench.cache.deployments.discard(KEY)
    bench.put()
    await bench.look()
    assert bench.observed[1].apply_error is None


async def test_pods_are_told_of_their_file_though_another_object_is_refused(
    bench: Bench, kube: FakeKube
) -> None:
    kube.put(f"{ROOT}/pods/p", {"metadata": {"name": "p"}})
    bench.put_child("ConfigMap", "old")
    kube.script("PATCH daemonsets/d", refusal(403, "Forbidden", "image not allowed"))
    bench.plan = WHOLE
    with pytest.raises(Forbidden):
        await bench.look()
    assert "PATCH pods/p" in kube.writes
    assert "DELETE configmaps/old" not in kube.writes


async def test_pods_are_not_told_of_a_file_that_was_refused(bench: Bench, kube: FakeKube) -> None:
    kube.put(f"{ROOT}/pods/p", {"metadata": {"name": "p"}})
    kube.script("PATCH configmaps/c", refusal(413, "RequestEntityTooLarge", "too large"))
    bench.plan = WHOLE
    with pytest.raises(Invalid, match="too large"):
        await bench.look()
    assert "PATCH pods/p" not in kube.writes


async def test_an_object_that_is_being_deleted_is_left_alone(bench: Bench) -> None:
    entry = bench.cache.deployments.get(KEY)
    assert entry
    metadata = {**entry.value["metadata"], "deletionTimestamp": "2026-11-23T11:00:00Z"}
    value = {**entry.value, "metadata": metadata}
    bench.cache.deployments.seen(replace(entry, version=entry.version + 1, value=value))
    assert await bench.look() is None
    assert bench.observed == []


async def test_a_spec_that_cannot_be_read_is_told_and_not_left_ready(
    bench: Bench, kube: FakeKube
) -> None:
    bench.put_status(EdgeDeploymentStatus(stable_revision="v1-a", phase=Phase.STABLE))
    bench.put(modelRef="digits")
    assert await bench.look() is None
    assert await bench.look() is None
    assert bench.observed == []
    assert kube.writes[:2] == ["POST events", "PATCH edgedeployments/digits/status"]
    assert kube.writes.count("PATCH edgedeployments/digits/status") == 1
    (ready,) = kube.objects[DEPLOYMENT]["status"]["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "InvalidSpec")
    assert "spec.modelRef" in ready["message"]


def settled(unit: str) -> StatusReport:
    return make_report(unit, serving("v1-a")).model_copy(update={"assigned": "v1-a"})


async def test_at_rest_pods_are_asked_at_the_idle_period_and_no_look_is_needed_for_it(
    bench: Bench,
) -> None:
    bench.put_pod("a")
    bench.source.reports = {"a": settled("a")}
    assert await bench.look() is None
    assert bench.observed[-1].reports == all_reduced({"a": settled("a")})
    assert bench.observed[-1].polled
    await bench.answers()
    assert bench.source.asked == ["a"]
    bench.woken.clear()
    bench.pass_time(IDLE_S)
    await bench.answers()
    assert bench.source.asked == ["a", "a"]
    assert bench.woken == []  # it says the same


async def test_what_a_pod_says_at_rest_wakes_its_deployment_when_it_is_news(bench: Bench) -> None:
    bench.put_pod("a")
    bench.source.reports = {"a": settled("a")}
    await bench.look()
    bench.woken.clear()
    bench.source.reports = {"a": settled("a").model_copy(update={"serving": None})}
    bench.pass_time(IDLE_S)
    await bench.answers()
    assert bench.woken == [KEY]


@pytest.mark.parametrize("reason", ["rollout", "silent pod", "busy pod", "changed pod"])
async def test_while_anything_is_under_way_pods_are_asked_within_seconds(
    bench: Bench, reason: str
) -> None:
    bench.put_pod("a")
    bench.source.reports = {"a": settled("a")}
    if reason == "rollout":
        bench.plan = Plan(watch_units=True, requeue_after_s=1.0)
    if reason == "silent pod":
        bench.source.reports = {}
    if reason == "busy pod":
        busy = settled("a").model_copy(update={"assigned": "v1-b"})
        bench.source.reports = {"a": busy}
    await bench.look()
    if reason == "changed pod":
        bench.put_pod("a", ip="10.0.0.2", version=2)
    await bench.look()
    bench.pass_time(5)
    await bench.answers()
    assert bench.source.asked[:2] == ["a", "a"]


async def test_a_look_waits_for_no_pod_and_is_put_off_for_a_second_at_most(bench: Bench) -> None:
    bench.plan = Plan(watch_units=True)
    await bench.look()
    bench.put_pod("a")
    began = bench.clock.time
    while await bench.look_only() == PUT_OFF_S:
        bench.pass_time(PUT_OFF_S)  # and nothing is answered
    assert timedelta(seconds=PATIENCE_S) <= bench.clock.time - began
    assert bench.clock.time - began < timedelta(seconds=PATIENCE_S + 2 * PUT_OFF_S)
    assert not bench.observed[-1].polled
    bench.put_pod("b")
    assert await bench.look_only() != PUT_OFF_S  # it was patient already


async def test_a_look_that_is_put_off_reads_nothing_anew_at_each_try_but_sees_new_pods(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.plan = Plan(watch_units=True)
    await bench.look()
    bench.put_pod("a")
    followed: list[int] = []
    follow = bench.poller.follow

    def counted(deployment: tuple[str, str], pods: Iterable[Pod]) -> None:
        pods = tuple(pods)
        followed.append(len(pods))
        follow(deployment, pods)

    monkeypatch.setattr(bench.poller, "follow", counted)
    tries = 0
    while await bench.look_only() == PUT_OFF_S:
        bench.pass_time(PUT_OFF_S)
        tries += 1
        if tries == 2:
            bench.put_pod("b")
    assert len(followed) <= PATIENCE_S / FOLLOWED_AGAIN_S + 3 < tries
    assert {1, 2} == set(followed)


async def test_an_operator_that_starts_in_the_middle_hears_the_pods_before_it_decides(
    bench: Bench,
) -> None:
    bench.put_pod("a")
    bench.put_pod("b")
    bench.source.reports = {"a": settled("a"), "b": settled("b")}
    for _ in range(30):  # longer than a look is put off later on
        assert await bench.look_only() == PUT_OFF_S
        bench.pass_time(PUT_OFF_S)
    assert bench.observed == []
    await bench.look()
    assert set(bench.observed[0].reports) == {"a", "b"}
    assert bench.kube.writes == []


async def test_after_a_write_a_step_waits_for_what_pods_say_then(bench: Bench) -> None:
    bench.put_pod("a")
    bench.source.reports = {"a": settled("a")}
    await bench.look()
    assert bench.observed[-1].unconfirmed == frozenset()
    bench.plan = Plan(objects=(manifest("ConfigMap", "c"),), watch_units=True)
    await bench.look()
    bench.plan = Plan(watch_units=True)
    bench.pass_time(PATIENCE_S)
    assert await bench.look_only() == PUT_OFF_S
    bench.pass_time(PATIENCE_S + PUT_OFF_S)
    assert await bench.look_only() != PUT_OFF_S
    assert bench.observed[-1].unconfirmed == {"a"}
    await bench.answers()
    await bench.look()
    assert bench.observed[-1].unconfirmed == frozenset()


@pytest.mark.parametrize(
    "hidden",
    [{"ip": ""}, {"phase": "Failed"}, {"phase": "Succeeded"}, {"made_by": "stranger"}],
    ids=["no address", "failed", "done", "made by a stranger"],
)
async def test_only_pods_that_run_and_come_from_the_deployment_are_asked(
    bench: Bench, hidden: dict[str, str]
) -> None:
    bench.put_workload("stranger", owner_uid="another deployment")
    bench.put_pod("a")
    bench.put_pod("b", **hidden)  # type: ignore[arg-type]
    await bench.look()
    assert set(bench.source.asked) == {"a"}


async def test_pods_of_a_node_out_of_reach_are_not_asked_and_keep_nobody_waiting(
    bench: Bench,
) -> None:
    for unit, ready in (("a", True), ("b", False)):
        bench.put_node(unit, ready=ready)
        bench.put_pod(unit)
    bench.source.reports = {"a": settled("a")}
    await bench.look()
    await bench.look()
    assert bench.source.asked == ["a"]


async def test_a_node_that_returns_has_its_pod_asked_at_once(bench: Bench) -> None:
    for unit, ready in (("a", True), ("b", False)):
        bench.put_node(unit, ready=ready)
        bench.put_pod(unit)
    bench.source.reports = {"a": settled("a")}
    await bench.look()
    bench.put_node("b", ready=True, version=2)
    await bench.look()
    assert bench.source.asked == ["a", "b"]


async def test_one_lost_answer_is_no_news(bench: Bench) -> None:
    bench.plan = Plan(watch_units=True)
    for unit in ("a", "b"):
        bench.put_pod(unit)
    bench.source.reports = {"a": settled("a"), "b": settled("b")}
    await bench.look()
    bench.source.reports = {"a": settled("a")}
    for _ in range(2):
        bench.pass_time(SILENCE_S / 2 - 0.1)
        await bench.answers()
        await bench.look()
        assert set(bench.observed[-1].reports) == {"a", "b"}
    bench.pass_time(SILENCE_S / 2)
    await bench.answers()
    await bench.look()
    assert set(bench.observed[-1].reports) == {"a"}


@pytest.mark.parametrize("change", [{"ip": "10.0.0.2"}, {"restarts": 1}, {"nudge": "abc.1"}])
async def test_what_a_pod_said_before_it_was_started_again_or_told_something_new_is_forgotten(
    bench: Bench, change: dict[str, Any]
) -> None:
    bench.plan = Plan(watch_units=True)
    bench.put_pod("a")
    bench.source.reports = {"a": settled("a")}
    await bench.look()
    bench.source.reports = {}
    bench.put_pod("a", version=2, **change)
    await bench.look()
    assert bench.observed[-1].reports == {}


async def test_what_a_pod_said_before_it_had_read_what_it_was_given_is_forgotten(
    bench: Bench,
) -> None:
    bench.plan = Plan(watch_units=True)
    bench.put_pod("a")
    bench.source.reports = {"a": make_report("a", serving("v1-0"), assigned="v1-0")}
    await bench.look()
    bench.source.reports = {}
    bench.pass_time(1)
    await bench.answers()
    await bench.look()
    assert bench.observed[-1].reports == {}


async def test_a_deployment_that_is_gone_has_its_pods_forgotten(bench: Bench) -> None:
    bench.put_pod("a")
    await bench.look()
    assert [voice.question.pod.unit for voice in bench.poller.voices()] == ["a"]
    bench.cache.deployments.discard(KEY)
    await bench.look()
    assert list(bench.poller.voices()) == []


async def test_the_plan_says_when_to_look_again(bench: Bench) -> None:
    bench.put_pod("a")
    bench.plan = Plan(requeue_after_s=2.5)
    assert await bench.look() == 2.5


async def test_ten_nudges_go_out_at_one_time(bench: Bench, kube: FakeKube) -> None:
    for number in range(10):
        kube.put(f"{ROOT}/pods/p{number}", {"metadata": {"name": f"p{number}"}})
    bench.plan = Plan(nudges=tuple(Nudge(f"p{number}", "v1-a", "x") for number in range(10)))
    await bench.look()
    assert len(kube.writes) == 10
    assert all(bench.cache.pods.get(("edge", f"p{number}")) for number in range(10))


QUERY = "sum(up)"
METRICS = [{"name": "up", "prometheus": {"query": QUERY}, "min": "1"}]


def roll_out(bench: Bench, stage: Stage = Stage.SOAKING) -> None:
    """Put a deployment in the middle of a rollout that asks Prometheus, with one unit given."""
    bench.put(rollout={"analysis": {"metrics": METRICS, "interval": "10s"}})
    bench.put_assignment("n1", "v1-2222222222")
    bench.put_pod("n1", cell="digits-cpu")
    status = EdgeDeploymentStatus(
        target_revision="v1-2222222222", rollout=RolloutStatus(stage=stage)
    )
    bench.put_status(status)


async def test_prometheus_is_asked_while_a_rollout_is_under_way(bench: Bench) -> None:
    roll_out(bench)
    await bench.look()
    assert bench.observed[-1].samples == {QUERY: Sample(SampleState.READ, 3.0)}
    bench.pass_time(5)
    await bench.look()
    assert bench.questions == [QUERY]


async def test_prometheus_is_left_alone_when_nothing_is_rolled_out(bench: Bench) -> None:
    roll_out(bench, Stage.IDLE)
    await bench.look()
    assert (bench.questions, bench.observed[-1].samples) == ([], {})


def shown(bench: Bench) -> set[tuple[str, str]]:
    (family,) = bench.telemetry.analysis_value.collect()
    return {(sample.labels["metric"], sample.labels["cell"]) for sample in family.samples}


async def test_analysis_values_are_shown_while_they_are_measured_and_no_longer(
    bench: Bench,
) -> None:
    bench.plan = Plan(values=(Value("LatencyP95", "a", 12.5), Value("LatencyP95", "b", 13.5)))
    await bench.look()
    assert shown(bench) == {("LatencyP95", "a"), ("LatencyP95", "b")}
    bench.plan = Plan(values=(Value("LatencyP95", "b", 14.5),))
    await bench.look()
    assert shown(bench) == {("LatencyP95", "b")}
    bench.cache.deployments.discard(KEY)
    await bench.look()
    assert shown(bench) == set()


REFUSED = refusal(422, "Invalid", "status.phase: Unsupported value")
STATUS = "PATCH edgedeployments/digits/status"


def reasons(kube: FakeKube) -> list[str]:
    return [r.body["reason"] for r in kube.requests if r.name == "POST events"]


def statuses(kube: FakeKube) -> list[dict[str, Any]]:
    return [r.body["status"] for r in kube.requests if r.name == STATUS]


def rolling(stage: Stage) -> EdgeDeploymentStatus:
    return EdgeDeploymentStatus(
        phase=Phase.PROGRESSING,
        stable_revision="v1-a",
        conditions=waiting_for(1).conditions,
        rollout=RolloutStatus(stage=stage),
    )


async def test_a_status_that_is_refused_is_told_and_written_without_what_is_for_people(
    bench: Bench, kube: FakeKube
) -> None:
    kube.script(STATUS, REFUSED)
    bench.plan = replace(WHOLE, status=rolling(Stage.STEPPING))
    await bench.look()
    whole, part = statuses(kube)
    assert "phase" in whole
    assert set(part) >= {"stableRevision", "rollout", "conditions"}
    assert not {"phase", "units", "cells"} & set(part)
    assert "PATCH configmaps/c" in kube.writes
    assert "StatusRefused" in reasons(kube)
    assert bench.telemetry.status_refused.labels("EdgeDeployment")._value.get() == 1
    await bench.look()
    assert len(statuses(kube)) == 2, "what was taken is not written again and again"


async def test_conditions_that_are_refused_keep_the_engine_s_part_from_nothing(
    bench: Bench, kube: FakeKube
) -> None:
    kube.script(STATUS, REFUSED, REFUSED)
    bench.plan = replace(WHOLE, status=rolling(Stage.STEPPING))
    await bench.look()
    assert "conditions" not in statuses(kube)[2]
    assert statuses(kube)[2]["rollout"]["stage"] == "Stepping"


@pytest.mark.parametrize(
    ("stage", "goes_out"), [(Stage.ROLLING_BACK, True), (Stage.IDLE, True), (Stage.STEPPING, False)]
)
async def test_only_the_files_of_a_way_back_go_out_without_a_status(
    bench: Bench, kube: FakeKube, stage: Stage, *, goes_out: bool
) -> None:
    kube.put(f"{ROOT}/pods/p", {"metadata": {"name": "p"}})
    kube.script(STATUS, *[REFUSED] * 3)
    bench.plan = replace(WHOLE, status=rolling(stage))
    with pytest.raises(Invalid):
        await bench.look()
    assert ("PATCH configmaps/c" in kube.writes) is goes_out
    assert ("PATCH pods/p" in kube.writes) is goes_out
    assert "PATCH daemonsets/d" not in kube.writes
    assert "StatusRefused" in reasons(kube)


async def test_copies_of_our_objects_are_told_once_and_never_deleted(
    bench: Bench, kube: FakeKube
) -> None:
    copy = made({"metadata": {"name": "precious", "namespace": "edge", "uid": "x"}})
    del copy["metadata"]["managedFields"]
    bench.cache.children["ConfigMap"].seen(child_entry("ConfigMap", copy))
    bench.plan = Plan(prune=(ObjectRef("v1", "ConfigMap", "precious"),))
    await bench.look()
    await bench.look()
    assert kube.writes == ["POST events"]
    assert reasons(kube) == ["ForeignObject"]
    assert "ConfigMap/precious" not in bench.observed[0].generated


async def test_a_workload_that_makes_no_pod_is_asked_why_and_the_next_look_knows(
    bench: Bench,
) -> None:
    term = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-a"]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    entry = bench.cache.deployments.get(KEY)
    assert entry
    spec = {"template": {"spec": {"affinity": affinity}}}
    raw = {**workload("ds", uid=entry.uid), "spec": spec}
    bench.cache.children["DaemonSet"].seen(child_entry("DaemonSet", raw))
    bench.put_node("node-a", ready=True)
    await bench.look()
    bench.pass_time(FIRST_S)
    await bench.look()
    await bench.answers()
    assert [(one.kind, one.units) for one in bench.stuck] == [("DaemonSet", ("node-a",))]
    await bench.look()
    assert bench.observed[-1].causes == {"node-a": "exceeded quota"}
    assert bench.woken == [KEY]
    bench.put_pod("node-a")
    await bench.look()
    assert bench.observed[-1].causes == {}
    assert len(bench.stuck) == 1


async def test_a_unit_that_stopped_between_two_looks_is_told_once(
    bench: Bench, kube: FakeKube
) -> None:
    well = Sight(True, "1.0.0 (r1-a)", "r1-a", is_on_its_way=False, state="")
    for sight in (
        well,
        replace(well, serving=None, state="OOMKilled"),
        replace(well, serving=None),
    ):
        bench.plan = Plan(sights={"a": sight})
        await bench.look()
    events = [request.body for request in kube.requests if request.name == "POST events"]
    assert [(one["reason"], one["message"]) for one in events] == [
        ("UnitStopped", "a: it does not serve 1.0.0 (r1-a) any longer: OOMKilled")
    ]
