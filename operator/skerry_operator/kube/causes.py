"""Why a workload makes no pod, or a pod does not start: its events, read only while it is stuck.

Nothing is watched. A workload that has all its pods is never asked about; one that has not is read
after a moment, then less and less often until that changes. A look waits for none of it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from skerry_operator.api.bounds import on_one_line
from skerry_operator.decide.fleet.stuck import Stuck
from skerry_operator.kube.client import KubeClient, Threads
from skerry_operator.kube.errors import KubeError
from skerry_operator.kube.paths import collection_path

FIRST_S = 3.0
"""How long an object must be stuck before its events are read: most pods come by themselves."""
AGAIN_S = 5.0
SELDOM_S = 60.0
"""Time between two reads, at first and at most; it doubles."""
AT_ONE_TIME = 4
"""Reads under way over all deployments: the API server goes through a namespace's events for each,
and may have better things to do in the outage that they tell of."""
EVENTS_LIMIT = 100
"""Most events of one object that are taken."""
MESSAGE_LIMIT = 512
STALE = timedelta(minutes=20)
"""Age from which an event says nothing of today: a controller tries again within 17 minutes."""

_BESIDE_THE_POINT = frozenset({"FailedDaemonPod", "FailedScheduling"})
"""What a controller did about a pod, and what is over once a pod has its node."""
_VAGUE = "Unable to attach or mount volumes"
"""The kubelet's second way to say that a volume is not there; the first one says why."""
_POD = re.compile(r'\b[Pp]ods? "[^"]*"')
_RANDOM = re.compile(r"\b[0-9a-f]{32,64}\b")

log = logging.getLogger(__name__)

Ask = Callable[[str, Stuck], Awaitable[str]]
"""Namespace and object -> what its events say is in the way; nothing when they do not say."""


def cause_in(events: Iterable[Mapping[str, Any]], of: Stuck, now: datetime) -> str:
    """Return the newest reason in the events of an object, and where it is to be read whole.

    Equal for equal reasons: names that are new with every try are left out. Pure.
    """
    found = [one for one in events if _counts(one, now)]
    if not found:
        return ""
    event = max(found, key=_weight)
    message = str(event.get("message") or "").removeprefix("Error creating: ")
    message = _RANDOM.sub("...", _POD.sub("the pod", message))
    where = f"see `kubectl describe {of.kind.lower()} {of.name}`"
    reason = on_one_line(str(event.get("reason") or "Warning"), 64)
    return f"{reason} ({where}): {on_one_line(message, MESSAGE_LIMIT)}".rstrip(": ")


def _counts(event: Mapping[str, Any], now: datetime) -> bool:
    if event.get("type") != "Warning" or event.get("reason") in _BESIDE_THE_POINT:
        return False
    at = _time(event)
    return at is not None and now - at < STALE


def _weight(event: Mapping[str, Any]) -> tuple[bool, bool, str]:
    is_creation = event.get("reason") == "FailedCreate"
    is_precise = not str(event.get("message") or "").startswith(_VAGUE)
    return is_creation, is_precise, _moment(event)


def _moment(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    moments = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next((one for one in moments if one), ""))


def _time(event: Mapping[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(_moment(event))
    except ValueError:
        return None


@dataclass(frozen=True)
class EventReader:
    """Reads the events of single objects."""

    client: KubeClient
    threads: Threads
    now: Callable[[], datetime]
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONE_TIME))

    async def __call__(self, namespace: str, of: Stuck) -> str:
        """Return what the events of an object say; nothing when they cannot be read."""
        query = {
            "fieldSelector": f"involvedObject.uid={of.uid},type=Warning",
            "limit": str(EVENTS_LIMIT),
        }
        path = collection_path("Event", namespace)
        try:
            async with self.slots:
                answer = await self.threads.run(self.client.get, path, query)
        except KubeError as error:
            log.info(
                "the events of %s %s/%s cannot be read: %s", of.kind, namespace, of.name, error
            )
            return ""
        return cause_in(answer.get("items") or (), of, self.now())


@dataclass
class _Inquiry:
    """One stuck object, and what was found out about it."""

    due_at: float
    wait_s: float = AGAIN_S
    task: asyncio.Task[str] | None = None
    cause: str = ""


@dataclass
class Causes:
    """What keeps the pods of one deployment from coming."""

    ask: Ask
    wake: Callable[[], None]
    """Called when there is another cause to tell."""
    _inquiries: dict[str, _Inquiry] = field(default_factory=dict)
    """uid -> what was asked about it."""

    def refresh(self, namespace: str, stuck: Iterable[Stuck], now: float) -> Mapping[str, str]:
        """Ask about what is due, and return unit -> cause as far as it is known.

        `now` is of a monotonic clock. What is not stuck any longer is forgotten.
        """
        objects = {one.uid: one for one in stuck}
        self._forget_all_but(objects)
        for uid, one in objects.items():
            inquiry = self._inquiries.setdefault(uid, _Inquiry(now + FIRST_S))
            if inquiry.task is None and now >= inquiry.due_at:
                inquiry.due_at, inquiry.wait_s = now + inquiry.wait_s, _longer(inquiry.wait_s)
                inquiry.task = asyncio.create_task(self._look_into(namespace, one, inquiry))
        return {
            unit: self._inquiries[uid].cause
            for uid, one in objects.items()
            for unit in one.units
            if self._inquiries[uid].cause
        }

    def close(self) -> None:
        """Break off what is under way."""
        self._forget_all_but({})

    async def _look_into(self, namespace: str, of: Stuck, inquiry: _Inquiry) -> str:
        try:
            cause = await self.ask(namespace, of)
        except Exception:  # a mistake of ours must not stop looks
            log.exception("asking for the events of %s %s failed", of.kind, of.name)
            cause = ""
        finally:
            inquiry.task = None
        if cause != inquiry.cause:
            inquiry.cause = cause
            self.wake()
        return cause

    def _forget_all_but(self, uids: Mapping[str, Stuck]) -> None:
        for uid in [uid for uid in self._inquiries if uid not in uids]:
            task = self._inquiries.pop(uid).task
            if task is not None:
                task.cancel()


def _longer(wait_s: float) -> float:
    return min(SELDOM_S, 2 * wait_s)
