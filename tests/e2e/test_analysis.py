"""Analysis on real pods under live traffic: the shadow finds out what no exam was written for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from digits_demo.traffic import Traffic
from e2e.lab import NODES, Lab

SAMPLES = 40
AGREEMENT = {"name": "OutputAgreement", "min": "0.8", "minSamples": SAMPLES}
RESTARTS = {"name": "Restarts", "max": "0"}
ACCELERATED = {"name": "Accelerated", "min": "1"}
ROLLOUT = {"analysis": {"interval": "1s", "metrics": [AGREEMENT, RESTARTS, ACCELERATED]}}


def without_exam(model: dict[str, Any]) -> dict[str, Any]:
    del model["spec"]["golden"]
    return model


@pytest.fixture(scope="module")
def traffic(lab: Lab, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    """Clients at every node, from the first stable model to the end of the module."""
    lab.apply(without_exam(lab.model("v1")), lab.deployment())
    lab.wait_stable(lab.index.model("v1").version)
    log = tmp_path_factory.mktemp("traffic") / "traffic.log"
    traffic = Traffic(files / lab.index.clients.name, "digits", log)
    try:
        for node, pod in lab.pods().items():
            traffic.add(node, f"{pod.ip}:8080")
        yield traffic
    finally:
        traffic.stop()


def test_a_model_that_disagrees_is_taken_back_before_it_ever_serves(
    lab: Lab, traffic: Traffic
) -> None:
    pods = lab.pods()
    lab.apply(without_exam(lab.model("v3")), lab.deployment(rollout=ROLLOUT))
    status = lab.wait_rolled_back(lab.index.model("v3").version, "OutputDisagrees")
    assert "live answers agree with what serves" in status.failed_revisions[0].message
    asked = {sample.version for sample in traffic.tally.all()}
    assert asked == {lab.index.model("v1").version}
    assert not traffic.tally.failures()
    assert lab.pods() == pods


def test_a_model_that_agrees_is_promoted_with_what_was_compared(lab: Lab, traffic: Traffic) -> None:
    lab.apply(without_exam(lab.model("v2")), lab.deployment(rollout=ROLLOUT))
    lab.wait_stable(lab.index.model("v2").version)
    reports = lab.reports()
    assert set(reports) == set(NODES)
    for report in reports.values():
        assert report.serving
        found = report.serving.agreement
        assert found
        assert found.compared >= SAMPLES
        assert found.agreed / found.compared >= 0.8
    traffic.require_alive()
    assert not traffic.tally.failures()
