"""NaN and infinities over every way that clients have: right, or refused with the remedy.

tritonclient is here itself. KServe's client writes and reads JSON with orjson, MLServer's types
are pydantic's; `python -P -m bench.clients` runs those two themselves.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from pydantic import BaseModel, RootModel

from serving import models
from serving.fakes import load, serving
from serving.running import InThread, running

ODD = np.array([[1.5, np.nan], [np.inf, -np.inf]])
DTYPES = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}


class Output(BaseModel):
    """As MLServer's types have it."""

    data: RootModel[list[Any] | Any]


class Response(BaseModel):
    """As MLServer's types have it."""

    outputs: list[Output]


@pytest.fixture(scope="module", params=DTYPES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, InThread]]:
    with running() as server:
        path = models.identity(tmp_path_factory.mktemp("models") / "m.onnx", request.param)
        server.registry.switch(serving(load(path)))
        yield request.param, server


def asked(server: InThread, body: bytes) -> tuple[int, bytes]:
    url = f"http://{server.http}/v2/models/digits/infer"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def entry(datatype: str, data: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": [2, 2], "data": data}]}


@pytest.mark.parametrize("takes_binary", [True, False])
@pytest.mark.parametrize("sends_binary", [True, False])
def test_triton_s_http_client_gets_what_it_sent(
    server: tuple[str, InThread], *, sends_binary: bool, takes_binary: bool
) -> None:
    datatype, running_server = server
    array = ODD.astype(DTYPES[datatype])
    client = triton_http.InferenceServerClient(running_server.http)
    given = triton_http.InferInput("x", [2, 2], datatype)
    if sends_binary or datatype != "FP16":
        given.set_data_from_numpy(array, binary_data=sends_binary)
    else:  # this client has no JSON form for it
        given._data, given._raw_data = array.ravel().tolist(), None
    wanted = [triton_http.InferRequestedOutput("y", binary_data=takes_binary)]
    back = client.infer("digits", [given], outputs=wanted)
    np.testing.assert_array_equal(back.as_numpy("y"), array)
    client.close()


def test_triton_s_grpc_client_gets_what_it_sent(server: tuple[str, InThread]) -> None:
    datatype, running_server = server
    array = ODD.astype(DTYPES[datatype])
    client = triton_grpc.InferenceServerClient(running_server.grpc)
    given = triton_grpc.InferInput("x", [2, 2], datatype)
    given.set_data_from_numpy(array)
    np.testing.assert_array_equal(client.infer("digits", [given]).as_numpy("y"), array)
    client.close()


def test_mlserver_s_types_read_the_three_as_they_are(server: tuple[str, InThread]) -> None:
    datatype, running_server = server
    text = json.dumps(entry(datatype, ODD.ravel().tolist())).encode()
    status, answer = asked(running_server, text)
    assert status == 200
    read = Response.model_validate_json(answer).outputs[0].data.root
    np.testing.assert_array_equal(np.array(read), ODD.ravel())


def test_kserve_s_client_reads_no_wrong_number(server: tuple[str, InThread]) -> None:
    """Its JSON parser knows no such words: it says so, and gets them as binary data."""
    datatype, running_server = server
    text = json.dumps(entry(datatype, ODD.ravel().tolist())).encode()
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(asked(running_server, text)[1])


def test_what_kserve_s_and_mlserver_s_clients_write_for_the_three_is_refused_with_the_remedy(
    server: tuple[str, InThread],
) -> None:
    datatype, running_server = server
    values = ODD.ravel().tolist()
    mlserver = Response(outputs=[Output(data=RootModel(values))]).model_dump_json()
    data_of_mlserver = json.loads(mlserver)["outputs"][0]["data"]
    assert data_of_mlserver == [1.5, None, None, None]
    for text in (
        orjson.dumps(entry(datatype, values)),
        orjson.dumps(entry(datatype, data_of_mlserver)),
    ):
        status, answer = asked(running_server, text)
        assert status == 400
        assert b"write NaN, Infinity or -Infinity, or send binary data" in answer
