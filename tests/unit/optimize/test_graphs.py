"""Graphs as steps want them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize_models import GraphBuilder, cnn, mlp
from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import MIN_OPSET, opset, read_graph, shapes_of, weights_of


def answers(model: bytes, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def in_constants(model: bytes) -> bytes:
    """Return the model as some exporters write it: every weight is a Constant node."""
    found = onnx.ModelProto.FromString(model)
    nodes = [
        helper.make_node("Constant", [], [one.name], value=one) for one in found.graph.initializer
    ]
    rest = list(found.graph.node)
    del found.graph.initializer[:]
    del found.graph.node[:]
    found.graph.node.extend([*nodes, *rest])
    return found.SerializeToString()


def test_weights_in_constant_nodes_become_initialisers() -> None:
    model = read_graph(in_constants(cnn()))
    assert len(weights_of(model)) == 8
    assert all(node.op_type != "Constant" for node in model.graph.node)


def test_an_old_opset_is_taken_to_one_that_can_be_quantised() -> None:
    made = GraphBuilder((2, 8), opset=9)
    old = made.model(made.gemm("x", 8, 3), (2, 3))
    new = read_graph(old)
    assert opset(new) == MIN_OPSET
    x = np.ones((2, 8), np.float32)
    assert np.array_equal(answers(old, x), answers(new.SerializeToString(), x))


def test_tensors_between_have_their_shapes() -> None:
    shapes = shapes_of(read_graph(cnn()))
    assert shapes["t4"] == (-1, 32, 4, 4)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no graph"),
        (b"\xff" * 40, "no ONNX model"),
        (b"<html>not found</html>", "no"),
    ],
)
def test_what_is_no_model_is_refused(content: bytes, told: str) -> None:
    with pytest.raises(StepRefused) as raised:
        read_graph(content)
    assert told in str(raised.value)


@pytest.mark.parametrize("length", [10, 500, 2000, 30_000])
def test_the_beginning_of_a_model_is_refused(length: int) -> None:
    with pytest.raises(StepRefused):
        read_graph(mlp()[:length])


def test_weights_in_another_file_are_refused_with_the_way_out() -> None:
    model = onnx.ModelProto.FromString(mlp())
    outside = model.graph.initializer[0]
    outside.data_location = TensorProto.EXTERNAL
    outside.ClearField("raw_data")
    entry = outside.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    with pytest.raises(StepRefused, match="save_as_external_data=False"):
        read_graph(model.SerializeToString())


def test_a_graph_whose_nodes_do_not_fit_is_refused() -> None:
    model = onnx.ModelProto.FromString(mlp())
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(StepRefused, match="no valid ONNX model"):
        read_graph(model.SerializeToString())


def test_an_operator_of_a_domain_that_is_not_imported_is_refused() -> None:
    model = onnx.ModelProto.FromString(mlp())
    model.graph.node[0].domain = "com.example"
    with pytest.raises(StepRefused, match=r"com\.example"):
        read_graph(model.SerializeToString())


def test_a_function_of_the_model_is_written_out() -> None:
    made = GraphBuilder((2, 4))
    model = onnx.ModelProto.FromString(made.model(made.gemm("x", 4, 4), (2, 4)))
    body = [helper.make_node("Relu", ["a"], ["b"])]
    sets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], body, sets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("Twice", ["t0"], ["y"], domain="own"))
    model.graph.output[0].name = "y"
    found = read_graph(model.SerializeToString())
    assert [node.op_type for node in found.graph.node] == ["Gemm", "Relu"]
    assert numpy_helper.to_array(found.graph.initializer[0]).shape == (4, 4)
