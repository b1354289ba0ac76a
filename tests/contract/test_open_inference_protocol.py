"""The protocol as its reference client speaks it: REST equals gRPC, and no answer mixes revisions.

tritonclient's messages and ours have the same names and live in one process here: that they do
is part of the test.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from serving import models, tflite_models
from serving.fakes import FakeModel, Gate, load, serving
from serving.running import WITHIN_S, InProcess, InThread, process, running
from skerry_runtime.errors import InferenceFailed
from skerry_runtime.rpc.generated import oip_pb2

TRANSPORTS = {"http": triton_http, "grpc": triton_grpc}


@pytest.fixture(scope="module")
def server() -> Iterator[InThread]:
    with running(max_body_bytes=1024 * 1024) as server:
        yield server


@pytest.fixture(scope="module")
def product_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with process(models.product(tmp_path_factory.mktemp("models") / "m.onnx")) as child:
        yield child


@contextmanager
def client_of(transport: str, server: InThread | InProcess) -> Iterator[Any]:
    address = server.http if transport == "http" else server.grpc
    client = TRANSPORTS[transport].InferenceServerClient(address)
    try:
        yield client
    finally:
        client.close()


def tensor(transport: str, name: str, datatype: str, array: np.ndarray, **form: bool) -> Any:
    entry = TRANSPORTS[transport].InferInput(name, list(array.shape), datatype)
    entry.set_data_from_numpy(array, **form)
    return entry


def ones(transport: str = "http") -> Any:
    return tensor(transport, "x", "FP32", np.ones((2, 4), np.float32))


def switch_to(server: InThread, path: Path, revision: str = "r1", version: str = "1.0.0") -> None:
    server.registry.switch(serving(load(path), revision, version))


def test_every_message_has_the_reference_client_s_field_numbers_and_types() -> None:
    reference = {
        **service_pb2.DESCRIPTOR.message_types_by_name,
        **model_config_pb2.DESCRIPTOR.message_types_by_name,
    }
    for name, message in oip_pb2.DESCRIPTOR.message_types_by_name.items():
        assert_compatible(message, reference[name])
    enum = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"]
    assert oip_pb2.DataType.items() == [(value.name, value.number) for value in enum.values]


def assert_compatible(ours: Any, theirs: Any) -> None:
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type) == (other.number, other.type), field.full_name
        assert field.is_repeated == other.is_repeated, field.full_name
    for nested in ours.nested_types:
        assert_compatible(nested, theirs.nested_types_by_name[nested.name])


def test_every_method_is_one_of_the_reference_client_s() -> None:
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    ours = oip_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert ours.full_name == theirs.full_name
    for method in ours.methods:
        other = theirs.methods_by_name[method.name]
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_health_and_metadata(transport: str, product_process: InProcess) -> None:
    with client_of(transport, product_process) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert not client.is_model_ready("letters")
        metadata = as_dict(client.get_server_metadata())
        assert metadata["name"] == "skerry"
        assert "binary_tensor_data" in metadata["extensions"]
        model = as_dict(client.get_model_metadata("digits"))
        assert model["platform"] == "onnxruntime_onnx"
        assert [t["name"] for t in model["outputs"]] == ["y", "z"]
        assert [int(axis) for axis in model["inputs"][0]["shape"]] == [-1, 4]
        index = client.get_model_repository_index()
        entries = index if transport == "http" else as_dict(index)["models"]
        assert [(e["name"], e["state"]) for e in entries] == [("digits", "READY")]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_configuration_and_statistics(transport: str, product_process: InProcess) -> None:
    with client_of(transport, product_process) as client:
        client.infer("digits", [ones(transport)])
        config = as_dict(client.get_model_config("digits"))
        config = config.get("config", config)
        assert config["input"][0]["data_type"] == "TYPE_FP32"
        stats = as_dict(client.get_inference_statistics("digits"))["model_stats"][0]
        assert int(stats["inference_count"]) >= 1
        assert int(stats["inference_stats"]["success"]["ns"]) > 0


def as_dict(answer: Any) -> Any:
    """REST answers are dictionaries already."""
    if isinstance(answer, dict):
        return answer
    return MessageToDict(answer, preserving_proto_field_name=True)


EDGES: dict[str, list[Any]] = {
    "BOOL": [True, False, False, True],
    "UINT8": [0, 255, 1, 2],
    "UINT16": [0, 65535, 1, 2],
    "UINT32": [0, 2**32 - 1, 1, 2],
    "UINT64": [0, 2**64 - 1, 1, 2],
    "INT8": [-128, 127, 0, 1],
    "INT16": [-32768, 32767, 0, 1],
    "INT32": [-(2**31), 2**31 - 1, 0, 1],
    "INT64": [-(2**63), 2**63 - 1, 0, 1],
    "FP16": [0.5, -65504.0, 1e-7, 3.0],
    "FP32": [0.1, -3.4e38, 1e-45, 3.0],
    "FP64": [0.1, -1.7e308, 5e-324, 3.0],
    "BYTES": ["é".encode(), b"", b"a\x00b", b"\n"],
}


def edge_array(datatype: str) -> np.ndarray:
    dtype = object if datatype == "BYTES" else models.onnx.helper.tensor_dtype_to_np_dtype(
        models.ONNX_TYPES[datatype]
    )  # fmt: skip
    return np.array(EDGES[datatype], dtype=dtype).reshape(2, 2)


@pytest.mark.parametrize("datatype", EDGES)
def test_every_datatype_comes_back_the_same_over_every_transport_and_form(
    server: InThread, tmp_path: Path, datatype: str
) -> None:
    switch_to(server, models.identity(tmp_path / "m.onnx", datatype))
    array = edge_array(datatype)
    answers = [infer_http(server, datatype, array, is_binary=True)]
    if datatype != "FP16":  # the client has no JSON form for it
        answers.append(infer_http(server, datatype, array, is_binary=False))
        answers.append(infer_typed(server, datatype, array))
    with client_of("grpc", server) as client:
        result = client.infer("digits", [tensor("grpc", "x", datatype, array)])
        answers.append(result.as_numpy("y"))
    for answer in answers:
        assert answer.dtype == array.dtype
        assert answer.tolist() == array.tolist()


def infer_http(
    server: InThread, datatype: str, array: np.ndarray, *, is_binary: bool
) -> np.ndarray:
    with client_of("http", server) as client:
        wanted = [triton_http.InferRequestedOutput("y", binary_data=is_binary)]
        entry = tensor("http", "x", datatype, array, binary_data=is_binary)
        answer = client.infer("digits", [entry], outputs=wanted).as_numpy("y")
    if datatype == "BYTES" and not is_binary:  # the client leaves JSON texts as they are
        answer = np.array([text.encode() for text in answer.flat], object).reshape(answer.shape)
    return answer


TYPED = {
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def infer_typed(server: InThread, datatype: str, array: np.ndarray) -> np.ndarray:
    """Send typed contents, which the client's own classes never do."""
    kind = "uint_contents" if datatype.startswith("UINT") else "int_contents"
    name = TYPED.get(datatype, kind)
    request = service_pb2.ModelInferRequest(model_name="digits")
    entry = request.inputs.add(name="x", datatype=datatype, shape=array.shape)
    getattr(entry.contents, name).extend(array.reshape(-1).tolist())
    output = call_infer(server, request).outputs[0]
    values = list(getattr(output.contents, name))
    return np.array(values, dtype=array.dtype).reshape(tuple(output.shape))


def call_infer(server: InThread, request: Any) -> Any:
    with grpc.insecure_channel(server.grpc) as channel:
        stub = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        return stub(request, timeout=30)


def test_bf16_travels_as_binary_data_over_both_transports(server: InThread, tmp_path: Path) -> None:
    switch_to(server, models.identity(tmp_path / "m.onnx", "BF16"))
    array = np.array([[0.5, -3.0], [1e-38, 65536.0]], ml_dtypes.bfloat16)
    for transport in TRANSPORTS:
        with client_of(transport, server) as client:
            result = client.infer("digits", [tensor(transport, "x", "BF16", array)])
            assert result.as_numpy("y").astype(np.float32).tolist() == array.tolist()
    plain = {"name": "x", "datatype": "BF16", "shape": [2, 2], "data": [0, 0, 0, 0]}
    with closing(http.client.HTTPConnection(server.http, timeout=30)) as connection:
        connection.request("POST", "/v2/models/digits/infer", json.dumps({"inputs": [plain]}))
        response = connection.getresponse()
        assert response.status == 400
        assert "binary data" in json.loads(response.read())["error"]


def test_some_inputs_may_be_binary_and_others_not(server: InThread, tmp_path: Path) -> None:
    switch_to(server, models.total(tmp_path / "m.onnx"))
    a, b = np.float32([[1, 2]]), np.float32([[10, 20]])
    with client_of("http", server) as client:
        for forms in ((True, False), (False, True), (True, True), (False, False)):
            inputs = [
                tensor("http", name, "FP32", array, binary_data=form)
                for name, array, form in zip("ab", (a, b), forms, strict=True)
            ]
            assert client.infer("digits", inputs).as_numpy("y").tolist() == [[11, 22]]


def test_rest_and_grpc_give_the_same_numbers_for_random_inputs(product_process: InProcess) -> None:
    random = np.random.default_rng(7)
    with client_of("http", product_process) as rest, client_of("grpc", product_process) as rpc:
        for batch in (0, 1, 2, 17):
            array = random.standard_normal((batch, 4)).astype(np.float32)
            ours = rest.infer("digits", [tensor("http", "x", "FP32", array)])
            theirs = rpc.infer("digits", [tensor("grpc", "x", "FP32", array)])
            for name in ("y", "z"):
                assert ours.as_numpy(name).tobytes() == theirs.as_numpy(name).tobytes()
                assert ours.as_numpy(name).shape == (batch, 3)


MISTAKES: dict[str, Callable[[str], tuple[list[Any], dict[str, Any]]]] = {
    "unknown model": lambda t: ([ones(t)], {"model_name": "letters"}),
    "unknown version": lambda t: ([ones(t)], {"model_version": "9"}),
    "unknown input": lambda t: ([tensor(t, "q", "FP32", np.ones((1, 4), np.float32))], {}),
    "missing input": lambda t: ([], {}),
    "wrong datatype": lambda t: ([tensor(t, "x", "FP64", np.ones((1, 4)))], {}),
    "wrong shape": lambda t: ([tensor(t, "x", "FP32", np.ones((1, 5), np.float32))], {}),
    "unknown output": lambda t: (
        [ones(t)],
        {"outputs": [TRANSPORTS[t].InferRequestedOutput("q")]},
    ),
}

STATUSES = {
    "http": dict.fromkeys(MISTAKES, "400") | {"unknown model": "404", "unknown version": "404"},
    "grpc": dict.fromkeys(MISTAKES, "StatusCode.INVALID_ARGUMENT")
    | {"unknown model": "StatusCode.NOT_FOUND", "unknown version": "StatusCode.NOT_FOUND"},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_both_transports_refuse_with_the_same_words(
    product_process: InProcess, mistake: str
) -> None:
    texts = set()
    for transport in TRANSPORTS:
        inputs, arguments = MISTAKES[mistake](transport)
        arguments = {"model_name": "digits", **arguments}
        with (
            client_of(transport, product_process) as client,
            pytest.raises(InferenceServerException) as refused,
        ):
            client.infer(inputs=inputs, **arguments)
        assert refused.value.status() == STATUSES[transport][mistake]
        texts.add(refused.value.message())
    assert len(texts) == 1, texts


def test_nothing_serving_and_a_failing_model_have_their_statuses(
    server: InThread, tmp_path: Path
) -> None:
    server.registry.switch(None)
    assert statuses(server, ones) == ["503", "StatusCode.UNAVAILABLE"]
    server.registry.switch(serving(FakeModel(fail)))
    one_row = np.ones((1, 4), np.float32)
    assert statuses(server, lambda t: tensor(t, "x", "FP32", one_row)) == [
        "500",
        "StatusCode.INTERNAL",
    ]
    switch_to(server, models.gather(tmp_path / "m.onnx"))
    beyond = np.array([9], np.int64)
    assert statuses(server, lambda t: tensor(t, "index", "INT64", beyond)) == [
        "400",
        "StatusCode.INVALID_ARGUMENT",
    ]


def fail() -> None:
    raise InferenceFailed("the model failed: the device is gone")


def statuses(server: InThread, entry: Callable[[str], Any]) -> list[str]:
    told = []
    for transport in TRANSPORTS:
        with (
            client_of(transport, server) as client,
            pytest.raises(InferenceServerException) as refused,
        ):
            client.infer("digits", [entry(transport)])
        told.append(refused.value.status())
    return told


def test_a_full_queue_is_resource_exhausted_with_retry_after() -> None:
    gate = Gate()
    with running(queue_limit=1) as server:
        server.registry.switch(serving(FakeModel(gate)))
        with client_of("grpc", server) as client:
            first = client.async_infer("digits", [ones("grpc")], callback=lambda *_: None)
            gate.wait_entered()
            request = service_pb2.ModelInferRequest(model_name="digits")
            entry = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
            entry.contents.fp32_contents.extend([1, 1, 1, 1])
            with pytest.raises(grpc.RpcError) as refused:
                call_infer(server, request)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert ("retry-after", "1") in refused.value.trailing_metadata()
            gate.open.set()
            del first


def test_messages_beyond_the_limit_are_refused_and_the_server_lives(
    server: InThread, tmp_path: Path
) -> None:
    switch_to(server, models.product(tmp_path / "m.onnx"))
    large = np.ones((100_000, 4), np.float32)
    with client_of("grpc", server) as client:
        with pytest.raises(InferenceServerException, match="RESOURCE_EXHAUSTED"):
            client.infer("digits", [tensor("grpc", "x", "FP32", large)])
        assert client.infer("digits", [ones("grpc")])


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda m: m.raw_input_contents.append(b""), id="too many raw contents"),
        pytest.param(lambda m: m.inputs[0].shape.append(-1), id="a negative axis"),
        pytest.param(lambda m: m.inputs[0].shape.extend([1] * 20), id="too many axes"),
        pytest.param(
            lambda m: m.inputs[0].contents.fp32_contents.append(1), id="typed beside raw contents"
        ),
        pytest.param(
            lambda m: (
                m.inputs[0]
                .parameters["shared_memory_region"]
                .MergeFrom(service_pb2.InferParameter(string_param="a"))
            ),
            id="shared memory",
        ),
        pytest.param(lambda m: m.inputs.extend([m.inputs[0]] * 70), id="too many inputs"),
        pytest.param(lambda m: m.raw_input_contents.pop(), id="no contents at all"),
    ],
)
def test_a_message_is_invalid_with(
    server: InThread, tmp_path: Path, spoil: Callable[[Any], Any]
) -> None:
    switch_to(server, models.product(tmp_path / "m.onnx"))
    request = service_pb2.ModelInferRequest(model_name="digits")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(np.ones(4, "<f4").tobytes())
    assert call_infer(server, request).outputs
    spoil(request)
    with pytest.raises(grpc.RpcError) as refused:
        call_infer(server, request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_asynchronous_clients_get_the_same_answers(product_process: InProcess) -> None:
    async with (
        triton_http_aio.InferenceServerClient(product_process.http) as rest,
        triton_grpc_aio.InferenceServerClient(product_process.grpc) as rpc,
    ):
        ours, theirs = await asyncio.gather(
            rest.infer("digits", [ones("http")]), rpc.infer("digits", [ones("grpc")])
        )
        assert ours.as_numpy("y").tolist() == theirs.as_numpy("y").tolist()
        assert ours.get_response()["parameters"]["revision"]
        with pytest.raises(InferenceServerException):
            await rest.infer("letters", [ones("http")])


class Heard:
    """Takes what a stream's callback brings."""

    def __init__(self, count: int) -> None:
        self.answers: list[tuple[Any, Any]] = []
        self._left = threading.Semaphore(0)
        self._count = count

    def __call__(self, result: Any, error: Any) -> None:
        self.answers.append((result, error))
        self._left.release()

    def wait(self) -> list[tuple[Any, Any]]:
        for _ in range(self._count):
            assert self._left.acquire(timeout=WITHIN_S)
        return self.answers


def test_a_stream_answers_in_order_and_survives_a_request_that_fails(
    product_process: InProcess,
) -> None:
    heard = Heard(4)
    with client_of("grpc", product_process) as client:
        client.start_stream(callback=heard)
        for number, model in enumerate(("digits", "letters", "digits", "digits")):
            array = np.full((1, 4), number, np.float32)
            entry = tensor("grpc", "x", "FP32", array)
            client.async_stream_infer(model, [entry], request_id=str(number))
        answers = heard.wait()
        client.stop_stream()
    for number, (result, error) in enumerate(answers):
        if number == 1:
            assert "no model 'letters'" in str(error)
            continue
        assert error is None
        response = result.get_response()
        assert response.id == str(number)
        assert response.parameters["triton_final_response"].bool_param
        assert result.as_numpy("y").tolist() == [[18.0 * number, 22.0 * number, 26.0 * number]]


async def test_the_asynchronous_client_streams_too(product_process: InProcess) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for _ in range(3):
            yield {"model_name": "digits", "inputs": [ones("grpc")]}

    async with triton_grpc_aio.InferenceServerClient(product_process.grpc) as client:
        shapes = [
            result.as_numpy("y").shape
            async for result, error in client.stream_infer(requests())
            if error is None
        ]
    assert shapes == [(2, 3)] * 3


Refused = Callable[[Any], object]

NOT_OFFERED: dict[str, tuple[Refused, str, str]] = {
    "loading": (lambda c: c.load_model("digits"), "403", "StatusCode.PERMISSION_DENIED"),
    "unloading": (lambda c: c.unload_model("digits"), "403", "StatusCode.PERMISSION_DENIED"),
    "system memory": (
        lambda c: c.register_system_shared_memory("a", "/a", 8),
        "501",
        "StatusCode.UNIMPLEMENTED",
    ),
    "its status": (
        lambda c: c.get_system_shared_memory_status(),
        "501",
        "StatusCode.UNIMPLEMENTED",
    ),
    "device memory": (
        lambda c: c.register_cuda_shared_memory("a", b"aGk=", 0, 8),
        "501",
        "StatusCode.UNIMPLEMENTED",
    ),
}


@pytest.mark.parametrize("what", NOT_OFFERED)
def test_what_is_not_offered_is_refused_with_the_same_words(
    product_process: InProcess, what: str
) -> None:
    call, *statuses = NOT_OFFERED[what]
    texts = set()
    for transport, status in zip(TRANSPORTS, statuses, strict=True):
        with (
            client_of(transport, product_process) as client,
            pytest.raises(InferenceServerException) as refused,
        ):
            call(client)
        assert refused.value.status() == status
        texts.add(refused.value.message())
    assert len(texts) == 1, texts


def test_the_index_may_be_asked_for_what_serves_only(server: InThread) -> None:
    server.registry.switch(None)
    for transport in TRANSPORTS:
        with client_of(transport, server) as client:
            index = client.get_model_repository_index()
            entries = index if transport == "http" else as_dict(index)["models"]
            assert entries[0]["state"] == "UNAVAILABLE"
    with closing(http.client.HTTPConnection(server.http, timeout=30)) as connection:
        connection.request("POST", "/v2/repository/index", '{"ready": true}')
        assert json.loads(connection.getresponse().read()) == []


def test_statistics_of_every_model_are_those_of_the_one(product_process: InProcess) -> None:
    for transport in TRANSPORTS:
        with client_of(transport, product_process) as client:
            client.infer("digits", [ones(transport)])
            stats = as_dict(client.get_inference_statistics())["model_stats"]
            assert [entry["name"] for entry in stats] == ["digits"]
            assert int(stats[0]["execution_count"]) == int(stats[0]["inference_count"]) > 0


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_the_client_s_request_compression_is_understood(
    product_process: InProcess, algorithm: str
) -> None:
    with client_of("http", product_process) as client:
        result = client.infer("digits", [ones()], request_compression_algorithm=algorithm)
        assert result.as_numpy("y").shape == (2, 3)


Ask = Callable[[], tuple[str, np.ndarray, np.ndarray]]


class Hammer:
    """Clients that ask until they are told to stop, and check every answer."""

    def __init__(self, values: dict[str, float]) -> None:
        self._values = values
        self._stop = threading.Event()
        self.answers: dict[str, int] = dict.fromkeys(values, 0)
        self.faults: list[str] = []
        self._lock = threading.Lock()

    def run(self, ask: Ask) -> None:
        while not self._stop.is_set():
            try:
                revision, y, z = ask()
                seen = set(y.flat) | set(z.flat)
            except Exception as error:  # noqa: BLE001 every failure is a finding
                self.faults.append(repr(error))
                return
            with self._lock:
                self.answers[revision] += 1
            if seen != {self._values[revision]}:
                self.faults.append(f"{revision} answered {seen}")

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def rest_asker(server: InThread) -> Iterator[Ask]:
    connection = http.client.HTTPConnection(server.http, timeout=30)
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}
    body = json.dumps({"inputs": [entry]})

    def ask() -> tuple[str, np.ndarray, np.ndarray]:
        connection.request("POST", "/v2/models/digits/infer", body)
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        assert response.getheader("skerry-revision") == answer["parameters"]["revision"]
        y, z = (np.array(output["data"]) for output in answer["outputs"])
        return answer["parameters"]["revision"], y, z

    with closing(connection):
        yield ask


def rpc_asker(client: Any) -> Ask:
    def ask() -> tuple[str, np.ndarray, np.ndarray]:
        result = client.infer("digits", [ones("grpc")])
        revision = result.get_response().parameters["revision"].string_param
        return revision, result.as_numpy("y"), result.as_numpy("z")

    return ask


def test_no_request_fails_and_no_answer_mixes_revisions_while_models_change(
    server: InThread, tmp_path: Path
) -> None:
    values = {"r1": 1.0, "r2": 2.0}
    paths = {r: models.constant(tmp_path / f"{r}.onnx", v) for r, v in values.items()}
    server.registry.switch(serving(load(paths["r1"]), "r1"))
    hammer = Hammer(values)
    with (
        client_of("grpc", server) as client,
        rest_asker(server) as first,
        rest_asker(server) as second,
    ):
        asks = [first, second, rpc_asker(client)]
        threads = [threading.Thread(target=hammer.run, args=(ask,)) for ask in asks]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + WITHIN_S
        switches = 0
        while switches < 300 or min(hammer.answers.values()) < 300:
            assert time.monotonic() < deadline
            assert not hammer.faults
            revision = ("r1", "r2")[switches % 2]
            old = server.registry.switch(serving(load(paths[revision]), revision))
            switches += 1
            assert old is not None
            assert server.registry.close_when_drained(old, 30)
        hammer.stop()
        for thread in threads:
            thread.join(WITHIN_S)
    assert not hammer.faults


def test_sigterm_answers_what_is_under_way_and_exits_clean(tmp_path: Path) -> None:
    """The request is half sent when the signal comes: 100-continue says that it is under way."""
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}
    body = json.dumps({"inputs": [entry]}).encode()
    head = (
        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with process(models.product(tmp_path / "m.onnx")) as child:
        host, port = child.http.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head.encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
            child.terminate()
            wait_unready(child)
            connection.sendall(body)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 200 OK"), answer
        assert b"connection: close" in answer
        assert child.wait() == 0


def wait_unready(child: InProcess) -> None:
    deadline = time.monotonic() + WITHIN_S
    while True:
        assert time.monotonic() < deadline
        connection = http.client.HTTPConnection(child.admin, timeout=30)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()
        if status == 503:
            return


def test_an_int8_tflite_model_is_served_like_any_other(tmp_path: Path) -> None:
    with process(tflite_models.quantized_product(tmp_path / "m.tflite")) as child:
        for transport, triton in TRANSPORTS.items():
            with closing(triton.InferenceServerClient(getattr(child, transport))) as client:
                asked = triton.InferInput("x", [1, 4], "INT8")
                asked.set_data_from_numpy(np.full((1, 4), 2, np.int8))
                answer = client.infer("digits", [asked]).as_numpy("y")
                assert answer.dtype == np.int8
                assert np.abs(4 * (answer + 100.0) - [[18, 22, 26]]).max() <= 2
