"""`skerry events`: all that Kubernetes and the operator said of a deployment, in order. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from skerry_operator.ctl.table import table

TIMELINE_LIMIT = 500
"""Most events that are shown, the newest ones."""
_PODS = frozenset({"Pod", "DaemonSet", "ReplicaSet"})


@dataclass(frozen=True)
class Happening:
    """An event of a deployment, or of something that belongs to it."""

    when: str
    object: str
    """`Kind/name`."""
    type: str
    reason: str
    message: str
    count: int = 1


def happenings(
    items: Iterable[Mapping[str, Any]], objects: Collection[tuple[str, str]]
) -> tuple[Happening, ...]:
    """Return the events of these objects (kind and name), the oldest first.

    Pods that are gone count by the name of what made them.
    """
    workloads = tuple(f"{name}-" for kind, name in objects if kind in _PODS - {"Pod"})
    found = [
        _happening(item)
        for item in items
        if (about := _about(item)) in objects
        or (about[0] == "Pod" and workloads and about[1].startswith(workloads))
    ]
    return tuple(sorted(found, key=lambda one: (one.when, one.object))[-TIMELINE_LIMIT:])


def timeline_text(name: str, found: tuple[Happening, ...]) -> str:
    """Return the events for people."""
    if not found:
        return f"{name}: no event is left; Kubernetes keeps them for an hour"
    rows = [
        (one.when, one.object, one.type, one.reason, _counted(one.message, one.count))
        for one in found
    ]
    return table(["WHEN", "OBJECT", "TYPE", "REASON", "MESSAGE"], rows)


def timeline_json(found: tuple[Happening, ...]) -> list[dict[str, Any]]:
    """Return the events for scripts; fields are only ever added."""
    return [asdict(one) for one in found]


def _about(item: Mapping[str, Any]) -> tuple[str, str]:
    about = item.get("involvedObject") or {}
    return str(about.get("kind") or ""), str(about.get("name") or "")


def _happening(item: Mapping[str, Any]) -> Happening:
    series, metadata = item.get("series") or {}, item.get("metadata") or {}
    moments = (
        series.get("lastObservedTime"),
        item.get("lastTimestamp"),
        item.get("eventTime"),
        metadata.get("creationTimestamp"),
    )
    when = str(next((one for one in moments if one), ""))
    return Happening(
        when=f"{when[:19]}Z" if when else "",
        object="/".join(_about(item)),
        type=item.get("type") or "",
        reason=item.get("reason") or "",
        message=" ".join(str(item.get("message") or "").split()),
        count=series.get("count") or item.get("count") or 1,
    )


def _counted(message: str, count: int) -> str:
    return f"{message} ({count} times)" if count > 1 else message
