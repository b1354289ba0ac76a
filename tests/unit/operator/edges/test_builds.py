"""Jobs and their pods as they come from the API server, and how many may begin at one time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from builders import NOW, make_model, make_variant
from fake_kube import FakeKube
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.constants import ANNOTATION_DIGEST, FIELD_MANAGER
from skerry_operator.decide.builds.effective import effective_spec, hold_of
from skerry_operator.decide.planned import Manifest, ModelPlan, ObjectRef
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.errors import Taken
from skerry_operator.kube.events import Recorder
from skerry_operator.kube.observe import builds_of, results_of
from skerry_operator.kube.owners import Owner
from skerry_operator.kube.paths import BUILDS, CHILDREN
from skerry_operator.kube.read import child_entry, model_entry, pod_entry
from skerry_operator.kube.tables import Cache
from skerry_operator.kube.writer import Writer
from skerry_operator.manifests.buildrecord import build_record
from skerry_operator.plan.model import BuildsObserved
from skerry_operator.reconcile import Edges, JobLimits, Models, Planner
from skerry_runtime.contract import MAX_VERDICT_BYTES, BuildPhase
from unit.operator.decide.test_builds import complete, look, optimized, recorded, verdict

OWNER = Owner("EdgeModel", "default", "digits", "m")


def cache_of_builds() -> Cache:
    return Cache(generated=(*CHILDREN, *BUILDS))


def raw_job(name: str = "j", uid: str = "j1", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid,
            "resourceVersion": "5",
            "labels": {"app.kubernetes.io/managed-by": "skerry", "skerry.dev/model": "digits"},
            "annotations": {ANNOTATION_DIGEST: "d"},
            "managedFields": [{"manager": FIELD_MANAGER, "operation": "Apply"}],
            "ownerReferences": [
                {
                    "apiVersion": "skerry.dev/v1alpha1",
                    "kind": "EdgeModel",
                    "name": "digits",
                    "uid": OWNER.uid,
                    "controller": True,
                }
            ],
        },
        "spec": {"backoffLimit": 3},
        "status": status,
    }


def raw_pod(words: str, job: str = "j", **metadata: Any) -> dict[str, Any]:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": "j1", "controller": True}
    ended = {"exitCode": 0, "reason": "Completed", "message": words}
    return {
        "metadata": {
            "name": "p",
            "namespace": "default",
            "uid": "p1",
            "resourceVersion": "6",
            "labels": {"skerry.dev/build": "int8"},
            "ownerReferences": [owner],
            **metadata,
        },
        "spec": {"nodeName": "n"},
        "status": {
            "phase": "Succeeded",
            "containerStatuses": [{"state": {"terminated": ended}}],
        },
    }


def seen(cache: Cache, *jobs: dict[str, Any]) -> None:
    for raw in jobs:
        cache.children["Job"].seen(child_entry("Job", raw))


def test_a_job_and_the_last_words_of_its_pods_are_read() -> None:
    cache = cache_of_builds()
    done = {"type": "Complete", "status": "True", "reason": "x", "message": "y"}
    seen(cache, raw_job(conditions=[done], startTime="2026-11-23T12:00:00Z", failed=2))
    cache.pods.seen(pod_entry(raw_pod("the verdict")))
    (job,) = builds_of(cache, OWNER, 1).jobs.values()
    assert (job.is_complete, job.failure, job.failed_pods) == (True, "", 2)
    assert job.started_at == datetime.fromisoformat("2026-11-23T12:00:00+00:00")
    (pod,) = job.pods
    assert pod.ending is not None
    assert (pod.ending.exit_code, pod.ending.words) == (0, "the verdict")


def test_a_job_that_was_given_up_says_why_in_words_that_can_be_printed() -> None:
    cache = cache_of_builds()
    over = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "a\x1b[m"}
    seen(cache, raw_job(conditions=[over]))
    (job,) = builds_of(cache, OWNER, 1).jobs.values()
    assert job.failure == "DeadlineExceeded: a [m"
    assert job.is_over


def test_last_words_have_bounds_and_only_pods_of_builds_have_them() -> None:
    long = pod_entry(raw_pod("x" * 100_000)).value
    assert long.ending is not None
    assert len(long.ending.words) == MAX_VERDICT_BYTES
    assert pod_entry(raw_pod("x", labels={})).value.ending is None


def test_a_job_that_somebody_copied_is_none_of_ours() -> None:
    cache = cache_of_builds()
    copy = raw_job()
    copy["metadata"]["managedFields"] = [{"manager": "kubectl", "operation": "Update"}]
    seen(cache, copy)
    assert builds_of(cache, OWNER, 1).jobs == {}


def test_a_pod_wakes_the_model_that_its_job_belongs_to() -> None:
    cache = cache_of_builds()
    seen(cache, raw_job())
    entry = pod_entry(raw_pod("words"))
    assert entry.owner is not None
    assert cache.maker_of(entry.owner) == OWNER


@pytest.mark.parametrize("is_orphan", [False, True])
def test_records_are_read_again_also_those_that_lost_their_owner(is_orphan: bool) -> None:
    model = optimized()
    (result,) = recorded(look(model, complete(model, verdict(model)))).values()
    owner = model.metadata.model_copy(update={"uid": OWNER.uid})
    raw = {**build_record(owner, result).body}
    raw["metadata"] = {
        **raw["metadata"],
        "uid": "r",
        "resourceVersion": "7",
        "managedFields": [{"manager": FIELD_MANAGER, "operation": "Apply"}],
        **({"ownerReferences": []} if is_orphan else {}),
    }
    cache = cache_of_builds()
    cache.children["ControllerRevision"].seen(child_entry("ControllerRevision", raw))
    anew = Owner("EdgeModel", "default", "digits", "another") if is_orphan else OWNER
    results = results_of(cache, anew)
    assert results == {result.key: result}
    assert hold_of(model.spec, results) is None
    assert effective_spec(model.spec, results).variants[0].name == "int8"
    assert builds_of(cache, anew, 1).records[0][1] == "", "it is looked at again, and adopted"
    assert result.phase is BuildPhase.SUCCEEDED


@pytest.mark.parametrize("is_watched", [False, True])
@pytest.mark.parametrize(
    ("model", "is_adopted"), [("digits", True), ("other", False)], ids=["its own", "another's"]
)
async def test_a_record_without_an_owner_is_taken_over_by_the_next_model_of_its_name(
    kube: FakeKube, client: KubeClient, is_watched: bool, model: str, is_adopted: bool
) -> None:
    given = optimized()
    (result,) = recorded(look(given, complete(given, verdict(given)))).values()
    owner = given.metadata.model_copy(update={"uid": "new"})
    wanted = build_record(owner, result)
    labels = {**wanted.body["metadata"]["labels"], "skerry.dev/model": model}
    path = f"/apis/apps/v1/namespaces/default/controllerrevisions/{wanted.ref.name}"
    metadata = {
        "name": wanted.ref.name,
        "labels": labels,
        "annotations": {ANNOTATION_DIGEST: wanted.digest},
        "managedFields": [{"manager": FIELD_MANAGER, "operation": "Apply"}],
    }
    raw = kube.put(path, {"metadata": metadata, "data": wanted.body["data"], "revision": 1})
    threads = Threads(2)
    writer = Writer(cache_of_builds(), client, threads, Recorder(client, "me", lambda: NOW))
    if is_watched:
        writer.cache.children["ControllerRevision"].seen(child_entry("ControllerRevision", raw))
    try:
        if is_adopted:
            await writer.apply("default", [wanted])
            assert kube.objects[path]["metadata"]["ownerReferences"][0]["uid"] == "new"
        else:
            with pytest.raises(Taken, match="belongs to EdgeModel other"):
                await writer.apply("default", [wanted])
    finally:
        threads.close()


@dataclass
class Desk:
    """The controller of models over tables, with the plan in the test's hand."""

    cache: Cache = field(default_factory=cache_of_builds)
    free: list[int] = field(default_factory=list)
    woken: list[Any] = field(default_factory=list)
    wants: int = 0

    def __post_init__(self) -> None:
        edges = SimpleNamespace(
            cache=self.cache,
            clock=SimpleNamespace(now=lambda: NOW),
            job_limits=JobLimits(namespace=2, cluster=3),
            wake=self.woken.append,
        )
        planner = Planner(cast("Any", None), self._plan)
        self.models = Models(cast("Edges", edges), planner)

    def _plan(self, model: EdgeModel, _: datetime, builds: BuildsObserved) -> ModelPlan:
        self.free.append(builds.free)
        count = min(self.wants, max(0, builds.free))
        objects = tuple(
            Manifest(ObjectRef("batch/v1", "Job", f"{model.metadata.name}-{n}"), {}, "d")
            for n in range(count)
        )
        return ModelPlan(model.status, objects=objects)

    def look(self, name: str, namespace: str = "default") -> Any:
        spec = make_model("1.0.0", make_variant()).spec.to_dict()
        raw = {"metadata": {"name": name, "namespace": namespace, "uid": name}, "spec": spec}
        return self.models.decide(model_entry(raw), None)


def test_jobs_begin_up_to_the_limits_of_namespace_and_cluster() -> None:
    desk = Desk()
    desk.look("a")
    seen(desk.cache, raw_job("j1", "1"))
    desk.look("a")
    elsewhere = raw_job("j2", "2")
    elsewhere["metadata"]["namespace"] = "other"
    seen(desk.cache, elsewhere)
    desk.look("a")
    desk.look("b", "other")
    done = {"type": "Complete", "status": "True"}
    seen(desk.cache, {**raw_job("j3", "3", conditions=[done])})
    desk.look("a")
    assert desk.free == [2, 1, 1, 1, 1]


def test_a_namespace_full_of_jobs_takes_no_more_than_its_share_from_the_others() -> None:
    desk = Desk()
    for number in range(9):
        crowd = raw_job(f"c{number}", f"c{number}")
        crowd["metadata"]["namespace"] = "crowd"
        seen(desk.cache, crowd)
    stranger = raw_job("s", "s")
    stranger["metadata"]["managedFields"] = []
    seen(desk.cache, stranger)
    desk.look("a")
    assert desk.free == [1]


def test_jobs_that_are_being_made_count_for_others_until_they_are_seen() -> None:
    desk = Desk(wants=2)
    first = desk.look("a")
    desk.look("b")
    desk.look("c", "other")
    assert desk.free == [2, 0, 1]
    first.done()
    desk.look("b")
    assert desk.free[-1] == 2
