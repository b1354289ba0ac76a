"""What is written, in which order, and what the cache knows afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fake_kube import FakeKube, refusal
from owned import made, reference
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus, Phase
from skerry_operator.constants import ANNOTATION_DIGEST, ANNOTATION_NUDGE, LABEL_REVISION
from skerry_operator.decide.planned import EventNote, Manifest, Nudge, ObjectRef
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.errors import Conflict, Forbidden, Invalid, NotFound, Taken
from skerry_operator.kube.events import Recorder
from skerry_operator.kube.read import child_entry, deployment_entry
from skerry_operator.kube.status import Target, target_of
from skerry_operator.kube.tables import Cache
from skerry_operator.kube.writer import Writer

ROOT = "/api/v1/namespaces/edge"
APPS = "/apis/apps/v1/namespaces/edge"
DEPLOYMENT = "/apis/skerry.dev/v1alpha1/namespaces/edge/edgedeployments/digits"


class Now:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def writer(client: KubeClient, now: Now) -> Iterator[Writer]:
    threads = Threads(8)
    yield Writer(Cache(), client, threads, Recorder(client, "me", now))
    threads.close()


def manifest(kind: str, name: str, digest: str = "d1", **body: object) -> Manifest:
    version = "apps/v1" if kind == "DaemonSet" else "v1"
    metadata = {"name": name, "namespace": "edge"}
    return Manifest(ObjectRef(version, kind, name), {"metadata": metadata, **body}, digest)


def put_deployment(kube: FakeKube, writer: Writer) -> Target:
    raw = kube.put(DEPLOYMENT, {"metadata": {"name": "digits"}, "spec": {}, "status": {}})
    entry = deployment_entry(raw)
    writer.cache.deployments.seen(entry)
    return target_of("EdgeDeployment", entry)


async def test_kinds_are_applied_in_the_plan_s_order(kube: FakeKube, writer: Writer) -> None:
    changes = await writer.apply(
        "edge",
        [manifest("ConfigMap", "a"), manifest("ConfigMap", "b"), manifest("DaemonSet", "a")],
    )
    assert sorted(kube.writes[:2]) == ["PATCH configmaps/a", "PATCH configmaps/b"]
    assert kube.writes[2:] == ["PATCH daemonsets/a"]
    assert [one.outcome for one in changes.applied] == ["created"] * 3
    assert changes


async def test_an_existing_object_is_not_changed_when_a_new_one_of_its_kind_is_refused(
    kube: FakeKube, writer: Writer
) -> None:
    raw = kube.put(f"{APPS}/daemonsets/old", {"metadata": {"name": "old"}})
    writer.cache.children["DaemonSet"].seen(child_entry("DaemonSet", raw))
    kube.script("PATCH daemonsets/new", refusal(403, "Forbidden", "image not allowed"))
    with pytest.raises(Forbidden, match="image not allowed"):
        await writer.apply("edge", [manifest("DaemonSet", "new"), manifest("DaemonSet", "old")])
    assert kube.writes == ["PATCH daemonsets/new"]


async def test_what_was_applied_is_known_at_once(kube: FakeKube, writer: Writer) -> None:
    await writer.apply("edge", [manifest("ConfigMap", "a", data={"x": "1"})])
    entry = writer.cache.children["ConfigMap"].get(("edge", "a"))
    assert entry
    assert entry.value.digest == "d1"
    annotations = kube.objects[f"{ROOT}/configmaps/a"]["metadata"]["annotations"]
    assert annotations == {ANNOTATION_DIGEST: "d1"}


async def test_an_apply_that_changes_nothing_is_no_change(writer: Writer) -> None:
    await writer.apply("edge", [manifest("ConfigMap", "a")])
    changes = await writer.apply("edge", [manifest("ConfigMap", "a")])
    assert [one.outcome for one in changes.applied] == ["unchanged"]
    assert not changes


async def test_after_a_refusal_no_later_kind_is_applied_and_all_of_its_kind_have_ended(
    kube: FakeKube, writer: Writer
) -> None:
    kube.script("PATCH configmaps/a", refusal(422, "Invalid", "too long"))
    with pytest.raises(Invalid, match="too long"):
        await writer.apply(
            "edge",
            [manifest("ConfigMap", "a"), manifest("ConfigMap", "b"), manifest("DaemonSet", "a")],
        )
    assert sorted(kube.writes) == ["PATCH configmaps/a", "PATCH configmaps/b"]
    assert writer.cache.children["ConfigMap"].get(("edge", "b"))


OURS = {"skerry.dev/deployment": "digits"}


def own_manifest(kind: str, name: str) -> Manifest:
    metadata = {"labels": OURS, "ownerReferences": [reference("EdgeDeployment", "digits", "d1")]}
    bare = manifest(kind, name)
    return replace(bare, body={**bare.body, "metadata": {**bare.body["metadata"], **metadata}})


@pytest.mark.parametrize("kind", ["ConfigMap", "DaemonSet"])
@pytest.mark.parametrize(
    ("labels", "whose"),
    [({}, "somebody else"), ({"skerry.dev/deployment": "digits-a"}, "EdgeDeployment digits-a")],
    ids=["of a user", "of another deployment"],
)
async def test_an_object_of_somebody_else_is_not_taken_over(
    kube: FakeKube, writer: Writer, kind: str, labels: dict[str, str], whose: str
) -> None:
    root = ROOT if kind == "ConfigMap" else APPS
    path = f"{root}/{kind.lower()}s/a"
    theirs: dict[str, Any] = {"metadata": {"name": "a", "labels": labels}, "data": {"mine": "1"}}
    kube.put(path, made(theirs, labels["skerry.dev/deployment"], uid="d9") if labels else theirs)
    with pytest.raises(Taken, match=f"{kind} 'a' exists and belongs to {whose}"):
        await writer.apply("edge", [own_manifest(kind, "a")])
    assert kube.writes == []


async def test_an_object_of_another_deployment_that_the_watch_showed_is_not_taken_over(
    kube: FakeKube, writer: Writer
) -> None:
    raw = kube.put(
        f"{ROOT}/configmaps/a", made({"metadata": {"name": "a"}}, deployment="digits-a", uid="d9")
    )
    writer.cache.children["ConfigMap"].seen(child_entry("ConfigMap", raw))
    with pytest.raises(Taken, match="EdgeDeployment digits-a"):
        await writer.apply("edge", [own_manifest("ConfigMap", "a")])
    assert kube.writes == []


@pytest.mark.parametrize(
    "metadata",
    [
        made({"metadata": {}}, uid="")["metadata"],
        made({"metadata": {}}, uid="d0")["metadata"],
        {"ownerReferences": [reference("EdgeDeployment", "digits", "d1")]},
    ],
    ids=["an orphan", "of the deployment of this name before", "with its label taken off"],
)
async def test_an_object_of_ours_is_taken_over_though_the_watch_did_not_show_it(
    kube: FakeKube, writer: Writer, metadata: dict[str, Any]
) -> None:
    kube.put(f"{ROOT}/configmaps/a", {"metadata": {"name": "a", **metadata}})
    changes = await writer.apply("edge", [own_manifest("ConfigMap", "a")])
    assert [one.outcome for one in changes.applied] == ["configured"]


async def test_what_the_watch_did_not_show_is_not_deleted(kube: FakeKube, writer: Writer) -> None:
    kube.put(f"{ROOT}/configmaps/a", {"metadata": {"name": "a"}})
    await writer.prune("edge", [ObjectRef("v1", "ConfigMap", "a")])
    assert kube.writes == []


async def test_a_nudge_sets_label_and_annotation_and_a_gone_pod_is_left_out(
    kube: FakeKube, writer: Writer
) -> None:
    kube.put(f"{ROOT}/pods/p1", {"metadata": {"name": "p1"}, "spec": {"nodeName": "n"}})
    changes = await writer.nudge("edge", [Nudge("p1", "v1-a", "abc"), Nudge("p2", "v1-a", "abc")])
    assert changes.nudged == ("p1",)
    metadata = kube.objects[f"{ROOT}/pods/p1"]["metadata"]
    assert metadata["labels"] == {LABEL_REVISION: "v1-a"}
    assert metadata["annotations"] == {ANNOTATION_NUDGE: "abc"}
    entry = writer.cache.pods.get(("edge", "p1"))
    assert entry
    assert entry.value.nudge == "abc"


async def test_only_the_very_object_that_was_seen_is_deleted(
    kube: FakeKube, writer: Writer
) -> None:
    body = made({"metadata": {"name": "a", "uid": "old"}})
    old = kube.put(f"{ROOT}/configmaps/a", body)
    writer.cache.children["ConfigMap"].seen(child_entry("ConfigMap", old))
    kube.put(f"{ROOT}/configmaps/a", {"metadata": {"name": "a", "uid": "new"}})
    await writer.prune("edge", [ObjectRef("v1", "ConfigMap", "a")])
    assert kube.objects[f"{ROOT}/configmaps/a"]["metadata"]["uid"] == "new"


async def test_what_is_gone_already_is_as_good_as_deleted(writer: Writer) -> None:
    changes = await writer.prune("edge", [ObjectRef("v1", "ConfigMap", "a")])
    assert [one.outcome for one in changes.applied] == ["deleted"]


async def test_a_status_is_written_whole_with_what_was_read(kube: FakeKube, writer: Writer) -> None:
    target = put_deployment(kube, writer)
    await writer.write_status(target, EdgeDeploymentStatus(phase=Phase.STABLE))
    body = kube.requests[-1].body
    assert kube.writes == ["PATCH edgedeployments/digits/status"]
    assert body["metadata"]["uid"] == target.uid
    assert body["metadata"]["resourceVersion"] == str(target.version)
    assert body["status"]["phase"] == "Stable"
    assert body["status"]["units"]["eligible"] == 0
    entry = writer.cache.deployments.get(("edge", "digits"))
    assert entry
    assert entry.value["status"]["phase"] == "Stable"
    assert entry.version > target.version


async def test_a_decision_on_an_old_object_does_not_land(kube: FakeKube, writer: Writer) -> None:
    target = put_deployment(kube, writer)
    kube.put(DEPLOYMENT, {"metadata": {"name": "digits"}, "spec": {"new": True}, "status": {}})
    with pytest.raises(Conflict):
        await writer.write_status(target, EdgeDeploymentStatus(phase=Phase.STABLE))
    assert kube.objects[DEPLOYMENT]["status"] == {}


async def test_an_object_that_is_gone_is_forgotten(kube: FakeKube, writer: Writer) -> None:
    target = put_deployment(kube, writer)
    del kube.objects[DEPLOYMENT]
    with pytest.raises(NotFound):
        await writer.write_status(target, EdgeDeploymentStatus())
    assert writer.cache.deployments.get(("edge", "digits")) is None


TARGET = Target("EdgeDeployment", "edge", "digits", "uid-1", 1)
NOTE = EventNote(warning=True, reason="RolledBack", message="v1-b failed")


async def test_the_same_event_within_ten_minutes_is_counted_up(
    kube: FakeKube, writer: Writer, now: Now
) -> None:
    await writer.record(TARGET, [NOTE, NOTE])
    now.now += timedelta(minutes=9)
    await writer.record(TARGET, [NOTE])
    (event,) = kube.objects.values()
    assert event["count"] == 3
    assert event["type"] == "Warning"
    assert event["involvedObject"]["uid"] == "uid-1"
    now.now += timedelta(minutes=2)
    await writer.record(TARGET, [NOTE])
    assert len(kube.objects) == 2


async def test_an_event_that_expired_on_the_server_is_made_anew(
    kube: FakeKube, writer: Writer
) -> None:
    await writer.record(TARGET, [NOTE])
    kube.objects.clear()
    await writer.record(TARGET, [NOTE])
    assert len(kube.objects) == 1


async def test_an_event_that_cannot_be_written_fails_nothing(
    kube: FakeKube, writer: Writer
) -> None:
    kube.script("POST events", refusal(403, "Forbidden"))
    await writer.record(TARGET, [NOTE])
    assert kube.objects == {}
