"""The floor: the least that asyncio, httptools and uvloop can do. No checks, limits or metrics.

python floor.py MODEL PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httptools
import numpy as np
import onnxruntime as ort
import orjson
import uvloop


def session(path: str) -> ort.InferenceSession:
    """Open the model with the options that Skerry uses."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Floor(asyncio.Protocol):
    """One connection; the model runs on the loop."""

    def __init__(self, model: ort.InferenceSession) -> None:
        self._model = model
        self._parser = httptools.HttpRequestParser(self)
        self._length = 0
        self._pieces: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"inference-header-content-length":
            self._length = int(value)

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        if not self._pieces:  # the bench asks whether it is there
            self._transport.write(b"HTTP/1.1 400 no\r\ncontent-length: 0\r\n\r\n")
            return
        body, self._pieces = b"".join(self._pieces), []
        entry = orjson.loads(body[: self._length])["inputs"][0]
        array = np.frombuffer(body[self._length :], np.float32).reshape(entry["shape"])
        result = self._model.run(None, {entry["name"]: array})[0]
        raw = result.tobytes()
        parameters = {"binary_data_size": len(raw)}
        output = {"name": "y", "datatype": "FP32", "shape": result.shape, "parameters": parameters}
        head = orjson.dumps({"model_name": "digits", "outputs": [output]})
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"
            b"inference-header-content-length: %d\r\ncontent-length: %d\r\n\r\n%s%s"
            % (len(head), len(head) + len(raw), head, raw)
        )


async def main() -> None:
    """Serve until killed."""
    model = session(sys.argv[1])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Floor(model), "127.0.0.1", int(sys.argv[2]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
