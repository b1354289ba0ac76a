"""A .tflite model takes the place of an .onnx one, by the same stages and with the same care."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from documents import with_model
from serving import tflite_models
from skerry_runtime.backends.engines import FormatBackend
from skerry_runtime.contract import Format, GoldenExam, GoldenMetric, RevisionContent
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content, npz, sha256

EXAM = npz(x=np.eye(4, dtype=np.float32), labels=np.full(4, 2))
"""Of the product with ascending weights: the last column is the largest in every row."""


@pytest.fixture
def contents(source: Source, tmp_path: Path) -> dict[str, RevisionContent]:
    """Return an .onnx model, a .tflite model with its exam, and one with an unknown operator."""
    exam_uri = source.add("golden.npz", EXAM)

    def tflite(make: object, name: str, **more: object) -> RevisionContent:
        assert callable(make)
        body = make(tmp_path / name).read_bytes()
        made = content(body, source.add(name, body), **more)  # type: ignore[arg-type]
        return with_model(made, format=Format.TFLITE)

    return {
        "onnx": content(classifier(), source.add("m.onnx", classifier())),
        "tflite": tflite(tflite_models.product, "m.tflite", exam=EXAM, exam_uri=exam_uri),
        "broken": tflite(tflite_models.unknown_operator, "b.tflite"),
    }


@pytest.fixture
async def pod(tmp_path: Path) -> AsyncIterator[Pod]:
    async with Pod(tmp_path / "pod", FormatBackend(), FAST) as one:
        yield one


async def test_a_tflite_model_is_probed_examined_and_served(
    pod: Pod, contents: dict[str, RevisionContent]
) -> None:
    pod.mount.assign("onnx", contents)
    await pod.until_serving("onnx")
    pod.mount.assign("tflite", contents)
    status = await pod.until_serving("tflite")
    assert status.serving
    assert status.serving.exam
    assert status.serving.exam.value == 1.0
    with pod.registry.acquire() as serving:
        answer = serving.model.infer({"x": np.ones((2, 4), np.float32)})
    assert answer["y"].tolist() == [[18, 22, 26]] * 2


async def test_a_model_with_a_state_is_examined_in_order_and_serves_without_a_trace_of_it(
    pod: Pod, source: Source, tmp_path: Path
) -> None:
    steps = np.ones((5, 2), np.float32)
    exam = npz(x=steps, expected_y=steps.cumsum(axis=0))
    body = tflite_models.adder(tmp_path / "m.tflite").read_bytes()
    uri, exam_uri = source.add("m.tflite", body), source.add("golden.npz", exam)
    golden = GoldenExam(
        uri=exam_uri, sha256=sha256(exam), metric=GoldenMetric.MAX_ABS_ERROR, threshold="0.001"
    )
    examined = with_model(content(body, uri), format=Format.TFLITE, golden=golden)
    warmed = with_model(content(body, uri, version="2.0.0"), format=Format.TFLITE)
    for revision in ("examined", "warmed"):
        pod.mount.assign(revision, {"examined": examined, "warmed": warmed})
        await pod.until_serving(revision)
        with pod.registry.acquire() as serving:
            answers = [serving.model.infer({"x": steps[:1]})["y"].tolist() for _ in range(3)]
        assert answers == [[[1, 1]]] * 3


async def test_a_broken_tflite_model_leaves_what_serves(
    pod: Pod, contents: dict[str, RevisionContent]
) -> None:
    pod.mount.assign("onnx", contents)
    await pod.until_serving("onnx")
    pod.mount.assign("broken", contents)
    status = await pod.until_failed("broken")
    assert status.progress
    assert status.progress.reason == "InvalidModel"
    assert "somebodys-own-op" in status.progress.message
    assert pod.revision == "onnx"
