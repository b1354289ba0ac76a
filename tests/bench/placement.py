"""What placement costs: 1000 deployments on 1000 nodes, and one node that comes and goes.

Prints CPU milliseconds and writes build/bench/placement.json. Nothing else is measured: no API
server, no rendering. `kinds` is the number of different nodes, apart from names and sites.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bench.form import Row, at_most, figure, publish
from skerry_operator.api.v1alpha1.edgedeployment import Placement
from skerry_operator.api.v1alpha1.edgemodel import Variant
from skerry_operator.catalogue.profiles import builtin_profiles
from skerry_operator.decide.placement.fitting import Incumbents, Wish
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.placement.place import PlacementResult, place

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEVICES = ("hailo.ai/h8", "nvidia.com/gpu", "npu.intel.com/accel", "gpu.intel.com/i915")
GOAL_MS = 1.0


def main() -> None:
    """Measure and print."""
    options = _options()
    nodes = [_node(index) for index in range(options.nodes)]
    wishes = [_wish(index) for index in range(options.deployments)]
    first = [_cpu_ms(place, nodes, wish, Incumbents(NOW)) for wish in wishes]
    placed = [(wish, place(nodes, wish, Incumbents(NOW))) for wish in wishes]
    again = [
        _cpu_ms(place, nodes, wish, _after(result), place(nodes, wish, _after(result)))
        for wish, result in placed
    ]
    flaps = _flaps(nodes, placed, options.flaps)
    units = sum(len(result.cell_of) for _, result in placed)
    rows = [
        *_rows("first decision", first),
        *_rows("next decision", again),
        *_rows("decision after a node flapped", flaps),
    ]
    publish("placement", rows, {**vars(options), "units": units})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--deployments", type=int, default=1000)
    parser.add_argument("--flaps", type=int, default=50)
    return parser.parse_args()


def _flaps(
    nodes: list[Node], placed: list[tuple[Wish, PlacementResult]], count: int
) -> list[float]:
    """Take nodes down and up in turn; every look is one deployment's next decision."""
    times = []
    for turn in range(count):
        index = turn % len(nodes)
        changed = replace(nodes[index], reachable=turn % 2 == 0)
        fleet = [*nodes[:index], changed, *nodes[index + 1 :]]
        wish, result = placed[turn % len(placed)]
        settled = place(nodes, wish, _after(result))
        times.append(_cpu_ms(place, fleet, wish, _after(result), settled))
    return times


def _after(result: PlacementResult) -> Incumbents:
    return Incumbents(NOW, cells=result.cell_of)


def _cpu_ms(function: Callable[..., Any], *arguments: Any) -> float:
    started = time.process_time_ns()
    function(*arguments)
    return (time.process_time_ns() - started) / 1e6


def _node(index: int) -> Node:
    device = DEVICES[index % len(DEVICES)] if index % 3 else None
    name, arch = f"node-{index:04}", "arm64" if index % 5 == 0 else "amd64"
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/arch": arch,
        "topology.kubernetes.io/zone": f"site-{index % 40}",
    }
    memory = (2 + index % 7) * 2.0**30 + index  # no two nodes report the same
    devices = {device: 1.0} if device else {}
    return Node(name, arch, labels, {"cpu": 4.0, "memory": memory, **devices})


def _wish(index: int) -> Wish:
    source = {"uri": "https://models.example/m.onnx", "sha256": "0" * 64}
    fields = {"name": "fp32", "format": "ONNX", "source": source}
    memory = {"memory": "200Mi"} if index % 4 == 0 else {}
    variants = (Variant.model_validate({**fields, **memory}),)
    return Wish(f"model-{index}", Placement(), variants, builtin_profiles())


def _rows(name: str, times: list[float]) -> list[Row]:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return [
        at_most(f"{name}, median", statistics.median(ordered), GOAL_MS, "ms CPU"),
        figure(f"{name}, p99", p99, "ms CPU"),
    ]


if __name__ == "__main__":
    main()
