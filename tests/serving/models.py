"""Small ONNX models, written when a test needs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}


def identity(path: Path, datatype: str) -> Path:
    """y = x, shape [n, 2]."""
    kind = ONNX_TYPES[datatype]
    return save(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", kind, ["n", 2])],
        [helper.make_tensor_value_info("y", kind, ["n", 2])],
    )


def product(path: Path) -> Path:
    """y = x @ w, and z = 2 y; x is [n, 4], w counts from 0 to 11."""
    weights = np.arange(12, dtype=np.float32).reshape(4, 3)
    return save(
        path,
        [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Add", ["y", "y"], ["z"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 3]),
        ],
        {"w": weights},
    )


def doubled(path: Path, axes: list[int | str | None]) -> Path:
    """y = x + x, for an x with these axes: lengths, names, or None for dynamic without a name."""
    return save(
        path,
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, axes)],
    )


def normalized_product(path: Path) -> Path:
    """y = x @ w, its rows of length 1 by an operator that only ONNX Runtime's CPU has."""
    domain = "ai.onnx.ml"
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Normalizer", ["product"], ["y"], domain=domain, norm="L2"),
    ]
    return save(
        path,
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        {"w": np.arange(12, dtype=np.float32).reshape(4, 3)},
    )


def constant(path: Path, value: float) -> Path:
    """y and z are `value` wherever x is a number: every output names its model."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("y", "z")
    ]
    nodes = [
        helper.make_node("Mul", ["x", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "value"], ["y"]),
        helper.make_node("Add", ["nothing", "value"], ["z"]),
    ]
    weights = {"zero": np.float32([0]), "value": np.float32([value])}
    return save(path, nodes, inputs, outputs, weights)


def total(path: Path) -> Path:
    """y = a + b, shape [n, 2] each."""
    names = ("a", "b")
    return save(
        path,
        [helper.make_node("Add", list(names), ["y"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in names],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )


def gather(path: Path) -> Path:
    """y = table[index]: an index beyond the table fails inside the engine."""
    return save(
        path,
        [helper.make_node("Gather", ["table", "index"], ["y"])],
        [helper.make_tensor_value_info("index", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        {"table": np.float32([1, 2, 3])},
    )


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write the model of this graph."""
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save(model, path)
    return path
