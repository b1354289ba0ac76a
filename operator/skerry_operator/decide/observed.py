"""What is true about the world when a decision is made, as frozen values.

Words with one meaning everywhere: `observed` is what was read, `desired` what ought to be,
`current` what an object holds now, `next` what it will hold after the decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from math import nan

from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.constants import Reason
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.reported import ReportedCounters, UnitReport
from skerry_operator.decide.revision import Snapshot
from skerry_operator.decide.sites import SiteCaches
from skerry_runtime.contract import Assignment

_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Ending:
    """How a pod of a Job ended."""

    exit_code: int
    reason: str = ""
    """For example Completed, Error or OOMKilled."""
    words: str = ""
    """Its termination message: what any pod may have written."""


@dataclass(frozen=True)
class Pod:
    """A pod of the deployment, reduced to what decisions read."""

    name: str
    unit: str
    """PerNode: name of its node, also while it only waits for it; empty when nobody says which.
    Replicas: name of the replica that it is."""
    cell: str
    template: str
    """Template hash of the DaemonSet that made it."""
    is_scheduled: bool = True
    """False: it waits for a place on its node."""
    ip: str = ""
    ready: bool = False
    deleting: bool = False
    restarts: int = 0
    ended_at: datetime | None = None
    """When a container of it ended last, by its node's clock."""
    waiting_reason: str = ""
    """Of the container, for example CrashLoopBackOff, ImagePullBackOff, or Unschedulable."""
    waiting_message: str = ""
    revision_label: str = ""
    nudge: str = ""
    """Value of the nudge annotation: the assignment digest it was last pointed at."""
    created_at: datetime | None = None
    node: str = ""
    """Where it runs; empty while it has no place."""
    claim: str | None = None
    """What it takes from other pods of its node (`hardware.claim_of`)."""
    uid: str = ""
    controller: str = ""
    """uid of the workload that made it; empty when none did."""
    is_over: bool = False
    """It has ended for good: evicted, refused at admission, or all its containers are done."""
    extras: str = ""
    """Hash of what it was given besides; empty: nothing."""
    is_started: bool = False
    """The kubelet has reached its admin port: the runtime runs."""
    last_exit: str = ""
    """How a container ended last that was started again, for example `OOMKilled, code 137`."""
    disruption: str = ""
    """Why it is being taken away, for example `PreemptionByScheduler: ...`; empty: nobody says."""
    ending: Ending | None = None
    """Of a Job's pod that is over."""


def speakers(pods: Iterable[Pod]) -> dict[str, Pod]:
    """Return the pod that speaks for each unit: the newest that is not being deleted.

    One that has its place counts before one that waits for the same place.
    """
    living = [pod for pod in pods if pod.unit and not pod.deleting]
    return {
        pod.unit: pod
        for pod in sorted(
            living, key=lambda pod: (pod.is_scheduled, pod.created_at or _BEGINNING, pod.name)
        )
    }


@dataclass(frozen=True)
class ObservedCell:
    """A cell's ConfigMap as it is in the cluster."""

    name: str
    assignment: Assignment
    digest: str
    """sha256 of the file's bytes."""


@dataclass(frozen=True)
class ObservedTemplate:
    """A DaemonSet (PerNode) or ReplicaSet (Replicas) of the deployment as it is in the cluster."""

    name: str
    cell: str
    template: str
    nodes: tuple[str, ...] = ()
    """Hostnames in the affinity of a DaemonSet."""
    unit: str = ""
    """The one replica of a ReplicaSet."""
    uid: str = ""
    supplies: tuple[str, ...] = ()
    """What its pods mount to fetch with, sorted."""


@dataclass(frozen=True)
class ModelHold:
    """Why deployments of a model keep what they have."""

    reason: Reason
    message: str


class SampleState(StrEnum):
    """How a Prometheus query ended."""

    READ = "Read"
    EMPTY = "Empty"  # no series, or nobody to ask: missing
    ODD = "Odd"  # an answer that is no single number: it decides nothing
    DOWN = "Down"  # the server did not answer: the source is down


@dataclass(frozen=True)
class Sample:
    """Latest answer to a Prometheus query."""

    state: SampleState
    value: float = nan
    problem: str = ""
    """Why there is no value."""
    asked_at: float | None = field(default=None, compare=False)
    """When it was asked for, by a clock that never goes back; None: nobody knows."""


@dataclass(frozen=True)
class Marks:
    """What pods had counted when a metric was last measured in a cell.

    The next measurement is of what came since. An operator that restarts has none of it: then the
    next one begins anew.
    """

    target: str
    at: datetime | None
    """Time of that measurement; None: there was none yet."""
    counters: Mapping[tuple[str, str], ReportedCounters] = field(default_factory=dict)
    """(unit, revision) -> its counters."""
    restarts: Mapping[str, int] = field(default_factory=dict)
    asked_at: float | None = None
    """Of the latest answer to a query that was counted."""
    before: Marks | None = None
    """Those of the measurement before: the status may not have been written."""


@dataclass(frozen=True)
class Observed:
    """Everything that one plan is made from."""

    now: datetime
    deployment: EdgeDeployment
    model: EdgeModel | None
    model_problem: str = ""
    """Why a model that exists cannot be read."""
    model_hold: ModelHold | None = None
    """Why what runs stays as it is, although the model can be read."""
    nodes: tuple[Node, ...] = ()
    """All nodes of the cluster."""
    pods: tuple[Pod, ...] = ()
    reports: Mapping[str, UnitReport] = field(default_factory=dict)
    """Unit -> what its pod said last; a unit whose pod does not answer is absent."""
    unconfirmed: frozenset[str] = frozenset()
    """Units that said so before the last write: no step ends on that."""
    refused_reports: Mapping[str, str] = field(default_factory=dict)
    """Unit -> why what its pod answers is not believed."""
    silent: frozenset[str] = frozenset()
    """Units whose pod was asked several times and gave no answer at all."""
    causes: Mapping[str, str] = field(default_factory=dict)
    """Unit -> what the events of its pod, or of what makes it, say is in the way."""
    polled: bool = True
    """Every pod was asked since it changed; False: some could not say yet what they do."""
    cells: tuple[ObservedCell, ...] = ()
    templates: tuple[ObservedTemplate, ...] = ()
    taken: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Node -> claim -> how many pods of other EdgeDeployments hold it there."""
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    """Revision -> its snapshot."""
    generated: Mapping[str, str] = field(default_factory=dict)
    """`Kind/name` of every generated object -> the hash annotation it carries."""
    caches: SiteCaches | None = None
    """The caches of the sites; None: that is not known yet, and what pods were told stays."""
    samples: Mapping[str, Sample] = field(default_factory=dict)
    """Prometheus query, as it is written in the spec -> its latest answer about the target."""
    marks: Mapping[tuple[str, str], Marks] = field(default_factory=dict)
    """(metric with its limit, cell) -> `Plan.marks` of the last look."""
    apply_error: str | None = None
    """Why the last apply failed, until one succeeds."""
