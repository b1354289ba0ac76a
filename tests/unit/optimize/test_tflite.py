"""TensorFlow Lite: the same answers from another engine, in floats and in 8 bits."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from optimize_models import GraphBuilder, cnn, data_of, golden_of, mlp
from skerry_optimize.apart import apart
from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import read_graph
from skerry_optimize.job import Material, make, measured_origin, run_plan
from skerry_optimize.plan import read_plan
from skerry_optimize.report import JobPhase
from skerry_runtime.contract import Format

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None, reason="its wheels are for x86-64"
)
PLAN = """
data: {file: d.npz}
golden: {file: g.npz}
guards: {maxAccuracyDrop: "0.02"}
jobs:
- name: lite
  steps: [{convert: {format: TFLite}}]
- name: lite-dynamic
  steps: [{convert: {format: TFLite}}, {quantize: {mode: Dynamic}}]
- name: lite-int8
  steps: [{convert: {format: TFLite}}, {quantize: {mode: Static}}]
"""


def test_tflite_builds_are_examined_and_measured_by_the_engine_that_serves_them(
    tmp_path: Path,
) -> None:
    path, plan = tmp_path / "model.onnx", read_plan(PLAN)
    path.write_bytes(cnn())
    given = Material(path, read_graph(cnn()), data_of("cnn"), golden_of("cnn"))
    jobs = list(run_plan(plan, given, measured_origin(plan, given), tmp_path))
    assert [job.phase for job in jobs] == [JobPhase.SUCCEEDED] * 3, jobs
    plain, dynamic, static = (job.artifact for job in jobs)
    assert plain is not None
    assert dynamic is not None
    assert static is not None
    assert plain.file == "lite.tflite"
    assert plain.accuracy_drop == pytest.approx(0, abs=0.002)
    assert max(dynamic.size_ratio, static.size_ratio) < 0.34
    assert plain.latency_us > 0
    assert plain.peak_memory_bytes > 0


def test_two_conversions_make_the_same_bytes() -> None:
    given = Material(Path("m.onnx"), read_graph(mlp()), data_of("mlp"))
    job = read_plan(PLAN).jobs[2]
    first, second = make(job, given), make(job, given)
    assert first.format is Format.TFLITE
    assert first.content == second.content


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((1, "t", 8), "input 'x' has an axis of any size behind the first"),
        ((1, 4, 8), "node 'Hardmax_t0' (Hardmax) is an operator that is not known"),
    ],
)
def test_what_cannot_be_converted_is_named(shape: tuple[int | str, ...], told: str) -> None:
    made = GraphBuilder(shape)
    kind = "Relu" if "any size" in told else "Hardmax"
    model = read_graph(made.model(made.add(kind, "x"), shape))
    job = read_plan(PLAN).jobs[0]
    with pytest.raises(StepRefused) as raised:
        make(job, Material(Path("m.onnx"), model))
    assert told in str(raised.value)


def test_indices_keep_their_type(tmp_path: Path) -> None:
    """Embeddings take 64-bit numbers; whoever asks the one build asks the other in the same way."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 (a large library)
    from onnx import TensorProto, helper, load_from_string  # noqa: PLC0415 (as above)

    made = GraphBuilder((1, 5))
    table = made.drawn(20, 4)
    tip = made.add("ReduceMean", made.add("Gather", table, "x", axis=0), axes=[1], keepdims=0)
    model = load_from_string(made.model(tip, (1, 4)))
    taken = helper.make_tensor_value_info("x", TensorProto.INT64, (1, 5))
    model.graph.input[0].CopyFrom(taken)
    given = Material(Path("m.onnx"), read_graph(model.SerializeToString()))
    content = make(read_plan(PLAN).jobs[0], given).content
    run = Interpreter(model_content=content).get_signature_runner()
    x = np.array([[1, 3, 5, 7, 19]], np.int64)
    (got,) = run(x=x).values()
    assert np.allclose(got, made.weights[table][x[0]].mean(axis=0), atol=1e-6)


def die() -> None:
    import os  # noqa: PLC0415 (of the process that ends)

    os._exit(9)


def test_a_converter_that_ends_its_process_refuses_the_job_alone() -> None:
    with pytest.raises(StepRefused, match="convert: its process ended by itself"):
        apart("convert", die)
