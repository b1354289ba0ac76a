"""Changes, one at a time and all at once: O2, O3, O7, and memory over many updates (O5)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.form import Row, at_most, figure
from bench.scale_figures import looked
from bench.scale_world import World, is_write
from fleet.audit import Request, reads
from fleet.people import readiness

WITHIN_S = 900.0
STATUS = "edgedeployments/status"
HOT_EDITS = 100
HOT_EDITS_PER_S = 20.0
_versions = itertools.count(2)


@dataclass(frozen=True)
class Change:
    """A change of one deployment's model, and what the operator asked for after it."""

    name: str
    at: float
    requests: Sequence[Request]

    def last_child_s(self) -> float | None:
        """Return the seconds until the last child of the first decision was written.

        That is the last one before the second write of the status; None: there was none.
        """
        statuses = sorted(one.at for one in self.requests if one.kind == STATUS)
        until = statuses[1] if len(statuses) > 1 else float("inf")
        children = [one.at for one in self.requests if _is_child(one) and one.at < until]
        return max(children) - self.at if statuses and children else None


def _is_child(request: Request) -> bool:
    return is_write(request) and not request.kind.startswith(("edge", "events"))


def changes_of(world: World, at: dict[str, float]) -> list[Change]:
    """Sort the operator's requests by the deployment that they are about, by their names."""
    found: dict[str, list[Request]] = {name: [] for name in at}
    for one in world.requests(min(at.values())):
        name = one.name.partition("-")[0]
        if name in found and one.at >= at[name]:
            found[name].append(one)
    return [Change(name, at[name], found[name]) for name in at]


def percentiles(changes: Sequence[Change]) -> tuple[float, float] | None:
    """Return median and 99th percentile of the delays in milliseconds."""
    delays = sorted(1000 * one for each in changes if (one := each.last_child_s()) is not None)
    if not delays:
        return None
    return statistics.median(delays), delays[math.ceil(len(delays) * 0.99) - 1]


async def _change_all_by_turns(world: World, names: Sequence[str]) -> list[Change]:
    version, at = _version(), {}
    for name in names:
        at[name] = await world.change(name, version)
        await world.until(lambda name=name: world.has([name], version), f"{name} has it", WITHIN_S)  # type: ignore[misc]
    await world.settled()
    return changes_of(world, at)


def _version() -> str:
    return f"{next(_versions)}.0.0"


async def change_one_by_one(world: World, names: Sequence[str]) -> list[Row]:
    """O2 when nothing else happens, and O3."""
    before, children = await world.metrics(), world.children.total()
    writes, decisions = world.told.writes.total(), world.told.decisions.total()
    changes = await _change_all_by_turns(world, names)
    world.idle_p99_ms = (percentiles(changes) or (0.0, 0.0))[1]
    writes = world.told.writes.total() - writes
    decisions = world.told.decisions.total() - decisions
    asked = [one for change in changes for one in change.requests]
    written = sum(_is_child(one) and one.kind != "pods" for one in asked)
    changed, read = world.children.total() - children, reads(asked)
    return [
        *_delays("O2 change to last child, idle", changes, (50, 250)),
        at_most("O3 writes for each changed child", written / max(1, changed), 1),
        at_most("O3 status writes for each decision", writes / max(1, decisions), 1),
        at_most("O3 gets and lists for each change", read.total() / len(changes), 0),
        *(figure(f"O3 {what}, for each change", read[what] / len(changes)) for what in read),
        figure("status writes for each change", writes / len(changes)),
        *looked("one change at a time", before, await world.metrics()),
    ]


def _delays(name: str, changes: Sequence[Change], limits: tuple[float, float]) -> list[Row]:
    p50, p99 = percentiles(changes) or (None, None)
    return [
        at_most(f"{name}, p50", p50, limits[0], "ms"),
        at_most(f"{name}, p99", p99, limits[1], "ms"),
    ]


async def edit_one(world: World, names: Sequence[str]) -> list[Row]:
    """O7: a hundred edits of one object in a second, and what a hot object costs the others."""
    hot, *others = names
    began = time.time()
    for number in range(HOT_EDITS):
        await world.edit(hot, 3600 + number)
        await asyncio.sleep(max(0.0, began + (number + 1) / HOT_EDITS - time.time()))
    took = time.time() - began
    await world.settled()
    looks = [one for one in world.requests(began) if (one.kind, one.name) == (STATUS, hot)]
    task = asyncio.create_task(_keep_editing(world, hot))
    try:
        changes = await _change_beside(world, others)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    _, p99 = percentiles(changes) or (None, None)
    ratio = p99 / world.idle_p99_ms if p99 and world.idle_p99_ms else None
    return [
        figure(f"seconds for {HOT_EDITS} edits of one object", took, "s"),
        at_most(f"O7 looks at {HOT_EDITS} edits that told of them", len(looks), 3),
        at_most("O7 p99 of the others beside a hot object / idle", ratio, 1.2),
    ]


async def _change_beside(world: World, names: Sequence[str]) -> list[Change]:
    """Change one by one; the operator is never quiet meanwhile."""
    version, at = _version(), {}
    for name in names:
        at[name] = await world.change(name, version)
        await world.until(lambda name=name: world.has([name], version), f"{name} has it", WITHIN_S)  # type: ignore[misc]
    return changes_of(world, at)


async def _keep_editing(world: World, name: str) -> None:
    for number in itertools.count():
        await world.edit(name, 3600 + number % 1000)
        await asyncio.sleep(1 / HOT_EDITS_PER_S)


async def storm(world: World, names: Sequence[str], count: int) -> list[Row]:
    """O2 while all others change: some are changed at even intervals in the storm."""
    step = max(1, len(names) // max(1, min(count, len(names) // 2)))
    timed = names[::step]
    others = [name for name in names if name not in set(timed)]
    version, began = _version(), time.time()
    crowd = asyncio.gather(*(world.change(name, version) for name in others))
    at = {name: await world.change(name, version) for name in timed}
    sent = max(await crowd, default=began) - began
    ended = await world.until(lambda: world.has(names, version), "all have it", WITHIN_S)
    await world.settled()
    return [
        *_delays("O2 change to last child, all others change", changes_of(world, at), (1000, 2000)),
        figure("storm: all changes sent after", sent, "s"),
        figure("storm: all serve the new version after", ended - began, "s"),
        figure("O5 RSS after the storm", world.operator.rss_mib(), "MiB"),
    ]


async def update_all(world: World, count: int) -> list[Row]:
    """O5: memory over many updates of objects that change nothing for the operator."""
    warm = max(1, count // 10)
    await _heartbeats(world, warm)
    before = world.operator.rss_mib()
    began = time.monotonic()
    await _heartbeats(world, count)
    per_s = count / (time.monotonic() - began)
    await world.settled()
    after = world.operator.rss_mib()
    return [
        figure("updates", count),
        figure("updates a second", per_s),
        at_most("O5 growth of memory over them", 100 * (after / before - 1), 2, "%"),
        at_most("O5 largest RSS of all", world.peak_mib, 150, "MiB"),
    ]


async def _heartbeats(world: World, count: int) -> None:
    """Let nodes say again that they are ready, with another time."""
    nodes = itertools.cycle(sorted(world.nodes))

    async def beat(number: int, node: str) -> None:
        status = readiness(is_ready=True)
        status["conditions"][0]["lastHeartbeatTime"] = _time(number)
        await world.people.node_status(node, status)

    for start in range(0, count, 1000):
        some = zip(range(start, min(count, start + 1000)), nodes, strict=False)
        await asyncio.gather(*(beat(number, node) for number, node in some))


def _time(number: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(number))
