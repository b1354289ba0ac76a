"""Read, plan, write: the only file where what decides meets what acts.

An object's reconciles never overlap (the queue sees to that), and all state that counts is in the
cluster: forgetting what this file remembers costs one more read of the pods.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
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
from skerry_operator.kube.observe import observe, pods_of, workloads_of
from skerry_operator.kube.read import BadResource, Subject, read_deployment, read_model
from skerry_operator.kube.status import target_of
from skerry_operator.kube.tables import Cache
from skerry_operator.kube.writer import Writer
from skerry_operator.metricsource.sampler import Ask, Sampler
from skerry_operator.reports.poller import Poller
from skerry_operator.telemetry import Telemetry

AT_ONCE_S = 0.1
"""Time between two looks of which the first changed the status."""
PUT_OFF_S = 0.05
"""Time after which a look is tried again that came before the answers that it needs."""
PATIENCE_S = 1.0
"""How long a look is put off, at most, for pods that changed or were told something new."""
FIRST_PATIENCE_S = 5.0
"""The same for a deployment that this process has not looked at yet: it knows nothing of its pods,
and a silent one is known for it only after a timeout."""

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
    reports: Poller
    ask_prometheus: Ask | None
    """None: the operator knows no Prometheus."""
    clock: Clock
    telemetry: Telemetry
    wake: Callable[[Key], None]
    """Asks for a look at an EdgeDeployment."""
    monotonic: Callable[[], float] = time.monotonic


@dataclass
class _Memory:
    """What is remembered of one deployment between two looks."""

    sampler: Sampler
    uid: str = ""
    has_looked: bool = False
    early_since: float | None = None
    """Since when looks are put off; None: they are not, or a write has begun another wait."""
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
            subject = read_deployment(entry)
        except BadResource as error:
            await self._carrier.refuse(target, Reason.INVALID_SPEC, error)
            return None
        observed = self._observe(subject, memory)
        if observed is None:
            return PUT_OFF_S
        plan = self._planner.deployment(observed, memory.placements)
        memory.has_looked, memory.placements = True, plan.placements
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
        finally:
            self._attend(subject, plan, memory)
        await self._edges.writer.record(target, self._edges.cache.complaints.take(target.owner))
        is_news = is_new_status and _is_news(plan.status, observed.deployment.status)
        held_s = self._edges.cache.held_s(target.owner)
        at_once = is_news or bool(observed.apply_error)
        return _next_look_s(plan, held_s, at_once=at_once)

    def _memory_of(self, key: Key, uid: str) -> _Memory:
        """Return what is remembered of this very object, not of one that had its name before."""
        if key not in self._memories or self._memories[key].uid != uid:
            self._forget(key)
            sampler = Sampler(self._edges.ask_prometheus, lambda: self._edges.wake(key))
            self._memories[key] = _Memory(sampler, uid)
        return self._memories[key]

    def _forget(self, key: Key) -> None:
        memory = self._memories.pop(key, None)
        if memory is not None:
            memory.sampler.close()
            self._edges.reports.forget(key)
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

    def _observe(self, subject: Subject, memory: _Memory) -> Observed | None:
        """Return what is known now; None: answers that are needed for a decision are on their way.

        Nothing is waited for here: a look that is too early is put off, and its worker is free.
        """
        metadata, now = subject.deployment.metadata, self._edges.monotonic()
        key = metadata.namespace, metadata.name
        pods = self._follow(subject)
        hearing = self._edges.reports.hearing(key, pods)
        if _is_early(memory, now, is_complete=hearing.is_complete):
            return None
        observed = observe(
            self._edges.cache,
            subject,
            now=self._edges.clock.now(),
            reports=hearing.reports,
            polled=hearing.is_complete,
            apply_error=memory.writes.problem,
        )
        queries = wanted_queries(observed)
        interval = interval_s(subject.deployment.spec.rollout)
        if memory.sampler.refresh(queries, now, interval):
            return None
        return replace(
            observed,
            unconfirmed=hearing.unconfirmed,
            refused_reports=hearing.refused,
            samples=memory.sampler.samples(queries),
        )

    def _follow(self, subject: Subject) -> tuple[Pod, ...]:
        """Let the reports of the deployment's pods be kept; return all its pods."""
        metadata = subject.deployment.metadata
        workloads = workloads_of(self._edges.cache, subject.owner)
        pods = pods_of(self._edges.cache, subject.owner)
        asked = (pod for pod in pods if _can_answer(pod) and self._is_in_reach(pod))
        self._edges.reports.follow(
            (metadata.namespace, metadata.name),
            (pod for pod in asked if pod.controller in workloads),
        )
        return pods

    def _attend(self, subject: Subject, plan: Plan, memory: _Memory) -> None:
        """Tell who asks the pods what they have to be asked for, now that all is written."""
        metadata, rollout = subject.deployment.metadata, subject.deployment.spec.rollout
        has_written = _begins_anew(plan, subject.deployment.status)
        if has_written:
            memory.early_since = None
        self._follow(subject)
        self._edges.reports.attend(
            (metadata.namespace, metadata.name),
            is_under_way=plan.watch_units,
            # what stable does is noted by the very look that begins a rollout
            with_counters=plan.watch_units or any(one.is_ratio for one in rollout.analysis.metrics),
            look_in_s=plan.requeue_after_s,
            has_written=has_written,
        )

    def close(self) -> None:
        """Break off what is under way."""
        for memory in self._memories.values():
            memory.sampler.close()

    def _is_in_reach(self, pod: Pod) -> bool:
        """Tell whether the pod's node reports; the others are known to be silent."""
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


def _can_answer(pod: Pod) -> bool:
    return bool(pod.ip and pod.unit) and not pod.deleting and not pod.is_over


def _is_early(memory: _Memory, now: float, *, is_complete: bool) -> bool:
    """Tell whether a look had better wait for pods that were not asked yet; not for ever."""
    if is_complete:
        memory.early_since = None
        return False
    if memory.early_since is None:
        memory.early_since = now
    patience_s = PATIENCE_S if memory.has_looked else FIRST_PATIENCE_S
    return now - memory.early_since < patience_s


def _begins_anew(plan: Plan, before: EdgeDeploymentStatus) -> bool:
    """Tell whether the plan changes what pods are to do, or what is looked for in their words."""
    if plan.objects or plan.nudges:
        return True
    if plan.status is None:
        return False
    after = plan.status
    return (after.target_revision, after.rollout.stage, after.rollout.step) != (
        before.target_revision,
        before.rollout.stage,
        before.rollout.step,
    )


def _next_look_s(plan: Plan, held_s: float | None, *, at_once: bool) -> float | None:
    """Return when to look again: after a change at once, until a look changes nothing."""
    waits = [AT_ONCE_S] if at_once else []
    waits += [] if held_s is None else [held_s]
    waits += [] if plan.requeue_after_s is None else [plan.requeue_after_s]
    return min(waits, default=None)
