"""The world of bench-scale: a bare API server, nodes that only stand there, and one operator.

Nothing but the operator, the player of pods and the bench itself asks the API server for anything:
no controller, no scheduler, no kubelet and no lease, so that a quiet world is quiet.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bare_api import bare_api, install_crds, operator_kubeconfig
from fleet.audit import WRITES, Audit, Request
from fleet.people import NO_NODE_TAINTS, People, model
from fleet.player import Player
from fleet.runtimes import SimulatedRuntimes, follow, server_session
from operator_process import Process, running_operator
from skerry_operator.constants import LABEL_MANAGED_BY, MANAGED_BY
from skerry_operator.kube.paths import collection_path, object_path

Raw = dict[str, Any]
NAMESPACE = "fleet"
BARE = "bare"
"""Namespace that the operator does not serve."""
SITE = "topology.kubernetes.io/zone"
SITE_SIZES = (1, 2, 3)
CHILDREN = ("ConfigMap", "ControllerRevision", "DaemonSet", "Service")
BIG = "all"
"""The deployment on every node."""
SETTLED_S = 2.0
ROLLOUT = {"steps": [{"units": "100%", "soak": "0s"}], "progressDeadline": "3600s"}


@dataclass
class Told:
    """What the watch of the EdgeDeployments has told."""

    statuses: dict[str, Raw] = field(default_factory=dict)
    writes: Counter[str] = field(default_factory=Counter)
    """Changes of the status, by deployment."""
    decisions: Counter[str] = field(default_factory=Counter)
    """Those of them that tell of a decision: a stage, a step, a target or stable."""

    def note(self, event: str, raw: Raw) -> None:
        """Take an event."""
        name, status = raw["metadata"]["name"], raw.get("status", {})
        before = self.statuses.get(name, {})
        self.statuses[name] = status
        self.writes[name] += status != before
        self.decisions[name] += _decision(status) != _decision(before)


def _decision(status: Raw) -> tuple[Any, ...]:
    rollout = status.get("rollout", {})
    words = ("observedGeneration", "phase", "targetRevision", "stableRevision", "modelVersion")
    return *(status.get(word) for word in words), rollout.get("stage"), rollout.get("step")


class World:
    """What the bench does and sees."""

    def __init__(self, folder: Path, kubeconfig: Path, audit: Audit, parts: Parts) -> None:
        self.folder = folder
        self.audit = audit
        self.people, self.player = parts
        self.told = Told()
        self.children: Counter[tuple[str, str]] = Counter()
        """Changes of generated objects, by kind and name."""
        self._kubeconfig = kubeconfig
        self._processes = contextlib.ExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self.operator = self.start_operator()
        self.peak_mib = 0.0
        self.nodes: dict[str, str] = {}
        """Node -> site."""
        self._sites: dict[str, str | None] = {}
        """Deployment -> its site; None: it is everywhere."""
        self.rest_cores = self.rest_looks = 0.0
        """What the operator uses, and how often it looks in a second, while nothing happens."""
        self.idle_p99_ms = 0.0
        """From a change to its last child, while nothing else happens."""

    def start_operator(self) -> Process:
        """Start an operator; the one before must have ended."""
        own = operator_kubeconfig(self._kubeconfig)
        context = running_operator(own, NAMESPACE, self.folder, "--no-lease")
        self.operator = self._processes.enter_context(context)
        return self.operator

    def play(self) -> None:
        """Let the pods of the DaemonSets come, from now on."""
        self._tasks.append(asyncio.create_task(self.player.run()))

    def follow(self) -> None:
        """Watch the deployments, what is made of them, and the operator's memory."""
        path = collection_path("EdgeDeployment", NAMESPACE)
        watches = [follow(self.people.session, path, {}, self.told.note), self._watch_memory()]
        for kind in CHILDREN:
            note = partial(self._note_child, kind)
            watches.append(follow(self.people.session, collection_path(kind, NAMESPACE), {}, note))
        self._tasks += [asyncio.create_task(one) for one in watches]

    def close(self) -> None:
        """End the operator, and look no more."""
        for task in self._tasks:
            task.cancel()
        self._processes.close()

    # what people do

    async def deploy(self, name: str, selector: Raw, namespace: str = NAMESPACE) -> None:
        """Put a model and a deployment of it."""
        self._sites[name] = selector.get(SITE)
        await self.people.put("EdgeModel", namespace, name, model("1.0.0"))
        spec = {"modelRef": {"name": name}, "rollout": ROLLOUT}
        spec |= {"placement": {"nodeSelector": selector}} if selector else {}
        await self.people.put("EdgeDeployment", namespace, name, spec)

    async def change(self, name: str, version: str) -> float:
        """Give a deployment another version of its model; return when."""
        return await self.people.put("EdgeModel", NAMESPACE, name, model(version))

    async def edit(self, name: str, deadline_s: int) -> None:
        """Edit the spec of a deployment in a way that changes no child."""
        spec = {"rollout": {**ROLLOUT, "progressDeadline": f"{deadline_s}s"}}
        path = object_path("EdgeDeployment", NAMESPACE, name)
        await self.people.send("PATCH", path, {"spec": spec})

    # what one sees

    def has(self, names: Iterable[str], version: str) -> bool:
        """Tell whether all of these deployments serve a version everywhere."""
        found = (self.told.statuses.get(name, {}) for name in names)
        return all(
            one.get("phase") == "Stable" and one.get("modelVersion") == version for one in found
        )

    def on_node(self, node: str) -> list[str]:
        """Name the deployments that may run on a node."""
        here = (None, self.nodes[node])
        return [name for name, site in self._sites.items() if site in here]

    def requests(self, since: float, until: float = float("inf")) -> list[Request]:
        """Return the operator's requests."""
        return self.audit.requests(since, until)

    async def until(self, look: Callable[[], bool], what: str, within_s: float) -> float:
        """Wait; return when it was so, in Unix seconds.

        Raises:
            TimeoutError: it was not in time; the text says what.
        """
        end = time.monotonic() + within_s
        while not look():
            code = self.operator.popen.poll()
            assert code is None, f"operator ended ({code}): {self.operator.log.read_text()[-4000:]}"
            for task in self._tasks:
                if task.done():
                    task.result()  # raises what ended it
            if time.monotonic() > end:
                raise TimeoutError(f"not within {within_s:g} s: {what}")
            await asyncio.sleep(0.05)
        return time.time()

    async def settled(self, within_s: float = 600.0) -> None:
        """Wait until the operator wrote nothing for a while.

        Raises:
            TimeoutError: it went on.
        """
        end = time.monotonic() + within_s
        before, since = -1.0, time.monotonic()
        while time.monotonic() - since < SETTLED_S:
            if time.monotonic() > end:
                raise TimeoutError(f"the operator still writes after {within_s:g} s")
            now = await asyncio.to_thread(self.operator.writes)
            before, since = (before, since) if now == before else (now, time.monotonic())
            await asyncio.sleep(0.2)

    async def metrics(self) -> dict[str, float]:
        """Return the operator's metrics."""
        return await asyncio.to_thread(self.operator.metrics)

    def _note_child(self, kind: str, event: str, raw: Raw) -> None:
        """Take an event of a generated object."""
        if raw["metadata"].get("labels", {}).get(LABEL_MANAGED_BY) == MANAGED_BY:
            self.children[kind, raw["metadata"]["name"]] += event != "DELETED"

    async def _watch_memory(self) -> None:
        """Keep the largest memory of the operator."""
        while True:
            with contextlib.suppress(OSError, ValueError):
                self.peak_mib = max(self.peak_mib, self.operator.rss_mib())
            await asyncio.sleep(0.5)


Parts = tuple[People, Player]


@contextlib.asynccontextmanager
async def world_of(folder: Path, nodes: int) -> AsyncIterator[World]:
    """Start everything with so many nodes; end it all."""
    audit = Audit(folder)
    async with contextlib.AsyncExitStack() as parts:
        kubeconfig = parts.enter_context(bare_api(folder, *audit.flags(), NO_NODE_TAINTS))
        install_crds(kubeconfig)
        session = await parts.enter_async_context(server_session(kubeconfig))
        player = Player(session, (NAMESPACE,))
        parts.enter_context(SimulatedRuntimes(kubeconfig))
        people, sites = People(session), _sites(nodes)
        for name in (NAMESPACE, BARE):
            await people.namespace(name)
        await people.nodes({node: {SITE: site} for node, site in sites.items()})
        world = World(folder, kubeconfig, audit, (people, player))
        parts.callback(world.close)
        world.nodes = sites
        world.follow()
        yield world


def _sites(nodes: int) -> dict[str, str]:
    """Return node -> site: sites have one, two and three nodes by turns."""
    sizes = enumerate(itertools.cycle(SITE_SIZES))
    sites = (site_name(number) for number, size in sizes for _ in range(size))
    return {f"node-{index:04}": site for index, site in zip(range(nodes), sites, strict=False)}


def site_name(number: int) -> str:
    """Return the name of a site."""
    return f"site-{number:04}"


def sites_of(nodes: int) -> int:
    """Count the sites of so many nodes, whole ones only."""
    whole, rest = divmod(nodes, sum(SITE_SIZES))
    return whole * len(SITE_SIZES) + (rest >= 1) + (rest >= 3)


def is_write(request: Request) -> bool:
    """Tell whether a request changes something."""
    return request.verb in WRITES
