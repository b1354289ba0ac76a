"""Builds: made, measured, judged, and kept or refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from optimize_models import GraphBuilder, cnn, data_of, golden_of, mlp
from skerry_optimize.calibration import feeds_of
from skerry_optimize.errors import BadPlan, StepRefused
from skerry_optimize.graphs import read_graph
from skerry_optimize.job import Material, make, measured_origin, run_plan
from skerry_optimize.plan import OptimizePlan, read_plan
from skerry_optimize.quantize import quantize_dynamic, quantize_static, to_float16
from skerry_optimize.report import JobPhase, JobReport
from skerry_optimize.shapes import fix_shapes

STEPS = {
    "dynamic": "quantize: {mode: Dynamic}",
    "static": "quantize: {mode: Static}",
    "float16": "quantize: {mode: Float16}",
    "sparse": "prune: {mode: Magnitude, amount: 10%}",
    "ort": "convert: {format: ORT}",
}


def plan_of(steps: dict[str, str], guards: str = "{}") -> OptimizePlan:
    jobs = "".join(f"- name: {name}\n  steps: [{{{step}}}]\n" for name, step in steps.items())
    head = "data: {file: d.npz}\ngolden: {file: g.npz}\n"
    return read_plan(f"{head}guards: {guards}\njobs:\n{jobs}")


def material(tmp_path: Path, kind: str) -> Material:
    path = tmp_path / "model.onnx"
    path.write_bytes(cnn() if kind == "cnn" else mlp())
    return Material(path, read_graph(path.read_bytes()), data_of(kind), golden_of(kind))


def carried_out(plan: OptimizePlan, given: Material, folder: Path) -> dict[str, JobReport]:
    folder.mkdir()
    return {job.name: job for job in run_plan(plan, given, measured_origin(plan, given), folder)}


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_every_kind_of_build_is_made_and_measured(tmp_path: Path, kind: str) -> None:
    plan = plan_of(STEPS, '{maxAccuracyDrop: "0.1"}')
    jobs = carried_out(plan, material(tmp_path, kind), tmp_path / "out")
    assert {name: job.phase for name, job in jobs.items()} == dict.fromkeys(
        STEPS, JobPhase.SUCCEEDED
    )
    made = {name: job.artifact for name, job in jobs.items()}
    for artifact in made.values():
        assert artifact is not None
        content = (tmp_path / "out" / artifact.file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == artifact.sha256
        assert artifact.size_bytes == len(content)
        assert artifact.accuracy is not None
        assert artifact.accuracy > 0.85
        assert artifact.latency_us > 0
        assert artifact.peak_memory_bytes > len(content) // 2
    sizes = {name: artifact.size_ratio for name, artifact in made.items() if artifact}
    assert sizes["static"] < 0.4
    assert sizes["float16"] < 0.6
    assert sizes["sparse"] == pytest.approx(1, abs=0.02)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "dynamic.onnx",
        "float16.onnx",
        "ort.ort",
        "sparse.onnx",
        "static.onnx",
    ]


def test_a_build_that_breaks_a_guard_is_refused_with_its_figures_and_not_kept(
    tmp_path: Path,
) -> None:
    ruined = {"ruined": "prune: {mode: Magnitude, amount: 97%}"}
    plan = plan_of(ruined, '{maxAccuracyDrop: "0.01", maxSizeRatio: "0.5"}')
    job = carried_out(plan, material(tmp_path, "mlp"), tmp_path / "out")["ruined"]
    assert job.phase is JobPhase.REFUSED
    assert "maxAccuracyDrop is 0.01" in job.message
    assert "maxSizeRatio is 0.5" in job.message
    assert job.artifact is not None
    assert job.artifact.accuracy_drop is not None
    assert f"{job.artifact.accuracy_drop:.4f} worse" in job.message
    assert list((tmp_path / "out").iterdir()) == []


def test_one_job_that_cannot_be_done_keeps_no_other_from_being_done(tmp_path: Path) -> None:
    steps = {"wrong": "fixShapes: {inputs: {y: [1, 64]}}", "right": STEPS["dynamic"]}
    jobs = carried_out(plan_of(steps), material(tmp_path, "mlp"), tmp_path / "out")
    assert jobs["wrong"].phase is JobPhase.REFUSED
    assert jobs["wrong"].message == "fixShapes: no input 'y': there are x"
    assert jobs["right"].phase is JobPhase.SUCCEEDED


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_steps_follow_each_other_and_make_the_same_bytes_every_time(
    tmp_path: Path, kind: str
) -> None:
    text = (
        "data: {file: d.npz}\njobs:\n- name: slim\n  steps:\n"
        "  - prune: {mode: Structured, amount: 25%}\n  - quantize: {mode: Static}\n"
    )
    given, job = material(tmp_path, kind), read_plan(text).jobs[0]
    first, second = make(job, given), make(job, given)
    assert first.content == second.content
    assert len(first.content) < 0.25 * given.path.stat().st_size


def test_static_quantisation_gives_each_channel_a_scale_and_dynamic_leaves_convolutions() -> None:
    model = read_graph(cnn())
    static = quantize_static(model, feeds_of(data_of("cnn"), model))
    scales = {one.name: one for one in static.graph.initializer if one.name.endswith("_scale")}
    assert any(list(one.dims) == [32] for one in scales.values())
    kinds = {node.op_type for node in quantize_dynamic(model).graph.node}
    assert "Conv" in kinds
    assert "MatMulInteger" in kinds
    assert "ConvInteger" not in kinds


def test_a_float16_model_takes_and_gives_what_it_did(tmp_path: Path) -> None:
    half = to_float16(read_graph(mlp()))
    session = ort.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [one.type for one in (*session.get_inputs(), *session.get_outputs())] == (
        ["tensor(float)"] * 2
    )


def test_fixed_shapes_reach_the_outputs() -> None:
    fixed = fix_shapes(read_graph(cnn()), {"x": (4, 1, 8, 8)})
    dims = fixed.graph.output[0].type.tensor_type.shape.dim
    assert [one.dim_value for one in dims] == [4, 10]


def test_an_output_whose_shape_cannot_be_inferred_keeps_what_it_said() -> None:
    """As in models whose last Reshape takes its shape from sizes that were computed."""
    made = GraphBuilder(("n", "m"))
    flat = made.weight(np.array([-1], np.int64))
    sizes = made.add("Reshape", made.add("NonZero", "x"), flat)  # nobody knows how many
    tip = made.add("Reshape", "x", sizes)
    model = read_graph(made.model(tip, ("n", "m")))
    dims = fix_shapes(model, {"x": (2, 3)}).graph.output[0].type.tensor_type.shape.dim
    assert len(dims) == 2


def convolution(made: GraphBuilder) -> str:
    return made.conv("x", 3, 4)


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (quantize_dynamic, "use Static, which takes convolutions too"),
        (lambda m: fix_shapes(m, {"x": (1, 3, 7, 7)}), "has shape [1, 3, 6, 6]"),
        (lambda m: fix_shapes(m, {"x": (1, 3)}), "does not fit"),
    ],
)
def test_a_step_that_cannot_be_done_says_why(
    work: Callable[[onnx.ModelProto], object], told: str
) -> None:
    made = GraphBuilder((1, 3, 6, 6))
    with pytest.raises(StepRefused) as raised:
        work(read_graph(made.model(convolution(made))))
    assert told in str(raised.value)


def test_what_is_quantised_is_not_quantised_again() -> None:
    done = quantize_dynamic(read_graph(mlp()))
    model = read_graph(done.SerializeToString())
    for work in (
        quantize_dynamic,
        to_float16,
        lambda m: quantize_static(m, feeds_of(data_of("mlp"), m)),
    ):
        with pytest.raises(StepRefused, match="quantised already"):
            work(model)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({}, "no array 'x': the model takes x, and the file has nothing"),
        ({"y": np.zeros((4, 64))}, "and the file has y"),
        ({"x": np.zeros((4, 63))}, "takes samples of [64]"),
        ({"x": np.zeros(64)}, "takes samples of [64]"),
        ({"x": np.array([["a"] * 64])}, "not numbers"),
        ({"x": np.zeros((0, 64))}, "there are 0"),
    ],
)
def test_data_that_does_not_fit_is_refused_by_its_key(
    arrays: dict[str, np.ndarray], told: str
) -> None:
    with pytest.raises(BadPlan) as raised:
        feeds_of(arrays, read_graph(mlp()))
    assert told in str(raised.value)


def test_data_goes_in_as_many_samples_as_the_model_takes() -> None:
    model = fix_shapes(read_graph(mlp()), {"x": (8, 64)})
    feeds = feeds_of({"x": np.zeros((20, 64)), "labels": np.zeros(20)}, model)
    assert [one["x"].shape for one in feeds] == [(8, 64), (8, 64)]
    assert all(one["x"].dtype == np.float32 for one in feeds)
    with pytest.raises(BadPlan, match="takes 8 samples a run, and there are 3"):
        feeds_of({"x": np.zeros((3, 64))}, model)
