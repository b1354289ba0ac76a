"""All writes for one object, off the event loop, with every answer put into the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby
from typing import Any, TypeVar

from skerry_operator.api.base import KubeModel
from skerry_operator.decide.planned import EventNote, Manifest, Nudge, ObjectRef
from skerry_operator.kube.apply import Applied, ChangeSet, Outcome, nudge, prune
from skerry_operator.kube.children import owner_uid_of
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.errors import NotFound
from skerry_operator.kube.events import Recorder
from skerry_operator.kube.mending import Mender, notes_of
from skerry_operator.kube.read import pod_entry, resource_entry
from skerry_operator.kube.status import Target, write_status
from skerry_operator.kube.tables import Cache

T = TypeVar("T")


@dataclass(frozen=True)
class Writer:
    """Carries out parts of a plan. Every method returns when its writes have ended.

    Raises:
        KubeError: from every method but `record`; of several writes at one time, the first error,
            once all have ended.
    """

    cache: Cache
    client: KubeClient
    threads: Threads
    recorder: Recorder

    @cached_property
    def mender(self) -> Mender:
        """Return what applies single objects."""
        return Mender(self.client)

    async def write_status(
        self, target: Target, status: KubeModel, without: frozenset[str] = frozenset()
    ) -> None:
        """Write the status, but for some fields; an object that is gone is forgotten first."""
        table = self.cache.resources[target.kind]
        try:
            raw = await self.threads.run(write_status, self.client, target, status, without)
        except NotFound:
            table.discard((target.namespace, target.name), target.uid)
            raise
        table.wrote(resource_entry(target.kind, raw))

    async def apply(self, namespace: str, manifests: Iterable[Manifest]) -> ChangeSet:
        """Apply in the given order; neighbours of one kind go out at one time, new ones first."""
        changes: list[ChangeSet] = []
        for _, group in groupby(manifests, key=partial(self._wave, namespace)):
            changes += await all_of(self._apply(namespace, one) for one in group)
        return ChangeSet.of(changes)

    async def nudge(self, namespace: str, nudges: Iterable[Nudge]) -> ChangeSet:
        """Patch all pods at one time; pods that are gone are left out."""
        names = await all_of(self._nudge(namespace, one) for one in nudges)
        return ChangeSet(nudged=tuple(name for name in names if name))

    async def prune(self, namespace: str, refs: Iterable[ObjectRef]) -> ChangeSet:
        """Delete all at one time."""
        return ChangeSet(await all_of(self._prune(namespace, ref) for ref in refs))

    async def record(self, target: Target, notes: Iterable[EventNote]) -> None:
        """Write events; never fails."""
        for note in notes:
            await self.threads.run(self.recorder.record, target, note)

    def _wave(self, namespace: str, manifest: Manifest) -> tuple[str, bool]:
        """Return what objects have in common that go out at one time."""
        kind, name = manifest.ref.kind, manifest.ref.name
        return kind, self.cache.children[kind].get((namespace, name)) is None

    async def _apply(self, namespace: str, manifest: Manifest) -> ChangeSet:
        """Apply one object; one that was only looked at again, and is right, is not written."""
        kind, key = manifest.ref.kind, (namespace, manifest.ref.name)
        entry = self.cache.children[kind].get(key)
        if entry and self.mender.is_right(manifest, entry, owner_uid_of(manifest.body)):
            self.cache.accept(kind, entry)
            return ChangeSet((Applied(manifest.ref, Outcome.UNCHANGED, {}),))
        mended = await self.threads.run(self.mender.put, namespace, manifest, entry)
        self.cache.wrote_child(kind, mended.applied.raw)
        hold_s = self.cache.mends.note(kind, key) if mended.is_put_back else 0.0
        applied = replace(mended.applied, is_put_back=mended.is_put_back)
        return ChangeSet((applied,), notes=notes_of(mended, hold_s))

    async def _nudge(self, namespace: str, one: Nudge) -> str | None:
        raw = await self.threads.run(nudge, self.client, namespace, one)
        if raw is None:
            return None
        self.cache.pods.wrote(pod_entry(raw))
        return one.pod

    async def _prune(self, namespace: str, ref: ObjectRef) -> Applied:
        entry = self.cache.children[ref.kind].get((namespace, ref.name))
        if entry is None or not entry.value.is_ours:
            # Gone since the plan was made; who has the name now is not ours.
            return Applied(ref, Outcome.DELETED, {})
        pruned = await self.threads.run(prune, self.client, namespace, ref, entry.uid)
        self.cache.forget_child(ref, namespace)
        return pruned


async def all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> tuple[T, ...]:
    """Run all at one time, wait for all, then raise the first error.

    Not the first error at once: a write that is under way cannot be taken back, and must not run
    on into the object's next reconcile.
    """
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return tuple(result for result in results if not isinstance(result, BaseException))
