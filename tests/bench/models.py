"""The models of the runtime bench, and how each is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from skerry_runtime.rpc.generated import oip_pb2 as pb

INFER = b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n%s\r\n%s"


@dataclass(frozen=True)
class Case:
    """A model, its input, and how many calls make a round."""

    name: str
    model: bytes
    shape: tuple[int, ...]
    calls: int
    array: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        object.__setattr__(self, "array", random.random(self.shape).astype(np.float32))

    def binary(self) -> bytes:
        """A REST request with the binary tensor extension."""
        data = self.array.tobytes()
        entry = {"name": "x", "datatype": "FP32", "shape": self.shape}
        head = {
            "inputs": [{**entry, "parameters": {"binary_data_size": len(data)}}],
            "parameters": {"binary_data_output": True},
        }
        text = json.dumps(head).encode()
        length = b"inference-header-content-length: %d\r\n" % len(text)
        return INFER % (len(text) + len(data), length, text + data)

    def json(self) -> bytes:
        """A REST request in JSON, its numbers as json.dumps writes a list of them."""
        data = self.array.reshape(-1).tolist()
        entry = {"name": "x", "datatype": "FP32", "shape": self.shape, "data": data}
        text = json.dumps({"inputs": [entry]}).encode()
        return INFER % (len(text), b"content-type: application/json\r\n", text)

    def message(self) -> bytes:
        """A gRPC message."""
        message = pb.ModelInferRequest(model_name="digits")
        message.inputs.add(name="x", datatype="FP32", shape=self.shape)
        message.raw_input_contents.append(self.array.tobytes())
        return message.SerializeToString()


def tiny() -> bytes:
    """One 16 x 16 product: what is left is the cost of asking."""
    weights = numpy_helper.from_array(np.eye(16, dtype=np.float32), "w")
    return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], ["n", 16], ["n", 16], [weights])


def network() -> bytes:
    """Nine layers over a 3 x 224 x 224 picture: eight convolutions, and a classifier."""
    random, nodes, weights, value = np.random.default_rng(0), [], [], "x"
    channels = [3, 16, 24, 24, 32, 48, 64, 96, 128]
    for layer, (before, after) in enumerate(pairwise(channels)):
        kernel = random.standard_normal((after, before, 3, 3), dtype=np.float32) * 0.1
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        stride = 1 if layer in (1, 3, 5) else 2
        convolved, value_after = f"c{layer}", f"r{layer}"
        nodes.append(
            helper.make_node(
                "Conv", [value, f"w{layer}"], [convolved], pads=[1] * 4, strides=[stride] * 2
            )
        )
        nodes.append(helper.make_node("Relu", [convolved], [value_after]))
        value = value_after
    weights.append(numpy_helper.from_array(np.ones((128, 1000), np.float32), "w"))
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    return _model(nodes, [1, 3, 224, 224], [1, 1000], weights)


def dense() -> bytes:
    """Three products with 2048 x 2048 weights: a run reads 48 MB, whatever its rows."""
    random, nodes, weights, value = np.random.default_rng(0), [], [], "x"
    for layer in range(3):
        kernel = random.standard_normal((2048, 2048), dtype=np.float32) * 0.02
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{layer}"], [f"m{layer}"]))
        value = f"r{layer}" if layer < 2 else "y"
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [value]))
    return _model(nodes, ["n", 2048], ["n", 2048], weights)


def _model(
    nodes: list[onnx.NodeProto], given: list[Any], wanted: list[Any], weights: list[Any]
) -> bytes:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, wanted)]
    graph = helper.make_graph(nodes, "bench", inputs, outputs, weights)
    opset = helper.make_opsetid("", 17)
    content: bytes = helper.make_model(
        graph, opset_imports=[opset], ir_version=9
    ).SerializeToString()
    return content


CASES = (
    Case("tiny", tiny(), (1, 16), 400),
    Case("cnn", network(), (1, 3, 224, 224), 60),
)
WIDE = Case("dense", dense(), (1, 2048), 20)
