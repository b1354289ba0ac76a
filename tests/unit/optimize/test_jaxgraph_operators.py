"""Every operator of the interpreter against ONNX Runtime, on ONNX's own models of one operator.

One model of each operator; `SKERRY_OPERATORS=all` takes all of them (a minute of CPU).
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.backend.test.loader import load_node_model_tests

from skerry_optimize.graphs import MIN_OPSET, opset
from skerry_optimize.jaxgraph.graph import JaxGraph, run
from skerry_optimize.jaxgraph.registry import UnknownOperator, kinds

Feed = Mapping[str, np.ndarray]
MOST = 10_000 if os.environ.get("SKERRY_OPERATORS") == "all" else 1
"""Of ONNX's models of one operator."""
BEFOREHAND = {
    *(("ConstantOfShape", 0), ("OneHot", 1), ("Pad", 1), ("Reshape", 1), ("TopK", 1)),
    *(("Range", 0), ("Range", 1), ("Range", 2), ("Resize", 1), ("Resize", 2), ("Resize", 3)),
    *(("CumSum", 1), ("Expand", 1), ("Split", 1), ("Squeeze", 1), ("Tile", 1), ("Trilu", 1)),
    *(
        ("Dropout", 1),
        ("Dropout", 2),
        ("Unsqueeze", 1),
        ("Slice", 1),
        ("Slice", 2),
        ("Slice", 3),
        ("Slice", 4),
        ("Pad", 3),
    ),
    *((kind, 1) for kind in kinds() if kind.startswith("Reduce")),
}
"""Operator and place of an input that is an initialiser in the graphs that people have."""
REFUSED = {
    "Cast": ["which no step works on"],
    "CastLike": ["which no step works on"],
    "BatchNormalization": ["measures its data"],
    "Dropout": ["drops values in inference"],
    "LSTM": ["takes the length of each sequence"],
    "MaxPool": ["tells where its largest values were"],
    "ReduceMax": ["no identity"],  # of nothing
    "ReduceMin": ["no identity"],
    "Resize": ["has the mode 'cubic'", "smooths", "crops"],
}
"""Operator -> what may be said of some of its models instead of an answer."""
ALL = [one for one in defs.get_all_schemas_with_history() if one.domain == ""]


@dataclass(frozen=True)
class Case:
    name: str
    model: onnx.ModelProto
    inputs: tuple[np.ndarray, ...]


@cache
def cases() -> dict[str, list[Case]]:
    """Operator -> ONNX's models of it, in the opsets that steps work on, with its data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of them divide by zero on purpose
        found = load_node_model_tests()
    by_kind: dict[str, list[Case]] = defaultdict(list)
    for one in sorted(found, key=lambda one: one.name):
        node, inputs = one.model.graph.node[-1], _arrays(one.data_sets[0][0])
        known = len(one.model.graph.node) == 1 and node.op_type in kinds()
        if known and inputs is not None and _is_modern(node.op_type, opset(one.model)):
            by_kind[node.op_type].append(Case(one.name, one.model, inputs))
    return by_kind


def _is_modern(kind: str, version: int) -> bool:
    """Tell whether an operator means what it does in the opsets that steps work on."""
    first = max(MIN_OPSET, min(one.since_version for one in ALL if one.name == kind))
    return (
        defs.get_schema(kind, version).since_version >= defs.get_schema(kind, first).since_version
    )


def _arrays(given: Any) -> tuple[np.ndarray, ...] | None:
    """Return inputs of types that people train; None: there are others."""
    found = []
    for one in given:
        array = numpy_helper.to_array(one) if isinstance(one, TensorProto) else one
        if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind not in "fiub":
            return None
        found.append(np.asarray(array))
    return tuple(found)


def answers_of_onnx_runtime(model: onnx.ModelProto, feed: Feed) -> list[np.ndarray] | None:
    """Return what ONNX Runtime says; None: it does not run this one."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    body = model.SerializeToString()
    try:
        session = ort.InferenceSession(body, options, providers=["CPUExecutionProvider"])
        return list(session.run(None, dict(feed)))
    except Exception:  # noqa: BLE001 (it has no base of its own for what it raises)
        return None


def named(case: Case) -> dict[str, np.ndarray]:
    return dict(zip((one.name for one in case.model.graph.input), case.inputs, strict=False))


def beforehand(case: Case) -> tuple[onnx.ModelProto, Feed]:
    """Return the model with shapes, axes and the like as initialisers, and what is left to feed."""
    node, arrays = case.model.graph.node[0], named(case)
    still = {name for n, name in enumerate(node.input) if name and (node.op_type, n) in BEFOREHAND}
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.graph.initializer.extend(numpy_helper.from_array(arrays[n], n) for n in sorted(still))
    del model.graph.input[:]
    model.graph.input.extend(one for one in case.model.graph.input if one.name not in still)
    return model, {name: array for name, array in arrays.items() if name not in still}


def same(expected: list[np.ndarray], got: list[np.ndarray]) -> None:
    for one, other in zip(expected, got, strict=True):
        assert one.shape == other.shape
        coarse = one.dtype == np.float16
        np.testing.assert_allclose(
            one.astype(np.float64),
            other.astype(np.float64),
            rtol=2e-2 if coarse else 1e-3,
            atol=2e-3 if coarse else 1e-5,
        )


def answers_or_refusal(case: Case) -> list[np.ndarray] | str:
    try:
        return list(run(*beforehand(case)).values())
    except UnknownOperator as err:
        return str(err)


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_an_operator_says_what_onnx_runtime_says(kind: str) -> None:
    shown, allowed = 0, REFUSED.get(kind, [])
    for case in cases()[kind]:
        expected = answers_of_onnx_runtime(case.model, named(case))
        if expected is None:
            continue
        got = answers_or_refusal(case)
        if isinstance(got, str):
            assert any(text in got for text in allowed), case.name
            continue
        same(expected, got)
        shown += 1
        if shown == MOST:
            break
    assert shown


SMOOTH = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "MaxPool", "AveragePool"),
    *("BatchNormalization", "LayerNormalization", "InstanceNormalization", "Softmax", "Gelu"),
    *(
        "LogSoftmax",
        "Resize",
        "PRelu",
        "ReduceMean",
        "Gather",
        "Where",
        "Concat",
        "LpNormalization",
    ),
)
"""Operators that trained models are mostly made of."""


def slope(graph: JaxGraph, floats: Feed, rest: Feed) -> Feed:
    """Return the gradient of the sum of all outputs."""

    def total(given: Feed) -> jax.Array:
        return sum(one.sum() for one in graph({}, {**rest, **given}).values())

    return jax.jit(jax.grad(total))(floats)


@pytest.mark.parametrize("kind", SMOOTH)
def test_gradients_of_an_operator_are_finite(kind: str) -> None:
    for case in cases()[kind]:
        model, feed = beforehand(case)
        floats = {name: array for name, array in feed.items() if array.dtype == np.float32}
        rest = {name: array for name, array in feed.items() if name not in floats}
        try:
            graph = JaxGraph(model)
            found = slope(graph, floats, rest)
        except UnknownOperator:
            continue
        assert found
        assert all(np.isfinite(array).all() for array in found.values()), case.name
        return
    raise AssertionError(f"no model of {kind} could be differentiated")


LAYERS = [
    ("LSTM", 4, "forward", {}),
    ("LSTM", 4, "bidirectional", {}),
    ("LSTM", 4, "reverse", {"activations": ["Sigmoid", "Relu", "Softsign"]}),
    ("GRU", 3, "bidirectional", {"linear_before_reset": 1}),
    ("GRU", 3, "bidirectional", {"linear_before_reset": 0}),
    ("RNN", 1, "bidirectional", {}),
]


@pytest.mark.parametrize(("kind", "gates", "direction", "more"), LAYERS)
def test_a_recurrent_layer_with_all_that_it_may_take(
    kind: str, gates: int, direction: str, more: dict[str, Any]
) -> None:
    steps, samples, taken, size = 5, 3, 4, 6
    sides = 2 if direction == "bidirectional" else 1
    random = np.random.default_rng(7)
    shapes = {
        "x": (steps, samples, taken),
        "w": (sides, gates * size, taken),
        "r": (sides, gates * size, size),
        "b": (sides, 2 * gates * size),
        "h": (sides, samples, size),
    } | ({"c": (sides, samples, size)} if kind == "LSTM" else {})
    feed = {name: random.normal(size=s).astype(np.float32) for name, s in shapes.items()}
    names = ["x", "w", "r", "b", "", "h", *(["c"] if kind == "LSTM" else [])]
    outputs = ["y", "yh", *(["yc"] if kind == "LSTM" else [])]
    node = helper.make_node(kind, names, outputs, direction=direction, hidden_size=size, **more)
    model = one_node(node, feed, outputs)
    expected = answers_of_onnx_runtime(model, feed)
    assert expected is not None
    same(expected, list(run(model, feed).values()))


def one_node(node: onnx.NodeProto, feed: Feed, outputs: list[str]) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in feed.items()]
    made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    graph = helper.make_graph([node], "g", inputs, made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
