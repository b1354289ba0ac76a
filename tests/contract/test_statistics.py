"""Statistics as Triton's perf_analyzer reads them: every field, and a version that is a number."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from google.protobuf.json_format import MessageToDict

from serving import models
from serving.fakes import load, serving
from serving.running import InThread, running
from skerry_runtime.protocol.types import BatchInfo, BatchingInfo, ModelStatistics
from skerry_runtime.rest import views as rest
from skerry_runtime.rpc import views as rpc

PARTS = (
    *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
    *("cache_hit", "cache_miss"),
)
TRANSPORTS = ("http", "grpc")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[InThread]:
    with running() as server:
        yield server


def serve(server: InThread, folder: Path, version: str) -> None:
    model = load(models.product(folder / "m.onnx"))
    server.registry.switch(serving(model, f"r-{version}", version))


def ask(server: InThread, times: int) -> None:
    client = triton_http.InferenceServerClient(server.http)
    entry = triton_http.InferInput("x", [1, 4], "FP32")
    entry.set_data_from_numpy(np.ones((1, 4), np.float32))
    for _ in range(times):
        client.infer("digits", [entry])
    client.close()


def statistics(server: InThread, transport: str, version: str = "") -> dict[str, Any]:
    """The one entry, with numbers as numbers."""
    if transport == "http":
        of = f"/versions/{version}" if version else ""
        with urllib.request.urlopen(f"http://{server.http}/v2/models/digits{of}/stats") as answer:
            entry: dict[str, Any] = json.load(answer)["model_stats"][0]
            return entry
    client = triton_grpc.InferenceServerClient(server.grpc)
    message = client.get_inference_statistics("digits", version)
    client.close()
    written = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
    entry = MessageToDict(message, **written)["model_stats"][0]
    return _numbers(entry) | {"version": entry["version"]}


def _numbers(value: Any) -> Any:
    """Protobuf's JSON has 64-bit numbers as texts."""
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    return int(value) if isinstance(value, str) and value.isdecimal() else value


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_request_is_in_every_part_that_it_went_through(
    server: InThread, transport: str, tmp_path: Path
) -> None:
    serve(server, tmp_path, "1")
    before = statistics(server, transport)
    assert before["last_inference"] == 0
    assert set(PARTS) <= set(before["inference_stats"])
    began = time.time()
    ask(server, 40)  # the first in threads, the others, when it is known to be quick, may not be
    after = statistics(server, transport)
    counts = {part: after["inference_stats"][part]["count"] for part in PARTS}
    passed = dict.fromkeys(PARTS, 40) | dict.fromkeys(("fail", "cache_hit", "cache_miss"), 0)
    assert counts == passed
    assert (began - 2) * 1000 <= after["last_inference"] <= (time.time() + 2) * 1000
    stats = after["inference_stats"]
    inside = sum(stats[part]["ns"] for part in ("queue", "compute_infer"))
    assert 0 < inside <= stats["success"]["ns"] + 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("version", "told"),
    [
        *[("1", "1"), ("42", "42"), ("0", "0"), ("007", "1"), ("1.0.0", "1"), ("v2", "1")],
        *[("3fa85f6471", "1"), ("-1", "1"), ("99999999999999999999", "1"), ("²", "1")],
    ],
)
def test_a_version_that_is_no_number_is_told_as_the_first(
    server: InThread, transport: str, version: str, told: str, tmp_path: Path
) -> None:
    serve(server, tmp_path, version)
    assert statistics(server, transport)["version"] == told
    if transport == "http":
        assert statistics(server, transport)["served_version"] == version


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_version_that_is_asked_for_is_told_as_it_was_asked_for(
    server: InThread, transport: str, tmp_path: Path
) -> None:
    serve(server, tmp_path, "1.0.0")
    for name in ("1.0.0", "r-1.0.0"):
        assert statistics(server, transport, name)["version"] == name


def test_batches_are_told_in_the_same_parts() -> None:
    batches = (BatchInfo(8, 3, 0.5),)
    batching = BatchingInfo(True, "On", "asked for")
    counts = ModelStatistics("m", "1", "1", 7, 24, 9, 0, 3, 24, 4, batches, batching)
    part = {"count": 3, "ns": 500_000_000}
    none = {"count": 3, "ns": 0}
    expected = {"compute_input": none, "compute_infer": part, "compute_output": none}
    view: Any = rest.statistics(counts)
    assert view["model_stats"][0]["batch_stats"] == [{"batch_size": 8, **expected}]
    batch = rpc.statistics(counts).model_stats[0].batch_stats[0]
    for name, times in expected.items():
        assert getattr(batch, name).count == times["count"]
        assert getattr(batch, name).ns == times["ns"]
