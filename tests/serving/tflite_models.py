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
    is_variable: bool = False
    """Kept from one run to the next."""
    has_rank: bool = True


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
    return save(path, tensors, schema.BuiltinOperator.FULLY_CONNECTED, with_signature)


def quantized_product(path: Path) -> Path:
    """The same in int8: real x = x / 2, real w = w, real y = 4 (y + 100)."""
    tensors = [
        Tensor("x", np.int8, (1, 4), scale=0.5),
        Tensor("w", np.int8, (3, 4), WEIGHTS.T.astype(np.int8), scale=1.0),
        Tensor("b", np.int32, (3,), np.zeros(3, np.int32), scale=0.5),
        Tensor("y", np.int8, (1, 3), scale=4.0, zero_point=-100),
    ]
    return save(path, tensors, schema.BuiltinOperator.FULLY_CONNECTED, True)


def texts(path: Path) -> Path:
    """y = x, both texts."""
    tensors = [Tensor("x", object, (1,)), Tensor("y", object, (1,))]
    return save(path, tensors, schema.BuiltinOperator.RESHAPE, True)


def unknown_operator(path: Path) -> Path:
    """An operator of somebody's own."""
    tensors = [Tensor("x", np.float32, (1, 4)), Tensor("y", np.float32, (1, 4))]
    return save(path, tensors, "somebodys-own-op", True)


def save(
    path: Path,
    tensors: Sequence[Tensor],
    operator: int | str,
    with_signature: bool = True,
    *,
    options: tuple[int, object] | None = None,
) -> Path:
    """Write a model of one operator; the first tensor is its input, the last its output."""
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
    if options is not None:
        node.builtinOptionsType, node.builtinOptions = options
    graph.operators = [node]
    signature = _signature_of((tensors[0].name, 0), (tensors[last].name, last))
    return _write(path, [graph], buffers, [operator], signature if with_signature else None)


def _tensor(tensor: Tensor, buffers: list[schema.BufferT]) -> schema.TensorT:
    made = schema.TensorT()
    made.name = tensor.name if tensor.data is not None else f"serving_default_{tensor.name}:0"
    made.type = TYPES[np.dtype(tensor.dtype)]
    made.shape = [max(1, axis) for axis in tensor.shape]
    if -1 in tensor.shape:
        made.shapeSignature = list(tensor.shape)
    made.isVariable, made.hasRank = tensor.is_variable, tensor.has_rank
    made.buffer = 0 if tensor.is_variable else len(buffers)
    if tensor.is_variable:
        return made
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
        code.builtinCode = operator
        code.deprecatedBuiltinCode = min(operator, 127)  # one byte, from before there were so many
    return code


def _named(name: str, index: int) -> schema.TensorMapT:
    named = schema.TensorMapT()
    named.name, named.tensorIndex = name, index
    return named


def adder(path: Path, axes: Sequence[int] = (1, 2)) -> Path:
    """y = the sum of every x so far, kept in a variable of the graph."""
    main, buffers = schema.SubGraphT(), [schema.BufferT()]
    shape = tuple(max(1, axis) for axis in axes)
    zeros = np.zeros(shape, np.float32)
    tensors = [Tensor("x", np.float32, axes), Tensor("s", np.float32, axes)]
    tensors.append(Tensor("y", np.float32, axes))
    main.tensors = [_handle(), *(_tensor(tensor, buffers) for tensor in tensors)]
    main.inputs, main.outputs = [1], [3]
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = 1
    reads = schema.ReadVariableOptionsT()
    main.operators = [
        _node(4, [], [], (schema.BuiltinOptions.CallOnceOptions, once)),
        _var_handle(0),
        _node(1, [0], [2], (schema.BuiltinOptions.ReadVariableOptions, reads)),
        _node(2, [1, 2], [3], (schema.BuiltinOptions.AddOptions, schema.AddOptionsT())),
        _assign([0, 3]),
    ]
    init = schema.SubGraphT()
    init.tensors = [_handle(), _tensor(Tensor("zeros", np.float32, shape, zeros), buffers)]
    init.inputs, init.outputs = [], []
    init.operators = [_var_handle(0), _assign([0, 1])]
    operators = schema.BuiltinOperator
    codes = [
        operators.VAR_HANDLE,
        operators.READ_VARIABLE,
        operators.ADD,
        operators.ASSIGN_VARIABLE,
        operators.CALL_ONCE,
    ]
    return _write(path, [main, init], buffers, codes, _signature_of(("x", 1), ("y", 3)))


def recurrent(path: Path, batch: int = 1) -> Path:
    """y = the sum of every x so far, kept by an operator; x is [batch, steps, 1]."""
    one = np.ones((1, 1), np.float32)
    tensors = [
        Tensor("x", np.float32, (batch, -1, 1)),
        Tensor("w", np.float32, (1, 1), one),
        Tensor("r", np.float32, (1, 1), one),
        Tensor("b", np.float32, (1,), np.zeros(1, np.float32)),
        Tensor("h", np.float32, (max(1, batch), 1), is_variable=True),
        Tensor("y", np.float32, (batch, -1, 1)),
    ]
    options = (schema.BuiltinOptions.SequenceRNNOptions, schema.SequenceRNNOptionsT())
    operator = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_RNN
    return save(path, tensors, operator, options=options)


def _handle() -> schema.TensorT:
    made = schema.TensorT()
    made.name, made.type, made.shape = "handle", schema.TensorType.RESOURCE, []
    made.buffer, made.hasRank = 0, True
    return made


def _node(
    code: int, taken: list[int], given: list[int], options: tuple[int, object]
) -> schema.OperatorT:
    node = schema.OperatorT()
    node.opcodeIndex, node.inputs, node.outputs = code, taken, given
    node.builtinOptionsType, node.builtinOptions = options
    return node


def _var_handle(output: int) -> schema.OperatorT:
    options = schema.VarHandleOptionsT()
    options.container, options.sharedName = "", "sum"
    return _node(0, [], [output], (schema.BuiltinOptions.VarHandleOptions, options))


def _assign(taken: list[int]) -> schema.OperatorT:
    options = schema.AssignVariableOptionsT()
    return _node(3, taken, [], (schema.BuiltinOptions.AssignVariableOptions, options))


def _signature_of(taken: tuple[str, int], given: tuple[str, int]) -> schema.SignatureDefT:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [_named(*taken)], [_named(*given)]
    return signature


def _write(
    path: Path,
    subgraphs: list[schema.SubGraphT],
    buffers: list[schema.BufferT],
    codes: Sequence[int | str],
    signature: schema.SignatureDefT | None,
) -> Path:
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers = 3, subgraphs, buffers
    model.operatorCodes = [_operator(code) for code in codes]
    if signature is not None:
        model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), MARK)
    path.write_bytes(bytes(builder.Output()))
    return path
