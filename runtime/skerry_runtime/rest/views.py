"""The protocol's answers as JSON values; one function per answer."""

from __future__ import annotations

from skerry_runtime.protocol.types import (
    BatchInfo,
    IndexEntry,
    ModelInfo,
    ModelStatistics,
    ServerInfo,
    TensorInfo,
)


def server(info: ServerInfo) -> dict[str, object]:
    """Return the server's metadata."""
    return {"name": info.name, "version": info.version, "extensions": info.extensions}


def model(info: ModelInfo) -> dict[str, object]:
    """Return the model's metadata."""
    return {
        "name": info.name,
        "versions": [info.version],
        "platform": info.platform,
        "inputs": [_tensor(tensor) for tensor in info.inputs],
        "outputs": [_tensor(tensor) for tensor in info.outputs],
        "parameters": {"revision": info.revision},
    }


def config(info: ModelInfo) -> dict[str, object]:
    """Return the model's configuration; the batch is an axis like any other."""
    return {
        "name": info.name,
        "platform": info.platform,
        "max_batch_size": 0,
        "input": [_configured(tensor) for tensor in info.inputs],
        "output": [_configured(tensor) for tensor in info.outputs],
    }


def statistics(counts: ModelStatistics) -> dict[str, object]:
    """Return the serving revision's statistics; `served_version` and `batching` are ours."""
    durations = {
        "success": (counts.successes, counts.success_ns),
        "fail": (counts.failures, 0),
        "queue": (counts.successes, counts.wait_ns),
        "compute_input": (counts.successes, 0),
        "compute_infer": (counts.successes, max(0, counts.success_ns - counts.wait_ns)),
        "compute_output": (counts.successes, 0),
        "cache_hit": (0, 0),
        "cache_miss": (0, 0),
    }
    entry = {
        "name": counts.name,
        "version": counts.version,
        "served_version": counts.served_version,
        "last_inference": counts.last_inference_s * 1000,
        "inference_count": counts.successes,
        "execution_count": counts.runs,
        "inference_stats": {key: _duration(*pair) for key, pair in durations.items()},
        "batch_stats": [_batch(batch) for batch in counts.batches],
        "batching": counts.batching,
    }
    return {"model_stats": [entry]}


def index(entries: tuple[IndexEntry, ...], *, only_ready: bool) -> list[dict[str, str]]:
    """Return the repository's index."""
    return [
        {"name": e.name, "version": e.version, "state": e.state, "reason": e.reason}
        for e in entries
        if e.state == "READY" or not only_ready
    ]


def _tensor(info: TensorInfo) -> dict[str, object]:
    described: dict[str, object] = {
        "name": info.name,
        "datatype": info.datatype,
        "shape": info.shape,
    }
    return described | {"parameters": {"any_shape": True}} if info.any_shape else described


def _configured(info: TensorInfo) -> dict[str, object]:
    word = "STRING" if info.datatype == "BYTES" else info.datatype
    return {"name": info.name, "data_type": f"TYPE_{word}", "dims": info.shape}


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}


def _batch(batch: BatchInfo) -> dict[str, object]:
    return {
        "batch_size": batch.rows,
        "compute_input": _duration(batch.runs, 0),
        "compute_infer": _duration(batch.runs, round(batch.seconds * 1e9)),
        "compute_output": _duration(batch.runs, 0),
    }
