"""Training: what was pruned recovers, a student learns, and both the same way every time."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from optimize_models import GraphBuilder, cnn, data_of, digits, golden_of, mlp, tiny
from skerry_optimize.errors import BadPlan, StepRefused
from skerry_optimize.graphs import put_weights, read_graph, weights_of
from skerry_optimize.job import Material, make
from skerry_optimize.plan import read_plan
from skerry_optimize.prune.magnitude import prune_magnitude
from skerry_optimize.prune.structured import prune_structured
from skerry_optimize.shapes import fix_shapes
from skerry_optimize.training import loop, targets
from skerry_optimize.training.distillation import Lesson, distil, recover

WITH_LABELS = {**data_of("mlp"), "labels": digits().training_labels[:300]}


def accuracy(model: onnx.ModelProto, kind: str) -> float:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    golden = golden_of(kind)
    (said,) = session.run(None, {"x": golden["x"]})
    return float((said.argmax(axis=1) == golden["labels"]).mean())


def test_a_cnn_without_half_of_its_channels_recovers_without_labels() -> None:
    origin = read_graph(cnn())
    slim = prune_structured(origin, 0.5).model
    found = recover(slim, origin, data_of("cnn"), Lesson(30))
    assert accuracy(slim, "cnn") < 0.5
    assert accuracy(found, "cnn") > 0.9
    assert len(found.SerializeToString()) == len(slim.SerializeToString())


def test_weights_that_were_pruned_stay_zero() -> None:
    origin = read_graph(mlp())
    sparse = prune_magnitude(origin, 0.8)
    found = recover(sparse, origin, data_of("mlp"), Lesson(3))
    before, after = weights_of(sparse), weights_of(found)
    for name, array in before.items():
        if array.ndim == 2:
            assert np.array_equal(array == 0, after[name] == 0)
            assert not np.array_equal(array, after[name])
    assert accuracy(found, "mlp") > accuracy(sparse, "mlp")


@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
def test_a_student_learns_from_its_teacher_and_from_labels(alpha: float) -> None:
    student, teacher = read_graph(tiny()), read_graph(mlp())
    found = distil(student, teacher, WITH_LABELS, Lesson(60, alpha=alpha))
    assert accuracy(student, "mlp") < 0.3
    assert accuracy(found, "mlp") > 0.8
    assert len(found.SerializeToString()) * 8 < len(mlp())


def test_numbers_are_learnt_by_their_squares() -> None:
    made = GraphBuilder(("n", 4), seed=2)
    teacher = read_graph(made.model(made.gemm("x", 4, 3), ("n", 3)))
    other = GraphBuilder(("n", 4), seed=5)
    student = read_graph(other.model(other.gemm("x", 4, 3), ("n", 3)))
    x = np.random.default_rng(0).normal(size=(256, 4)).astype(np.float32)
    found = distil(student, teacher, {"x": x}, Lesson(500, classes=False))
    wanted, got = weights_of(teacher), weights_of(found)
    assert all(np.allclose(wanted[name], got[name], atol=0.05) for name in wanted)


def test_a_teacher_of_shares_and_a_student_of_logits_understand_each_other() -> None:
    made = GraphBuilder(("n", 64), seed=1)
    teacher = onnx.load_from_string(mlp())
    last = teacher.graph.output[0].name
    teacher.graph.node.append(onnx.helper.make_node("Softmax", [last], ["shares"], axis=1))
    teacher.graph.output[0].name = "shares"
    student = read_graph(made.model(made.gemm("x", 64, 10), ("n", 10)))
    put_weights(student, {name: array * 0.1 for name, array in weights_of(student).items()})
    found = distil(student, read_graph(teacher.SerializeToString()), data_of("mlp"), Lesson(80))
    assert accuracy(found, "mlp") > 0.8


def test_every_epoch_tells_its_loss_as_json(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "skerry_optimize.progress"):
        distil(read_graph(tiny()), read_graph(mlp()), data_of("mlp"), Lesson(3))
    lines = [json.loads(record.message) for record in caplog.records]
    assert [(one["step"], one["epoch"], one["epochs"]) for one in lines] == [
        ("distil", n, 3) for n in (1, 2, 3)
    ]
    assert lines[2]["loss"] < lines[0]["loss"]
    assert all(0 <= one["accuracy"] <= 1 for one in lines)


TWICE = """
import hashlib
from pathlib import Path
from skerry_optimize.graphs import read_graph
from skerry_optimize.training.distillation import Lesson, distil
from skerry_runtime.agent.npz import read_npz
student, teacher = (read_graph(Path(name).read_bytes()) for name in ("s.onnx", "t.onnx"))
found = distil(student, teacher, read_npz(Path("d.npz")), Lesson(2))
print(hashlib.sha256(found.SerializeToString()).hexdigest())
"""


def test_two_processes_make_the_same_bytes(tmp_path: Path) -> None:
    made = GraphBuilder(("n", 1, 8, 8), seed=6)
    flat = made.add("Flatten", made.add("Relu", made.conv("x", 1, 4)))
    (tmp_path / "s.onnx").write_bytes(made.model(made.gemm(flat, 256, 10), ("n", 10)))
    (tmp_path / "t.onnx").write_bytes(cnn())
    np.savez(tmp_path / "d.npz", **data_of("cnn"))
    paths = [path for path in sys.path if path]
    command = [sys.executable, "-P", "-c", f"import sys; sys.path[:0] = {paths!r}\n{TWICE}"]
    found = [run_in(tmp_path, command) for _ in range(2)]
    assert len(found[0].strip()) == 64
    assert found[0] == found[1]


def run_in(folder: Path, command: list[str]) -> bytes:
    return subprocess.run(command, capture_output=True, check=True, cwd=folder).stdout


def odd(model: bytes) -> onnx.ModelProto:
    """Return a student whose numbers are out of all bounds."""
    found = read_graph(model)
    huge = {n: np.full_like(a, 1e30) for n, a in weights_of(found).items()}
    put_weights(found, huge)
    return found


def narrow() -> onnx.ModelProto:
    made = GraphBuilder(("n", 64))
    return read_graph(made.model(made.gemm("x", 64, 7), ("n", 7)))


def strange() -> onnx.ModelProto:
    made = GraphBuilder(("n", 64))
    tip = made.add("Hardmax", made.gemm("x", 64, 10))
    return read_graph(made.model(tip, ("n", 10)))


def fixed() -> onnx.ModelProto:
    return fix_shapes(read_graph(tiny()), {"x": (1, 64)})


@pytest.mark.parametrize(
    ("student", "told"),
    [
        (lambda: odd(tiny()), "the loss is no number in epoch 1"),
        (narrow, "have shapes [[7]], those of the teacher [[10]]"),
        (strange, "node 'Hardmax_t1' (Hardmax) is an operator that is not known: train it where"),
        (fixed, "input 'x' has a fixed batch of 1: export the model with a dynamic first axis"),
    ],
)
def test_a_student_that_cannot_learn_is_refused_by_name(
    student: Callable[[], onnx.ModelProto], told: str
) -> None:
    with pytest.raises(StepRefused) as raised:
        distil(student(), read_graph(mlp()), data_of("mlp"), Lesson(2))
    assert told in str(raised.value)


X = data_of("mlp")["x"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"y": X}, "no array 'x': the model takes x, and the file has y"),
        ({"x": X[:, :60]}, "takes samples of [64]"),
        ({"x": X}, "no array 'labels', and distil has alpha 0.5"),
        ({"x": X, "labels": np.zeros(7, int)}, "one whole number for each of the 300 samples"),
        ({"x": X, "labels": np.full(300, 10)}, "the teacher has 10 classes"),
    ],
)
def test_data_that_nothing_can_be_learnt_from_is_refused(data: dict[str, Any], told: str) -> None:
    with pytest.raises(BadPlan) as raised:
        distil(read_graph(tiny()), read_graph(mlp()), data, Lesson(2, alpha=0.5))
    assert told in str(raised.value)


def test_bytes_and_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_SECONDS", 0)
    with pytest.raises(StepRefused, match="1 of 2 epochs took"):
        distil(read_graph(tiny()), read_graph(mlp()), data_of("mlp"), Lesson(2))
    monkeypatch.setattr(targets, "MAX_DATA_BYTES", 100)
    with pytest.raises(BadPlan, match="give fewer samples"):
        distil(read_graph(tiny()), read_graph(mlp()), data_of("mlp"), Lesson(2))


def plan_with(student: str) -> str:
    return (
        "data: {file: d.npz}\njobs:\n- name: student\n  steps:\n"
        f"  - distil: {{student: {{file: s.onnx{student}}}, epochs: 2}}\n"
        "  - quantize: {mode: Dynamic}\n"
    )


def test_a_plan_teaches_a_student_and_quantises_it(tmp_path: Path) -> None:
    path = tmp_path / "s.onnx"
    path.write_bytes(tiny())
    given = Material(path, read_graph(mlp()), data_of("mlp"), files={"s.onnx": path})
    digest = hashlib.sha256(tiny()).hexdigest()
    build = make(read_plan(plan_with(f", sha256: '{digest}'")).jobs[0], given)
    assert "MatMulInteger" in {node.op_type for node in build.model.graph.node}
    other = read_plan(plan_with(f", sha256: '{'0' * 64}'")).jobs[0]
    with pytest.raises(BadPlan, match=f"has sha256 {digest}"):
        make(other, given)
    elsewhere = Material(tmp_path / "other" / "m.onnx", read_graph(mlp()), data_of("mlp"))
    with pytest.raises(BadPlan, match="is not here"):
        make(read_plan(plan_with("")).jobs[0], elsewhere)
