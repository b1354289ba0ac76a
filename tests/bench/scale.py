"""A thousand deployments on a thousand nodes: goals O1 to O8 of the operator.

    make bench-scale [ARGS="--nodes 60 --deployments 60 --quiet-seconds 10 --updates 2000"]

Real: API server, the operator's process and every one of its requests, counted from the server's
audit log. Played: nodes, pods and what their runtimes answer. Every deployment is on a site of one
to three nodes; one more is on all nodes. No goal has to be met: figures, and ratios within one run.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.form import Row, line, publish
from bench.scale_busy import change_one_by_one, edit_one, storm, update_all
from bench.scale_rest import flap, rest, restart
from bench.scale_start import first_children, first_pods
from bench.scale_world import World, world_of

Phase = Callable[[], Awaitable[list[Row]]]


async def measure(options: argparse.Namespace, folder: Path) -> list[Row]:
    """Run all phases; one that does not end in time is told, and leaves its figures out."""
    rows: list[Row] = []
    async with world_of(folder, options.nodes) as world:
        for name, phase in _phases(world, options).items():
            began = time.monotonic()
            try:
                found = await phase()
            except TimeoutError as error:
                found = [Row(f"{name}: {error}", None)]
            print(f"-- {name}, {time.monotonic() - began:.0f} s")
            print(*map(line, found), sep="\n", flush=True)
            rows += found
    return rows


def _phases(world: World, options: argparse.Namespace) -> dict[str, Phase]:
    names = tuple(f"d{index:05}" for index in range(options.deployments))
    changed = names[: options.changes]
    return {
        "first children": lambda: first_children(world, names, options.nodes),
        "first pods": lambda: first_pods(world, names),
        "at rest": lambda: rest(world, options.quiet_seconds),
        "one change at a time": lambda: change_one_by_one(world, changed),
        "a hot object": lambda: edit_one(world, changed),
        "all others change": lambda: storm(world, names, options.changes),
        "a node flaps": lambda: flap(world, options.flaps),
        "many updates": lambda: update_all(world, options.updates),
        "killed and started": lambda: restart(world, len(names) + 1),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--deployments", type=int, default=1000)
    parser.add_argument("--quiet-seconds", type=float, default=600.0)
    parser.add_argument("--changes", type=int, default=100, help="that are timed, of each kind")
    parser.add_argument("--flaps", type=int, default=10)
    parser.add_argument("--updates", type=int, default=100_000)
    return parser.parse_args()


def main() -> None:
    """Run all phases, print a table and write the figures."""
    options = _options()
    # told to end, it ends what it started; in the background a shell lets SIGINT be ignored
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(options, Path(folder)))
    publish("scale", rows, vars(options))


if __name__ == "__main__":
    main()
