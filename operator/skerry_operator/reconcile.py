"""Read, plan, write: the only file where what decides meets what acts.

An object's reconciles never overlap (the queue sees to that), and all state that counts is in the
cluster: forgetting what this file remembers costs one more read of the pods.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import monotonic as machine_monotonic
from typing import Any

from skerry_operator.api.base import KubeModel
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus, Stage
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.carry import Carrier
from skerry_operator.carry import Memory as WriteMemory
from skerry_operator.clock import Clock
from skerry_operator.constants import Reason
from skerry_operator.decide.analysis.queries import wanted_queries
from skerry_operator.decide.facts import Value
from skerry_operator.decide.observed import Observed, Pod
from skerry_operator.decide.placement.placed import PlacementResult
from skerry_operator.decide.planned import ModelPlan, Plan
from skerry_operator.decide.rollout.engine import interval_s
from skerry_operator.kube.cache import Key
from skerry_operator.kube.errors import NotFound
from skerry_operator.kube.observe import observe, pods_of
from skerry_operator.kube.owners import Owner
from skerry_operator.kube.read import BadResource, Subject, read_deployment, read_model
from skerry_operator.kube.status import target_of
from skerry_operator.kube.tables import Cache
from skerry_operator.kube.writer import Writer
from skerry_operator.metricsource.base import PodAddress, StatusSource
from skerry_operator.metricsource.lastwords import Word, Words, hear
from skerry_operator.metricsource.sampler import Ask, Sampler
from skerry_operator.telemetry import Telemetry

AT_ONCE_S = 0.1
"""Time between two looks of which the first changed the status."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planner:
    """The decisions, with profiles and settings already bound."""

    deployment: Callable[[Observed, Mapping[str, PlacementResult]], Plan]
    """The second argument is `Plan.placements` of the last look."""
    model: Callable[[EdgeModel, datetime], ModelPlan]


@dataclass(frozen=True)
class Edges:
    """Everything that touches the world."""

    cache: Cache
    writer: Writer
    source: StatusSource
    ask_prometheus: Ask | None
    """None: the operator knows no Prometheus."""
    clock: Clock
    telemetry: Telemetry
    idle_period_s: float
    """How often pods are read while nothing is under way."""
    monotonic: Callable[[], float] = machine_monotonic


@dataclass
class _Memory:
    """What is remembered of one deployment between two looks."""

    sampler: Sampler
    uid: str = ""
    words: Words = field(default_factory=dict)
    pods: tuple[Pod, ...] = ()
    """The pods as they were when they were asked."""
    read_at: datetime | None = None
    watch_units: bool = True
    placements: Mapping[str, PlacementResult] = field(default_factory=dict)
    """Revision -> its placement at the last look."""
    writes: WriteMemory = field(default_factory=WriteMemory)
    shown: frozenset[tuple[str, str]] = frozenset()
    """(metric, cell) of the analysis values that the operator's own metrics show."""


class Reconciler:
    """Brings one object at a time to what its spec says."""

    def __init__(self, edges: Edges, planner: Planner) -> None:
        self._edges = edges
        self._planner = planner
        self._carrier = Carrier(edges.writer, edges.telemetry, edges.monotonic)
        self._memories: dict[Key, _Memory] = {}

    async def model(self, key: Key) -> float | None:
        """Check an EdgeModel and write what was found.

        Raises:
            KubeError: the write failed.
        """
        entry = self._edges.cache.models.get(key)
        if entry is None:
            return None
        target = target_of("EdgeModel", entry)
        try:
            model = read_model(entry)
        except BadResource as error:
            await self._carrier.refuse(target, Reason.INVALID_SPEC, error)
            return None
        plan = self._planner.model(model, self._edges.clock.now())
        if plan.status != model.status:
            await self._edges.writer.write_status(target, plan.status)
        await self._edges.writer.record(target, plan.events)
        return None

    async def deployment(self, key: Key) -> float | None:
        """Bring an EdgeDeployment one step on; return when to look again, None: on an event.

        Raises:
            KubeError: a write failed, and nothing that the plan put after it was done.
        """
        entry = self._edges.cache.deployments.get(key)
        if entry is None or "deletionTimestamp" in entry.value["metadata"]:
            self._forget(key)
            return None
        target = target_of("EdgeDeployment", entry)
        memory = self._memory_of(key, entry.uid)
        try:
            observed = await self._observe(read_deployment(entry), memory)
        except BadResource as error:
            await self._carrier.refuse(target, Reason.INVALID_SPEC, error)
            return None
        plan = self._planner.deployment(observed, memory.placements)
        memory.watch_units, memory.placements = plan.watch_units, plan.placements
        self._show(key, plan.values, memory)
        try:
            is_new_status = await self._carrier.carry_out(
                plan,
                observed.deployment.status,
                target,
                memory.writes,
                is_way_back=_is_way_back(plan.status or observed.deployment.status),
            )
        except NotFound:
            if self._edges.cache.deployments.get(key) is None:
                self._forget(key)
                return None  # it was deleted under our hands
            raise
        await self._edges.writer.record(target, self._edges.cache.complaints.take(target.owner))
        is_news = is_new_status and _is_news(plan.status, observed.deployment.status)
        at_once = is_news or bool(observed.apply_error)
        return self._next_look(plan, observed, target.owner, at_once=at_once)

    def _memory_of(self, key: Key, uid: str) -> _Memory:
        """Return what is remembered of this very object, not of one that had its name before."""
        if key not in self._memories or self._memories[key].uid != uid:
            self._forget(key)
            self._memories[key] = _Memory(Sampler(self._edges.ask_prometheus), uid)
        return self._memories[key]

    def _forget(self, key: Key) -> None:
        memory = self._memories.pop(key, None)
        if memory is not None:
            memory.sampler.close()
            self._show(key, (), memory)

    def _show(self, key: Key, values: Iterable[Value], memory: _Memory) -> None:
        """Let the operator's own metrics show these values of the deployment, and no others."""
        gauge = self._edges.telemetry.analysis_value
        values = tuple(values)
        for one in values:
            gauge.labels(*key, one.metric, one.cell).set(one.value)
        shown = frozenset((one.metric, one.cell) for one in values)
        for gone in memory.shown - shown:
            gauge.remove(*key, *gone)
        memory.shown = shown

    def _next_look(
        self, plan: Plan, observed: Observed, owner: Owner, *, at_once: bool
    ) -> float | None:
        """Return when to look again: after a change at once, until a look changes nothing."""
        waits = [AT_ONCE_S] if at_once else []
        waits += [] if plan.requeue_after_s is None else [plan.requeue_after_s]
        waits += [self._edges.idle_period_s] if observed.pods else []
        held_s = self._edges.cache.held_s(owner)
        waits += [] if held_s is None else [held_s]
        return min(waits, default=None)

    async def _observe(self, subject: Subject, memory: _Memory) -> Observed:
        metadata = subject.deployment.metadata
        pods = pods_of(self._edges.cache, subject.owner)
        now = self._edges.clock.now()
        must_ask = self._must_ask(memory, pods, now)
        if must_ask:
            asked = [
                PodAddress(metadata.namespace, metadata.name, pod)
                for pod in pods
                if pod.ip and pod.unit and not pod.deleting and self._is_in_reach(pod)
            ]
            answers = await self._edges.source.read(asked)
            memory.words = hear(memory.words, (one.pod for one in asked), answers, now)
            memory.pods, memory.read_at = pods, now
        observed = observe(
            self._edges.cache,
            subject,
            now=self._edges.clock.now(),
            reports={unit: word.report for unit, word in memory.words.items()},
            polled=must_ask,
            apply_error=memory.writes.problem,
        )
        interval = interval_s(subject.deployment.spec.rollout)
        samples = await memory.sampler.samples(wanted_queries(observed), now, interval)
        return replace(observed, samples=samples)

    def close(self) -> None:
        """Break off what is under way."""
        for memory in self._memories.values():
            memory.sampler.close()

    def _must_ask(self, memory: _Memory, pods: tuple[Pod, ...], now: datetime) -> bool:
        """Tell whether the last reports may be out of date: always while anything is under way."""
        if memory.read_at is None or memory.watch_units or memory.pods != pods:
            return True
        in_reach = (pod for pod in pods if self._is_in_reach(pod))
        if not all(_is_settled(memory.words.get(pod.unit)) for pod in in_reach):
            return True
        return (now - memory.read_at).total_seconds() >= 0.9 * self._edges.idle_period_s

    def _is_in_reach(self, pod: Pod) -> bool:
        """Tell whether the pod's node reports.

        The others are not asked: each would cost every look, and so a rollback, the whole timeout.
        """
        entry = self._edges.cache.nodes.get(("", pod.node))
        return entry is None or entry.value.reachable


def _is_way_back(status: EdgeDeploymentStatus) -> bool:
    """Tell whether units go to stable, or stay there: a plan that is safe to make once more."""
    return status.rollout.stage in {Stage.IDLE, Stage.ROLLING_BACK}


def _is_news(written: KubeModel | None, before: KubeModel) -> bool:
    """Tell whether a status says more than new numbers in the messages of its conditions.

    Under traffic those are others at every look: to look again at once would never end.
    """
    return written is not None and _without_messages(written) != _without_messages(before)


def _without_messages(status: KubeModel) -> dict[str, Any]:
    plain = status.model_dump()
    conditions = [{**one, "message": ""} for one in plain["conditions"]]
    return {**plain, "conditions": conditions}


def _is_settled(word: Word | None) -> bool:
    """Tell whether the pod serves what it was given, so that nothing new is expected of it."""
    if word is None or word.report.serving is None:
        return False
    return word.report.serving.revision == word.report.assigned
