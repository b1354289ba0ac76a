"""What is read from bytes by a kept layout is what protobuf reads, and the same with answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_runtime.errors import InvalidRequest
from skerry_runtime.protocol.types import InferResponse, Tensor
from skerry_runtime.rpc.codec import from_response
from skerry_runtime.rpc.generated import oip_pb2 as pb
from skerry_runtime.rpc.wire import KEPT, RequestReader, ResponseWriter, id_of, revision_of

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
TEXTS = st.sampled_from(["", "x", "ä", "long" * 40, "digits"])


def reader() -> RequestReader:
    return RequestReader(max_dimensions=8, max_tensors=8)


def told(reader: RequestReader, data: bytes) -> Any:
    """What a reader makes of bytes, in a form that can be compared."""
    try:
        request, is_raw = reader.read(data, 1.0)
    except InvalidRequest as error:
        return str(error)
    inputs = [
        (t.name, t.datatype, t.array.dtype.str, t.array.shape, t.array.tolist())
        for t in request.inputs
    ]
    assert all(t.array.flags.aligned and t.array.flags.c_contiguous for t in request.inputs)
    return request.model, request.version, request.id, request.outputs, inputs, is_raw


@st.composite
def messages(draw: st.DrawFn) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(
        model_name=draw(TEXTS), model_version=draw(TEXTS), id=draw(TEXTS)
    )
    for name in draw(st.sampled_from(["a", "ab", "abc"])):
        datatype = draw(st.sampled_from(["FP32", "INT64", "UINT8", "BF16", "BOOL", "BYTES"]))
        shape = draw(SHAPES)
        message.inputs.add(name=name, datatype=datatype, shape=shape)
        size = {"FP32": 4, "INT64": 8, "BF16": 2, "BYTES": 4}.get(datatype, 1)
        message.raw_input_contents.append(bytes(size * int(np.prod(shape))))
    for name in draw(st.sampled_from(["", "y", "yz"])):
        message.outputs.add(name=name)
    if draw(st.booleans()):
        message.parameters["sequence_id"].int64_param = draw(st.integers(0, 2**40))
    return message


@settings(max_examples=150, deadline=None)
@given(messages(), st.data())
def test_a_message_that_comes_again_with_other_bytes_is_read_as_protobuf_reads_it(
    message: pb.ModelInferRequest, data: st.DataObject
) -> None:
    used, sent = reader(), bytearray(message.SerializeToString())
    assert told(used, bytes(sent)) == told(reader(), bytes(sent))
    for _ in range(4):
        if sent:
            sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
        assert told(used, bytes(sent)) == told(reader(), bytes(sent))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=4))
def test_bytes_that_are_no_message_are_refused_in_every_state(pieces: list[bytes]) -> None:
    used = reader()
    told(used, request(np.zeros(4, np.float32)))
    for piece in pieces:
        assert told(used, piece) == told(reader(), piece)


def request(array: np.ndarray, name: str = "") -> bytes:
    message = pb.ModelInferRequest(model_name="digits", id=name)
    message.inputs.add(name="x", datatype="FP32", shape=array.shape)
    message.raw_input_contents.append(array.tobytes())
    return message.SerializeToString()


def parsed_by_protobuf(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    seen: list[bytes] = []
    parse = pb.ModelInferRequest.FromString

    class Counting:
        @staticmethod
        def FromString(data: bytes) -> pb.ModelInferRequest:  # noqa: N802 (as protobuf's own)
            seen.append(data)
            return parse(data)

    monkeypatch.setattr("skerry_runtime.rpc.wire.pb.ModelInferRequest", Counting)
    return seen


def test_the_second_of_two_alike_needs_no_protobuf_and_its_id_may_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = request(np.zeros(4, np.float32)), request(np.arange(4, dtype=np.float32), "7")
    seen, used = parsed_by_protobuf(monkeypatch), reader()
    told(used, first)
    assert told(used, second) == ("digits", None, "7", None, [
        ("x", "FP32", "<f4", (4,), [0, 1, 2, 3])], True)  # fmt: skip
    assert seen == [first]


def test_raw_contents_that_are_not_last_are_never_taken_from_a_layout() -> None:
    late = pb.ModelInferRequest(model_name="digits")
    late.raw_input_contents.append(bytes(16))
    head = pb.ModelInferRequest(model_name="digits")
    head.inputs.add(name="x", datatype="FP32", shape=[4])
    swapped = late.SerializeToString() + head.SerializeToString()
    twice = request(np.zeros(4, np.float32)) + pb.ModelInferRequest(id="late").SerializeToString()
    for data in (swapped, twice):
        used = reader()
        for _ in range(2):
            assert told(used, data) == told(reader(), data)
            assert told(used, data)[4] == [("x", "FP32", "<f4", (4,), [0, 0, 0, 0])]


def test_layouts_are_forgotten_in_time() -> None:
    used = reader()
    for size in range(1, 3 * KEPT):
        told(used, request(np.zeros(size, np.float32)))
    assert len(used._layouts) <= KEPT


ANSWERS = [
    [Tensor("y", "FP32", np.arange(6, dtype=np.float32).reshape(2, 3))],
    [Tensor("y", "INT8", np.zeros((0, 3), np.int8)), Tensor("z", "BOOL", np.ones(1, np.bool_))],
    [Tensor("y", "BYTES", np.array([b"", b"ab" * 300], object))],
    [Tensor("y", "FP32", np.zeros((64, 1024), np.float32))],
]


@pytest.mark.parametrize("outputs", ANSWERS)
@pytest.mark.parametrize("name", ["", "7", "long" * 100])
def test_an_answer_is_what_protobuf_would_write(outputs: list[Tensor], name: str) -> None:
    writer, answer = ResponseWriter(), InferResponse("digits", "1.0", "r1", name, outputs)
    expected = from_response(answer, is_raw=True)
    for _ in range(2):
        written = writer.write(answer, is_raw=True)
        assert pb.ModelInferResponse.FromString(written) == expected
        assert revision_of(written) == "r1"
    typed = writer.write(answer, is_raw=False)
    assert pb.ModelInferResponse.FromString(typed) == from_response(answer, is_raw=False)


def test_the_id_of_what_is_no_message_is_empty() -> None:
    assert id_of(request(np.zeros(1, np.float32), "9")) == "9"
    assert id_of(b"\xff") == ""
