"""A converged fleet that is left alone (O1), a node that comes and goes (O8), a restart (O6)."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

from bench.form import Row, at_most, figure
from bench.scale_figures import looked, looks
from bench.scale_world import BIG, World, is_write
from fleet.audit import READS
from fleet.people import readiness

PODS_OF_THE_GOAL = 10_000
BETWEEN_S = 1.5
WITHIN_S = 300.0


async def rest(world: World, seconds: float) -> list[Row]:
    """O1, and what the polling of pods costs."""
    await world.settled()
    before, began = await world.metrics(), time.time()
    cpu_s = world.operator.cpu_s()
    await asyncio.sleep(seconds)
    cores = (world.operator.cpu_s() - cpu_s) / seconds
    asked, after = world.requests(began), await world.metrics()
    pods = max(1, world.player.count())
    world.rest_cores, world.rest_looks = cores, looks(before, after) / seconds
    return [
        at_most(f"O1 writes in {seconds:g} quiet seconds", sum(map(is_write, asked)), 0),
        at_most("O1 gets and lists meanwhile", sum(one.verb in READS for one in asked), 0),
        figure("CPU at rest", cores, "cores"),
        at_most("CPU at rest for ten thousand pods", cores * PODS_OF_THE_GOAL / pods, 0.1, "cores"),
        *looked("at rest", before, after),
    ]


async def flap(world: World, count: int) -> list[Row]:
    """O8: one node goes and comes; how many looks that wakes, and what they cost."""
    node = sorted(world.nodes)[0]
    selecting = len(world.on_node(node))
    flaps = await _spent(world, lambda turn: _turn(world, node, turn), 2 * count)
    touches = await _spent(world, lambda turn: world.edit(BIG, 3601 + turn), count)
    per_flap, cpu_ms = flaps
    return [
        figure("deployments that may run on the node that flaps", selecting),
        figure("O8 looks for each change of that node", per_flap),
        at_most("O8 CPU for each of these looks", cpu_ms / max(per_flap, 1), 1, "ms"),
        figure("looks for each edit of the deployment on all nodes", touches[0]),
        at_most("O8 CPU for each edit of the deployment on all nodes", touches[1], 1, "ms"),
    ]


Act = Callable[[int], Awaitable[object]]


async def _spent(world: World, act: Act, count: int) -> tuple[float, float]:
    """Do something so often; return the looks and the CPU milliseconds for each time.

    What the world costs at rest is taken off.
    """
    await world.settled()
    before, began, cpu_s = await world.metrics(), time.monotonic(), world.operator.cpu_s()
    for turn in range(count):
        await act(turn)
        await asyncio.sleep(BETWEEN_S)
    await world.settled()
    after, spent_s = await world.metrics(), world.operator.cpu_s() - cpu_s
    seconds = time.monotonic() - began
    extra_s = spent_s - world.rest_cores * seconds
    extra = looks(before, after) - world.rest_looks * seconds
    return max(0.0, extra) / count, max(0.0, extra_s) * 1000 / count


async def _turn(world: World, node: str, turn: int) -> None:
    """Take the node away, or let it come back."""
    await world.people.node_status(node, readiness(is_ready=turn % 2 == 1))


async def restart(world: World, deployments: int) -> list[Row]:
    """O6: the operator is killed, and another one takes over."""
    await world.settled()
    world.operator.end(signal.SIGKILL)
    began = time.time()
    world.start_operator()
    ready_at = await world.until(world.operator.is_ready, "it is ready", WITHIN_S)
    while not await _has_looked(world, deployments):
        if time.time() - began > WITHIN_S:
            raise TimeoutError(f"not all looked at within {WITHIN_S:g} s")
        await asyncio.sleep(0.1)
    looked_at = time.time()
    await world.settled()
    asked = world.requests(began)
    return [
        at_most("O6 killed to ready", ready_at - began, 5, "s"),
        at_most("O6 killed to every deployment looked at", looked_at - began, 10, "s"),
        at_most("O6 writes of the new operator", sum(map(is_write, asked)), 0),
        figure("O6 gets and lists of the new operator", sum(one.verb in READS for one in asked)),
        at_most("O5 RSS after the restart", world.operator.rss_mib(), 150, "MiB"),
    ]


async def _has_looked(world: World, deployments: int) -> bool:
    """Tell whether there were as many looks as there are deployments: each is due at the start."""
    try:
        return looks({}, await world.metrics()) >= deployments
    except OSError:
        return False
