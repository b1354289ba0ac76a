"""Asks a running server as the reference client does, over both transports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import np_to_triton_dtype

from serving.running import Addressed

TRANSPORTS = {"http": triton_http, "grpc": triton_grpc}
REFUSED = {"http": "400", "grpc": "StatusCode.INVALID_ARGUMENT"}
"""A client's mistake in the words of each transport."""


def ask(
    transport: str, server: Addressed, arrays: Mapping[str, np.ndarray], **more: Any
) -> dict[str, np.ndarray]:
    """Return all outputs; raises InferenceServerException."""
    module = TRANSPORTS[transport]
    client = module.InferenceServerClient(server.http if transport == "http" else server.grpc)
    inputs = []
    for name, array in arrays.items():
        inputs.append(module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    try:
        answer = client.infer("digits", inputs, **more)
        response = answer.get_response()
        outputs = response["outputs"] if transport == "http" else response.outputs
        names = [o["name"] if transport == "http" else o.name for o in outputs]
        return {name: answer.as_numpy(name) for name in names}
    finally:
        client.close()
