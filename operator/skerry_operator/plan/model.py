"""The plan for an EdgeModel: whether it can be used, and the builds that are to be made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.api.v1alpha1.edgemodel_optimize import BuildJobPhase, Built, JobStatus
from skerry_operator.api.v1alpha1.edgemodel_source import SourceSecret
from skerry_operator.constants import Reason
from skerry_operator.decide.builds.effective import result_of
from skerry_operator.decide.builds.jobs import ObservedJob, StorePlace, result_of_job
from skerry_operator.decide.builds.wanted import WantedBuild, wanted_builds
from skerry_operator.decide.planned import EventNote, Manifest, ModelPlan, ObjectRef
from skerry_operator.decide.told.models import BuildsTold, assess_model
from skerry_operator.decide.told.validate import model_problems
from skerry_operator.manifests.buildjob import BuildSite, JobSettings, build_job
from skerry_operator.manifests.buildrecord import build_record
from skerry_operator.manifests.metadata import build_name, ref
from skerry_runtime.contract import BuildPhase

AGAIN_S = 10.0
"""How often a job that waits for others looks whether it may begin."""
KEPT_RECORDS = 48
"""Results that are remembered of one model beside those of its spec: a way back is short."""
OFF = (
    "spec.optimize: this operator makes no builds: have the chart value optimize.enabled set, or "
    "take spec.optimize out"
)
NO_STORE = (
    "spec.optimize.store: there is nowhere to put builds: name a store, or have the chart value "
    "optimize.store set"
)


@dataclass(frozen=True)
class OptimizeDefaults:
    """What the operator's administrator decides about builds."""

    jobs: JobSettings
    store: str = ""
    """Where builds are put when a model does not say; empty: each model has to."""
    push_secret: str | None = None
    pull_secret: str | None = None


@dataclass(frozen=True)
class BuildsObserved:
    """What is in the cluster of a model's builds."""

    results: Mapping[str, Built] = field(default_factory=dict)
    """Key -> what is recorded."""
    records: tuple[tuple[str, str], ...] = ()
    """Name and digest of every record, whatever it is of."""
    jobs: Mapping[str, ObservedJob] = field(default_factory=dict)
    """Name -> Job."""
    free: int = 0
    """Jobs that may begin now, as far as the namespace and the cluster go."""


NO_BUILDS = BuildsObserved()


def plan_model(
    model: EdgeModel,
    now: datetime,
    observed: BuildsObserved = NO_BUILDS,
    defaults: OptimizeDefaults | None = None,
) -> ModelPlan:
    """Return what to do for an EdgeModel.

    Results come first on record, then the status says so, then Jobs are begun and ended.
    """
    if model.spec.optimize is None:
        return replace(assess_model(model, now), prune=_of_jobs(observed))
    if model_problems(model.spec):  # what runs may be what is wanted, once that is mended
        return assess_model(model, now)
    return _Builds(model, now, observed, defaults).plan()


def _of_jobs(observed: BuildsObserved) -> tuple[ObjectRef, ...]:
    return tuple(ref("Job", name) for name in sorted(observed.jobs))


@dataclass(frozen=True)
class _Builds:
    """The builds of one model at one moment."""

    model: EdgeModel
    now: datetime
    observed: BuildsObserved
    defaults: OptimizeDefaults | None

    def plan(self) -> ModelPlan:
        """Return the plan."""
        told = assess_model(self.model, self.now, self._told)
        return replace(
            told,
            records=self._records,
            objects=tuple(self._job_of(one) for one in self._begun),
            prune=self._prune,
            events=(*told.events, *self._events()),
            requeue_after_s=AGAIN_S if self._waiting else None,
        )

    @cached_property
    def _wanted(self) -> tuple[WantedBuild, ...]:
        return wanted_builds(self.model.spec)

    def _name(self, one: WantedBuild) -> str:
        return build_name(self.model.metadata.name, one.name, one.key)

    @cached_property
    def _site(self) -> BuildSite | None:
        """Return where builds are put; None: nobody said."""
        store = self.model.spec.optimize.store if self.model.spec.optimize else None
        metadata, defaults = self.model.metadata, self.defaults
        base = store.uri if store else defaults.store if defaults else ""
        if not base:
            return None
        push = store.push_secret_ref.name if store and store.push_secret_ref else None
        push = push if store or defaults is None else defaults.push_secret
        return BuildSite(f"{base}/{metadata.namespace}/{metadata.name}", push)

    @cached_property
    def _place(self) -> StorePlace | None:
        store = self.model.spec.optimize.store if self.model.spec.optimize else None
        if self._site is None:
            return None
        usual = self.defaults.pull_secret if self.defaults else None
        pull = SourceSecret(name=usual) if usual else None
        return StorePlace(self._site.uri, store.pull_secret_ref if store else pull)

    @cached_property
    def _known(self) -> Mapping[str, Built]:
        """Return what is recorded already, by the job's name."""
        found = ((one, result_of(one, self.observed.results)) for one in self._wanted)
        return {one.name: result for one, result in found if result is not None}

    @cached_property
    def _news(self) -> Mapping[str, Built]:
        """Return what Jobs came to that are over, by the job's name."""
        if self._place is None:
            return {}
        over = (
            (one, job)
            for one in self._open
            if (job := self.observed.jobs.get(self._name(one))) and job.is_settled
        )
        found = ((one, result_of_job(one, job, self._place)) for one, job in over)
        return {one.name: result for one, result in found if result is not None}

    @cached_property
    def _results(self) -> Mapping[str, Built]:
        return {**self._known, **self._news}

    @cached_property
    def _open(self) -> tuple[WantedBuild, ...]:
        return tuple(one for one in self._wanted if one.name not in self._known)

    @cached_property
    def _running(self) -> Mapping[str, ObservedJob]:
        """Return the Jobs that are under way, by the job's name."""
        named = ((one.name, self.observed.jobs.get(self._name(one))) for one in self._open)
        return {name: job for name, job in named if job is not None and not job.is_settled}

    @cached_property
    def _lost(self) -> frozenset[str]:
        """Return the jobs whose verdict went with their pod: they look into the store again."""
        return frozenset(
            one.name
            for one in self._open
            if self._name(one) in self.observed.jobs
            and one.name not in self._running
            and one.name not in self._news
        )

    @cached_property
    def _to_begin(self) -> tuple[WantedBuild, ...]:
        settled = {*self._running, *self._news, *self._lost}
        return tuple(one for one in self._open if one.name not in settled)

    @cached_property
    def _begun(self) -> tuple[WantedBuild, ...]:
        if self.defaults is None or self._site is None:
            return ()
        return self._to_begin[: max(0, self.observed.free)]

    @cached_property
    def _waiting(self) -> bool:
        is_heard = all(not job.is_over for job in self._running.values())
        return bool(self._lost) or not is_heard or len(self._begun) < len(self._to_begin)

    def _job_of(self, one: WantedBuild) -> Manifest:
        assert self.defaults is not None  # noqa: S101 (nothing is begun without)
        assert self._site is not None  # noqa: S101 (the same)
        return build_job(self.model.metadata, self.model.spec, one, self._site, self.defaults.jobs)

    @cached_property
    def _records(self) -> tuple[Manifest, ...]:
        """Return the records that are new, or are not as they ought to be."""
        digests = dict(self.observed.records)
        wanted = [build_record(self.model.metadata, one) for one in self._results.values()]
        return tuple(one for one in wanted if digests.get(one.ref.name) != one.digest)

    @cached_property
    def _prune(self) -> tuple[ObjectRef, ...]:
        """Return Jobs that nobody wants any more, those to be made again, and old records.

        A Job that is over stays for its log; Kubernetes takes it away in a while.
        """
        names = {self._name(one): one.name for one in self._wanted}
        jobs = [name for name in self.observed.jobs if names.get(name, "") in {"", *self._lost}]
        current = {self._name(one) for one in self._wanted}
        others = sorted(name for name, _ in self.observed.records if name not in current)
        surplus = others[: max(0, len(others) - KEPT_RECORDS)]
        return (
            *(ref("Job", name) for name in sorted(jobs)),
            *(ref("ControllerRevision", name) for name in surplus),
        )

    @cached_property
    def _told(self) -> BuildsTold:
        problems = []
        if self._open and self.defaults is None:
            problems = [OFF]
        elif self._open and self._site is None:
            problems = [NO_STORE]
        return BuildsTold(
            tuple(self._status(one) for one in self._wanted),
            {one.key: self._results[one.name] for one in self._wanted if one.name in self._results},
            tuple(problems),
        )

    def _status(self, one: WantedBuild) -> JobStatus:
        result = self._results.get(one.name)
        if result is not None:
            return JobStatus(
                name=one.name,
                phase=BuildJobPhase(result.phase),
                message=result.message,
                started_at=result.started_at,
                seconds=result.seconds,
            )
        job = self._running.get(one.name)
        if job is None:
            return JobStatus(name=one.name, phase=BuildJobPhase.PENDING, message=self._why_not(one))
        phase = (
            BuildJobPhase.RUNNING if any(pod.node for pod in job.pods) else BuildJobPhase.PENDING
        )
        return JobStatus(
            name=one.name, phase=phase, message=_course(job), started_at=job.started_at
        )

    def _why_not(self, one: WantedBuild) -> str:
        if one in self._begun:
            return "its Job is being made"
        if one.name in self._lost:
            return "the pod with its verdict is gone: it looks into the store again"
        if self.defaults is None or self._site is None:
            return ""
        return "it waits for others: as many jobs run as may at one time"

    def _events(self) -> Iterator[EventNote]:
        for one in self._begun:
            yield EventNote(False, Reason.BUILD_STARTED, f"job {one.name} makes a build")
        reasons = {
            BuildPhase.SUCCEEDED: Reason.BUILD_SUCCEEDED,
            BuildPhase.REFUSED: Reason.BUILD_REFUSED,
        }
        for name, result in self._news.items():
            reason = reasons.get(result.phase, Reason.BUILD_FAILED)
            is_bad = reason is not Reason.BUILD_SUCCEEDED
            yield EventNote(is_bad, reason, f"job {name}: {result.message}")


def _course(job: ObservedJob) -> str:
    """Return how a Job is getting on, for people."""
    living = [pod for pod in job.pods if not pod.is_over]
    waiting = next((pod for pod in living if pod.waiting_reason), None)
    parts = [f"Job {job.name}"]
    if job.failed_pods:
        parts.append(f"try {job.failed_pods + 1}")
    if waiting is not None:
        parts.append(f"its pod waits: {waiting.waiting_reason}: {waiting.waiting_message}")
    return "; ".join(parts)[:1024]
