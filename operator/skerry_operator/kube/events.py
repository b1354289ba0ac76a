"""Events for people: `kubectl describe` shows them. They never fail a reconcile."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from threading import Lock

from skerry_operator.constants import API_VERSION, FIELD_MANAGER
from skerry_operator.decide.planned import EventNote
from skerry_operator.kube.client import Json, KubeClient
from skerry_operator.kube.errors import KubeError, NotFound
from skerry_operator.kube.paths import collection_path, object_path
from skerry_operator.kube.status import Target

WINDOW = timedelta(minutes=10)
"""The same note within this time raises the count of the first event."""

REMEMBERED = 4096
"""Notes that can be counted up."""

MESSAGE_LIMIT = 1024
"""Longest message that the API server takes."""

_Note = tuple[str, str, str]
"""uid of the object, reason and message."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Sent:
    """An event that exists."""

    name: str
    first: datetime
    count: int


class Recorder:
    """Writes events and counts repeated ones up. Safe to use from several threads."""

    def __init__(self, client: KubeClient, identity: str, now: Callable[[], datetime]) -> None:
        self._client = client
        self._identity = identity
        self.now = now
        self._sent: OrderedDict[_Note, _Sent] = OrderedDict()
        self._lock = Lock()

    def record(self, target: Target, note: EventNote) -> None:
        """Write the event; a failure is logged and forgotten."""
        try:
            self._record(target, note)
        except KubeError as error:
            log.warning("event %s of %s was not written: %s", note.reason, target.name, error)

    def _record(self, target: Target, note: EventNote) -> None:
        now = self.now()
        key = (target.uid, note.reason, note.message)
        sent = self._recent(key, now)
        if sent is None:
            self._create(target, note, _Sent(_name(target, key, now), now, 1))
            return
        try:
            self._count_up(target, key, sent, now)
        except NotFound:  # events live an hour
            self._create(target, note, replace(sent, name=_name(target, key, now), count=1))

    def _recent(self, key: _Note, now: datetime) -> _Sent | None:
        with self._lock:
            sent = self._sent.get(key)
        return sent if sent and now - sent.first < WINDOW else None

    def _create(self, target: Target, note: EventNote, sent: _Sent) -> None:
        body = _event(target, note, sent, self._identity)
        self._client.create(collection_path("Event", target.namespace), body, "Event")
        self._remember((target.uid, note.reason, note.message), sent)

    def _count_up(self, target: Target, key: _Note, sent: _Sent, now: datetime) -> None:
        patch = {"count": sent.count + 1, "lastTimestamp": _stamp(now)}
        self._client.merge(object_path("Event", target.namespace, sent.name), patch, "Event")
        self._remember(key, replace(sent, count=sent.count + 1))

    def _remember(self, key: _Note, sent: _Sent) -> None:
        with self._lock:
            self._sent[key] = sent
            self._sent.move_to_end(key)
            if len(self._sent) > REMEMBERED:
                self._sent.popitem(last=False)


def _name(target: Target, key: _Note, now: datetime) -> str:
    digest = sha256("\n".join((*key, now.isoformat())).encode()).hexdigest()[:16]
    return f"{target.name[:200]}.{digest}"


def _event(target: Target, note: EventNote, sent: _Sent, identity: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": sent.name, "namespace": target.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": target.kind,
            "namespace": target.namespace,
            "name": target.name,
            "uid": target.uid,
        },
        "type": "Warning" if note.warning else "Normal",
        "reason": note.reason,
        "message": note.message[:MESSAGE_LIMIT],
        "action": note.reason,
        "reportingComponent": FIELD_MANAGER,
        "reportingInstance": identity[:128],
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": _stamp(sent.first),
        "lastTimestamp": _stamp(sent.first),
        "count": sent.count,
    }


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
