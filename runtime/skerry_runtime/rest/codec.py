"""Infer requests and answers: JSON, and the binary tensor extension.

A binary body is a JSON head, as long as the Inference-Header-Content-Length header says, and then
the raw data of the tensors in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import orjson

from skerry_runtime.errors import InvalidRequest
from skerry_runtime.protocol.parameters import sequence_step
from skerry_runtime.protocol.tensors import (
    checked_name,
    checked_shape,
    from_raw,
    from_values,
    to_raw,
    to_values,
)
from skerry_runtime.protocol.types import InferResponse, SequenceStep, Tensor
from skerry_runtime.rest import literals, numbers
from skerry_runtime.rest.head import number
from skerry_runtime.rest.http import HEAD_LENGTH, JSON, Buffer, Reply

KEPT_HEADERS = 64
KEPT_HEADER_BYTES = 1024
"""How many headers are kept, and of what length at most."""

BINARY = b"content-type: application/octet-stream\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a request may be in ways other than bytes."""

    max_dimensions: int
    max_tensors: int
    """Where the serving model has no more."""

    def with_tensors(self, count: int) -> Limits:
        """Return limits that a model with so many inputs or outputs can be asked within."""
        return self if count <= self.max_tensors else replace(self, max_tensors=count)


@dataclass(frozen=True, slots=True)
class OutputForm:
    """Which outputs the client wants as binary data."""

    default: bool
    binary: dict[str, bool]

    def is_binary(self, name: str) -> bool:
        """Tell whether the output goes into the binary part."""
        return self.binary.get(name, self.default)


@dataclass(frozen=True, slots=True)
class InputHeader:
    """One input as the JSON describes it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int | None
    """Bytes in the binary part; None: the values are in the JSON."""
    values: object


@dataclass(frozen=True, slots=True)
class InferenceHeader:
    """A request's JSON, checked; with the binary part it makes a request."""

    inputs: tuple[InputHeader, ...]
    outputs: tuple[str, ...] | None
    form: OutputForm
    id: str
    size: int
    """Bytes of the binary part."""
    sequence: SequenceStep | None


class Decoder:
    """Reads requests. Safe from any thread.

    Clients ask the same again and again with other numbers: the JSON in front of binary data is
    then the same text, and its header is kept.
    """

    def __init__(self, limits: Limits, model_tensors: Callable[[], int] = lambda: 0) -> None:
        self._limits = limits
        self._model_tensors = model_tensors
        self._headers: dict[bytes, InferenceHeader] = {}

    def decode(
        self, body: Buffer, head_length: bytes | None
    ) -> tuple[InferenceHeader, list[Tensor]]:
        """Return what is asked, and its inputs.

        Raises:
            InvalidRequest: it is no infer request.
        """
        if head_length is None:
            header = self._read(body)
            return header, _tensors(header, memoryview(b""))
        head, raw = _split(body, head_length)
        header = self._header_of(head)
        return header, _tensors(header, raw)

    def _header_of(self, head: memoryview) -> InferenceHeader:
        if len(head) > KEPT_HEADER_BYTES:
            return self._read(head)
        text = bytes(head)
        header = self._headers.get(text)
        if header is None:
            header = self._read(text)
            if len(self._headers) >= KEPT_HEADERS:
                self._headers.clear()
            self._headers[text] = header
        return header

    def _read(self, head: Buffer) -> InferenceHeader:
        return _header(head, self._limits.with_tensors(self._model_tensors()))


def wants_only_ready(body: Buffer) -> bool:
    """Read the body of a request for the repository's index, which may be empty.

    Raises:
        InvalidRequest: it is no JSON object, or `ready` in it no truth value.
    """
    ready = _object(_parsed(body), "the request").get("ready", False) if body else False
    if not isinstance(ready, bool):
        raise InvalidRequest("'ready' must be true or false")
    return ready


class Encoder:
    """Writes answers. The JSON in front of binary data is kept, as with requests."""

    def __init__(self) -> None:
        self._heads: dict[object, tuple[bytes, bytes]] = {}

    def encode(self, response: InferResponse, form: OutputForm) -> Reply:
        """Return the answer, binary as soon as one output is wanted so.

        Raises:
            InvalidRequest: an output has no JSON form and was not asked for as binary data.
        """
        if response.id or form.binary or not form.default:
            return _encode(response, form)
        blobs: list[Buffer] = []
        key: list[object] = [response.revision, response.version, response.model]
        for tensor in response.outputs:
            blob = to_raw(tensor.datatype, tensor.array)
            blobs.append(blob)
            key += (tensor.name, tensor.array.shape, len(blob))
        head = self._head_of(tuple(key), response, blobs)
        return Reply(200, head[0], head[1], blobs)

    def _head_of(
        self, key: object, response: InferResponse, blobs: list[Buffer]
    ) -> tuple[bytes, bytes]:
        """Return JSON and headers of an answer that is binary throughout."""
        head = self._heads.get(key)
        if head is None:
            pairs = zip(response.outputs, blobs, strict=True)
            head = _head(response, [_binary_output(tensor, blob) for tensor, blob in pairs])
            if len(self._heads) >= KEPT_HEADERS:
                self._heads.clear()
            self._heads[key] = head
        return head


def _encode(response: InferResponse, form: OutputForm) -> Reply:
    blobs: list[Buffer] = []
    head, headers = _head(response, [_output(tensor, form, blobs) for tensor in response.outputs])
    if not blobs:
        headers = JSON + _revision(response)
    return Reply(200, head, headers, blobs)


def _head(response: InferResponse, outputs: list[dict[str, object]]) -> tuple[bytes, bytes]:
    """Return the JSON of an answer and the headers of one that has binary data."""
    head = literals.dumps(_answer(response, outputs), outputs)
    return head, BINARY + b"%s: %d\r\n" % (HEAD_LENGTH, len(head)) + _revision(response)


def _revision(response: InferResponse) -> bytes:
    return b"skerry-revision: %s\r\n" % response.revision.encode()


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
    if form.is_binary(tensor.name):
        blobs.append(to_raw(tensor.datatype, tensor.array))
        return _binary_output(tensor, blobs[-1])
    return _described(tensor) | {"data": to_values(tensor.name, tensor.datatype, tensor.array)}


def _binary_output(tensor: Tensor, blob: Buffer) -> dict[str, object]:
    return _described(tensor) | {"parameters": {"binary_data_size": len(blob)}}


def _described(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.array.shape}


def _split(body: Buffer, head_length: bytes) -> tuple[memoryview, memoryview]:
    """Divide the body into its JSON head and its binary part."""
    length = number(head_length)
    if length is None or length > len(body):
        raise InvalidRequest("Inference-Header-Content-Length is not a length inside the body")
    view = memoryview(body)
    return view[:length], view[length:]


def _header(head: Buffer, limits: Limits) -> InferenceHeader:
    """Check a request's JSON."""
    root = _object(_request(head), "the request")
    inputs = tuple(_input(entry, limits) for entry in _entries(root, "inputs", limits))
    parameters = _parameters(root)
    is_binary = parameters and _truth(parameters, "binary_data_output", default=False)
    outputs, form = _outputs(root, limits, default=bool(is_binary))
    size = sum(entry.size or 0 for entry in inputs)
    sequence = sequence_step(parameters) if parameters else None
    return InferenceHeader(inputs, outputs, form, _identity(root), size, sequence)


def _identity(root: dict[str, Any]) -> str:
    """Return the request's id; some clients write null for none."""
    identity = root.get("id")
    return "" if identity is None else _text(identity, "id")


def _tensors(header: InferenceHeader, raw: memoryview) -> list[Tensor]:
    """Give every input of a header its data."""
    if header.size > len(raw):
        raise InvalidRequest(
            f"the body ends before its binary data, which take {header.size} bytes"
        )
    if header.size < len(raw):
        left = len(raw) - header.size
        raise InvalidRequest(f"the body has {left} bytes more than its inputs take")
    tensors, start = [], 0
    for entry in header.inputs:
        name, datatype, shape = entry.name, entry.datatype, entry.shape
        if entry.size is None:
            array = from_values(name, datatype, shape, entry.values)
        else:
            end = start + entry.size
            array = from_raw(name, datatype, shape, raw[start:end])
            start = end
        tensors.append(Tensor(name, datatype, array))
    return tensors


def _request(head: Buffer) -> object:
    long = numbers.read(head) if len(head) >= numbers.LONG else None
    return _parsed(head) if long is None else long


def _parsed(head: Buffer) -> object:
    try:
        return orjson.loads(head)
    except orjson.JSONDecodeError as error:
        with suppress(ValueError):
            return literals.loads(head)
        raise InvalidRequest(f"the request is not valid JSON: {error.msg[:100]}") from error


def _input(value: object, limits: Limits) -> InputHeader:
    entry = _object(value, "an input")
    name = checked_name(_text(entry.get("name"), "an input's name"))
    datatype = _text(entry.get("datatype"), "an input's datatype")
    axes = entry.get("shape")
    if not isinstance(axes, list):
        raise InvalidRequest(f"input '{name}': shape must be a list")
    shape = checked_shape(name, axes, limits.max_dimensions)
    size = _parameters(entry).get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidRequest(f"input '{name}': binary_data_size must be an integer from 0 up")
    return InputHeader(name, datatype, shape, size, entry.get("data"))


def _outputs(
    root: dict[str, Any], limits: Limits, *, default: bool
) -> tuple[tuple[str, ...] | None, OutputForm]:
    """Return the requested outputs, None for all, and their form."""
    if root.get("outputs") in (None, []):
        return None, OutputForm(default, {})
    form: dict[str, bool] = {}
    for value in _entries(root, "outputs", limits):
        entry = _object(value, "an output")
        name = _text(entry.get("name"), "an output's name")
        form[name] = _truth(_parameters(entry), "binary_data", default=default)
    return tuple(form), OutputForm(default, form)


def _truth(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false, not {str(value)[:32]!r}")
    return value


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
