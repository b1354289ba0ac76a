"""Small .tflite models, written when a test needs them, by the format's own schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

Array = npt.NDArray[np.generic]

MARK = b"TFL3"
TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(object): schema.TensorType.STRING,
}


@dataclass(frozen=True)
class Tensor:
    """One tensor: an input, an output, or with `data` a constant."""

    name: str
    dtype: npt.DTypeLike
    shape: Sequence[int]
    """-1 is a dynamic axis."""
    data: Array | None = None
    scale: float | None = None
    zero_point: int = 0


WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)


def product(path: Path, batch: int = -1, *, with_signature: bool = True) -> Path:
    """y = x @ w, x is [batch, 4], w counts from 0 to 11."""
    return dense(path, WEIGHTS, np.zeros(3, np.float32), batch, with_signature=with_signature)


def dense(
    path: Path,
    weights: Array,
    bias: Array,
    batch: int = -1,
    *,
    names: tuple[str, str] = ("x", "y"),
    with_signature: bool = True,
) -> Path:
    """y = x @ weights + bias, in float32."""
    taken, given = weights.shape
    tensors = [
        Tensor(names[0], np.float32, (batch, taken)),
        Tensor("w", np.float32, (given, taken), weights.T.copy()),
        Tensor("b", np.float32, (given,), bias),
        Tensor(names[1], np.float32, (batch, given)),
    ]
    return _save(path, tensors, schema.BuiltinOperator.FULLY_CONNECTED, with_signature)


def quantized_product(path: Path) -> Path:
    """The same in int8: real x = x / 2, real w = w, real y = 4 (y + 100)."""
    tensors = [
        Tensor("x", np.int8, (1, 4), scale=0.5),
        Tensor("w", np.int8, (3, 4), WEIGHTS.T.astype(np.int8), scale=1.0),
        Tensor("b", np.int32, (3,), np.zeros(3, np.int32), scale=0.5),
        Tensor("y", np.int8, (1, 3), scale=4.0, zero_point=-100),
    ]
    return _save(path, tensors, schema.BuiltinOperator.FULLY_CONNECTED, True)


def texts(path: Path) -> Path:
    """y = x, both texts."""
    tensors = [Tensor("x", object, (1,)), Tensor("y", object, (1,))]
    return _save(path, tensors, schema.BuiltinOperator.RESHAPE, True)


def unknown_operator(path: Path) -> Path:
    """An operator of somebody's own."""
    tensors = [Tensor("x", np.float32, (1, 4)), Tensor("y", np.float32, (1, 4))]
    return _save(path, tensors, "somebodys-own-op", True)


def _save(path: Path, tensors: Sequence[Tensor], operator: int | str, with_signature: bool) -> Path:
    buffers = [schema.BufferT()]  # the first is empty by the format's rule
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(tensor, buffers) for tensor in tensors]
    last = len(tensors) - 1
    graph.inputs, graph.outputs = [0], [last]
    node = schema.OperatorT()
    node.opcodeIndex, node.inputs, node.outputs = 0, list(range(last)), [last]
    if operator == schema.BuiltinOperator.FULLY_CONNECTED:
        node.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        node.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators = [node]
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers = 3, [graph], buffers
    model.operatorCodes = [_operator(operator)]
    if with_signature:
        model.signatureDefs = [_signature(tensors[0].name, tensors[last].name, last)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), MARK)
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(tensor: Tensor, buffers: list[schema.BufferT]) -> schema.TensorT:
    made = schema.TensorT()
    made.name = tensor.name if tensor.data is not None else f"serving_default_{tensor.name}:0"
    made.type = TYPES[np.dtype(tensor.dtype)]
    made.shape = [max(1, axis) for axis in tensor.shape]
    if -1 in tensor.shape:
        made.shapeSignature = list(tensor.shape)
    made.buffer = len(buffers)
    content = schema.BufferT()
    if tensor.data is not None:
        content.data = np.frombuffer(tensor.data.tobytes(), np.uint8)
    buffers.append(content)
    if tensor.scale is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [tensor.scale], [tensor.zero_point]
    return made


def _operator(operator: int | str) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.version = 1
    if isinstance(operator, str):
        code.builtinCode = schema.BuiltinOperator.CUSTOM
        code.deprecatedBuiltinCode, code.customCode = schema.BuiltinOperator.CUSTOM, operator
    else:
        code.builtinCode = code.deprecatedBuiltinCode = operator
    return code


def _signature(taken: str, given: str, output: int) -> schema.SignatureDefT:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [_named(taken, 0)], [_named(given, output)]
    return signature


def _named(name: str, index: int) -> schema.TensorMapT:
    named = schema.TensorMapT()
    named.name, named.tensorIndex = name, index
    return named
