"""ModelInfer's messages as bytes: what a client repeats is read and written once.

A client asks again and again with other numbers. The bytes between the first fields of its
message (model, version, id) and the raw contents at its end are then the same; what they say was
checked when they came first, and is kept. Any other message goes through protobuf, so that there
is one opinion on what is valid. An answer's bytes in front of its raw contents are kept as well.
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from skerry_runtime.errors import InvalidRequest
from skerry_runtime.protocol.tensors import DTYPES, to_raw
from skerry_runtime.protocol.types import InferRequest, InferResponse, SequenceStep, Tensor
from skerry_runtime.rpc.codec import described, from_response, to_request
from skerry_runtime.rpc.generated import oip_pb2 as pb

KEPT = 64
KEPT_BYTES = 1024
"""How many layouts and heads are kept, and of what length a layout at most."""

_HEAD_TAGS = b"\x0a\x12\x1a"  # model_name, model_version, id
_ID_TAG = b"\x1a"
_RAW_OUTPUT_TAG = b"\x32"
_PARAMETERS, _RAW_INPUT = 4, 7  # of an answer, of a request
_TEXT, _MORE = 2, 0x80  # wire type of texts, bytes and messages; a varint's bit for another byte
_LENGTH_BITS = 32  # no message is longer than 2 GB

_NO_NUMBERS = ("BYTES", "BOOL")  # their bytes must be looked at


class _OtherForm(ValueError):  # noqa: N818 (never leaves this module)
    """The message is not laid out as writers do it; protobuf decides what it says."""


@dataclass(frozen=True, slots=True)
class InputLayout:
    """One input whose data lies at a known place behind the message's first fields."""

    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    lead: bytes
    """What stands in front of the data, and from where."""
    lead_at: int
    data_at: int


@dataclass(frozen=True, slots=True)
class MessageLayout:
    """A message's repeated part, checked."""

    inputs: tuple[InputLayout, ...]
    outputs: tuple[str, ...] | None
    sequence: SequenceStep | None


class RequestReader:
    """Reads requests."""

    def __init__(
        self, max_dimensions: int, max_tensors: int, model_tensors: Callable[[], int] = lambda: 0
    ) -> None:
        self._max_dimensions = max_dimensions
        self._max_tensors = max_tensors
        self._model_tensors = model_tensors
        self._layouts: dict[int, MessageLayout] = {}  # by the length behind the first fields

    def read(self, data: bytes, received: float) -> tuple[InferRequest, bool]:
        """Return the request, and whether it wants raw contents.

        Raises:
            InvalidRequest: it is no message, or does not hold together.
        """
        try:
            return self._known(data, received), True
        except (_OtherForm, IndexError, UnicodeDecodeError):
            return self._parsed(data, received)

    def _known(self, data: bytes, received: float) -> InferRequest:
        model, version, name, start = _head(data)
        layout = self._layouts.get(len(data) - start)
        if layout is None:
            raise _OtherForm
        inputs = [_tensor(each, data, start) for each in layout.inputs]
        return InferRequest(
            model, version or None, inputs, layout.outputs, name, received, layout.sequence
        )

    def _parsed(self, data: bytes, received: float) -> tuple[InferRequest, bool]:
        try:
            message = pb.ModelInferRequest.FromString(data)
        except DecodeError as error:
            raise InvalidRequest("the bytes are no ModelInferRequest") from error
        most = max(self._max_tensors, self._model_tensors())
        request = to_request(message, received, self._max_dimensions, most)
        if message.raw_input_contents and len(message.raw_input_contents) == len(message.inputs):
            self._keep(data, request)
        return request, bool(message.raw_input_contents) or not message.inputs

    def _keep(self, data: bytes, request: InferRequest) -> None:
        try:
            start = _head(data)[3]
            layout = _layout(data, start, request)
        except (_OtherForm, IndexError, UnicodeDecodeError):
            return
        if len(self._layouts) >= KEPT:
            self._layouts.clear()
        self._layouts[len(data) - start] = layout


class ResponseWriter:
    """Writes answers."""

    def __init__(self) -> None:
        self._heads: dict[object, tuple[bytes, bytes]] = {}

    def write(self, response: InferResponse, *, is_raw: bool) -> bytes:
        """Return the message; typed contents only when every output has some."""
        if not is_raw:
            return from_response(response, is_raw=False).SerializeToString()
        key: list[object] = [response.revision, response.version, response.model]
        raws: list[bytes | memoryview] = []
        for tensor in response.outputs:
            key += (tensor.name, tensor.datatype, tensor.array.shape)
            raw = to_raw(tensor.datatype, tensor.array)
            raws += (_RAW_OUTPUT_TAG, _varint(len(raw)), raw)
        first, second = self._head_of(tuple(key), response)
        if response.id:
            name = response.id.encode()
            return b"".join((first, _ID_TAG, _varint(len(name)), name, second, *raws))
        return b"".join((first, second, *raws))

    def _head_of(self, key: object, response: InferResponse) -> tuple[bytes, bytes]:
        """Return what stands in front of the id, and what between it and the raw contents."""
        head = self._heads.get(key)
        if head is None:
            first = pb.ModelInferResponse(model_name=response.model, model_version=response.version)
            second = described(response)
            for field in ("model_name", "model_version", "id"):
                second.ClearField(field)
            if len(self._heads) >= KEPT:
                self._heads.clear()
            head = self._heads[key] = (first.SerializeToString(), second.SerializeToString())
        return head


def id_of(data: bytes) -> str:
    """Return a request's id; empty where there is none, or no message."""
    try:
        return pb.ModelInferRequest.FromString(data).id
    except DecodeError:
        return ""


def revision_of(answer: bytes) -> str:
    """Return the revision that an answer of ours names, without reading its tensors."""
    place = 0
    while place < len(answer):
        number, _, end = _field(answer, place)
        if number > _PARAMETERS:
            break
        place = end
    message = pb.ModelInferResponse.FromString(answer[:place])
    return message.parameters["revision"].string_param


def _head(data: bytes) -> tuple[str, str, str, int]:
    """Return model, version and id of a request, and where they end.

    Raises:
        _OtherForm, IndexError, UnicodeDecodeError: protobuf has to look at it.
    """
    texts, place = ["", "", ""], 0
    for number, tag in enumerate(_HEAD_TAGS):
        if data[place] == tag:
            begin = place + 2
            place = begin + data[place + 1]
            if place - begin >= _MORE:
                raise _OtherForm
            texts[number] = data[begin:place].decode()
    return texts[0], texts[1], texts[2], place


def _tensor(layout: InputLayout, data: bytes, start: int) -> Tensor:
    """Return an input of a message whose first fields end at `start`.

    Raises:
        _OtherForm: the layout is not of this message.
    """
    if not data.startswith(layout.lead, start + layout.lead_at):
        raise _OtherForm
    array = np.ndarray(layout.shape, layout.dtype, data, start + layout.data_at)
    return Tensor(layout.name, layout.datatype, array if array.flags.aligned else array.copy())


def _layout(data: bytes, start: int, request: InferRequest) -> MessageLayout:
    """Return the layout of messages like this one, of which protobuf and our checks approve.

    Raises:
        _OtherForm, IndexError: raw contents are not the last fields, or data must be looked at.
    """
    inputs: list[InputLayout] = []
    lead_at = place = start
    last = len(_HEAD_TAGS)
    while place < len(data):
        number, begin, end = _field(data, place)
        if number < last:
            raise _OtherForm
        if number == _RAW_INPUT:
            tensor = request.inputs[len(inputs)]
            inputs.append(
                _input_layout(tensor, data[lead_at:begin], lead_at - start, begin - start)
            )
            lead_at = end
        last, place = number, end
    return MessageLayout(tuple(inputs), request.outputs, request.sequence)


def _input_layout(tensor: Tensor, lead: bytes, lead_at: int, data_at: int) -> InputLayout:
    if tensor.datatype in _NO_NUMBERS or len(lead) > KEPT_BYTES:
        raise _OtherForm
    dtype, shape = DTYPES[tensor.datatype], tensor.array.shape
    return InputLayout(tensor.name, tensor.datatype, dtype, shape, lead, lead_at, data_at)


def _field(data: bytes, place: int) -> tuple[int, int, int]:
    """Return a field's number, and where its content begins and ends.

    Raises:
        _OtherForm: it is none of a request.
        IndexError: the message ends in it.
    """
    tag = data[place]
    number, wire_type = tag >> 3, tag & 7
    if wire_type != _TEXT or not 0 < number <= _RAW_INPUT:
        raise _OtherForm
    length = shift = 0
    while True:
        place += 1
        byte = data[place]
        length |= (byte & ~_MORE) << shift
        if byte < _MORE:
            return number, place + 1, place + 1 + length
        shift += 7
        if shift >= _LENGTH_BITS:
            raise _OtherForm


def _varint(value: int) -> bytes:
    """Return a length as the wire has it."""
    if value < _MORE:
        return bytes((value,))
    digits = bytearray()
    while value >= _MORE:
        digits.append(value & ~_MORE & 0xFF | _MORE)
        value >>= 7
    digits.append(value)
    return bytes(digits)
