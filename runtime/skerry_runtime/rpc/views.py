"""The protocol's answers as messages; one function per answer."""

from __future__ import annotations

from skerry_runtime.protocol.types import (
    BatchInfo,
    IndexEntry,
    ModelInfo,
    ModelStatistics,
    ServerInfo,
    TensorInfo,
)
from skerry_runtime.rpc.generated import oip_pb2 as pb


def server(info: ServerInfo) -> pb.ServerMetadataResponse:
    """Return the server's metadata."""
    return pb.ServerMetadataResponse(
        name=info.name, version=info.version, extensions=info.extensions
    )


def model(info: ModelInfo) -> pb.ModelMetadataResponse:
    """Return the model's metadata."""
    return pb.ModelMetadataResponse(
        name=info.name,
        versions=[info.version],
        platform=info.platform,
        inputs=[_tensor(tensor) for tensor in info.inputs],
        outputs=[_tensor(tensor) for tensor in info.outputs],
    )


def config(info: ModelInfo) -> pb.ModelConfigResponse:
    """Return the model's configuration; the batch is an axis like any other."""
    inputs = [pb.ModelInput(name=t.name, data_type=_type(t), dims=t.shape) for t in info.inputs]
    outputs = [pb.ModelOutput(name=t.name, data_type=_type(t), dims=t.shape) for t in info.outputs]
    message = pb.ModelConfig(
        name=info.name, platform=info.platform, max_batch_size=0, input=inputs, output=outputs
    )
    return pb.ModelConfigResponse(config=message)


def statistics(counts: ModelStatistics) -> pb.ModelStatisticsResponse:
    """Return the serving revision's statistics."""
    inferring_ns = max(0, counts.success_ns - counts.wait_ns)
    times = pb.InferStatistics(
        success=_duration(counts.successes, counts.success_ns),
        fail=_duration(counts.failures, 0),
        queue=_duration(counts.successes, counts.wait_ns),
        compute_input=_duration(counts.successes, 0),
        compute_infer=_duration(counts.successes, inferring_ns),
        compute_output=_duration(counts.successes, 0),
        cache_hit=_duration(0, 0),
        cache_miss=_duration(0, 0),
    )
    entry = pb.ModelStatistics(
        name=counts.name,
        version=counts.version,
        last_inference=counts.last_inference_s * 1000,
        inference_count=counts.successes,
        execution_count=counts.runs,
        inference_stats=times,
        batch_stats=[_batch(batch) for batch in counts.batches],
    )
    return pb.ModelStatisticsResponse(model_stats=[entry])


def index(entries: tuple[IndexEntry, ...], *, only_ready: bool) -> pb.RepositoryIndexResponse:
    """Return the repository's index."""
    models = [
        pb.RepositoryIndexResponse.ModelIndex(
            name=entry.name, version=entry.version, state=entry.state, reason=entry.reason
        )
        for entry in entries
        if entry.state == "READY" or not only_ready
    ]
    return pb.RepositoryIndexResponse(models=models)


def _tensor(info: TensorInfo) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=info.name, datatype=info.datatype, shape=info.shape
    )


def _type(info: TensorInfo) -> str:
    word = "STRING" if info.datatype == "BYTES" else info.datatype
    return f"TYPE_{word}"


def _batch(batch: BatchInfo) -> pb.InferBatchStatistics:
    return pb.InferBatchStatistics(
        batch_size=batch.rows,
        compute_input=_duration(batch.runs, 0),
        compute_infer=_duration(batch.runs, round(batch.seconds * 1e9)),
        compute_output=_duration(batch.runs, 0),
    )


def _duration(count: int, ns: int) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=count, ns=ns)
