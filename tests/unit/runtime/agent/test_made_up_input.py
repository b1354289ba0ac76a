"""The probe is no critic of made-up input: an engine's error on it is no verdict on the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from documents import with_model
from skerry_runtime.agent.hints import Fill, Hint, hints_of
from skerry_runtime.agent.host import Host
from skerry_runtime.agent.onnxfile import NotOnnx
from skerry_runtime.agent.ports import MIB
from skerry_runtime.agent.probe import ProbeRequest, probe
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sample import samples
from skerry_runtime.backends.base import ModelMetadata, TensorSpec
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import FailureReason, Format, GoldenMetric
from unit.runtime.agent import engines
from unit.runtime.agent.support import CPU, FAST, Pod, Source, content, environment, npz, sha256

ROOT = Path(__file__).parents[4]
PATHS = ":".join(str(ROOT / part) for part in ("tests", "runtime", "operator"))
INT, FLOAT = TensorProto.INT64, TensorProto.FLOAT
Value = tuple[str, int, list[int | str]]


@pytest.fixture(autouse=True)
def _engines_can_be_found() -> Iterator[None]:
    with environment(PYTHONPATH=PATHS):
        yield


def graph(nodes: list, given: list[Value], wanted: list[Value], **weights: np.ndarray) -> bytes:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*value) for value in given],
        [helper.make_tensor_value_info(*value) for value in wanted],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model: ModelProto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    content: bytes = model.SerializeToString()
    return content


node = helper.make_node

DIVISION = graph(
    [node("Div", ["a", "b"], ["y"])], [("a", INT, ["n"]), ("b", INT, ["n"])], [("y", INT, ["n"])]
)
DIVISION_BY_A_SUM = graph(
    [
        node("Cast", ["b"], ["c"], to=INT),
        node("Add", ["c", "one"], ["d"]),
        node("Sub", ["d", "one"], ["e"]),
        node("Div", ["a", "c"], ["y"]),
    ],
    [("a", INT, ["n"]), ("b", FLOAT, ["n"])],
    [("y", INT, ["n"])],
    one=np.array([1], np.int64),
)
RANGE = graph(
    [node("Range", ["a", "b", "d"], ["y"])],
    [("a", FLOAT, []), ("b", FLOAT, []), ("d", FLOAT, [])],
    [("y", FLOAT, ["n"])],
)
RESIZE = graph(
    [node("Resize", ["x", "", "", "sizes"], ["y"])],
    [("x", FLOAT, [1, 3, 8, 8]), ("sizes", INT, [4])],
    [("y", FLOAT, [1, 3, "h", "w"])],
)
LOOKUP = graph(
    [node("Gather", ["table", "i"], ["y"])],
    [("i", INT, ["n"])],
    [("y", FLOAT, ["n", 2])],
    table=np.ones((3, 2), np.float32),
)
AXES = graph(
    [node("ReduceSum", ["x", "axes"], ["y"])],
    [("x", FLOAT, [2, 3]), ("axes", INT, [2])],
    [("y", FLOAT, [1, 1])],
)
TOP = graph(
    [node("TopK", ["x", "k"], ["y", "i"])],
    [("x", FLOAT, ["n", 4]), ("k", INT, [1])],
    [("y", FLOAT, ["n", "k"]), ("i", INT, ["n", "k"])],
)
NARROW = graph(
    [node("Conv", ["x", "w"], ["y"])],
    [("x", FLOAT, ["n", 1, "h", "w"])],
    [("y", FLOAT, ["n", 1, "a", "b"])],
    w=np.ones((1, 1, 7, 7), np.float32),
)
"""A picture of one pixel, which is all that its axes say, is too small for it."""


def asked(tmp_path: Path, body: bytes, backend: type = OnnxBackend, **more: object) -> ProbeRequest:
    path = tmp_path / "model.onnx"
    path.write_bytes(body)
    return ProbeRequest(
        backend=f"{backend.__module__}:{backend.__qualname__}",
        path=path,
        format=Format.ONNX,
        execution=CPU,
        threads=1,
        memory_bytes=2048 * MIB,
        timeout_s=60.0,
        **more,
    )


@pytest.mark.parametrize(
    "body",
    [DIVISION, DIVISION_BY_A_SUM, RANGE, RESIZE, LOOKUP, AXES, TOP],
    ids=["division", "division by a computed value", "range", "resize", "index", "axes", "top k"],
)
async def test_the_graph_tells_which_values_may_do(tmp_path: Path, body: bytes) -> None:
    found = await probe(asked(tmp_path, body), Host())
    assert found.not_tried == ""
    assert found.at


async def test_an_error_on_made_up_input_is_no_verdict(tmp_path: Path) -> None:
    found = await probe(asked(tmp_path, NARROW), Host())
    assert "ONNXRuntimeError" in found.not_tried
    assert found.at == ""


async def test_an_error_on_the_golden_files_own_rows_is_one(tmp_path: Path) -> None:
    exam = tmp_path / "golden.npz"
    exam.write_bytes(npz(x=np.ones((4, 1, 3, 3), np.float32), labels=np.zeros(4, np.int64)))
    with pytest.raises(Refused) as caught:
        await probe(asked(tmp_path, NARROW, golden=exam), Host())
    assert caught.value.reason is FailureReason.PROBE_FAILED


async def test_the_golden_files_rows_come_before_any_made_up(tmp_path: Path) -> None:
    exam = tmp_path / "golden.npz"
    exam.write_bytes(npz(x=np.ones((4, 1, 9, 9), np.float32), labels=np.zeros(4, np.int64)))
    found = await probe(asked(tmp_path, NARROW, golden=exam), Host())
    assert found.not_tried == ""
    assert "9, 9]" in found.at


async def test_a_crash_on_made_up_input_is_a_verdict(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        await probe(asked(tmp_path, LOOKUP, engines.CrashesWhenAsked), Host())
    assert caught.value.reason is FailureReason.PROBE_FAILED
    assert "SIGFPE" in str(caught.value)


async def test_a_model_that_was_not_tried_serves_and_the_status_says_so_also_after_a_restart(
    tmp_path: Path, source: Source
) -> None:
    described = {"v1": content(NARROW, source.add("m", NARROW))}
    for _ in range(2):
        async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
            pod.mount.assign("v1", described)
            status = await pod.until_serving("v1")
            assert status.serving
            assert "ONNXRuntimeError" in status.serving.model.not_tried
            assert status.progress
            assert status.progress.trial.not_tried == status.serving.model.not_tried


async def test_a_model_that_was_tried_says_nothing_of_it(tmp_path: Path, source: Source) -> None:
    exam = npz(i=np.array([0, 1]), expected=np.ones((2, 2), np.float32))
    described = content(
        LOOKUP, source.add("m", LOOKUP), exam=exam, exam_uri=source.add("e", exam), threshold="0"
    )
    golden = described.model.golden
    assert golden
    golden = golden.model_copy(
        update={"metric": GoldenMetric.MAX_ABS_ERROR, "sha256": sha256(exam)}
    )
    async with Pod(tmp_path, OnnxBackend(), FAST) as pod:
        pod.mount.assign("v1", {"v1": with_model(described, golden=golden)})
        status = await pod.until_serving("v1")
        assert status.serving
        assert status.serving.model.not_tried == ""


def hints(*nodes: object) -> dict[str, Hint]:
    return dict(hints_of(memoryview(graph(list(nodes), [], []))))


def test_a_hint_goes_back_through_operators_that_keep_it() -> None:
    found = hints(
        node("Cast", ["x"], ["c"], to=INT),
        node("Mul", ["c", "z"], ["m"]),
        node("Unsqueeze", ["m", "axes"], ["u"]),
        node("Div", ["a", "u"], ["y"]),
    )
    ones = Hint(Fill.ONES)
    assert {name: found.get(name) for name in ("x", "z", "a")} == {"x": ones, "z": ones, "a": None}


def test_hints_in_a_circle_of_names_come_to_an_end() -> None:
    found = hints(
        node("Add", ["b", "x"], ["a"]),
        node("Add", ["a", "x"], ["b"]),
        node("Div", ["y", "a"], ["z"]),
    )
    assert found["x"] == Hint(Fill.ONES)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_damaged_graph_has_no_hints(share: float) -> None:
    whole = DIVISION_BY_A_SUM
    with pytest.raises(NotOnnx, match=r"truncated|damaged"):
        hints_of(memoryview(whole[: int(len(whole) * share)]))


def test_made_up_inputs_come_with_the_likeliest_first() -> None:
    metadata = ModelMetadata(
        "test",
        (
            TensorSpec("x", "FP32", (-1, 3)),
            TensorSpec("s", "INT64", (2,)),
            TensorSpec("t", "BYTES", (1,)),
        ),
        (),
    )
    made = list(samples(metadata, {"s": Hint(Fill.SHAPE, "x")}))
    assert [sample["s"].tolist() for sample in made] == [[1, 3], [0, 0], [1, 1]]
    assert [sample["t"].tolist() for sample in made] == [[b""], [b""], [b"1"]]
    assert len(list(samples(metadata))) == 2
