"""Tries the clients of KServe and MLServer against Skerry, each in its venv.

    PYTHONPATH=tests:runtime python -P -m bench.clients

What a client cannot do is told and fails nothing.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from bench.contenders import KSERVE, MLSERVER, environment, skerry
from bench.models import CASES

KSERVE_CLIENT = """
import asyncio, sys
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

def request():
    entry = InferInput("x", [1, 16], "FP32")
    entry.set_data_from_numpy(np.ones((1, 16), np.float32), binary_data=BINARY)
    return InferRequest(model_name="digits", infer_inputs=[entry])

async def rest(url):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    print("REST live", await client.is_server_live(url))
    print("REST ready", await client.is_server_ready(url))
    print("REST model ready", await client.is_model_ready(url, "digits"))
    answer = await client.infer(url, request(), model_name="digits")
    form = "binary" if BINARY else "JSON"
    print(f"REST infer, {form}", answer.outputs[0].as_numpy().sum())

async def odd(url):
    "NaN and infinities: what comes back, or why nothing does."
    entry = InferInput("x", [1, 16], "FP32")
    entry.set_data_from_numpy(np.full((1, 16), np.inf, np.float32), binary_data=BINARY)
    whole = {"binary_data_output": BINARY}
    given = InferRequest(model_name="digits", infer_inputs=[entry], parameters=whole)
    form = "binary" if BINARY else "JSON"
    try:
        answer = await InferenceRESTClient(RESTConfig(protocol="v2")).infer(
            url, given, model_name="digits"
        )
        print(f"REST infinities, {form}", answer.outputs[0].as_numpy().ravel()[:3])
    except Exception as error:
        print(f"REST infinities, {form}: {type(error).__name__}", str(error)[:200])

async def rpc(address):
    client = InferenceGRPCClient(url=address)
    print("gRPC live", await client.is_server_live())
    print("gRPC model ready", await client.is_model_ready("digits"))
    answer = await client.infer(request())
    print("gRPC infer", answer.outputs[0].as_numpy().sum())

for BINARY in (False, True):
    asyncio.run(rest("http://127.0.0.1:" + sys.argv[1]))
    asyncio.run(odd("http://127.0.0.1:" + sys.argv[1]))
asyncio.run(rpc("127.0.0.1:" + sys.argv[2]))
"""

MLSERVER_CLIENT = """
import asyncio, sys
import grpc
from urllib.request import urlopen
import numpy as np
from mlserver.codecs import NumpyCodec
from mlserver.grpc.converters import ModelInferRequestConverter, ModelInferResponseConverter
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.types import InferenceRequest, InferenceResponse, MetadataModelResponse

request = InferenceRequest(inputs=[NumpyCodec.encode_input("x", np.ones((1, 16), np.float32))])
base = "http://127.0.0.1:" + sys.argv[1] + "/v2/models/digits"
print("REST metadata", MetadataModelResponse.parse_raw(urlopen(base).read()).name)
answer = urlopen(base + "/infer", request.json().encode()).read()
outputs = InferenceResponse.parse_raw(answer).outputs
print("REST infer with its types", NumpyCodec.decode_output(outputs[0]).sum())

odd = np.full((1, 16), np.inf, np.float32)
given = InferenceRequest(inputs=[NumpyCodec.encode_input("x", odd)])
try:
    print("REST infinities", urlopen(base + "/infer", given.json().encode()).read())
except OSError as error:
    print("REST infinities in its request:", error.read())
text = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [%s]}]}'
answer = urlopen(base + "/infer", text % b",".join([b"-Infinity"] * 16)).read()
outputs = InferenceResponse.parse_raw(answer).outputs
print("REST infinities in its answer", NumpyCodec.decode_output(outputs[0]).ravel()[:3])

async def rpc():
    async with grpc.aio.insecure_channel("127.0.0.1:" + sys.argv[2]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        message = ModelInferRequestConverter.from_types(request, model_name="digits")
        response = ModelInferResponseConverter.to_types(await stub.ModelInfer(message))
        print("gRPC infer with its types", NumpyCodec.decode_output(response.outputs[0]).sum())
        message = ModelInferRequestConverter.from_types(request, model_name="digits", use_raw=True)
        response = ModelInferResponseConverter.to_types(await stub.ModelInfer(message))
        print("gRPC infer, raw", NumpyCodec.decode_output(response.outputs[0]).sum())

asyncio.run(rpc())
"""


def main() -> None:
    """Run each client's script and print what it says."""
    with tempfile.TemporaryDirectory() as folder, skerry(CASES[0], Path(folder)) as server:
        scripts = (("KServe", KSERVE, KSERVE_CLIENT), ("MLServer", MLSERVER, MLSERVER_CLIENT))
        for name, requirements, script in scripts:
            print(f"{name}: {requirements[0]}")
            command = [environment(requirements), "-c", script, str(server.http), str(server.grpc)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            print(done.stdout, end="")
            if done.returncode:
                print("  failed:", done.stderr.strip().splitlines()[-1][:300])


if __name__ == "__main__":
    main()
