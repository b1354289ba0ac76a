"""What placement costs: 1000 deployments on 1000 nodes, and one node that comes and goes.

Prints CPU milliseconds and writes build/bench/placement.json. Nothing else is measured: no API
server, no rendering. `kinds` is the number of different nodes, apart from names and sites.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skerry_operator.api.v1alpha1.edgedeployment import Placement
from skerry_operator.api.v1alpha1.edgemodel import Variant
from skerry_operator.catalogue.profiles import builtin_profiles
from skerry_operator.decide.placement.fitting import Incumbents, Wish
from skerry_operator.decide.placement.nodes import Node
from skerry_operator.decide.placement.place import PlacementResult, place

OUTPUT = Path("build/bench/placement.json")
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
    result = {
        "nodes": options.nodes,
        "deployments": options.deployments,
        "units": sum(len(result.cell_of) for _, result in placed),
        "first_decision_ms": _summary(first),
        "next_decision_ms": _summary(again),
        "per_node_flap_ms": _summary(flaps),
        "goal_ms": GOAL_MS,
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(result, indent=2) + "\n")
    _print(result)


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


def _summary(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median": round(statistics.median(ordered), 3),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
    }


def _print(result: dict[str, Any]) -> None:
    print(
        f"{result['deployments']} deployments on {result['nodes']} nodes: {result['units']} units"
    )
    for name in ("first_decision_ms", "next_decision_ms", "per_node_flap_ms"):
        median, p99 = result[name]["median"], result[name]["p99"]
        verdict = "reached" if median <= GOAL_MS else f"missed by {median - GOAL_MS:.2f} ms"
        print(f"  {name[:-3]:18} median {median:7.3f} ms CPU  p99 {p99:7.3f}  goal 1 ms: {verdict}")
    print(f"written to {OUTPUT}")


if __name__ == "__main__":
    main()
