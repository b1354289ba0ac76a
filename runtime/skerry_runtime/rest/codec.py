"""Infer requests and answers: JSON, and the binary tensor extension.

A binary body is a JSON head, as long as the Inference-Header-Content-Length header says, and then
the raw data of the tensors in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from skerry_runtime.errors import InvalidRequest
from skerry_runtime.protocol.tensors import (
    checked_name,
    checked_shape,
    from_raw,
    from_values,
    to_raw,
    to_values,
)
from skerry_runtime.protocol.types import InferRequest, InferResponse, Tensor
from skerry_runtime.rest.head import number
from skerry_runtime.rest.http import HEAD_LENGTH, JSON, Headers, Reply

Buffer = bytes | memoryview

BINARY: Headers = ((b"content-type", b"application/octet-stream"),)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a request may be in ways other than bytes."""

    max_dimensions: int
    max_tensors: int


@dataclass(frozen=True, slots=True)
class Target:
    """What the path and the clock say of a request."""

    model: str
    version: str | None
    received: float


@dataclass(frozen=True, slots=True)
class OutputForm:
    """Which outputs the client wants as binary data."""

    default: bool
    binary: dict[str, bool]

    def is_binary(self, name: str) -> bool:
        """Tell whether the output goes into the binary part."""
        return self.binary.get(name, self.default)


class BinaryPart:
    """The bytes behind the JSON head, taken from front to back."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._offset = 0

    def take(self, name: str, size: object) -> memoryview:
        """Return the next `size` bytes.

        Raises:
            InvalidRequest: the size is no length, or more than is left.
        """
        if type(size) is not int or size < 0:
            raise InvalidRequest(f"input '{name}': binary_data_size must be an integer from 0 up")
        start, self._offset = self._offset, self._offset + size
        if self._offset > len(self._data):
            raise InvalidRequest(f"input '{name}': the body ends before its binary data")
        return self._data[start : self._offset]

    def require_end(self) -> None:
        """Raise InvalidRequest when bytes are left."""
        if self._offset != len(self._data):
            left = len(self._data) - self._offset
            raise InvalidRequest(f"the body has {left} bytes more than its inputs take")


def decode_request(
    body: Buffer, head_length: bytes | None, target: Target, limits: Limits
) -> tuple[InferRequest, OutputForm]:
    """Read an infer request and the form in which its outputs are wanted.

    Raises:
        InvalidRequest: it is not one.
    """
    head, binary = _split(body, head_length)
    root = _object(_parsed(head), "the request")
    entries = _entries(root, "inputs", limits)
    inputs = tuple(_input(entry, binary, limits) for entry in entries)
    binary.require_end()
    outputs, form = _outputs(root, limits)
    identity = _text(root.get("id", ""), "id")
    request = InferRequest(target.model, target.version, inputs, outputs, identity, target.received)
    return request, form


def encode_response(response: InferResponse, form: OutputForm) -> Reply:
    """Return the answer, binary as soon as one output is wanted so.

    Raises:
        InvalidRequest: an output has no JSON form and was not asked for as binary data.
    """
    blobs: list[Buffer] = []
    outputs = [_output(tensor, form, blobs) for tensor in response.outputs]
    head = orjson.dumps(_answer(response, outputs), option=orjson.OPT_SERIALIZE_NUMPY)
    revision = (b"skerry-revision", response.revision.encode())
    if not blobs:
        return Reply(200, head, (*JSON, revision))
    length = (HEAD_LENGTH, str(len(head)).encode())
    return Reply(200, head, (*BINARY, length, revision), tuple(blobs))


def _answer(response: InferResponse, outputs: list[dict[str, object]]) -> dict[str, object]:
    answer: dict[str, object] = {
        "model_name": response.model,
        "model_version": response.version,
        "parameters": {"revision": response.revision},
        "outputs": outputs,
    }
    if response.id:
        answer["id"] = response.id
    return answer


def _output(tensor: Tensor, form: OutputForm, blobs: list[Buffer]) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.array.shape,
    }
    if form.is_binary(tensor.name):
        blobs.append(to_raw(tensor.datatype, tensor.array))
        entry["parameters"] = {"binary_data_size": len(blobs[-1])}
    else:
        entry["data"] = to_values(tensor.name, tensor.datatype, tensor.array)
    return entry


def _split(body: Buffer, head_length: bytes | None) -> tuple[bytes | memoryview, BinaryPart]:
    """Divide the body into its JSON head and its binary part."""
    if head_length is None:
        return body, BinaryPart(memoryview(b""))
    length = number(head_length)
    if length is None or length > len(body):
        raise InvalidRequest("Inference-Header-Content-Length is not a length inside the body")
    view = memoryview(body)
    return view[:length], BinaryPart(view[length:])


def _parsed(head: Buffer) -> object:
    try:
        return orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the request is not valid JSON: {error.msg[:100]}") from error


def _input(value: object, binary: BinaryPart, limits: Limits) -> Tensor:
    entry = _object(value, "an input")
    name = checked_name(_text(entry.get("name"), "an input's name"))
    datatype = _text(entry.get("datatype"), "an input's datatype")
    axes = entry.get("shape")
    if not isinstance(axes, list):
        raise InvalidRequest(f"input '{name}': shape must be a list")
    shape = checked_shape(name, axes, limits.max_dimensions)
    parameters = _parameters(entry)
    if "binary_data_size" not in parameters:
        return Tensor(name, datatype, from_values(name, datatype, shape, entry.get("data")))
    raw = binary.take(name, parameters["binary_data_size"])
    return Tensor(name, datatype, from_raw(name, datatype, shape, raw))


def _outputs(root: dict[str, Any], limits: Limits) -> tuple[tuple[str, ...] | None, OutputForm]:
    """Return the requested outputs, None for all, and their form."""
    default = bool(_parameters(root).get("binary_data_output", False))
    if not root.get("outputs"):
        return None, OutputForm(default, {})
    form: dict[str, bool] = {}
    for value in _entries(root, "outputs", limits):
        entry = _object(value, "an output")
        wanted = _parameters(entry).get("binary_data", default)
        form[_text(entry.get("name"), "an output's name")] = bool(wanted)
    return tuple(form), OutputForm(default, form)


def _parameters(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters; those that would change the meaning of an answer are refused."""
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    for name in ("shared_memory_region", "classification"):
        if name in _object(parameters, "parameters"):
            raise InvalidRequest(f"the {name} extension is not offered")
    return _object(parameters, "parameters")


def _entries(root: dict[str, Any], key: str, limits: Limits) -> list[object]:
    entries = root.get(key)
    if not isinstance(entries, list):
        raise InvalidRequest(f"'{key}' must be a list")
    if len(entries) > limits.max_tensors:
        raise InvalidRequest(f"'{key}' has more than {limits.max_tensors} entries")
    return entries


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} must be a JSON object")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{what} must be a text")
    return value
