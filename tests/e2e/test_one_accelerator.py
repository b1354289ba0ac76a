"""Bad changes on the node with the one accelerator, with traffic on every node throughout.

`pytest -s` prints the figures that docs/rollouts.md records.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from digits_demo.samples import Sample
from digits_demo.traffic import Traffic
from e2e.lab import NODES, Lab

NODE, *OTHERS = NODES
RATE = 20.0
ALONE = {"threads": 1, "swap": "Sequential"}
"""Unload, load, verify; on failure load the old one again: there is no room for two."""


@pytest.fixture(scope="module", autouse=True)
def canary(lab: Lab) -> Iterator[None]:
    """The node with the simulated NPU goes first."""
    lab.kubectl("label", "node", NODE, "skerry.dev/canary=true", "--overwrite")
    try:
        yield
    finally:
        lab.kubectl("label", "node", NODE, "skerry.dev/canary-")


@contextmanager
def traffic(lab: Lab, files: Path, folder: Path) -> Iterator[Traffic]:
    """Send requests to every node's pod."""
    running = Traffic(files / lab.index.clients.name, "digits", folder / "traffic.log", rate=RATE)
    try:
        for node, pod in lab.pods().items():
            running.add(node, f"{pod.ip}:8080")
        all_asked = lambda: all(running.tally.of(node).requests > 5 for node in NODES)  # noqa: E731
        lab.wait(all_asked, "every node is asked")
        yield running
    finally:
        running.stop()


def without_answer_ms(samples: tuple[Sample, ...], node: str) -> float:
    """Return the longest time from one good answer of a node to its next, in milliseconds."""
    good = sorted(s.at for s in samples if s.node == node and s.error is None)
    return 1000 * max((after - before for before, after in pairwise(good)), default=0.0)


def tell(title: str, running: Traffic, figures: dict[str, str]) -> None:
    """Print what happened, for the record."""
    lines = ["", title]
    for node in NODES:
        counts = running.tally.of(node)
        gap = without_answer_ms(running.tally.all(), node)
        asked = f"{counts.requests} requests, {counts.failed} failed"
        lines.append(f"  {node}: {asked}, longest time without an answer {gap:.0f} ms")
    lines += [f"  {name}: {text}" for name, text in figures.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def test_a_bad_canary_on_the_one_accelerator_restores_itself_and_costs_no_other_node_a_request(
    lab: Lab, files: Path, tmp_path: Path
) -> None:
    old = lab.index.model("v1").version
    lab.start_stable("v1", runtime=ALONE)
    before = lab.pods()
    with traffic(lab, files, tmp_path) as running:
        began = time.time()
        lab.apply(lab.model("v3"))
        status = lab.wait_rolled_back(lab.index.model("v3").version, "ExamFailed")
        ended = time.time()
        report = lab.wait_serves(NODE, old)
    assert report.last_swap is not None
    assert report.failures[0].reason == "ExamFailed"
    decided = status.rollout.rollback_at
    assert decided is not None
    figures = {
        "spec to decision": f"{decided.timestamp() - began:.1f} s",
        "spec to rolled back": f"{ended - began:.1f} s",
        "outage that the pod measured": f"{report.last_swap.outage_ms:.0f} ms",
        "message": status.rollout.message or "",
    }
    tell(f"bad canary on {NODE}, swap Sequential", running, figures)
    assert [running.tally.of(node).failed for node in OTHERS] == [0, 0]
    assert [report.last_swap.to_revision, report.serving and report.serving.version] == [
        status.stable_revision,
        old,
    ]
    assert report.last_swap.outage_ms > 0
    assert lab.pods() == before


def test_a_pod_that_cannot_start_on_the_one_accelerator_is_replaced_by_the_old_one(
    lab: Lab, files: Path, tmp_path: Path
) -> None:
    old = lab.index.model("v1").version
    before = lab.pods()
    broken = {
        **ALONE,
        "image": "localhost/skerry/missing:1",
        "resources": {"memoryRequest": "140Mi"},
    }
    with traffic(lab, files, tmp_path) as running:
        began = time.time()
        lab.apply(lab.model("v1"), lab.deployment({"progressDeadline": "10s"}, runtime=broken))
        replaced = lambda: lab.pods().get(NODE) != before[NODE]  # noqa: E731
        lab.wait(replaced, f"the pod of {NODE} goes first: the device is free for the new one")
        gone = time.time()
        status = lab.wait_rolled_back(old, "ProgressDeadlineExceeded")
        lab.wait_serves(NODE, old)
        ended = time.time()
    decided = status.rollout.rollback_at
    assert decided is not None
    figures = {
        "spec to decision (deadline 10 s)": f"{decided.timestamp() - began:.1f} s",
        "decision to served again": f"{ended - decided.timestamp():.1f} s",
        "outage: old pod gone to served again": f"{ended - gone:.1f} s",
        "message": status.rollout.message or "",
    }
    tell(f"new pod that cannot start on {NODE}", running, figures)
    assert [running.tally.of(node).failed for node in OTHERS] == [0, 0]
    now = lab.pods()
    assert [now[node] for node in OTHERS] == [before[node] for node in OTHERS]
