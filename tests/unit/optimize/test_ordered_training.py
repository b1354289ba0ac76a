"""Jobs of an EdgeModel that train: a student, and what was pruned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optimize_models import cnn, data_of, golden_of
from skerry_optimize import ordered
from skerry_optimize.ordered import carry_out
from skerry_runtime.contract import BuildPhase, Format
from unit.optimize.ordering import Files, MemoryStore, Told, order, served, workplace
from unit.optimize.test_ordered import archive


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    arrays = {"data": data_of("cnn"), "golden": golden_of("cnn")}
    content = {name: archive(one) for name, one in arrays.items()}
    with served(model=cnn(), student=cnn(), **content) as found:
        yield found


SLIM = {"prune": {"mode": "Structured", "amount": "25%"}}
DISTIL = {"student": {"file": "student.onnx"}, "temperature": 4, "alpha": "1", "epochs": 2}


@pytest.mark.parametrize(
    ("steps", "form"),
    [
        ([SLIM, {"recover": {"epochs": 2}}], Format.ONNX),
        ([{"distil": DISTIL}], Format.ONNX),
        ([{"convert": {"format": "TFLite"}}, {"quantize": {"mode": "Static"}}], Format.TFLITE),
    ],
)
def test_steps_that_train_or_convert_are_carried_out_as_ordered(
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    steps: list[dict[str, Any]],
    form: Format,
) -> None:
    store = MemoryStore()
    monkeypatch.setattr(ordered, "store_of", lambda *_: store)
    wanted = order(files, *steps, student=files.ordered("student"))
    verdict = carry_out(wanted, workplace(tmp_path, Told()))
    assert verdict.phase is BuildPhase.SUCCEEDED, verdict
    assert verdict.build is not None
    assert verdict.build.format is form
