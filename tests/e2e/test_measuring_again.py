"""Metrics that get a second look, on real pods under live traffic."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from digits_demo.traffic import Traffic
from e2e.lab import NODES, Lab

pytestmark = pytest.mark.long

STEPS = ({"units": "1", "soak": "5s"}, {"units": "100%", "soak": "5s"})


def looking(*metrics: dict[str, Any]) -> dict[str, Any]:
    analysis = {"interval": "2s", "metrics": list(metrics)}
    return {"steps": list(STEPS), "analysis": analysis}


@pytest.fixture(scope="module")
def traffic(lab: Lab, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    """Clients at every node, from the first stable model to the end of the module."""
    lab.start_stable("v1")
    log = tmp_path_factory.mktemp("traffic") / "traffic.log"
    traffic = Traffic(files / lab.index.clients.name, "digits", log)
    try:
        for node, pod in lab.pods().items():
            traffic.add(node, f"{pod.ip}:8080")
        yield traffic
    finally:
        traffic.stop()


def test_a_restart_of_the_canary_is_looked_at_again_and_does_not_end_the_rollout(
    lab: Lab, traffic: Traffic, cluster_command: list[str]
) -> None:
    new = "2.0.0-again"
    metrics = (
        {"name": "Restarts", "max": "0", "failureLimit": 1},
        {"name": "ErrorRate", "max": "0.5", "minSamples": 5, "failureLimit": 1},
    )
    paused = looking(*metrics)
    paused["steps"].insert(1, {"pause": True})
    lab.apply(lab.model("v2", version=new), lab.deployment(rollout=paused))
    lab.wait(
        lambda: lab.status().phase == "Paused", "the canary serves, and a person is waited for"
    )
    canary = next(node for node, version in lab.versions().items() if version == new)
    end = ("node", "kill-container", canary, lab.namespace, lab.pods()[canary].name, "runtime")
    subprocess.run([*cluster_command, *end], check=True)

    def counted() -> bool:
        found = lab.status().rollout.measured
        return any(one.metric.startswith("Restarts") and one.failed == 1 for one in found)

    lab.wait(counted, "a measurement with the restart in it is on record")
    assert lab.skerry("promote", "digits").returncode == 0
    lab.wait_stable(new)
    assert lab.versions() == dict.fromkeys(NODES, new)
    traffic.require_alive()


def test_a_model_that_is_slow_at_every_look_is_taken_back_and_the_worst_unit_is_named(
    lab: Lab, traffic: Traffic
) -> None:
    slow = {
        "name": "LatencyP95",
        "max": "40ms",
        "minSamples": 5,
        "failureLimit": 1,
        "reading": "WorstUnit",
    }
    lab.apply(lab.model("v4"), lab.deployment(rollout=looking(slow)))
    status = lab.wait_rolled_back(lab.index.model("v4").version, "MetricFailed")
    message = status.failed_revisions[0].message
    assert "2 of 2 measurements are beyond the limit, 1 tolerated" in message
    assert any(f"LatencyP95 of {node} in cell" in message for node in NODES)
    traffic.require_alive()
