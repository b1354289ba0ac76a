"""Models that others made: what their engine runs is served, with its very answers.

Short: a few small files and a few of ONNX's own test models. `SKERRY_ZOO=files` takes every file of
the packages in requirements/zoo.txt, `operators` one in forty of ONNX's models of one operator, and
`all` everything (hours on two cores). What each model came to goes to build/zoo.json while it runs;
the counts are printed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import chain

import pytest

from serving.deployed import deployed, file_server
from serving.running import ROOT
from zoo.specimens import Specimen, of_backend_data, of_operators, of_packages
from zoo.visits import FAULTS, Verdict, Visit, counts, visit

LENGTH = os.environ.get("SKERRY_ZOO", "short")
PATIENT = {"SKERRY_PROBE_TIMEOUT_S": "600"}
"""A loaded machine is slow, and not wrong."""
SMALL = ("basic-pitch", "openwakeword", "silero-vad")
SMALL_BYTES = 1_300_000
EVERY = 12
"""Of ONNX's test models, in the short form."""
EVERY_OPERATOR = 40


def specimens() -> Iterator[Specimen]:
    if LENGTH == "short":
        small = (one for one in of_packages(*SMALL) if len(one.body) <= SMALL_BYTES)
        return chain(small, of_backend_data(EVERY))
    if LENGTH == "operators":
        return of_operators(EVERY_OPERATOR)
    files = sorted(of_packages(), key=lambda one: len(one.body))
    if LENGTH == "files":
        return chain(files, of_backend_data(EVERY))
    return chain(files, of_backend_data(), of_operators())


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> list[Visit]:
    folder, found = tmp_path_factory.mktemp("pod"), []
    with file_server() as source, deployed(folder, **PATIENT) as pod:
        for number, one in enumerate(specimens()):
            found.append(visit(pod, source, one, number))
            source.files.clear()
            write_figures(found)
            assert pod.child.poll() is None, f"{one.name} ended the process"
    return found


def write_figures(found: list[Visit]) -> None:
    path = ROOT / "build" / "zoo.json"
    path.parent.mkdir(exist_ok=True)
    rows = [{"model": v.name, "verdict": v.verdict.name, "detail": v.detail} for v in found]
    path.write_text(json.dumps({"length": LENGTH, "counts": counts(found), "rows": rows}, indent=1))


def test_what_an_engine_runs_a_pod_serves_with_the_same_answers(
    visits: list[Visit], capsys: pytest.CaptureFixture[str]
) -> None:
    faults = [
        f"{one.name}: {one.verdict.name}: {one.detail}" for one in visits if one.verdict in FAULTS
    ]
    with capsys.disabled():
        print(f"\nzoo ({LENGTH}), {len(visits)} models:")  # noqa: T201 (the counts are the result)
        for verdict, count in counts(visits).items():
            print(f"  {count:5} {verdict}")  # noqa: T201
    assert faults == []


def test_most_of_the_zoo_can_be_run_at_all(visits: list[Visit]) -> None:
    """A zoo whose models all fail in the engine would show nothing of ours."""
    assert sum(one.verdict is Verdict.EQUAL for one in visits) * 2 > len(visits)


def test_files_of_packages_are_among_the_visitors(visits: list[Visit]) -> None:
    if LENGTH == "operators":
        pytest.skip("no files in this form")
    assert sum(one.name.endswith((".onnx", ".tflite")) for one in visits) >= 5
