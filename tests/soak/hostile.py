"""A hostile tenant beside one who does nothing wrong, under the chart's memory limit.

    make soak-hostile [ARGS="--minutes 10"]

Real: the API server, and the operator's process, which is started again whenever it ends. Played:
nodes, pods and what they answer. The other tenant's looks and rollbacks are timed before the attack
and during it, and the ratio counts. A missed goal fails nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bare_api import bare_api, install_crds, operator_kubeconfig
from bench.form import Row, at_most, figure, publish
from fleet.people import NO_NODE_TAINTS, People
from fleet.player import Player
from fleet.runtimes import follow, server_session
from skerry_operator.kube.paths import collection_path
from soak import attack, victim
from soak.attack import Attack, HostileRuntimes, Size
from soak.kubelet import KeptOperator
from soak.memory_limit import MemoryLimit, chart_limit_bytes, memory_limit
from soak.victim import Times, Victim

PODS_WITHIN_S = 300.0
WATCHED = ("EdgeDeployment", "ConfigMap")
NAMESPACES = (attack.NAMESPACE, victim.NAMESPACE)


@dataclass
class Stage:
    """Both tenants, and the operator between them."""

    operator: KeptOperator
    limit: MemoryLimit
    attack: Attack
    victim: Victim
    player: Player


@dataclass(frozen=True)
class Outcome:
    """What came out."""

    quiet: Times
    attacked: Times
    exits: tuple[int, ...]
    """Codes with which the operator ended during the attack."""
    rss_mib: float
    """Resident memory of the operator before the attack."""
    peak_mib: float
    limit: MemoryLimit
    pods: int

    def rows(self) -> list[Row]:
        """Return the figures."""
        quiet, attacked = self.quiet, self.attacked
        rollback = _ratio(quiet.rollback_s(), attacked.rollback_s())
        own = _ratio(quiet.own_look_s(), attacked.own_look_s())
        limit_mib, way = self.limit.limit_bytes / 2**20, self.limit.way
        return [
            at_most("operator ended and was started again", len(self.exits), 0),
            figure("operator's RSS before the attack", self.rss_mib, "MiB"),
            at_most(f"operator's largest RSS (limit: {way})", self.peak_mib, limit_mib, "MiB"),
            figure("other tenant's look, before", quiet.look_s(), "s"),
            figure("other tenant's look, during the attack", attacked.look_s(), "s"),
            at_most("look, during / before", _ratio(quiet.look_s(), attacked.look_s()), 1.2),
            figure("the API server alone, write to watch, before", quiet.echo_s(), "s"),
            figure("the API server alone, during the attack", attacked.echo_s(), "s"),
            at_most("look without the API server, during / before", own, 1.2),
            figure("other tenant's rollback, before", quiet.rollback_s(), "s"),
            figure("other tenant's rollback, during the attack", attacked.rollback_s(), "s"),
            at_most("rollback, during / before", rollback, 1.2),
            figure("looks and rollbacks timed during the attack", _count(attacked)),
            at_most("of them not done in time", len(attacked.missing), 0),
            figure("pods of the hostile tenant", self.pods),
        ]


def _ratio(before: float | None, during: float | None) -> float | None:
    return during / before if before and during else None


def _count(times: Times) -> int:
    return len(times.looks) + len(times.rollbacks) + len(times.missing)


@contextlib.asynccontextmanager
async def stage_of(folder: Path, size: Size) -> AsyncIterator[Stage]:
    """Start everything, with the good tenant deployed; end it all."""
    async with contextlib.AsyncExitStack() as parts:
        kubeconfig = parts.enter_context(bare_api(folder, NO_NODE_TAINTS))
        install_crds(kubeconfig)
        people = People(await parts.enter_async_context(server_session(kubeconfig)))
        runtimes = parts.enter_context(HostileRuntimes(kubeconfig))
        for name in NAMESPACES:
            await people.namespace(name)
        await people.nodes({**Victim.nodes(), **size.nodes()})
        player, good = Player(people.session, NAMESPACES), Victim(people, runtimes)
        own = {kind: collection_path(kind, victim.NAMESPACE) for kind in WATCHED}
        notes = (good.note, good.note_echo)
        watches = (
            follow(people.session, path, {}, note)
            for path, note in zip(own.values(), notes, strict=True)
        )
        for one in (player.run(), *watches):
            parts.callback(asyncio.create_task(one).cancel)
        limit = parts.enter_context(memory_limit(chart_limit_bytes()))
        where = operator_kubeconfig(kubeconfig), ",".join(NAMESPACES), folder
        operator = parts.enter_context(KeptOperator(*where, limit))
        await good.until(operator.is_ready, "the operator is ready")
        await good.deploy()
        yield Stage(operator, limit, Attack(people, size), good, player)


async def soak(folder: Path, size: Size, seconds: float) -> Outcome:
    """Time the good tenant before the attack and during it, each for so long."""
    async with stage_of(folder, size) as stage:
        good = stage.victim
        quiet = await good.measure(min(seconds, 60.0))
        before_mib, played = stage.operator.peak_mib, stage.player.count()
        await stage.attack.begin()
        whole = played + size.loud + size.silent
        await good.until(lambda: stage.player.count() == whole, "all its pods", PODS_WITHIN_S)
        going_on = asyncio.create_task(stage.attack.go_on())
        try:
            attacked = await good.measure(seconds)
        finally:
            going_on.cancel()
        pods = stage.player.count() - played
        exits = tuple(stage.operator.exits)
    return Outcome(quiet, attacked, exits, before_mib, stage.operator.peak_mib, stage.limit, pods)


def main() -> None:
    """Soak, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--maps", type=int, default=Size.maps)
    parser.add_argument("--loud", type=int, default=Size.loud)
    parser.add_argument("--silent", type=int, default=Size.silent)
    given = parser.parse_args()
    # told to end, it ends what it started; in the background a shell lets SIGINT be ignored
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    size = Size(given.maps, given.loud, given.silent)
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(soak(Path(folder), size, given.minutes * 60))
    found = {"exits": outcome.exits, "missing": outcome.attacked.missing}
    publish("soak-hostile", outcome.rows(), {**vars(given), **found})


if __name__ == "__main__":
    main()
