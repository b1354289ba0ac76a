"""Whole graphs in the interpreter: what is trained, what is known beforehand, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from optimize_models import GraphBuilder, cnn, data_of, mlp
from skerry_optimize.graphs import read_graph
from skerry_optimize.jaxgraph.graph import JaxGraph, run
from skerry_optimize.jaxgraph.registry import UnknownOperator, kinds


def said(body: bytes, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(body, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def encoder(made: GraphBuilder) -> str:
    """A layer of a transformer as exporters write it: sizes are computed from the input's."""
    x = made.add("Add", made.add("MatMul", "x", made.drawn(8, 8)), made.drawn(8))
    whole = made.add("Shape", x)
    first, second = (
        made.add("Gather", whole, made.weight(np.array(n, np.int64)), axis=0) for n in (0, 1)
    )
    zero = made.weight(np.array([0], np.int64))
    heads = [made.add("Unsqueeze", one, zero) for one in (first, second)]
    heads += [made.weight(np.array([2], np.int64)), made.weight(np.array([-1], np.int64))]
    apart = made.add("Concat", *heads, axis=0)
    q, k, v = (
        made.add("Reshape", made.add("MatMul", x, made.drawn(8, 8)), apart) for _ in range(3)
    )
    q, v = (made.add("Transpose", one, perm=[0, 2, 1, 3]) for one in (q, v))
    scores = made.add("MatMul", q, made.add("Transpose", k, perm=[0, 2, 3, 1]))
    scores = made.add("Div", scores, made.weight(np.array(2.0, np.float32)))
    mixed = made.add("MatMul", made.add("Softmax", scores, axis=-1), v)
    back = made.add("Transpose", mixed, perm=[0, 2, 1, 3])
    x = made.add("Add", x, made.add("Reshape", back, made.add("Shape", x)))
    mean = made.add("ReduceMean", x, axes=[-1], keepdims=1)
    centred = made.add("Sub", x, mean)
    square = made.add("Pow", centred, made.weight(np.array(2.0, np.float32)))
    spread = made.add("ReduceMean", square, axes=[-1], keepdims=1)
    spread = made.add("Sqrt", made.add("Add", spread, made.weight(np.array(1e-5, np.float32))))
    return made.add("Mul", made.add("Div", centred, spread), made.drawn(8))


def test_an_mlp_and_a_cnn_say_what_onnx_runtime_says() -> None:
    for kind, body in (("mlp", mlp()), ("cnn", cnn())):
        x = data_of(kind)["x"][:16]
        (got,) = run(read_graph(body), {"x": x}).values()
        np.testing.assert_allclose(got, said(body, x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("more", [{}, {"strides": [2, 1]}, {"dilations": [1, 2]}])
def test_depthwise_convolutions_say_the_same_when_they_are_trained(
    more: dict[str, list[int]],
) -> None:
    made = GraphBuilder(("n", 3, 7, 9))
    pads = {"group": 3, "pads": [1, 0, 2, 1], **more}
    body = made.model(made.add("Conv", "x", made.drawn(6, 1, 3, 3), made.drawn(6), **pads))
    model = read_graph(body)
    x = np.random.default_rng(1).normal(size=(2, 3, 7, 9)).astype(np.float32)
    graph = JaxGraph(model, trains=True)
    (got,) = graph(graph.weights, {"x": x}).values()
    np.testing.assert_allclose(got, said(body, x), rtol=1e-4, atol=1e-5)


def test_sizes_that_a_graph_computes_are_known_when_the_batch_is() -> None:
    made = GraphBuilder(("n", "s", 8))
    body = made.model(encoder(made))
    for shape in ((2, 5, 8), (3, 4, 8)):
        x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        (got,) = run(read_graph(body), {"x": x}).values()
        np.testing.assert_allclose(got, said(body, x), rtol=1e-3, atol=1e-4)


def test_weights_are_trained_and_constants_of_formulas_are_not() -> None:
    made = GraphBuilder(("n", "s", 8))
    graph = JaxGraph(read_graph(made.model(encoder(made))))
    assert {array.shape for array in graph.weights.values()} == {(8, 8), (8,)}
    x = np.random.default_rng(1).normal(size=(2, 5, 8)).astype(np.float32)
    slope = jax.jit(jax.grad(lambda w: sum((a**3).mean() for a in graph(w, {"x": x}).values())))
    found = slope(graph.weights)
    assert all(np.isfinite(one).all() and np.any(one) for one in found.values())


def test_what_a_batch_norm_measured_stays() -> None:
    made = GraphBuilder(("n", 3, 6, 6))
    graph = JaxGraph(read_graph(made.model(made.batch_norm(made.conv("x", 3, 4), 4))))
    assert len(graph.weights) == 4  # of the convolution two, and scale and bias


def unknown(made: GraphBuilder) -> str:
    return made.add("Cast", made.add("NonZero", "x"), to=1)


def foreign(made: GraphBuilder) -> str:
    return made.add("Gelu", "x", domain="com.microsoft")


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (unknown, "node 'NonZero_t0' (NonZero) is an operator that is not known"),
        (foreign, "node 'Gelu_t0' (com.microsoft.Gelu) is of another domain"),
    ],
)
def test_what_is_not_on_the_list_is_named_before_anything_runs(
    draw: Callable[[GraphBuilder], str], told: str
) -> None:
    made = GraphBuilder((1, 3))
    model = onnx.load_from_string(made.model(draw(made), (1, 3)))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnknownOperator) as raised:
        JaxGraph(read_graph(model.SerializeToString()))
    assert told in str(raised.value)


def test_a_size_that_follows_from_data_is_named() -> None:
    made = GraphBuilder((2,))
    shape = made.add("Cast", "x", to=7)
    model = read_graph(made.model(made.add("Reshape", made.drawn(4), shape)))
    with pytest.raises(UnknownOperator, match=r"Reshape.*takes its shape from data"):
        run(model, {"x": np.array([2, 2], np.float32)})


def test_the_docs_list_the_operators() -> None:
    page = (Path(__file__).parents[3] / "docs" / "optimise.md").read_text("utf-8")
    (listed,) = [line for line in page.splitlines() if line.startswith("> ")]
    assert listed.removeprefix("> ").split() == sorted(kinds())
