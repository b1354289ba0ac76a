"""Sixty simulated nodes in three sites on a control plane of our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.fleet import Fleet, fleet_of

NODES = 60
FIRST = "1.0.0"
NAME = "digits"
ROLLOUT = {
    "steps": [
        {"units": "1", "soak": "2s"},
        {"units": "25%", "soak": "1s"},
        {"units": "100%", "soak": "2s"},
    ],
    "progressDeadline": "5m",
    "analysis": {
        "interval": "1s",
        "metrics": [{"name": "ErrorRate", "max": "0.001", "minSamples": 20}],
    },
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose first version is stable everywhere."""
    with fleet_of(NODES, tmp_path_factory.mktemp("fleet")) as fleet:
        fleet.model(FIRST)
        fleet.deployment(NAME, ROLLOUT)
        fleet.wait(lambda: fleet.status(NAME).phase == "Stable", f"{FIRST} is stable", 300)
        yield fleet
