"""Protobuf messages <-> the protocol's types; functions in pairs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from skerry_runtime.errors import InvalidRequest
from skerry_runtime.protocol.parameters import sequence_step
from skerry_runtime.protocol.tensors import (
    DTYPES,
    checked_name,
    checked_shape,
    dtype_of,
    from_raw,
    shaped,
    to_raw,
)
from skerry_runtime.protocol.types import InferRequest, InferResponse, SequenceStep, Tensor
from skerry_runtime.rpc.generated import oip_pb2 as pb

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Field with the typed values of each datatype; FP16 and BF16 travel raw only."""


def to_request(
    message: pb.ModelInferRequest, received: float, max_dimensions: int, max_tensors: int
) -> InferRequest:
    """Read a request.

    Raises:
        InvalidRequest: it does not hold together.
    """
    if max(len(message.inputs), len(message.outputs)) > max_tensors:
        raise InvalidRequest(f"more than {max_tensors} inputs or outputs")
    pairs = zip(message.inputs, _raw_of_each(message), strict=True)
    inputs = tuple(_to_tensor(entry, raw, max_dimensions) for entry, raw in pairs)
    for output in message.outputs:
        _refuse_extensions(output.parameters)
    return InferRequest(
        model=message.model_name,
        version=message.model_version or None,
        inputs=inputs,
        outputs=tuple(output.name for output in message.outputs) or None,
        id=message.id,
        received=received,
        sequence=_sequence(message) if message.parameters else None,
    )


def _sequence(message: pb.ModelInferRequest) -> SequenceStep | None:
    values = {
        name: getattr(value, field)
        for name, value in message.parameters.items()
        if (field := value.WhichOneof("parameter_choice")) is not None
    }
    return sequence_step(values)


def from_response(response: InferResponse, *, is_raw: bool) -> pb.ModelInferResponse:
    """Return the message; typed contents only when every output has some."""
    message = described(response)
    is_raw = is_raw or any(tensor.datatype not in CONTENTS for tensor in response.outputs)
    for tensor, entry in zip(response.outputs, message.outputs, strict=True):
        if is_raw:
            message.raw_output_contents.append(bytes(to_raw(tensor.datatype, tensor.array)))
        else:
            field = getattr(entry.contents, CONTENTS[tensor.datatype])
            field.extend(tensor.array.reshape(-1).tolist())
    return message


def described(response: InferResponse) -> pb.ModelInferResponse:
    """Return the message without its outputs' values."""
    message = pb.ModelInferResponse(
        model_name=response.model, model_version=response.version, id=response.id
    )
    message.parameters["revision"].string_param = response.revision
    for tensor in response.outputs:
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
    return message


def _raw_of_each(message: pb.ModelInferRequest) -> list[bytes | None]:
    """Return each input's raw content, or None where its values are typed.

    Contents that are there and empty are none: MLServer's converter writes them beside raw ones,
    and gives raw contents to the inputs without typed values in their order.

    Raises:
        InvalidRequest: there are more or fewer raw contents than such inputs.
    """
    raws = message.raw_input_contents
    if not raws:
        return [None] * len(message.inputs)
    typed = [entry.HasField("contents") and entry.contents.ByteSize() for entry in message.inputs]
    if len(raws) != typed.count(0):
        text = f"{len(raws)} raw contents for {typed.count(0)} inputs without typed contents"
        raise InvalidRequest(f"{text}: an input has one or the other")
    rest = iter(raws)
    return [None if size else next(rest) for size in typed]


def _to_tensor(
    entry: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, max_dimensions: int
) -> Tensor:
    name, datatype = checked_name(entry.name), entry.datatype
    _refuse_extensions(entry.parameters)
    shape = checked_shape(name, entry.shape, max_dimensions)
    if raw is None:
        return Tensor(name, datatype, _from_contents(entry, shape))
    return Tensor(name, datatype, from_raw(name, datatype, shape, raw))


def _from_contents(
    entry: pb.ModelInferRequest.InferInputTensor, shape: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    """Return the typed values as an array.

    Raises:
        InvalidRequest: the datatype has no typed field, or a value is out of its range.
    """
    name, datatype = entry.name, entry.datatype
    dtype = dtype_of(name, datatype)
    if datatype not in CONTENTS:
        raise InvalidRequest(f"input '{name}': {datatype} travels in raw_input_contents only")
    values = getattr(entry.contents, CONTENTS[datatype])
    if datatype == "BYTES":
        array = np.empty(len(values), dtype=DTYPES[datatype])
        array[:] = list(values)
        return shaped(name, array, shape)
    try:
        return shaped(name, np.array(values, dtype=dtype), shape)
    except OverflowError as error:
        raise InvalidRequest(f"input '{name}': a value is out of {datatype}'s range") from error


def _refuse_extensions(parameters: Iterable[str]) -> None:
    for name in ("shared_memory_region", "classification"):
        if name in parameters:
            raise InvalidRequest(f"the {name} extension is not offered")
