"""The command, as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from optimize_models import data_of, golden_of, mlp
from skerry_optimize.cli import main

PLAN = """
data: {file: inputs.npz}
golden: {file: golden.npz}
guards: {maxAccuracyDrop: "0.02"}
jobs:
- name: int8
  steps: [{quantize: {mode: Static}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(mlp())
    (tmp_path / "plan.yaml").write_text(PLAN)
    np.savez(tmp_path / "inputs.npz", **data_of("mlp"))
    np.savez(tmp_path / "golden.npz", **golden_of("mlp"))
    return tmp_path


def run(folder: Path, model: str = "model.onnx") -> int:
    names = [str(folder / name) for name in ("plan.yaml", model)]
    return main(["run", *names, "--out", str(folder / "builds")])


def test_the_builds_and_the_report_lie_in_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder) == 0
    told = json.loads((folder / "builds/report.json").read_text())
    (job,) = told["jobs"]
    assert job["phase"] == "Succeeded"
    assert job["artifact"]["file"] == "int8.onnx"
    assert job["artifact"]["sizeRatio"] < 0.4
    assert told["origin"]["accuracy"] > 0.9
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split()[:3] == ["build", "accuracy", "bytes"]
    assert shown[2].startswith("int8 ")


def test_a_refused_build_is_told_by_the_exit_status(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "plan.yaml").write_text(PLAN.replace('"0.02"', '"0.02", maxSizeRatio: "0.1"'))
    assert run(folder) == 1
    assert "Refused: " in capsys.readouterr().out
    assert not (folder / "builds/int8.onnx").exists()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("plan.yaml", b"jobs: 1", "jobs"),
        ("plan.yaml", b"\xff\xfe", "UTF-8"),
        ("model.onnx", b"hello", "no"),
        ("inputs.npz", b"hello", "no .npz"),
        ("golden.npz", b"hello", "no .npz"),
    ],
)
def test_what_cannot_be_used_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, told: str
) -> None:
    (folder / name).write_bytes(content)
    assert run(folder) == 2
    assert told in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "other.onnx") == 2
    assert "other.onnx" in capsys.readouterr().err


def test_a_report_is_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = folder / "builds/report.json"
    assert run(folder) == 0
    assert main(["plot", str(report)]) == 0
    drawn = (folder / "builds/report.svg").read_text()
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "builds/report.svg")
    tree = ElementTree.fromstring(drawn)  # noqa: S314 (just drawn)
    texts = ["".join(one.itertext()) for one in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("int8") == texts.count("origin") == 1
    assert texts.count("1") == texts.count("0") == 3  # in each panel, and with the names
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}circle"))) == 4


@pytest.mark.parametrize("content", ["hello", "{}", '{"cpu": 1}'])
def test_what_is_no_report_is_not_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    assert main(["plot", str(path)]) == 2
    assert "no report" in capsys.readouterr().err


def test_a_report_without_an_exam_cannot_be_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"cpu": "x", "origin": {"sha256": "0", "sizeBytes": 1}, "jobs": []}')
    assert main(["plot", str(path)]) == 2
    assert "has no accuracy" in capsys.readouterr().err
