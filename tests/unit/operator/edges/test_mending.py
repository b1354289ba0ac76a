"""Objects that somebody else changed are put back, told, and left alone when that never ends."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from fake_kube import FakeKube, refusal
from owned import made, reference
from skerry_operator.constants import ANNOTATION_DIGEST, LABEL_DEPLOYMENT
from skerry_operator.decide.planned import Manifest, ObjectRef
from skerry_operator.kube.apply import ChangeSet, Outcome
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.events import Recorder
from skerry_operator.kube.mends import AT_ONCE, FIRST_HOLD_S, LONGEST_HOLD_S, Mends
from skerry_operator.kube.owners import Owner
from skerry_operator.kube.read import child_entry
from skerry_operator.kube.tables import Cache
from skerry_operator.kube.writer import Writer

Raw = dict[str, Any]
PATH = "/apis/apps/v1/namespaces/edge/daemonsets/a"
OWNER = Owner("EdgeDeployment", "edge", "digits", "d1")
REF = ObjectRef("apps/v1", "DaemonSet", "a")
SPEC: Raw = {
    "template": {
        "spec": {"containers": [{"name": "runtime", "env": [{"name": "A", "value": "1"}]}]}
    }
}


def manifest(digest: str = "d1") -> Manifest:
    metadata = {
        "name": "a",
        "namespace": "edge",
        "labels": {LABEL_DEPLOYMENT: "digits"},
        "annotations": {ANNOTATION_DIGEST: digest},
        "ownerReferences": [reference("EdgeDeployment", "digits", "d1")],
    }
    return Manifest(REF, {"metadata": metadata, "spec": SPEC}, digest)


class Bench:
    def __init__(self, kube: FakeKube, client: KubeClient) -> None:
        self.kube = kube
        self.time = 1000.0
        self.threads = Threads(4)
        self.cache = Cache(lambda: self.time)
        recorder = Recorder(client, "me", lambda: datetime(2026, 1, 1, tzinfo=UTC))
        self.writer = Writer(self.cache, client, self.threads, recorder)

    def change(self, **spec: Any) -> None:
        """Change the object as another writer would, and let the watch tell of it."""
        held = self.kube.objects.get(PATH) or made({"metadata": {"name": "a"}}, digest="d1")
        template = {"spec": {**SPEC["template"]["spec"], **spec}}
        raw = self.kube.put(PATH, {**held, "spec": {"template": template}})
        self.cache.children["DaemonSet"].seen(child_entry("DaemonSet", raw))

    @property
    def digest(self) -> str:
        entry = self.cache.children["DaemonSet"].get(("edge", "a"))
        assert entry
        return self.cache.digest_of("DaemonSet", entry, OWNER)

    async def apply(self, digest: str = "d1") -> ChangeSet:
        self.kube.requests.clear()
        return await self.writer.apply("edge", [manifest(digest)])


@pytest.fixture
def bench(kube: FakeKube, client: KubeClient) -> Iterator[Bench]:
    bench = Bench(kube, client)
    yield bench
    bench.threads.close()


async def test_what_is_right_is_looked_at_once_after_a_start_and_not_written(
    bench: Bench, kube: FakeKube
) -> None:
    bench.change()
    assert bench.digest == ""
    changes = await bench.apply()
    assert kube.requests == []
    assert [one.outcome for one in changes.applied] == [Outcome.UNCHANGED]
    assert bench.digest == "d1"


async def test_a_field_that_somebody_added_is_taken_out_and_told(
    bench: Bench, kube: FakeKube
) -> None:
    bench.change()
    await bench.apply()
    bench.change(hostNetwork=True)
    assert bench.digest == ""
    changes = await bench.apply()
    assert kube.objects[PATH]["spec"] == SPEC
    assert [request.content_type for request in kube.requests if request.method == "PATCH"] == [
        "application/apply-patch+yaml",
        "application/json-patch+json",
    ]
    (note,) = changes.notes
    assert (note.reason, note.message) == (
        "PutBack",
        "DaemonSet a: put back spec.template.spec.hostNetwork",
    )
    assert bench.digest == "d1"
    assert changes.mended == (REF,)


async def test_a_field_of_ours_that_was_removed_is_applied_again_and_told(
    bench: Bench, kube: FakeKube
) -> None:
    bench.change(containers=[])
    changes = await bench.apply()
    assert kube.objects[PATH]["spec"] == SPEC
    (note,) = changes.notes
    assert note.message == "DaemonSet a: put back spec.template.spec.containers[runtime]"


async def test_our_own_change_is_told_to_nobody(bench: Bench) -> None:
    bench.change(containers=[])
    assert (await bench.apply("d2")).notes == ()


async def test_a_restart_by_kubectl_is_taken_out_and_the_way_is_said(
    bench: Bench, kube: FakeKube
) -> None:
    bench.change()
    held = kube.objects[PATH]
    at = {"kubectl.kubernetes.io/restartedAt": "2026-11-23T11:00:00Z"}
    template = {**SPEC["template"], "metadata": {"annotations": at}}
    raw = kube.put(PATH, {**held, "spec": {"template": template}})
    bench.cache.children["DaemonSet"].seen(child_entry("DaemonSet", raw))
    changes = await bench.apply()
    assert "restartedAt" not in str(kube.objects[PATH])
    assert [note.reason for note in changes.notes] == ["RestartIgnored"]
    assert "delete the pods" in changes.notes[0].message


async def test_what_the_server_itself_puts_there_again_is_left_from_then_on(
    bench: Bench, kube: FakeKube
) -> None:
    bench.change(newDefault="x")
    stays = {**kube.objects[PATH]}
    kube.script("PATCH daemonsets/a", *[_answer(stays)] * 2)
    assert (await bench.apply()).notes == ()
    bench.change(newDefault="x")
    await bench.apply()
    assert kube.requests == []


def _answer(body: Raw) -> Any:
    found = refusal(200, "")
    return type(found)(200, body)


async def test_two_who_undo_each_other_s_work_slow_down(bench: Bench, kube: FakeKube) -> None:
    bench.change()
    await bench.apply()
    for _ in range(AT_ONCE):
        bench.change(hostNetwork=True)
        assert bench.digest == ""
        changes = await bench.apply()
    assert [note.reason for note in changes.notes] == ["PutBack", "LeftAlone"]
    bench.change(hostNetwork=True)
    assert bench.digest == "d1", "for a while it counts as right"
    assert bench.cache.held_s(OWNER) == FIRST_HOLD_S
    bench.time += FIRST_HOLD_S
    assert bench.digest == ""
    assert bench.cache.held_s(OWNER) is None


def test_the_wait_grows_to_its_bound_and_is_forgotten_in_peace() -> None:
    time = [0.0]
    mends = Mends(lambda: time[0])
    holds = []
    for _ in range(20):
        holds.append(mends.note("DaemonSet", ("edge", "a")))
        time[0] += holds[-1]
    assert holds[: AT_ONCE + 1] == [0.0] * (AT_ONCE - 1) + [FIRST_HOLD_S, 2 * FIRST_HOLD_S]
    assert holds[-1] == LONGEST_HOLD_S
    time[0] += 3600
    assert mends.note("DaemonSet", ("edge", "a")) == 0.0


async def test_a_copy_of_an_object_of_ours_is_never_deleted(bench: Bench, kube: FakeKube) -> None:
    copy = made({"metadata": {"name": "a"}})
    del copy["metadata"]["managedFields"]
    raw = kube.put(PATH, copy)
    bench.cache.children["DaemonSet"].seen(child_entry("DaemonSet", raw))
    await bench.writer.prune("edge", [REF])
    assert kube.writes == []
