"""Raw pod -> Pod: where it is, whether it is ready, and why it waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from skerry_operator.api.bounds import on_one_line
from skerry_operator.constants import (
    ANNOTATION_EXTRAS,
    ANNOTATION_NUDGE,
    LABEL_BUILD,
    LABEL_CELL,
    LABEL_PROFILE,
    LABEL_REVISION,
    LABEL_TEMPLATE,
    LABEL_UNIT,
)
from skerry_operator.decide.observed import Ending, Pod
from skerry_operator.kube.raw import Raw, metadata_of
from skerry_runtime.contract import MAX_VERDICT_BYTES

_ON_THE_WAY = frozenset({"ContainerCreating", "PodInitializing"})
"""Waiting reasons of a pod that starts as it should."""

MESSAGE_LIMIT = 512

_OVER = frozenset({"Succeeded", "Failed"})
"""Phases of a pod whose containers never run again: it has given back all that it had."""


def read_pod(raw: Raw) -> Pod:
    """Return a pod as decisions read it.

    One that is over (ended, evicted, refused at admission) holds nothing and cannot be asked.
    """
    metadata, status = metadata_of(raw), raw.get("status") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    containers = _container_statuses(status)
    reason, message = _waiting(status, containers)
    spec = raw.get("spec") or {}
    over = status.get("phase") in _OVER
    return Pod(
        name=metadata["name"],
        unit=labels.get(LABEL_UNIT) or spec.get("nodeName") or _node_it_waits_for(spec),
        is_scheduled=bool(spec.get("nodeName")),
        cell=labels.get(LABEL_CELL, ""),
        template=labels.get(LABEL_TEMPLATE, ""),
        ip="" if over else status.get("podIP") or "",
        ready=not over and _has_condition(status, "Ready"),
        deleting="deletionTimestamp" in metadata,
        restarts=sum(container.get("restartCount", 0) for container in containers),
        ended_at=_ended_at(containers),
        waiting_reason=on_one_line(reason, MESSAGE_LIMIT),
        waiting_message=on_one_line(message, MESSAGE_LIMIT),
        revision_label=labels.get(LABEL_REVISION, ""),
        nudge=annotations.get(ANNOTATION_NUDGE, ""),
        extras=annotations.get(ANNOTATION_EXTRAS, ""),
        created_at=_time(metadata.get("creationTimestamp")),
        node=spec.get("nodeName") or "",
        claim=None if over else _claim(spec, labels.get(LABEL_PROFILE, "")),
        uid=metadata.get("uid", ""),
        controller=_controller(metadata.get("ownerReferences") or ()),
        is_over=over,
        is_started=not over and _is_started(containers),
        last_exit=_exit_of(containers),
        disruption=_disruption(status) if "deletionTimestamp" in metadata else "",
        ending=_ending(status) if over and LABEL_BUILD in labels else None,
    )


def _ending(status: Mapping[str, Any]) -> Ending | None:
    """Return how the one container of a Job's pod ended; None: nobody says."""
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated")
        if ended:
            return Ending(
                int(ended.get("exitCode", -1)),
                on_one_line(ended.get("reason") or "", MESSAGE_LIMIT),
                str(ended.get("message") or "")[:MAX_VERDICT_BYTES],
            )
    return None


def _controller(owners: Iterable[Mapping[str, Any]]) -> str:
    """Return the uid of what made the pod; empty when nothing did."""
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), "")


def _claim(spec: Mapping[str, Any], profile: str) -> str | None:
    """Return the extended resource that the pod asks for, else the profile that it has alone."""
    limits: dict[str, Any] = {}
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        limits |= (container.get("resources") or {}).get("limits") or {}
    devices = sorted(name for name in limits if "/" in name)
    if devices:
        return devices[0]
    is_alone = bool((spec.get("affinity") or {}).get("podAntiAffinity"))
    return f"profile/{profile}" if is_alone and profile else None


def _node_it_waits_for(spec: Mapping[str, Any]) -> str:
    """Return the node that a DaemonSet made the pod for; empty when it is not said."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("values"):
                return str(field["values"][0])
    return ""


def _container_statuses(status: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    init = status.get("initContainerStatuses") or ()
    return (*init, *(status.get("containerStatuses") or ()))


def _has_condition(status: Mapping[str, Any], name: str) -> bool:
    return any(
        condition["type"] == name and condition["status"] == "True"
        for condition in status.get("conditions") or ()
    )


def _waiting(status: Mapping[str, Any], containers: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in _ON_THE_WAY:
            return waiting["reason"], f"{waiting.get('message', '')}{_last_exit(container)}".strip()
    return _not_scheduled(status) or _ended(status)


def _is_started(containers: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether every container has passed its startup probe."""
    found = [bool(container.get("started")) for container in containers]
    return bool(found) and all(found)


def _exit_of(containers: Iterable[Mapping[str, Any]]) -> str:
    """Return how a container ended that was started again since; empty when none was."""
    endings = ((one.get("lastState") or {}).get("terminated") or {} for one in containers)
    texts = (f"{end.get('reason')}, code {end.get('exitCode')}" for end in endings if end)
    return on_one_line(next(texts, ""), MESSAGE_LIMIT)


def _disruption(status: Mapping[str, Any]) -> str:
    """Return why a pod is taken away: preempted, evicted, drained."""
    for condition in status.get("conditions") or ():
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            text = f"{condition.get('reason') or 'Disrupted'}: {condition.get('message') or ''}"
            return on_one_line(text, MESSAGE_LIMIT).rstrip(": ")
    return ""


def _last_exit(container: Mapping[str, Any]) -> str:
    """Return how the container ended last time: what a person asks first about a crash loop."""
    ended = (container.get("lastState") or {}).get("terminated") or {}
    return f" (last exit: {ended.get('reason')}, code {ended.get('exitCode')})" if ended else ""


def _ended_at(containers: Iterable[Mapping[str, Any]]) -> datetime | None:
    """Return when a container ended last."""
    ends = ((one.get("lastState") or {}).get("terminated") or {} for one in containers)
    times = (_time(end.get("finishedAt")) for end in ends)
    return max((time for time in times if time is not None), default=None)


def _not_scheduled(status: Mapping[str, Any]) -> tuple[str, str] | None:
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason") or "Unschedulable", condition.get("message") or ""
    return None


def _ended(status: Mapping[str, Any]) -> tuple[str, str]:
    """Return why the kubelet gave the whole pod up: evicted, or refused for a missing device."""
    if status.get("phase") != "Failed":
        return "", ""
    return status.get("reason") or "Failed", status.get("message") or ""


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
