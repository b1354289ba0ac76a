"""From nothing to a converged fleet: O4, and what a deployment and a pod weigh (O5)."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

from bench.form import Row, at_most, figure
from bench.scale_world import (
    BARE,
    BIG,
    CHILDREN,
    NAMESPACE,
    SITE,
    World,
    is_write,
    site_name,
    sites_of,
)
from fleet.audit import writes
from skerry_operator.constants import LABEL_MANAGED_BY, MANAGED_BY
from skerry_operator.kube.paths import API_VERSIONS, collection_path, object_path

Raw = dict[str, Any]
BATCHES = 4
WITHIN_S = 900.0
STATUS = "edgedeployments/status"


async def first_children(world: World, names: tuple[str, ...], nodes: int) -> list[Row]:
    """Put all deployments, in batches, before there is any pod; then let a bare script do it."""
    await world.until(world.operator.is_ready, "the operator is ready", 120)
    await world.settled()
    memory, seconds = [world.operator.rss_mib()], 0.0
    size = max(1, len(names) // BATCHES)
    for start in range(0, len(names), size):
        seconds += await _deploy(world, names[start : start + size], nodes, start)
        memory.append(world.operator.rss_mib())
    await _deploy_big(world)
    bare_s = await _bare(world, names, nodes)
    later = len(names) - size  # the first ones also load code and fill pools
    slope = (memory[-1] - memory[1]) / max(1, later) * 1000
    return [
        at_most("O4 children of all deployments written", seconds, 60, "s"),
        figure("O4 the same objects by a bare script", bare_s, "s"),
        at_most("O4 operator / bare script", seconds / bare_s, 1.5),
        figure("RSS with nothing deployed", memory[0], "MiB"),
        at_most("O5 RSS for a thousand deployments without pods", slope, 15, "MiB"),
        figure("RSS after the first quarter of the deployments", memory[1], "MiB"),
        figure("RSS after all deployments, without pods", memory[-1], "MiB"),
        figure("memory for a deployment without pods", slope * 1.024, "KiB"),
    ]


async def _deploy(world: World, names: tuple[str, ...], nodes: int, start: int) -> float:
    """Put deployments; return the seconds until the last child was written."""
    sites, began = sites_of(nodes), time.time()
    selectors = [{SITE: site_name((start + at) % sites)} for at in range(len(names))]
    await asyncio.gather(*map(world.deploy, names, selectors))

    def are_known() -> bool:
        return all(world.told.statuses.get(name, {}).get("phase") for name in names)

    await world.until(are_known, "all deployments have a phase", WITHIN_S)
    await world.settled()
    made = [one.at for one in world.requests(began) if is_write(one) and _is_child(one.kind)]
    return max(made, default=began) - began


async def _deploy_big(world: World) -> None:
    await world.deploy(BIG, {})
    await world.until(
        lambda: bool(world.told.statuses.get(BIG, {}).get("phase")), "the big one", WITHIN_S
    )
    await world.settled()


def _is_child(kind: str) -> bool:
    return kind in {"configmaps", "controllerrevisions", "daemonsets", "services"}


async def _bare(world: World, names: tuple[str, ...], nodes: int) -> float:
    """Write the same objects into a namespace that nobody watches; return the seconds."""
    bodies = [body for kind in CHILDREN for body in await _children(world, kind)]
    sites, began = sites_of(nodes), time.time()
    selectors = [{SITE: site_name(at % sites)} for at in range(len(names))]
    people = [world.deploy(name, where, BARE) for name, where in zip(names, selectors, strict=True)]
    children = [
        world.people.send("APPLY", object_path(body["kind"], BARE, body["metadata"]["name"]), body)
        for body in bodies
    ]
    await asyncio.gather(*people, *children)
    return time.time() - began


async def _children(world: World, kind: str) -> list[Raw]:
    ours = {"labelSelector": f"{LABEL_MANAGED_BY}={MANAGED_BY}"}
    async with world.people.session.get(collection_path(kind, NAMESPACE), params=ours) as answer:
        items = json.loads(await answer.text())["items"]
    return [_plain(kind, item) for item in items if not item["metadata"]["name"].startswith(BIG)]


def _plain(kind: str, item: Raw) -> Raw:
    """Return the object as somebody would write it; nobody plays pods for it."""
    meta = item["metadata"]
    labels = {key: text for key, text in meta["labels"].items() if key != LABEL_MANAGED_BY}
    kept = {"name": meta["name"], "labels": labels, "annotations": meta.get("annotations", {})}
    body = {key: item[key] for key in ("spec", "data", "revision") if key in item}
    if kind == "Service":
        for taken in ("clusterIP", "clusterIPs"):
            body["spec"].pop(taken, None)
    return {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": kept, **body}


async def first_pods(world: World, names: tuple[str, ...]) -> list[Row]:
    """Let the pods come, and wait until all serve."""
    before, began = world.operator.rss_mib(), time.time()
    statuses = Counter(world.told.writes)
    decisions = Counter(world.told.decisions)
    world.play()
    ended = await world.until(lambda: world.has((*names, BIG), "1.0.0"), "all serve", WITHIN_S)
    await world.settled()
    pods, after = world.player.count(), world.operator.rss_mib()
    made = writes(world.requests(began))
    big = world.told.writes[BIG] - statuses[BIG]
    big_decisions = world.told.decisions[BIG] - decisions[BIG]
    return [
        figure("pods", pods),
        figure("first pod made to all pods serving", ended - began, "s"),
        figure("memory for a pod", (after - before) * 1024 / max(1, pods), "KiB"),
        at_most("O5 RSS when all serve", after, 150, "MiB"),
        figure("O3 status writes of the deployment on all nodes, first rollout", big),
        at_most("O3 the same, for each decision", big / max(1, big_decisions), 1),
        figure("status writes for each deployment, first rollout", made[STATUS] / len(names)),
    ]
