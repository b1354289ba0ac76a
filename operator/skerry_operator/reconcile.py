"""Read, plan, write: the only file where what decides meets what acts.

An object's reconciles never overlap (the queue sees to that), and all state that counts is in the
cluster: forgetting what this file remembers costs one more read of the pods.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus, Stage
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.carry import Carrier
from skerry_operator.clock import Clock
from skerry_operator.decide.analysis.queries import wanted_queries
from skerry_operator.decide.facts import Value
from skerry_operator.decide.fleet.stuck import stuck
from skerry_operator.decide.observed import Marks, Observed, Pod
from skerry_operator.decide.placement.placed import PlacementResult
from skerry_operator.decide.planned import ModelPlan, Plan, Sight
from skerry_operator.decide.rollout.engine import interval_s
from skerry_operator.decide.sites import SiteCaches
from skerry_operator.decide.told.sights import unit_events
from skerry_operator.kube.cache import Entry, Key
from skerry_operator.kube.causes import Ask as AskEvents
from skerry_operator.kube.causes import Causes
from skerry_operator.kube.children import Child
from skerry_operator.kube.observe import builds_of, observe, pods_of, workloads_of
from skerry_operator.kube.owners import Owner
from skerry_operator.kube.raw import Raw
from skerry_operator.kube.read import Subject, read_deployment, read_model
from skerry_operator.kube.tables import Cache
from skerry_operator.kube.writer import Writer
from skerry_operator.loop import Decision, Loop
from skerry_operator.metricsource.sampler import Ask, Sampler
from skerry_operator.plan.model import BuildsObserved
from skerry_operator.reports.poller import Poller
from skerry_operator.telemetry import Telemetry

PATIENCE_S = 1.0
"""How long a look is put off, at most, for pods that changed or were told something new."""
FIRST_PATIENCE_S = 5.0
"""The same for a deployment that this process has not looked at yet: it knows nothing of its pods,
and a silent one is known for it only after a timeout."""
FOLLOWED_AGAIN_S = 0.2
"""While a look is put off, how often it sees anew which pods there are: it is tried far more often
than that, so that it comes right after the last answer."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planner:
    """The decisions, with profiles and settings already bound."""

    deployment: Callable[[Observed, Mapping[str, PlacementResult]], Plan]
    """The second argument is `Plan.placements` of the last look."""
    model: Callable[[EdgeModel, datetime, BuildsObserved], ModelPlan]


@dataclass(frozen=True)
class JobLimits:
    """How many Jobs may run at one time."""

    namespace: int = 2
    cluster: int = 4


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
    ask_events: AskEvents
    monotonic: Callable[[], float] = time.monotonic
    job_limits: JobLimits = JobLimits()
    """How many Jobs may run at one time."""
    caches: Callable[[], SiteCaches | None] = lambda: None
    """Returns the caches of the sites; None: not known yet."""


@dataclass
class _Memory:
    """What is remembered of one deployment between two looks."""

    sampler: Sampler
    causes: Causes
    uid: str = ""
    has_looked: bool = False
    early_since: float | None = None
    """Since when looks are put off; None: they are not, or a write has begun another wait."""
    followed_at: float = 0.0
    """When a look that was put off last saw which pods there are."""
    placements: Mapping[str, PlacementResult] = field(default_factory=dict)
    """Revision -> its placement at the last look."""
    sights: Mapping[str, Sight] = field(default_factory=dict)
    """Unit -> how it was at the last look at which every pod had been asked."""
    marks: Mapping[tuple[str, str], Marks] = field(default_factory=dict)
    """What pods had counted when metrics were last measured."""
    shown: frozenset[tuple[str, str]] = frozenset()
    """(metric, cell) of the analysis values that the operator's own metrics show."""

    def close(self) -> None:
        """Break off what is under way."""
        self.sampler.close()
        self.causes.close()


class Reconciler:
    """All controllers, in the one loop."""

    def __init__(self, edges: Edges, planner: Planner) -> None:
        self._deployments = Deployments(edges, planner)
        carrier = Carrier(edges.writer, edges.telemetry, edges.monotonic)
        controllers = (self._deployments, Models(edges, planner))
        self._loop = Loop(edges.cache, carrier, controllers)

    async def reconcile(self, kind: str, key: Key) -> float | None:
        """Bring an object one step on; return when to look again, None: on an event.

        Raises:
            KubeError: a write failed, and nothing that the plan put after it was done.
        """
        return await self._loop.reconcile(kind, key)

    def close(self) -> None:
        """Break off what is under way."""
        self._deployments.close()


class Models:
    """Decides about EdgeModels, and which of their Jobs may begin."""

    kind = "EdgeModel"

    def __init__(self, edges: Edges, planner: Planner) -> None:
        self._edges = edges
        self._planner = planner
        self._begun: dict[Key, int] = {}
        """Model -> Jobs that a plan begins and that are not seen yet: others count them too."""

    def decide(self, entry: Entry[Raw], problem: str | None) -> Decision:  # noqa: ARG002 (for all kinds)
        """Check a model, and see to its builds."""
        model, owner = read_model(entry), Owner("EdgeModel", *entry.key, entry.uid)
        self._begun.pop(entry.key, None)
        observed = builds_of(self._edges.cache, owner, self._free(entry.key[0]))
        plan = self._planner.model(model, self._edges.clock.now(), observed)
        if plan.objects:
            self._begun[entry.key] = len(plan.objects)
        return Decision(plan, model.status, done=partial(self._attend, entry.key, plan))

    def _free(self, namespace: str) -> int:
        """Return how many Jobs may begin now in a namespace."""
        table, limits = self._edges.cache.children.get("Job"), self._edges.job_limits
        if table is None:
            return 0
        busy = Counter(entry.key[0] for entry in table if _is_busy(entry))
        for key, count in self._begun.items():
            busy[key[0]] += count
        # what somebody labelled as ours takes no more than its namespace may have
        whole = sum(min(count, limits.namespace) for count in busy.values())
        return min(limits.cluster - whole, limits.namespace - busy[namespace])

    def _attend(self, key: Key, plan: ModelPlan) -> None:
        """Wake who waits for what was written."""
        self._begun.pop(key, None)
        if not plan.records:
            return
        for entry in self._edges.cache.deployments:
            if entry.key[0] == key[0] and _model_name(entry) == key[1]:
                self._edges.wake(entry.key)

    def forget(self, key: Key) -> None:
        """Forget a model that is gone."""
        self._begun.pop(key, None)


def _is_busy(entry: Entry[Child]) -> bool:
    job = entry.value.job
    return entry.value.is_ours and job is not None and not job.is_over


def _model_name(entry: Entry[Raw]) -> object:
    return (entry.value["spec"].get("modelRef") or {}).get("name")


class Deployments:
    """Decides about EdgeDeployments."""

    kind = "EdgeDeployment"

    def __init__(self, edges: Edges, planner: Planner) -> None:
        self._edges = edges
        self._planner = planner
        self._memories: dict[Key, _Memory] = {}

    def decide(self, entry: Entry[Raw], problem: str | None) -> Decision | None:
        """Decide from all that is known of a deployment now."""
        key, memory = entry.key, self._memory_of(entry.key, entry.uid)
        if self._is_still_early(key, memory):
            return None
        subject = read_deployment(entry)
        observed = self._observe(subject, memory, problem)
        if observed is None:
            return None
        plan = self._planner.deployment(observed, memory.placements)
        if observed.polled:
            happened = unit_events(memory.sights, plan.sights)
            plan, memory.sights = replace(plan, events=(*plan.events, *happened)), plan.sights
        memory.has_looked, memory.placements, memory.marks = True, plan.placements, plan.marks
        self._show(key, plan.values, memory)
        before = observed.deployment.status
        return Decision(
            plan,
            before,
            is_way_back=_is_way_back(plan.status or before),
            done=partial(self._attend, subject, plan, memory),
        )

    def _memory_of(self, key: Key, uid: str) -> _Memory:
        """Return what is remembered of this very object, not of one that had its name before."""
        if key not in self._memories or self._memories[key].uid != uid:
            self.forget(key)
            wake = partial(self._edges.wake, key)
            sampler = Sampler(self._edges.ask_prometheus, wake)
            self._memories[key] = _Memory(sampler, Causes(self._edges.ask_events, wake), uid)
        return self._memories[key]

    def forget(self, key: Key) -> None:
        """Forget a deployment that is gone."""
        memory = self._memories.pop(key, None)
        if memory is not None:
            memory.close()
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

    def _observe(self, subject: Subject, memory: _Memory, problem: str | None) -> Observed | None:
        """Return what is known now; None: answers that are needed for a decision are on their way.

        Nothing is waited for here: a look that is too early is put off, and its worker is free.
        """
        metadata, now = subject.deployment.metadata, self._edges.monotonic()
        key = metadata.namespace, metadata.name
        pods = self._follow(subject)
        hearing = self._edges.reports.hearing(key, pods)
        memory.followed_at = now
        if _is_early(memory, now, is_complete=hearing.is_complete):
            return None
        observed = observe(
            self._edges.cache,
            subject,
            now=self._edges.clock.now(),
            reports=hearing.reports,
            polled=hearing.is_complete,
            apply_error=problem,
        )
        queries = wanted_queries(observed)
        interval = interval_s(subject.deployment.spec.rollout)
        if memory.sampler.refresh(queries, now, interval):
            return None
        return replace(
            observed,
            unconfirmed=hearing.unconfirmed,
            refused_reports=hearing.refused,
            silent=hearing.silent,
            causes=memory.causes.refresh(metadata.namespace, stuck(observed), now),
            samples=memory.sampler.samples(queries),
            marks=memory.marks,
            caches=self._edges.caches(),
        )

    def _is_still_early(self, key: Key, memory: _Memory) -> bool:
        """Tell, without reading anything anew, whether a look that was put off has to wait on."""
        now = self._edges.monotonic()
        if now - memory.followed_at >= FOLLOWED_AGAIN_S:
            return False
        return _has_patience(memory, now) and not self._edges.reports.is_complete(key)

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
            on_trial=(plan.status or subject.deployment.status).target_revision,
        )

    def close(self) -> None:
        """Break off what is under way."""
        for memory in self._memories.values():
            memory.close()

    def _is_in_reach(self, pod: Pod) -> bool:
        """Tell whether the pod's node reports; the others are known to be silent."""
        entry = self._edges.cache.nodes.get(("", pod.node))
        return entry is None or entry.value.reachable


def _is_way_back(status: EdgeDeploymentStatus) -> bool:
    """Tell whether units go to stable, or stay there: a plan that is safe to make once more."""
    return status.rollout.stage in {Stage.IDLE, Stage.ROLLING_BACK}


def _can_answer(pod: Pod) -> bool:
    return bool(pod.ip and pod.unit) and not pod.deleting and not pod.is_over


def _is_early(memory: _Memory, now: float, *, is_complete: bool) -> bool:
    """Tell whether a look had better wait for pods that were not asked yet; not for ever."""
    if is_complete:
        memory.early_since = None
        return False
    if memory.early_since is None:
        memory.early_since = now
    return _has_patience(memory, now)


def _has_patience(memory: _Memory, now: float) -> bool:
    """Tell whether a look that is put off may be put off further."""
    patience_s = PATIENCE_S if memory.has_looked else FIRST_PATIENCE_S
    return memory.early_since is not None and now - memory.early_since < patience_s


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
