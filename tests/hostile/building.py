"""What the corpus is built of: one case, small graphs, and protobuf's wire format by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from skerry_runtime.contract import FailureReason, Format

INVALID = frozenset({FailureReason.INVALID_MODEL})
STOPPED = frozenset({FailureReason.INSUFFICIENT_MEMORY, FailureReason.PROBE_FAILED})
REFUSED = INVALID | STOPPED
"""Where it is the engine's affair how it fails on the file, as long as it fails in the child."""
EXAM = frozenset({FailureReason.INVALID_EXAM})
SERVES: frozenset[FailureReason] = frozenset()


@dataclass(frozen=True)
class Case:
    """One file, and what must come of it."""

    name: str
    body: bytes
    verdicts: frozenset[FailureReason]
    """Reasons of which one must be given; none: the file is harmless and serves."""
    format: Format = Format.ONNX
    golden: bytes | None = None
    may_serve: bool = False
    """True: a fast machine serves it within the limits, a slow one refuses it."""
    is_kin: bool = False
    """True: others of its kind are in the short form of the test as well."""


def tensor_info(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


X, Y = tensor_info("x", ["n", 4]), tensor_info("y", None)  # type: ignore[arg-type]


def model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray] | None = None,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    **fields: Any,
) -> onnx.ModelProto:
    """A model x [n, 4] -> y, of the given nodes; nothing checks it."""
    graph = helper.make_graph(
        nodes,
        "g",
        [X] if inputs is None else inputs,
        [Y] if outputs is None else outputs,
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opsets = fields.pop("opset_imports", [helper.make_opsetid("", 17)])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, **fields)


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(" ") if inputs else [], outputs.split(), **attributes)


def added(name: str = "w") -> onnx.NodeProto:
    return node("Add", f"x {name}")


def good() -> onnx.ModelProto:
    return model([added()], {"w": np.ones((1, 4), np.float32)})


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field of protobuf's wire format."""
    return varint(number << 3 | 2) + varint(len(body)) + body
