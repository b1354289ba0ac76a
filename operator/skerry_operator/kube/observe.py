"""The tables -> Observed: all that one plan is made from. Reads memory only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice

from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.api.v1alpha1.edgemodel_optimize import Built
from skerry_operator.decide.builds.effective import effective_spec, hold_of
from skerry_operator.decide.builds.jobs import ObservedJob
from skerry_operator.decide.observed import ModelHold, Observed, ObservedCell, Pod
from skerry_operator.decide.reported import UnitReport
from skerry_operator.decide.revision import Snapshot
from skerry_operator.kube.cache import Entry, Key
from skerry_operator.kube.children import WORKLOADS, Child
from skerry_operator.kube.owners import Owner
from skerry_operator.kube.read import BadResource, Subject, read_model
from skerry_operator.kube.tables import Cache
from skerry_operator.plan.model import BuildsObserved

CELLS_LIMIT = 64
"""Assignments of one deployment that are read: as many as its status can show cells."""


def observe(
    cache: Cache,
    subject: Subject,
    *,
    now: datetime,
    reports: Mapping[str, UnitReport],
    polled: bool,
    apply_error: str | None,
) -> Observed:
    """Return all that one plan is made from."""
    deployment, owner = subject.deployment, subject.owner
    children = cache.own_children(owner)
    model, problem, hold = _model_of(cache, (owner.namespace, deployment.spec.model_ref.name))
    return Observed(
        now=now,
        deployment=deployment,
        model=model,
        model_problem=problem,
        model_hold=hold,
        nodes=tuple(sorted((entry.value for entry in cache.nodes), key=lambda node: node.name)),
        pods=pods_of(cache, owner),
        reports=reports,
        polled=polled,
        cells=_cells(entry.value for _, entry in children),
        templates=tuple(t for _, e in children if (t := e.value.template)),
        taken=cache.claims.taken(owner),
        snapshots=_snapshots(entry.value.snapshot for _, entry in children),
        generated={
            f"{kind}/{entry.key[1]}": cache.digest_of(kind, entry, owner)
            for kind, entry in children
        },
        apply_error=apply_error,
    )


def pods_of(cache: Cache, owner: Owner) -> tuple[Pod, ...]:
    """Return the pods of a deployment, by name.

    One that is over counts only while its unit has no other: it says why there is none.
    """
    pods = [entry.value for entry in cache.pods_of(owner)]
    living = {pod.unit for pod in pods if not pod.is_over}
    return tuple(pod for pod in pods if not pod.is_over or pod.unit not in living)


def workloads_of(cache: Cache, owner: Owner) -> frozenset[str]:
    """Return the uids of the workloads that belong to the deployment: what they make is its own."""
    return frozenset(
        entry.uid
        for kind in WORKLOADS
        for entry in cache.children[kind].owned_by(owner)
        if entry.value.is_ours
    )


def _cells(children: Iterable[Child]) -> tuple[ObservedCell, ...]:
    maps = islice((one for one in children if one.kind == "ConfigMap"), CELLS_LIMIT)
    return tuple(cell for one in maps if (cell := one.cell))


def _model_of(cache: Cache, key: Key) -> tuple[EdgeModel | None, str, ModelHold | None]:
    """Return the model with its builds, or why there is none, or why it is to be waited for.

    A model that is no use stops no deployment.
    """
    entry = cache.models.get(key)
    if entry is None:
        return None, "", None
    try:
        model = read_model(entry)
    except BadResource as error:
        return None, str(error), None
    if model.spec.optimize is None:
        return model, "", None
    results = results_of(cache, Owner("EdgeModel", *entry.key, entry.uid))
    spec = effective_spec(model.spec, results)
    return model.model_copy(update={"spec": spec}), "", hold_of(model.spec, results)


def results_of(cache: Cache, owner: Owner) -> dict[str, Built]:
    """Return what is recorded of a model's builds, by key."""
    records = (entry.value.record for entry in _records(cache, owner))
    return {one.key: one for one in records if one is not None}


def builds_of(cache: Cache, owner: Owner, free: int) -> BuildsObserved:
    """Return what is in the cluster of a model's builds; `free` is how many Jobs may begin."""
    jobs = cache.children.get("Job")
    found = jobs.owned_by(owner) if jobs else ()
    return BuildsObserved(
        results=results_of(cache, owner),
        records=tuple(
            (entry.key[1], cache.digest_of("ControllerRevision", entry, owner))
            for entry in _records(cache, owner)
        ),
        jobs={entry.key[1]: _job(cache, entry) for entry in found if entry.value.is_ours},
        free=free,
    )


def _records(cache: Cache, owner: Owner) -> Iterator[Entry[Child]]:
    table = cache.children["ControllerRevision"]
    for one in dict.fromkeys((owner.orphans, owner)):
        yield from (entry for entry in table.owned_by(one) if entry.value.is_ours)


def _job(cache: Cache, entry: Entry[Child]) -> ObservedJob:
    """Return a Job with its pods."""
    pods = cache.pods.owned_by(Owner("Job", *entry.key, entry.uid))
    job = entry.value.job or ObservedJob(entry.key[1], entry.uid)
    return replace(job, pods=tuple(pod.value for pod in pods))


def _snapshots(snapshots: Iterable[Snapshot | None]) -> dict[str, Snapshot]:
    return {snapshot.revision: snapshot for snapshot in snapshots if snapshot}
