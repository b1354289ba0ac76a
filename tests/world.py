"""A cluster in memory: carries plans out and lets pods follow, so that a plan meets its effects.

No mock: the plan under test is the real one, and what it is shown next is what the objects that
it wrote would have become.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from builders import NOW, PROFILES, all_reduced, make_report, refusing, serving
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus, Stage
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.catalogue.profiles import Profile
from skerry_operator.constants import LABEL_CELL, LABEL_TEMPLATE, LABEL_UNIT
from skerry_operator.decide.observed import (
    Marks,
    ModelHold,
    Observed,
    ObservedCell,
    ObservedTemplate,
    Pod,
    Sample,
)
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.placement.placed import PlacementResult
from skerry_operator.decide.planned import Manifest, Nudge, ObjectRef, Plan
from skerry_operator.decide.sites import SiteCaches
from skerry_operator.manifests.snapshot import read_snapshot
from skerry_operator.manifests.supplies import supplies_of
from skerry_operator.plan import PlanSettings, plan
from skerry_runtime.contract import ASSIGNMENT_FILE, Assignment, StatusReport, SwapMode, SwapRecord

WORKLOADS = ("DaemonSet", "ReplicaSet")
SETTINGS = PlanSettings(default_image="registry.example/skerry-runtime:1")


@dataclass
class World:
    deployment: EdgeDeployment
    model: EdgeModel | None
    nodes: tuple[Node, ...]
    profiles: tuple[Profile, ...] = PROFILES
    settings: PlanSettings = SETTINGS
    model_hold: ModelHold | None = None
    now: datetime = NOW
    objects: dict[str, Manifest] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    reports: dict[str, StatusReport] = field(default_factory=dict)
    refusals: set[tuple[str, str]] = field(default_factory=set)
    """(unit, version of the model) that the unit will refuse when it tries it."""
    refused: set[tuple[str, str, str]] = field(default_factory=set)
    """(unit, revision, retry text) that was tried, and is not tried again."""
    tells_retry: bool = True
    """False: the runtimes are older than the retry text in their reports."""
    samples: dict[str, Sample] = field(default_factory=dict)
    """Prometheus query -> its answer."""
    broken_images: set[str] = field(default_factory=set)
    foreign: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(node, resource) -> devices that pods hold of which Skerry knows nothing."""
    taken: dict[str, dict[str, int]] = field(default_factory=dict)
    """Node -> claim -> what other EdgeDeployments hold."""
    is_suspicious: bool = False
    """Compare every plan with one that begins with nothing."""
    placements: dict[str, PlacementResult] = field(default_factory=dict)
    """What the last plan worked out."""
    marks: Mapping[tuple[str, str], Marks] = field(default_factory=dict)
    """What pods had counted at the last measurements."""
    caches: SiteCaches | None = None
    """The caches of sites; None: not known yet."""
    broken_units: set[str] = field(default_factory=set)
    """Units on which no container starts."""
    outage_ms: float = 0
    """What a swap in place costs each unit: more than nothing is a sequential one."""
    events: list[str] = field(default_factory=list)
    least_serving: int = 10**6
    """Fewest units that served at one time since the last `settle` began."""

    # --- what the operator sees ---

    def observed(self) -> Observed:
        return Observed(
            now=self.now,
            deployment=self.deployment,
            model=self.model,
            model_hold=self.model_hold,
            nodes=self.nodes,
            pods=tuple(pod for _, pod in sorted(self.pods.items())),
            reports=all_reduced(self.reports, self.now),
            cells=tuple(_cell(one) for one in self._kind("ConfigMap")),
            templates=tuple(_template(one) for kind in WORKLOADS for one in self._kind(kind)),
            taken=self.taken,
            snapshots={
                one.body["data"]["revision"]: read_snapshot(one.body)
                for one in self._kind("ControllerRevision")
            },
            generated={key: one.digest for key, one in self.objects.items()},
            samples=dict(self.samples),
            marks=self.marks,
            caches=self.caches,
        )

    def plan(self) -> Plan:
        made = plan(self.observed(), self.profiles, self.settings, self.placements)
        if self.is_suspicious:  # what an earlier look worked out must make no difference
            assert made == plan(self.observed(), self.profiles, self.settings)
        self.placements, self.marks = dict(made.placements), made.marks
        return made

    @property
    def status(self) -> EdgeDeploymentStatus:
        return self.deployment.status

    def served(self) -> dict[str, str]:
        """Unit -> version that it serves."""
        found = {unit: report.serving for unit, report in sorted(self.reports.items())}
        return {unit: served.version for unit, served in found.items() if served}

    def _kind(self, kind: str) -> list[Manifest]:
        return [one for key, one in sorted(self.objects.items()) if one.ref.kind == kind]

    # --- what happens ---

    def carry_out(self, made: Plan, most: int | None = None) -> None:
        """Do what the plan says; with `most`, die after that many writes."""
        for write in self.writes(made)[:most]:
            write()
        if most is None:
            self.events += [event.reason for event in made.events]

    def writes(self, made: Plan) -> list[Callable[[], None]]:
        """Return the writes of a plan, one by one, in the order in which they are made."""
        return [
            *(partial(self._apply, item) for item in made.records),
            *([] if made.status is None else [partial(self._write_status, made.status)]),
            *(partial(self._apply, item) for item in made.objects),
            *(partial(self._nudge, nudge) for nudge in made.nudges),
            *(partial(self._delete, gone) for gone in made.prune),
        ]

    def _apply(self, item: Manifest) -> None:
        self.objects[f"{item.ref.kind}/{item.ref.name}"] = item

    def _write_status(self, status: EdgeDeploymentStatus) -> None:
        written = EdgeDeploymentStatus.model_validate(status.to_dict())
        self.deployment = self.deployment.model_copy(update={"status": written})

    def _nudge(self, nudge: Nudge) -> None:
        self.pods[nudge.pod] = replace(
            self.pods[nudge.pod], revision_label=nudge.revision, nudge=nudge.digest
        )

    def _delete(self, gone: ObjectRef) -> None:
        del self.objects[f"{gone.kind}/{gone.name}"]

    def pods_follow(self) -> None:
        """Let the workloads make and delete pods, and the pods read their files."""
        cells = {cell.name: cell for cell in self.observed().cells}
        wanted: dict[str, Pod] = {}
        for template in self.observed().templates:
            for unit in (template.unit,) if template.unit else template.nodes:
                name = f"{template.name}-{unit}"
                fresh = Pod(
                    name,
                    unit,
                    template.cell,
                    template.template,
                    created_at=self.now,
                    node="" if template.unit else unit,
                    is_scheduled=not template.unit,
                )
                wanted[name] = self.pods.get(name, fresh)
        replaced = {pod.unit for name, pod in self.pods.items() if name not in wanted}
        self.pods = wanted
        self._schedule()
        for unit in replaced:  # the new pod is on its way for one look
            self.reports.pop(unit, None)
        for name, pod in list(self.pods.items()):
            is_up = bool(pod.node) and self._node(pod.node).reachable
            if pod.unit not in replaced and is_up:
                self._read_file(name, cells[pod.cell])
            else:
                self.pods[name] = replace(pod, ready=False)
        self.least_serving = min(self.least_serving, len(self.served()))

    def _schedule(self) -> None:
        """Find nodes for pods that have none, as the scheduler does: labels, devices, taints."""
        for name, pod in sorted(self.pods.items()):
            if pod.is_scheduled:
                continue
            spec = self._workload(pod).body["spec"]["template"]["spec"]
            fits = [node for node in self.nodes if self._has_place(node, spec)]
            if not fits:
                self.pods[name] = replace(pod, waiting_reason="Unschedulable")
                continue
            node = min(fits, key=lambda node: (self._pods_on(node.name), node.name))
            self.pods[name] = replace(pod, node=node.name, is_scheduled=True, waiting_reason="")

    def _has_place(self, node: Node, spec: Mapping[str, Any]) -> bool:
        if not node.reachable or node.unschedulable:
            return False
        if not all(node.labels.get(k) == v for k, v in spec["nodeSelector"].items()):
            return False
        for resource in _devices(spec):
            held = sum(
                resource in _devices(self._workload(pod).body["spec"]["template"]["spec"])
                for pod in self.pods.values()
                if pod.node == node.name
            )
            held += self.foreign[node.name, resource] + self.taken.get(node.name, {}).get(
                resource, 0
            )
            if node.allocatable.get(resource, 0) - held < 1:
                return False
        return True

    def _pods_on(self, node: str) -> int:
        return sum(pod.node == node for pod in self.pods.values())

    def _workload(self, pod: Pod) -> Manifest:
        """Return what made the pod."""
        name = pod.name.removesuffix(f"-{pod.unit}")
        return next(found for kind in WORKLOADS if (found := self.objects.get(f"{kind}/{name}")))

    def turn(self, seconds: float = 1.0) -> Plan:
        """One look, its effects, and some time."""
        made = self.plan()
        self.carry_out(made)
        self.pods_follow()
        self.now += timedelta(seconds=seconds)
        return made

    def turn_seconds(self, seconds: float) -> None:
        """Let time pass, and nothing else."""
        self.now += timedelta(seconds=seconds)

    def settle(self, turns: int = 600) -> None:
        """Go on until nothing is under way and nothing is written any more."""
        self.least_serving = 10**6
        for _ in range(turns):
            before = dict(self.pods)
            made = self.turn(seconds=5)
            is_quiet = not (
                made.records or made.status or made.objects or made.nudges or made.prune
            )
            if is_quiet and not made.watch_units and before == self.pods:
                return
        raise AssertionError(f"still busy: {self.status.rollout.message}")

    def turn_until(self, stage: Stage, turns: int = 300) -> None:
        for _ in range(turns):
            self.turn()
            if self.status.rollout.stage is stage:
                return
        raise AssertionError(f"never {stage}: {self.status.rollout}")

    def turn_before(self, stage: Stage, turns: int = 300) -> None:
        """Go on until the next plan is the one that enters the stage."""
        for _ in range(turns):
            status = self.plan().status
            if status is not None and status.rollout.stage is stage:
                return
            self.turn()
        raise AssertionError(f"never {stage}: {self.status.rollout}")

    def change(self, **spec: Any) -> None:
        """Edit parts of the deployment's spec."""
        raw = self.deployment.spec.to_dict() | spec
        parsed = EdgeDeployment.model_validate({"metadata": {"name": "x"}, "spec": raw}).spec
        metadata = self.deployment.metadata
        metadata = metadata.model_copy(update={"generation": metadata.generation + 1})
        self.deployment = self.deployment.model_copy(update={"spec": parsed, "metadata": metadata})

    def change_node(self, name: str, option: Any) -> None:
        self.nodes = tuple(option(node) if node.name == name else node for node in self.nodes)

    def _node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def _image(self, pod: Pod) -> str:
        body = self._workload(pod).body
        return str(body["spec"]["template"]["spec"]["containers"][0]["image"])

    def _read_file(self, name: str, cell: ObservedCell) -> None:
        pod = self.pods[name]
        if self._image(pod) in self.broken_images or pod.unit in self.broken_units:
            self.pods[name] = replace(pod, waiting_reason="ImagePullBackOff", ready=False)
            self.reports.pop(pod.unit, None)
            return
        report = self._swap(pod.unit, cell)
        self.reports[pod.unit] = report
        self.pods[name] = replace(pod, ready=report.serving is not None, waiting_reason="")

    def _swap(self, unit: str, cell: ObservedCell) -> StatusReport:
        revision = cell.assignment.revision_of(unit)
        past = self.reports.get(unit) or make_report(unit)
        report = past.model_copy(
            update={"assignment": cell.digest, "assigned": revision, "now": self.now.timestamp()}
        )
        if revision is None:
            return report
        content = cell.assignment.revisions[revision]
        tried = (unit, revision, content.retry)
        if tried in self.refused:
            return report
        if (unit, content.version) in self.refusals:
            self.refused.add(tried)
            retry = content.retry if self.tells_retry else None
            age_s = (NOW - self.now).total_seconds()
            return refusing(revision, age_s=age_s, retry=retry)(report)
        self.refused = {one for one in self.refused if one[:2] != tried[:2]}
        return self._switch(past, serving(revision, content.version)(report))

    def _switch(self, past: StatusReport, report: StatusReport) -> StatusReport:
        """Note when the unit began to serve what it serves, and what the change cost it."""
        before, after = past.serving, report.serving
        assert after is not None
        if before is not None and before.revision == after.revision:
            return report.model_copy(update={"serving": before, "progress": None})
        at = self.now.timestamp()
        swap = SwapRecord(
            from_revision=before.revision if before else None,
            to_revision=after.revision,
            mode=SwapMode.SEQUENTIAL if self.outage_ms else SwapMode.OVERLAP,
            total_ms=900,
            switch_ms=300,
            outage_ms=self.outage_ms if before else 0,
            fetched=True,
            at=at,
        )
        served = after.model_copy(update={"since": at})
        failures = tuple(one for one in report.failures if one.revision != after.revision)
        update = {"serving": served, "last_swap": swap, "progress": None, "failures": failures}
        return report.model_copy(update=update)


def _cell(item: Manifest) -> ObservedCell:
    text = item.body["data"][ASSIGNMENT_FILE]
    digest = hashlib.sha256(text.encode()).hexdigest()
    return ObservedCell(item.ref.name, Assignment.model_validate_json(text), digest)


def _template(item: Manifest) -> ObservedTemplate:
    labels: Mapping[str, str] = item.body["metadata"]["labels"]
    nodes = _hostnames(item.body) if item.ref.kind == "DaemonSet" else ()
    return ObservedTemplate(
        item.ref.name,
        labels[LABEL_CELL],
        labels[LABEL_TEMPLATE],
        tuple(nodes),
        labels.get(LABEL_UNIT, ""),
        supplies=supplies_of(item.body["spec"]["template"]["spec"]),
    )


def _devices(spec: Mapping[str, Any]) -> list[str]:
    """Return the extended resources that a pod asks for."""
    limits = spec["containers"][0]["resources"].get("limits", {})
    return [name for name in limits if "/" in name]


def _hostnames(daemonset: Mapping[str, Any]) -> Iterable[str]:
    affinity = daemonset["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    required = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    return required["nodeSelectorTerms"][0]["matchExpressions"][0]["values"]
