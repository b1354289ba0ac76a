"""The protocol's verbs, free of any transport: what REST and gRPC both call."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Lock

from skerry_runtime import __version__
from skerry_runtime.backends.base import ModelMetadata, Tensors, TensorSpec
from skerry_runtime.errors import (
    InferenceFailed,
    InvalidRequest,
    NotFound,
    NotReady,
    Overloaded,
    ServingError,
)
from skerry_runtime.metrics import Metrics, RevisionMetrics
from skerry_runtime.protocol.tensors import DTYPES, Array
from skerry_runtime.protocol.types import (
    IndexEntry,
    InferRequest,
    InferResponse,
    ModelInfo,
    ModelStatistics,
    ServerInfo,
    Tensor,
    TensorInfo,
)
from skerry_runtime.registry import Registry, ServingModel

SERVER_NAME = "skerry"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics")

INLINE_LIMIT_S = 0.0002
"""Runs expected to be shorter stay on the event loop: the hop to a thread would cost more."""

_SLOW_WEIGHT = 0.1  # one run disturbed by a neighbour must not exile a small model to threads

_log = logging.getLogger(__name__)


class Pace:
    """Expected run time of one model by the size of its input, learnt from its runs.

    A size is a power of two of bytes: a small batch tells nothing about a large one. A shorter
    run is believed at once, a longer one slowly, because only the longer can be an accident.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def is_quick(self, size_bytes: int) -> bool:
        """Tell whether a run may stay on the event loop; a size never seen may not."""
        return self._seconds.get(size_bytes.bit_length(), INLINE_LIMIT_S) < INLINE_LIMIT_S

    def note(self, size_bytes: int, seconds: float) -> None:
        """Learn from a run."""
        size = size_bytes.bit_length()
        known = self._seconds.get(size, seconds)
        slower = known + _SLOW_WEIGHT * (seconds - known)
        self._seconds[size] = min(seconds, slower)


@dataclass(slots=True)
class Feed:
    """A checked request: what the engine gets."""

    inputs: Tensors
    outputs: tuple[str, ...]
    size_bytes: int


class Lane:
    """One serving model with what the hot path would otherwise work out per request."""

    def __init__(self, serving: ServingModel, counters: RevisionMetrics) -> None:
        metadata = serving.model.metadata
        self.serving = serving
        self.counters = counters
        self.pace = Pace()
        self._inputs = {spec.name: spec for spec in metadata.inputs}
        self._outputs = {spec.name: spec.datatype for spec in metadata.outputs}
        self._all_outputs = tuple(self._outputs)

    def check(self, request: InferRequest) -> Feed:
        """Return what the engine gets.

        Raises:
            InvalidRequest: names, datatypes or shapes are not those of the metadata.
        """
        arrays: dict[str, Array] = {}
        size = 0
        for tensor in request.inputs:
            array = tensor.array
            _check_input(tensor, self._inputs.get(tensor.name), arrays)
            arrays[tensor.name] = array
            size += array.nbytes
        if len(arrays) != len(self._inputs):
            missing = ", ".join(f"'{name}'" for name in self._inputs if name not in arrays)
            raise InvalidRequest(f"input {missing} is missing")
        return Feed(arrays, self._wanted_outputs(request.outputs), size)

    def run(self, feed: Feed) -> Tensors:
        """Run the model and learn its pace."""
        began = time.perf_counter()
        results = self.serving.model.infer(feed.inputs, feed.outputs)
        self.pace.note(feed.size_bytes, time.perf_counter() - began)
        return results

    def run_now(self, request: InferRequest) -> InferResponse | None:
        """Answer here when the model is known to be quick, and count it; None: it is not.

        Its pace is that of the whole request, because all of it keeps the loop from others.
        """
        feed = self.check(request)
        if not self.pace.is_quick(feed.size_bytes):
            return None
        results = self.serving.model.infer(feed.inputs, feed.outputs)
        seconds = time.perf_counter() - request.received
        self.pace.note(feed.size_bytes, seconds)
        self.counters.succeed(seconds)
        return self.answer(request, results)

    def answer(self, request: InferRequest, results: Tensors) -> InferResponse:
        """Build the answer; name, version and revision are those of the model that ran."""
        served = self.serving.served
        tensors = [Tensor(name, self._outputs[name], array) for name, array in results.items()]
        return InferResponse(request.model, served.version, served.revision, request.id, tensors)

    def _wanted_outputs(self, names: tuple[str, ...] | None) -> tuple[str, ...]:
        if names is None:
            return self._all_outputs
        for name in names:
            if name not in self._outputs:
                known = ", ".join(self._all_outputs)
                raise InvalidRequest(f"unknown output '{name[:64]}'; the model has {known}")
        return tuple(dict.fromkeys(names))


class Dataplane:
    """Answers for the one model of this pod. Lives on one event loop."""

    def __init__(
        self, name: str, registry: Registry, metrics: Metrics, *, workers: int, queue_limit: int
    ) -> None:
        self._name = name
        self._registry = registry
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="infer")
        self._queue_limit = queue_limit
        self._queued = 0
        self._queue_lock = Lock()
        self._lane: Lane | None = None
        self._is_draining = False

    def drain(self) -> None:
        """Say not ready from now on; requests are still answered."""
        self._is_draining = True

    def close(self) -> None:
        """Give up runs that have not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def name(self) -> str:
        """Name of the one model."""
        return self._name

    @property
    def is_draining(self) -> bool:
        """Whether the process is about to stop."""
        return self._is_draining

    def is_ready(self) -> bool:
        """Tell whether new requests should come here."""
        return self._registry.current is not None and not self._is_draining

    def server_info(self) -> ServerInfo:
        """Name the server and what it can do beyond the protocol's core."""
        return ServerInfo(SERVER_NAME, __version__, EXTENSIONS)

    def require_ready(self, name: str, version: str | None) -> None:
        """Return when the model serves.

        Raises:
            NotFound: no such model or version.
            NotReady: nothing serves.
        """
        self._serving(name, version)

    def model_info(self, name: str, version: str | None) -> ModelInfo:
        """Describe the serving model.

        Raises:
            NotFound, NotReady: as `require_ready`.
        """
        serving = self._serving(name, version)
        served, metadata = serving.served, serving.model.metadata
        inputs, outputs = _infos(metadata)
        return ModelInfo(
            self._name, served.version, served.revision, metadata.platform, inputs, outputs
        )

    def statistics(self, name: str, version: str | None) -> ModelStatistics:
        """Return the counts of the serving revision.

        Raises:
            NotFound, NotReady: as `require_ready`.
        """
        served = self._serving(name, version).served
        total, _ = self._metrics.of(served.revision).snapshot()
        failures = sum(total.failures.values())
        return ModelStatistics(
            self._name,
            served.version,
            successes=total.requests - failures,
            success_ns=round(total.sum_ms * 1e6),
            failures=failures,
        )

    def repository_index(self) -> tuple[IndexEntry, ...]:
        """List the one model, or say that it is not there yet."""
        serving = self._registry.current
        if serving is None:
            return (IndexEntry(self._name, "", "UNAVAILABLE", "no model is serving yet"),)
        return (IndexEntry(self._name, serving.served.version, "READY", ""),)

    def reject(self) -> None:
        """Count a request that an adapter could not even read."""
        serving = self._registry.current
        if serving is not None:
            self._metrics.of(serving.served.revision).reject()

    def infer_now(self, request: InferRequest) -> InferResponse | None:
        """Run one inference here when it is known to be quick, and count it; None: use `infer`.

        Raises:
            As `infer`.
        """
        serving = self._lend()
        try:
            lane = self._lane_of(serving)
            self._check_name(request.model, request.version, serving)
            return lane.run_now(request)
        except Exception as error:  # noqa: BLE001 sorted in one place
            raise self._failed(serving, error) from None
        finally:
            serving.users.leave()

    async def infer(self, request: InferRequest) -> InferResponse:
        """Run one inference on exactly one revision and count it there.

        Raises:
            InvalidRequest: the request does not fit the model's metadata.
            NotFound: no such model or version.
            NotReady: nothing serves.
            Overloaded: too many inferences wait.
            InferenceFailed: the model failed.
        """
        serving = self._lend()
        try:
            lane = self._lane_of(serving)
            self._check_name(request.model, request.version, serving)
            results = await self._run(lane, lane.check(request), request.received)
            lane.counters.succeed(time.perf_counter() - request.received)
            return lane.answer(request, results)
        except Exception as error:  # noqa: BLE001 sorted in one place
            raise self._failed(serving, error) from None
        finally:
            serving.users.leave()

    def _lend(self) -> ServingModel:
        try:
            return self._registry.lend()
        except NotReady:
            self._metrics.unserved += 1
            raise

    def _failed(self, serving: ServingModel, error: Exception) -> ServingError:
        """Count a failure; return what the client is told."""
        counters = self._metrics.of(serving.served.revision)
        if isinstance(error, InvalidRequest | NotFound):
            counters.reject()
            return error
        if isinstance(error, ServingError):
            counters.fail(type(error).__name__)
            return error
        counters.fail("Internal")
        _log.error("inference failed unexpectedly", exc_info=error)
        return InferenceFailed("internal error")

    async def _run(self, lane: Lane, feed: Feed, received: float) -> Tensors:
        """Run small models here and others in a thread.

        A thread goes on when its client has left, so it holds the model and counts on its own
        account: a revision too slow for its clients' patience must not look like one unused.
        """
        if lane.pace.is_quick(feed.size_bytes):
            return lane.run(feed)
        self._enter_queue()
        users = lane.serving.users
        users.enter_beside()

        def leave(_: Future[Tensors]) -> None:
            users.leave()
            self._leave_queue()

        try:
            future = self._pool.submit(lane.run, feed)
        except RuntimeError:  # the pool is closed, or the system has no thread left
            users.leave()
            self._leave_queue()
            raise
        future.add_done_callback(leave)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(partial(_count_late, lane.counters, received))
            raise

    def _enter_queue(self) -> None:
        with self._queue_lock:
            if self._queued >= self._queue_limit:
                raise Overloaded(f"{self._queue_limit} inferences are running or waiting")
            self._queued += 1

    def _leave_queue(self) -> None:
        with self._queue_lock:
            self._queued -= 1

    def _lane_of(self, serving: ServingModel) -> Lane:
        lane = self._lane
        if lane is None or lane.serving is not serving:
            lane = self._lane = Lane(serving, self._metrics.of(serving.served.revision))
        return lane

    def _serving(self, name: str, version: str | None) -> ServingModel:
        serving = self._registry.current
        self._check_name(name, version, serving)
        if serving is None:
            raise NotReady("no model is serving yet")
        return serving

    def _check_name(self, name: str, version: str | None, serving: ServingModel | None) -> None:
        """Raise NotFound unless the name is ours, and the version is the one that serves."""
        if name != self._name:
            raise NotFound(f"no model '{name[:64]}' here; this server has '{self._name}'")
        if version and serving is not None:
            served = serving.served
            if version not in (served.version, served.revision):
                raise NotFound(
                    f"version '{version[:64]}' does not serve here; '{served.version}' does"
                )


def _count_late(counters: RevisionMetrics, received: float, future: Future[Tensors]) -> None:
    """Count a run whose client has left; one that never began tells nothing of the model."""
    if future.cancelled():
        return
    match future.exception():
        case None:
            counters.succeed(time.perf_counter() - received)
        case InvalidRequest():
            counters.reject()
        case ServingError() as error:
            counters.fail(type(error).__name__)
        case _:
            counters.fail("Internal")


def _check_input(tensor: Tensor, spec: TensorSpec | None, seen: dict[str, Array]) -> None:
    """Raise InvalidRequest unless the tensor is the input that `spec` describes."""
    name = tensor.name[:64]
    if spec is None:
        raise InvalidRequest(f"unknown input '{name}'")
    if tensor.name in seen:
        raise InvalidRequest(f"input '{name}' is given twice")
    if tensor.datatype != spec.datatype or tensor.array.dtype != DTYPES[spec.datatype]:
        raise InvalidRequest(f"input '{name}' is {spec.datatype}, not {tensor.datatype}")
    if not _fits(tensor.array.shape, spec.shape):
        raise InvalidRequest(
            f"input '{name}' has shape {list(spec.shape)} (-1 is any), "
            f"not {list(tensor.array.shape)}"
        )


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Tell whether a shape is one that the metadata allows."""
    if shape == wanted:
        return True
    return len(shape) == len(wanted) and all(
        want in (-1, axis) for axis, want in zip(shape, wanted, strict=True)
    )


def _infos(metadata: ModelMetadata) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Return inputs and outputs in the protocol's types."""
    inputs = tuple(TensorInfo(s.name, s.datatype, s.shape) for s in metadata.inputs)
    outputs = tuple(TensorInfo(s.name, s.datatype, s.shape) for s in metadata.outputs)
    return inputs, outputs
