"""The one loop of every kind of resource: what is known, what follows from it, and carry it out.

A kind comes with a controller, which reads and decides; all that touches the cluster is here and in
`carry.py`. So a kind that owns objects (Jobs of a model, say) gets apply, drift, prune, adoption,
events and back-off with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from skerry_operator.api.base import KubeModel
from skerry_operator.carry import Actions, Carrier, Memory
from skerry_operator.constants import Reason
from skerry_operator.kube.cache import Entry, Key
from skerry_operator.kube.errors import NotFound
from skerry_operator.kube.raw import Raw
from skerry_operator.kube.read import BadResource
from skerry_operator.kube.status import Target, target_of
from skerry_operator.kube.tables import Cache

AT_ONCE_S = 0.1
"""Time between two looks of which the first changed the status."""
PUT_OFF_S = 0.05
"""Time after which a look is tried again that came before the answers that it needs."""


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Decision:
    """What one look at one object came to."""

    plan: Actions
    before: KubeModel
    """The status as it is."""
    is_way_back: bool = False
    """The plan is safe to make once more, so its files go out though the status is refused."""
    done: Callable[[], None] = _nothing
    """Called when the plan was carried out, or as much of it as was possible."""


class Controller(Protocol):
    """What is particular to a kind."""

    kind: str

    def decide(self, entry: Entry[Raw], problem: str | None) -> Decision | None:
        """Look at an object; None: what is needed for a decision is on its way.

        `problem` says why the last write for the object failed, until all succeed.

        Raises:
            BadResource: the object cannot be read.
        """
        ...

    def forget(self, key: Key) -> None:
        """Forget an object that is gone."""
        ...


class Loop:
    """Brings one object at a time to what its spec says."""

    def __init__(self, cache: Cache, carrier: Carrier, controllers: Iterable[Controller]) -> None:
        self._cache = cache
        self._carrier = carrier
        self._controllers = {one.kind: one for one in controllers}
        self._memories: dict[tuple[str, Key], tuple[str, Memory]] = {}

    async def reconcile(self, kind: str, key: Key) -> float | None:
        """Bring an object one step on; return when to look again, None: on an event.

        Raises:
            KubeError: a write failed, and nothing that the plan put after it was done.
        """
        controller = self._controllers[kind]
        entry = self._cache.resources[kind].get(key)
        if entry is None or "deletionTimestamp" in entry.value["metadata"]:
            self._forget(controller, key)
            return None
        target, memory = target_of(kind, entry), self._memory_of(controller, entry)
        try:
            decision = controller.decide(entry, memory.problem)
        except BadResource as error:
            await self._carrier.refuse(target, Reason.INVALID_SPEC, error)
            await self._carrier.writer.write_unreadable(entry, target, str(error))
            return None
        if decision is None:
            return PUT_OFF_S
        try:
            is_new = await self._carry_out(decision, target, memory)
        except NotFound:
            if self._cache.resources[kind].get(key) is None:
                self._forget(controller, key)
                return None  # it was deleted under our hands
            raise
        return self._next_look_s(decision, target, had_problem=memory.had_problem, is_new=is_new)

    async def _carry_out(self, decision: Decision, target: Target, memory: Memory) -> bool:
        memory.had_problem = memory.problem is not None
        try:
            is_new = await self._carrier.carry_out(
                decision.plan,
                decision.before,
                target,
                memory,
                is_way_back=decision.is_way_back,
            )
        finally:
            decision.done()
        await self._carrier.writer.record(target, self._cache.complaints.take(target.owner))
        return is_new

    def _memory_of(self, controller: Controller, entry: Entry[Raw]) -> Memory:
        """Return what is remembered of this very object, not of one that had its name before."""
        known = self._memories.get((controller.kind, entry.key))
        if known is None or known[0] != entry.uid:
            self._forget(controller, entry.key)
            known = self._memories[controller.kind, entry.key] = entry.uid, Memory()
        return known[1]

    def _forget(self, controller: Controller, key: Key) -> None:
        if self._memories.pop((controller.kind, key), None) is not None:
            controller.forget(key)

    def _next_look_s(
        self, decision: Decision, target: Target, *, had_problem: bool, is_new: bool
    ) -> float | None:
        """Return when to look again: after a change at once, until a look changes nothing."""
        is_news = is_new and _is_news(decision.plan.status, decision.before)
        waits = [AT_ONCE_S] if is_news or had_problem else []
        again_s, held_s = decision.plan.requeue_after_s, self._cache.held_s(target.owner)
        waits += [] if again_s is None else [again_s]
        waits += [] if held_s is None else [held_s]
        return min(waits, default=None)


def _is_news(written: KubeModel | None, before: KubeModel) -> bool:
    """Tell whether a status says more than new numbers in the messages of its conditions.

    Under traffic those are others at every look: to look again at once would never end.
    """
    return written is not None and _without_messages(written) != _without_messages(before)


def _without_messages(status: KubeModel) -> dict[str, Any]:
    plain = status.model_dump()
    conditions = [{**one, "message": ""} for one in plain.get("conditions") or ()]
    return {**plain, "conditions": conditions}
