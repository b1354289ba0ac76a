"""Speed of serving against raw `session.run`: medians, p99 and ratios, all from one run.

    make bench-runtime

The server is the process that a container runs. Clients send what they encoded beforehand over one
connection, so that the figures are the server's. Rounds are interleaved (raw, REST, gRPC, raw),
because a shared machine drifts by more than what is measured. Nothing fails: figures are read.
"""

from __future__ import annotations

import json
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from serving.running import ROOT, InProcess, process
from skerry_runtime.rpc.generated import oip_pb2 as pb

ROUNDS = 5
RESULT = ROOT / "build" / "bench" / "runtime.json"

Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A model, its input, and how many calls make a round."""

    name: str
    model: bytes
    shape: tuple[int, ...]
    calls: int


@dataclass
class Series:
    """Times of one way to get an answer, in microseconds."""

    way: str
    times: list[float] = field(default_factory=list)

    def figures(self, raw_p50: float) -> dict[str, float | str]:
        p50, p99 = statistics.median(self.times), float(np.percentile(self.times, 99))
        return {
            "way": self.way,
            "p50_us": round(p50, 1),
            "p99_us": round(p99, 1),
            "p50_to_raw": round(p50 / raw_p50, 2),
        }


def tiny() -> bytes:
    """One 16 x 16 product: what is left is the cost of asking."""
    weights = numpy_helper.from_array(np.eye(16, dtype=np.float32), "w")
    return _model([helper.make_node("MatMul", ["x", "w"], ["y"])], [1, 16], [1, 16], [weights])


def network() -> bytes:
    """Nine layers over a 3 x 224 x 224 picture: eight convolutions, and a classifier."""
    random, nodes, weights, value = np.random.default_rng(0), [], [], "x"
    channels = [3, 16, 24, 24, 32, 48, 64, 96, 128]
    for layer, (before, after) in enumerate(pairwise(channels)):
        kernel = random.standard_normal((after, before, 3, 3), dtype=np.float32) * 0.1
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        stride = 1 if layer in (1, 3, 5) else 2
        convolved, value_after = f"c{layer}", f"r{layer}"
        nodes.append(
            helper.make_node(
                "Conv", [value, f"w{layer}"], [convolved], pads=[1] * 4, strides=[stride] * 2
            )
        )
        nodes.append(helper.make_node("Relu", [convolved], [value_after]))
        value = value_after
    weights.append(numpy_helper.from_array(np.ones((128, 1000), np.float32), "w"))
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    return _model(nodes, [1, 3, 224, 224], [1, 1000], weights)


def _model(
    nodes: list[onnx.NodeProto], given: list[int], wanted: list[int], weights: list[Any]
) -> bytes:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, wanted)]
    graph = helper.make_graph(nodes, "bench", inputs, outputs, weights)
    opset = helper.make_opsetid("", 17)
    content: bytes = helper.make_model(
        graph, opset_imports=[opset], ir_version=9
    ).SerializeToString()
    return content


def raw(case: Case) -> Call:
    """`session.run` in this process, with the server's own options."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(case.model, options, providers=["CPUExecutionProvider"])
    feed = {"x": np.ones(case.shape, np.float32)}
    return lambda: session.run(None, feed)


@contextmanager
def rest(case: Case, server: InProcess) -> Iterator[Call]:
    """The binary tensor extension over a bare socket."""
    data = np.ones(case.shape, np.float32).tobytes()
    entry = {"name": "x", "datatype": "FP32", "shape": case.shape}
    head = {
        "inputs": [{**entry, "parameters": {"binary_data_size": len(data)}}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    body = text + data
    request = (
        b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: bench\r\n"
        b"content-length: %d\r\ninference-header-content-length: %d\r\n\r\n%s"
        % (len(body), len(text), body)
    )
    with socket.create_connection(("127.0.0.1", server.ports.http)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield lambda: _exchange(connection, request)


def _exchange(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    answer = connection.recv(65536)
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer[:500])
    length = int(head.lower().split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return body


@contextmanager
def rpc(case: Case, server: InProcess) -> Iterator[Call]:
    """A bare stub with a message that was serialised before."""
    message = pb.ModelInferRequest(model_name="digits")
    message.inputs.add(name="x", datatype="FP32", shape=case.shape)
    message.raw_input_contents.append(np.ones(case.shape, np.float32).tobytes())
    ready = message.SerializeToString()
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        yield lambda: call(ready, timeout=30)


def measure(case: Case, folder: Path) -> list[Series]:
    """Return the times of every way, from interleaved rounds."""
    path = folder / f"{case.name}.onnx"
    path.write_bytes(case.model)
    with ExitStack() as opened:
        server = opened.enter_context(process(path))
        ways = {
            "raw session.run": raw(case),
            "REST binary": opened.enter_context(rest(case, server)),
            "gRPC": opened.enter_context(rpc(case, server)),
        }
        series = {way: Series(way) for way in ways}
        for way in (*ways, *ways):
            _timed(ways[way], case.calls)  # warm-up: not kept
        for _ in range(ROUNDS):
            for way in (*ways, "raw session.run"):
                series[way].times += _timed(ways[way], case.calls)
    return list(series.values())


def _timed(call: Call, count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e6)
    return times


def main() -> None:
    """Measure both models, print a table and write the figures."""
    cases = (
        Case("tiny", tiny(), (1, 16), 400),
        Case("cnn", network(), (1, 3, 224, 224), 60),
    )
    result = {}
    print(f"{'model':6}{'way':18}{'p50 us':>10}{'p99 us':>10}{'x raw':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            series = measure(case, Path(folder))
            raw_p50 = statistics.median(series[0].times)
            result[case.name] = [one.figures(raw_p50) for one in series]
            for row in result[case.name]:
                figures = f"{row['p50_us']:>10}{row['p99_us']:>10}{row['p50_to_raw']:>8}"
                print(f"{case.name:6}{row['way']:18}{figures}")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"rounds": ROUNDS, "cases": result}, indent=2) + "\n")
    print(f"written to {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
