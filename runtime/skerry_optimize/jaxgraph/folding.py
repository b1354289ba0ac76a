"""What a node makes of values that are known: by ONNX Runtime, in its own types and 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from skerry_optimize.graphs import first_line
from skerry_optimize.jaxgraph.registry import GraphNode, UnknownOperator

Known = np.ndarray[Any, Any]
IR_VERSION = 10
"""Old enough for any ONNX Runtime that is about."""


def folded(
    node: GraphNode, proto: onnx.NodeProto, opset: int, values: list[Known | None]
) -> tuple[Known, ...]:
    """Return what the node makes of these inputs.

    Raises:
        UnknownOperator: ONNX Runtime cannot do it.
    """
    named = {n: v for n, v in zip(node.inputs, values, strict=True) if v is not None}
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in named.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.outputs if name]
    graph = helper.make_graph([proto], "one", inputs, outputs)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found = iter(session.run(None, named))
    except Exception as err:  # ONNX Runtime has no base of its own for what it raises
        raise UnknownOperator(f"{node} cannot be done beforehand: {first_line(err)}") from err
    return tuple(np.asarray(next(found)) if name else np.empty(0) for name in node.outputs)
