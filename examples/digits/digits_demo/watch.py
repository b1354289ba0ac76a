"""Looks at the cluster and at every pod several times a second and remembers what changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import urllib3

from digits_demo.kube import READ_ERRORS, Deployment, Event, Kube, Pod
from digits_demo.manifests import DEPLOYMENT
from skerry_runtime.contract import ADMIN_PORT, StatusReport, SwapRecord

INTERVAL_S = 0.25
EVENTS_EVERY_S = 1.0
STATUS_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class NodeView:
    """One node's pod, and what the pod says of itself; None when it did not answer."""

    pod: Pod
    profile: str
    report: StatusReport | None

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.pod.node

    @property
    def serves(self) -> str | None:
        """Revision that answers requests."""
        serving = self.report.serving if self.report else None
        return serving.revision if serving else None

    @property
    def version(self) -> str | None:
        """Model version that answers requests."""
        serving = self.report.serving if self.report else None
        return serving.version if serving else None

    @property
    def swap(self) -> str:
        """Where the pod stands with the revision it was given, in words."""
        progress = self.report.progress if self.report else None
        if progress is None:
            return "starting" if self.report is None else ""
        reason = f" ({progress.reason})" if progress.reason else ""
        return f"{progress.phase}{reason}"


@dataclass(frozen=True)
class Snapshot:
    """What one look found."""

    at: float
    deployment: Deployment | None = None
    nodes: tuple[NodeView, ...] = ()
    events: tuple[Event, ...] = ()
    trouble: str = ""
    """Why the look failed, if it did; the rest is then of the look before."""

    @property
    def all_serve(self) -> set[str | None]:
        """Revisions that serve anywhere; None stands for a pod that serves nothing."""
        return {node.serves for node in self.nodes}


@dataclass(frozen=True)
class Band:
    """A node served one revision from `start` to `end`."""

    node: str
    revision: str
    version: str
    start: float
    end: float


@dataclass
class Memory:
    """What was seen over time, as the report needs it."""

    bands: list[Band] = field(default_factory=list)
    swaps: dict[tuple[str, float], SwapRecord] = field(default_factory=dict)
    """By node and time, so that a swap that is seen twice counts once."""
    pods: dict[str, Pod] = field(default_factory=dict)
    """Every pod ever seen, by uid, as it was last."""
    versions: dict[str, str] = field(default_factory=dict)
    """Model version of each revision that served."""

    def note(self, snapshot: Snapshot) -> None:
        """Add one look."""
        for node in snapshot.nodes:
            self.pods[node.pod.uid] = node.pod
            if node.report is not None:
                self._note_report(node.name, node.report, snapshot.at)

    def _note_report(self, node: str, report: StatusReport, at: float) -> None:
        if report.last_swap is not None:
            self.swaps[node, report.last_swap.at] = report.last_swap
        if report.serving is None:
            return
        serving = report.serving
        self.versions[serving.revision] = serving.version
        self._extend(Band(node, serving.revision, serving.version, serving.since, at))

    def _extend(self, seen: Band) -> None:
        """Lengthen the node's last band, or begin one: a new switch is a new band."""
        for index in range(len(self.bands) - 1, -1, -1):
            last = self.bands[index]
            if last.node == seen.node:
                break
        else:
            self.bands.append(seen)
            return
        if (last.revision, last.start) == (seen.revision, seen.start):
            self.bands[index] = replace(last, end=seen.end)
            return
        self.bands[index] = replace(last, end=seen.start)
        self.bands.append(seen)


class Watcher:
    """A thread that looks and remembers. Its `latest` and `memory()` are safe to read."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._http = urllib3.PoolManager(maxsize=2, retries=False)
        self._pool = ThreadPoolExecutor(8, "status")
        self._memory = Memory()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._events_due = 0.0
        self.latest = Snapshot(0.0)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look a last time, then end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def memory(self) -> Memory:
        """Return a copy of what was seen so far."""
        with self._lock:
            memory = self._memory
            return Memory(
                list(memory.bands), dict(memory.swaps), dict(memory.pods), dict(memory.versions)
            )

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._look_once()
        self._look_once()

    def _look_once(self) -> None:
        try:
            snapshot = self._look()
        except READ_ERRORS as error:
            trouble = f"the API server does not answer: {type(error).__name__}"
            self.latest = replace(self.latest, trouble=trouble)
            return
        with self._lock:
            self._memory.note(snapshot)
        self.latest = snapshot

    def _look(self) -> Snapshot:
        deployment = self._kube.deployment(DEPLOYMENT)
        pods = self._kube.pods(DEPLOYMENT)
        reports = dict(zip(pods, self._pool.map(self._report_of, pods), strict=True))
        nodes = tuple(
            NodeView(pod, deployment.profile_of(pod.cell) if deployment else "", report)
            for pod, report in reports.items()
        )
        return Snapshot(time.time(), deployment, nodes, self._events())

    def _events(self) -> tuple[Event, ...]:
        now = time.monotonic()
        if now < self._events_due:
            return self.latest.events
        self._events_due = now + EVENTS_EVERY_S
        return self._kube.events()

    def _report_of(self, pod: Pod) -> StatusReport | None:
        if pod.ip is None:
            return None
        try:
            answer = self._http.request(
                "GET", f"http://{pod.ip}:{ADMIN_PORT}/status", timeout=STATUS_TIMEOUT_S
            )
            return StatusReport.model_validate_json(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError):
            return None


def profiles(snapshot: Snapshot) -> Mapping[str, str]:
    """Return the accelerator profile of each node."""
    return {node.name: node.profile for node in snapshot.nodes}
