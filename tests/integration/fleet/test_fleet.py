"""A fleet of sixty simulated nodes: what the operator writes, and what misbehaving nodes cost.

The tests go on from one another: each begins with what the one before made stable.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from fleet.audit import Request, reads, writes
from fleet.fleet import Fleet
from fleet.simulated_pod import Habit
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_operator.decide.fleet.nudges import RENUDGE_S

from .conftest import FIRST, NAME, NODES, ROLLOUT

CELLS = 2
SLOW = ("node-0010", "node-0011")
WITHIN_S = 300.0
"""Longest time for anything: a loaded machine is slow, and not wrong; nothing is measured here."""
QUIET_S = 3.0
CLOCKS_S = 1.0
"""Between the operator's note of the time, in whole seconds, and the API server's."""


@dataclass
class Asked:
    """What the operator asked of the API server during a `with`."""

    requests: list[Request] = field(default_factory=list)

    @property
    def writes(self) -> Counter[str]:
        return writes(self.requests)

    def patched_pods(self) -> set[str]:
        return set(patches(self.requests))


def patches(requests: Iterable[Request]) -> dict[str, list[float]]:
    """Return when each pod was patched."""
    found: dict[str, list[float]] = {}
    for one in requests:
        if (one.verb, one.kind) == ("patch", "pods"):
            found.setdefault(one.name, []).append(one.at)
    return found


def needless(requests: Iterable[Request]) -> dict[str, list[float]]:
    """Return the pods that were patched again although their kubelet had time to follow."""
    return {
        name: times
        for name, times in patches(requests).items()
        if any(later - earlier < RENUDGE_S - CLOCKS_S for earlier, later in pairwise(times))
    }


@contextmanager
def asked(fleet: Fleet) -> Iterator[Asked]:
    found, began = Asked(), time.time()
    yield found
    fleet.wait(fleet.is_settled, "nothing more is written", WITHIN_S)
    found.requests += [one for one in fleet.audit.requests(began) if one.verb != "list"]


def is_stable(fleet: Fleet, version: str) -> EdgeDeploymentStatus | None:
    status = fleet.status(NAME)
    is_it = status.phase == "Stable" and status.model_version == version
    return status if is_it else None


def served_since(fleet: Fleet) -> list[float]:
    """Return since when each pod serves what it serves, the first to get it first."""
    return sorted(pod.swaps[-1].at for pod in fleet.runtimes.pods())


def wait_rolled_back(fleet: Fleet, version: str, reason: str) -> EdgeDeploymentStatus:
    """Wait until the version was taken back everywhere, for this reason."""

    def look() -> EdgeDeploymentStatus | None:
        status = fleet.status(NAME)
        failed = [one.reason for one in status.failed_revisions[:1]]
        is_it = status.phase == "RolledBack" and status.model_version == version
        return status if is_it and failed == [reason] else None

    return fleet.wait(look, f"{version} is taken back: {reason}", WITHIN_S)


def test_a_good_version_goes_out_by_canary_and_waves_with_one_patch_for_each_pod(
    fleet: Fleet,
) -> None:
    fleet.take_to(Habit.SLOW, SLOW)
    with asked(fleet) as made:
        fleet.model("2.0.0")
        fleet.wait(lambda: is_stable(fleet, "2.0.0"), "2.0.0 is stable", WITHIN_S)
    assert fleet.served() == {"2.0.0": NODES}
    times = served_since(fleet)
    for count, soak_s in ((1, 2.0), (NODES // 4, 1.0)):  # nobody joins a wave before its soak ends
        assert times[count] - times[count - 1] >= soak_s
    assert len(made.patched_pods()) == NODES
    assert needless(made.requests) == {}
    # one cell gets the canary; then both cells at 25 %, at 100 % and at the promotion
    assert made.writes["configmaps"] == 1 + 3 * CELLS
    assert made.writes["daemonsets"] == 0
    fleet.take_to(Habit.GOOD, SLOW)


def test_a_version_that_fails_after_it_was_ready_is_taken_back_in_the_canarys_soak(
    fleet: Fleet,
) -> None:
    with asked(fleet) as made:
        fleet.model("3.0.0+fails-later")
        wait_rolled_back(fleet, "3.0.0+fails-later", "MetricFailed")
    assert fleet.served() == {"2.0.0": NODES}
    ((_, times),) = patches(made.requests).items()  # one pod
    assert len(times) >= 2  # there and back
    assert made.writes["configmaps"] == 2


def test_a_rollback_of_the_whole_fleet_is_one_write_for_each_cell_and_one_patch_for_each_pod(
    fleet: Fleet,
) -> None:
    one = fleet.last_to_get(NAME, SLOW)
    fleet.take_to(Habit.FAILS_LATER, [one])
    fleet.model("3.1.0")
    status = wait_rolled_back(fleet, "3.1.0", "MetricFailed")
    fleet.take_to(Habit.GOOD, [one])
    assert fleet.served() == {"2.0.0": NODES}
    assert status.rollout.rollback_at
    decided = status.rollout.rollback_at.timestamp()
    fleet.wait(fleet.is_settled, "nothing more is written", WITHIN_S)
    requests = fleet.audit.requests(decided)
    assert writes(requests)["configmaps"] == CELLS
    assert len(patches(requests)) == NODES
    assert needless(requests) == {}


def test_a_unit_that_is_never_ready_fails_the_rollout_at_the_deadline(fleet: Fleet) -> None:
    one = fleet.last_to_get(NAME, SLOW)
    fleet.take_to(Habit.NEVER_READY, [one])
    fleet.model("4.0.0")
    all_but_one = lambda: fleet.served()["4.0.0"] == NODES - 1  # noqa: E731
    fleet.wait(all_but_one, "all others serve it", WITHIN_S)
    fleet.deployment(NAME, {**ROLLOUT, "progressDeadline": "5s"})
    status = wait_rolled_back(fleet, "4.0.0", "ProgressDeadlineExceeded")
    fleet.take_to(Habit.GOOD, [one])
    fleet.deployment(NAME, ROLLOUT)
    message = status.failed_revisions[0].message
    assert f"{NODES - 1} of {NODES} units serve" in message
    assert one in message
    assert fleet.served() == {"2.0.0": NODES}


def test_nodes_that_go_off_in_a_rollout_are_in_no_denominator_and_return_to_what_is_current(
    fleet: Fleet,
) -> None:
    off = fleet.nodes[20:26]
    fleet.switch_off(off)
    with asked(fleet) as without_them:
        fleet.model("5.0.0")
        status = fleet.wait(lambda: is_stable(fleet, "5.0.0"), "5.0.0 is stable", WITHIN_S)
    left = NODES - len(off)
    assert fleet.served() == {"5.0.0": left, "2.0.0": len(off)}
    assert status.units.offline == len(off)
    assert (status.units.eligible, status.units.updated) == (NODES, left)
    assert len(without_them.patched_pods()) >= left
    assert needless(without_them.requests) == {}
    with asked(fleet) as return_:
        fleet.switch_on(off)
        fleet.wait(lambda: fleet.served() == {"5.0.0": NODES}, "they serve it too", WITHIN_S)
        fleet.wait(lambda: fleet.status(NAME).units.offline == 0, "none is offline", WITHIN_S)
    assert return_.writes["configmaps"] == 0
    assert len(return_.patched_pods()) <= len(off)


def test_at_rest_the_operator_asks_for_nothing_and_writes_nothing(fleet: Fleet) -> None:
    def asks_for_nothing() -> bool:
        time.sleep(QUIET_S)  # the time is what is tested: nothing may happen in it
        found = fleet.audit.requests(time.time() - QUIET_S)
        return not writes(found) and not reads(found)

    fleet.wait(asks_for_nothing, "nothing is asked for and nothing is written", WITHIN_S)
    assert fleet.status(NAME).history[-1].version == FIRST
