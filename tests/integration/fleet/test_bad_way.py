"""A bad way to the API server: a fifth of all requests and watch events is hit.

The end is the same as on a good one, and what must never happen did not happen on the way there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.audit import writes
from fleet.fault_proxy import EVENT_FAULTS, REQUEST_FAULTS, FaultProxy
from fleet.fleet import Fleet, fleet_of

from .conftest import NAME, ROLLOUT

NODES = 20
ONE_IN, SEED = 5, 20261125
WITHIN_S = 300.0
BAD = "3.0.0+fails-later"


@pytest.fixture(scope="module")
def bad_way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, FaultProxy]]:
    """A fleet whose operator reaches the API server through the proxy, which is good at first."""
    ways: list[FaultProxy] = []

    @contextmanager
    def way(kubeconfig: Path) -> Iterator[Path]:
        with FaultProxy(kubeconfig, ONE_IN, SEED) as proxy:
            ways.append(proxy)
            yield proxy.kubeconfig

    with fleet_of(NODES, tmp_path_factory.mktemp("bad-way"), way) as fleet:
        fleet.model("1.0.0")
        fleet.deployment(NAME, ROLLOUT)
        fleet.wait(lambda: fleet.status(NAME).phase == "Stable", "1.0.0 is stable", WITHIN_S)
        yield fleet, ways[0]


def is_at(fleet: Fleet, version: str, phase: str) -> bool:
    status = fleet.status(NAME)
    return (status.model_version, status.phase) == (version, phase)


def test_a_rollout_and_a_rollback_end_as_on_a_good_way(bad_way: tuple[Fleet, FaultProxy]) -> None:
    fleet, proxy = bad_way
    generated = fleet.generated()
    proxy.is_bad = True
    fleet.model("2.0.0")
    fleet.wait(lambda: is_at(fleet, "2.0.0", "Stable"), "2.0.0 is stable", WITHIN_S)
    assert fleet.served() == {"2.0.0": NODES}
    fleet.model(BAD)
    fleet.wait(lambda: is_at(fleet, BAD, "RolledBack"), f"{BAD} is taken back", WITHIN_S)
    proxy.is_bad = False
    assert fleet.served() == {"2.0.0": NODES}
    failed = fleet.status(NAME).failed_revisions[0].revision
    tried = [p for p in fleet.runtimes.pods() if any(s.to_revision == failed for s in p.swaps)]
    assert len(tried) == 1  # the canary alone, whatever was lost or came twice
    fleet.wait(fleet.is_settled, "nothing more is written", WITHIN_S)
    assert fleet.generated() == generated
    for faults in (REQUEST_FAULTS, EVENT_FAULTS):
        assert sum(proxy.done[fault] for fault in faults) >= 5


def test_then_nothing_more_is_written(bad_way: tuple[Fleet, FaultProxy]) -> None:
    fleet, _ = bad_way
    before = len(fleet.audit.requests())
    looks = fleet.operator.reconciles()
    fleet.model("2.0.0")  # what serves already: the spec is back, and the failure is forgotten
    fleet.wait(lambda: fleet.operator.reconciles() > looks, "it looked", WITHIN_S)
    fleet.wait(fleet.is_settled, "nothing more is written", WITHIN_S)
    made = writes(fleet.audit.requests()[before:])
    assert made["configmaps"] == made["daemonsets"] == made["pods"] == 0
