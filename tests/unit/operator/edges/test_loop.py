"""A kind that owns objects gets apply, drift and prune from the one loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from fake_kube import FakeKube
from skerry_operator.api.base import KubeModel, ObjectMeta
from skerry_operator.carry import Carrier
from skerry_operator.decide.planned import EventNote, Manifest, Nudge, ObjectRef
from skerry_operator.handlers.watch import build_feeds
from skerry_operator.kube import paths
from skerry_operator.kube.cache import Entry, Key
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.events import Recorder
from skerry_operator.kube.owners import Owner
from skerry_operator.kube.read import child_entry, resource_entry
from skerry_operator.kube.tables import Cache
from skerry_operator.kube.writer import Writer
from skerry_operator.loop import Decision, Loop
from skerry_operator.manifests.metadata import manifest, ref
from skerry_operator.telemetry import Telemetry

Raw = dict[str, Any]
KIND, KEY = "EdgeToy", ("edge", "top")
TOY = "/apis/skerry.dev/v1alpha1/namespaces/edge/edgetoys/top"
MAP = "/api/v1/namespaces/edge/configmaps/top-files"


class ToyStatus(KubeModel):
    seen: int = 0


@dataclass(frozen=True)
class ToyPlan:
    """What a kind says that is to be done."""

    objects: tuple[Manifest, ...]
    prune: tuple[ObjectRef, ...]
    status: ToyStatus | None = None
    records: tuple[Manifest, ...] = ()
    nudges: tuple[Nudge, ...] = ()
    events: tuple[EventNote, ...] = ()
    requeue_after_s: float | None = None


@dataclass
class Toys:
    """All that a third kind needs: what to observe of it, and what follows from that."""

    cache: Cache
    kind: str = KIND
    forgotten: list[Key] = field(default_factory=list)

    def decide(self, entry: Entry[Raw], problem: str | None) -> Decision:
        owner = Owner(KIND, *entry.key, entry.uid)
        held = {
            (kind, child.key[1]): self.cache.digest_of(kind, child, owner)
            for kind, child in self.cache.own_children(owner)
        }
        metadata = ObjectMeta(name="top", namespace="edge", uid=entry.uid)
        files = entry.value["spec"].get("files")
        content = {"data": files}
        wanted = [manifest(metadata, ref("ConfigMap", "top-files"), content, owner_kind=KIND)]
        wanted = wanted if files else []
        objects = [one for one in wanted if held.get((one.ref.kind, one.ref.name)) != one.digest]
        names = {(one.ref.kind, one.ref.name) for one in wanted}
        plan = ToyPlan(tuple(objects), tuple(ref(*key) for key in held if key not in names))
        return Decision(plan, ToyStatus())

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)


class Bench:
    def __init__(self, kube: FakeKube, client: KubeClient) -> None:
        self.kube = kube
        self.cache = Cache()
        self.cache.add_resource(KIND)
        self.threads = Threads(4)
        self.toys = Toys(self.cache)
        recorder = Recorder(client, "me", lambda: datetime(2026, 1, 1, tzinfo=UTC))
        writer = Writer(self.cache, client, self.threads, recorder)
        self.loop = Loop(self.cache, Carrier(writer, Telemetry(), lambda: 0.0), [self.toys])

    def put(self, **files: str) -> None:
        raw = self.kube.put(TOY, {"metadata": {"name": "top"}, "spec": {"files": files}})
        self.cache.resources[KIND].seen(resource_entry(KIND, raw))

    async def look(self) -> float | None:
        return await self.loop.reconcile(KIND, KEY)


@pytest.fixture
def bench(kube: FakeKube, client: KubeClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setitem(paths.PLURALS, KIND, "edgetoys")
    monkeypatch.setitem(paths.API_VERSIONS, KIND, "skerry.dev/v1alpha1")
    bench = Bench(kube, client)
    yield bench
    bench.threads.close()


async def test_a_third_kind_has_its_objects_applied_mended_and_pruned(
    bench: Bench, kube: FakeKube
) -> None:
    bench.put(a="1")
    await bench.look()
    held = kube.objects[MAP]
    assert held["data"] == {"a": "1"}
    assert held["metadata"]["ownerReferences"][0]["kind"] == KIND
    kube.requests.clear()
    await bench.look()
    assert kube.requests == []
    raw = kube.put(MAP, {**held, "data": {"a": "2", "b": "3"}})
    bench.cache.children["ConfigMap"].seen(child_entry("ConfigMap", raw))
    await bench.look()
    assert kube.objects[MAP]["data"] == {"a": "1"}
    assert "POST events" in kube.writes
    bench.put()
    await bench.look()
    assert MAP not in kube.objects


async def test_a_third_kind_is_watched_woken_by_its_objects_and_forgotten(
    bench: Bench,
) -> None:
    woken: list[tuple[str, str, str]] = []
    feeds = {feed.kind: feed for feed in build_feeds(bench.cache, woken.append, lambda _: None)}
    bench.put(a="1")
    await bench.look()
    entry = bench.cache.children["ConfigMap"].get(("edge", "top-files"))
    assert entry
    feeds["ConfigMap"].forget(entry.key, entry.uid)
    assert woken == [(KIND, *KEY)]
    feeds[KIND].forget(KEY, bench.kube.objects[TOY]["metadata"]["uid"])
    assert await bench.look() is None
    assert bench.toys.forgotten == [KEY]
