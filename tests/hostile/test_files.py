"""Every file of the corpus goes the whole way: fetched, verified, probed, and at most served.

Two pods of their own share the work. The time limit is one of CPU time, because what the clock
shows is also the doing of the machine's other work. What each file came to is asserted one by one.
`SKERRY_HOSTILE=all` adds the files of which others of the same kind are tried anyway.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from documents import make_content
from hostile.building import Case, good
from hostile.corpus import cases
from hostile.disguised import ESCAPED
from hostile.goldens import fair
from hostile.watch import Peaks, Untouched, resident_bytes
from serving.deployed import Deployed, FileServer, deployed, file_server
from serving.running import ROOT
from skerry_runtime.agent.ports import MIB
from skerry_runtime.contract import (
    FailureReason,
    GoldenExam,
    GoldenMetric,
    RevisionContent,
    SwapPhase,
)
from unit.runtime.agent.support import sha256

PROBE_BYTES = 512 * MIB
LIMITS = {
    "SKERRY_PROBE_MEMORY_BYTES": str(PROBE_BYTES),
    "SKERRY_PROBE_CPU_S": "4",
}
OVERSHOOT_BYTES = 64 * MIB
"""The kernel counts private memory; what the child had before it was limited comes on top."""
PODS = 2
CANARY = Path(tempfile.gettempdir()) / f"skerry-canary-{os.getpid()}.bin"
IS_LONG = os.environ.get("SKERRY_HOSTILE") == "all"
CASES = {case.name: case for case in cases(CANARY) if IS_LONG or not case.is_kin}
HARMLESS = "harmless"


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    reason: FailureReason | None
    message: str
    seconds: float
    peak_bytes: int
    health: int
    """Status of a request to the pod afterwards."""
    touched: bool


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    CANARY.write_bytes(b"\x42" * 4096)
    ESCAPED.unlink(missing_ok=True)
    canary = Untouched(CANARY)
    names = list(CASES)
    with file_server() as source, ThreadPoolExecutor(PODS) as pool:
        folders = [tmp_path_factory.mktemp(f"pod{number}") for number in range(PODS)]
        shares = [names[number::PODS] for number in range(PODS)]
        parts = pool.map(lambda f, s: go_through(f, s, source, canary), folders, shares)
        found = {name: outcome for part in parts for name, outcome in part.items()}
    canary.close()
    CANARY.unlink()
    write_figures(found)
    return found


def go_through(
    folder: Path, names: list[str], source: FileServer, canary: Untouched
) -> dict[str, Outcome]:
    """Put the files before one pod, one after the other, with a good model between them."""
    described = {HARMLESS: described_case(source, CASES_OF_GOOD)}
    with deployed(folder, **LIMITS) as pod, Peaks(pod.child.pid).watching() as peaks:
        pod.assign(HARMLESS, described)
        pod.until_serving(HARMLESS)
        found = {}
        for number, name in enumerate(names):
            described[f"h{number}"] = described_case(source, CASES[name])
            found[name] = put_before(pod, f"h{number}", described, peaks, canary)
            del described[f"h{number}"]
        assert resident_bytes(pod.child.pid) < PROBE_BYTES
    return found


CASES_OF_GOOD = Case("good", good().SerializeToString(), frozenset(), golden=fair())


def described_case(source: FileServer, case: Case) -> RevisionContent:
    model, exam = sha256(case.body), case.golden
    return make_content(
        source.add(model, case.body),
        model,
        format=case.format,
        golden=None
        if exam is None
        else GoldenExam(
            uri=source.add(sha256(exam), exam),
            sha256=sha256(exam),
            metric=GoldenMetric.ACCURACY,
            threshold="0.95",
        ),
    )


def put_before(
    pod: Deployed,
    revision: str,
    described: dict[str, RevisionContent],
    peaks: Peaks,
    canary: Untouched,
) -> Outcome:
    peaks.take()
    began = time.monotonic()
    pod.assign(revision, described)
    status = pod.until_settled(revision)
    seconds, progress = time.monotonic() - began, status.progress
    assert progress
    if progress.phase is SwapPhase.SERVING:  # the next file meets a model that answers
        pod.assign(HARMLESS, described)
        pod.until_serving(HARMLESS)
    health, _ = pod.infer()
    return Outcome(
        progress.reason, progress.message, seconds, peaks.take(), health, canary.was_touched()
    )


def write_figures(found: dict[str, Outcome]) -> None:
    slowest = max(found, key=lambda name: found[name].seconds)
    hungriest = max(found, key=lambda name: found[name].peak_bytes)
    figures = {
        "files": len(found),
        "slowest": [slowest, round(found[slowest].seconds, 2)],
        "largest child": [hungriest, round(found[hungriest].peak_bytes / MIB)],
        "verdicts": {
            name: [o.reason, o.message, round(o.seconds, 2), round(o.peak_bytes / MIB)]
            for name, o in found.items()
        },
    }
    path = ROOT / "build/bench/hostile.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_ends_with_a_verdict_and_harms_nothing(
    name: str, outcomes: dict[str, Outcome]
) -> None:
    case, outcome = CASES[name], outcomes[name]
    if outcome.reason is None:
        assert case.may_serve or not case.verdicts, "it serves"
    else:
        assert outcome.reason in case.verdicts, outcome.message
        assert outcome.message
    assert outcome.health == 200
    assert outcome.peak_bytes < PROBE_BYTES + OVERSHOOT_BYTES
    assert not outcome.touched


def test_nothing_escaped(outcomes: dict[str, Outcome]) -> None:
    assert len(outcomes) >= 60
    assert not ESCAPED.exists()
