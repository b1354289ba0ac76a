"""The protocol's verbs, free of any transport: what REST and gRPC both call."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from threading import Lock

from skerry_runtime import __version__
from skerry_runtime.backends.base import ModelMetadata, Tensors
from skerry_runtime.batching import Batcher, BatchingDecision, Feed, decide, kept
from skerry_runtime.contract import Batching
from skerry_runtime.errors import (
    InferenceFailed,
    InvalidRequest,
    NotReady,
    Overloaded,
    ServingError,
    UnknownModel,
)
from skerry_runtime.lane import Lane
from skerry_runtime.metrics import Metrics, RevisionMetrics
from skerry_runtime.protocol.tensors import MAX_TENSORS
from skerry_runtime.protocol.types import (
    BatchInfo,
    BatchingInfo,
    IndexEntry,
    InferRequest,
    InferResponse,
    ModelInfo,
    ModelStatistics,
    ServerInfo,
    TensorInfo,
)
from skerry_runtime.registry import Registry, ServingModel
from skerry_runtime.sequences import SequenceBounds

SERVER_NAME = "skerry"
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "sequence",
    "statistics",
)

_log = logging.getLogger(__name__)


class Dataplane:
    """Answers for the one model of this pod. Lives on one event loop."""

    def __init__(
        self,
        name: str,
        registry: Registry,
        metrics: Metrics,
        *,
        workers: int,
        queue_limit: int,
        sequences: SequenceBounds | None = None,
    ) -> None:
        self._name = name
        self._registry = registry
        self._metrics = metrics
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="infer")
        self._queue_limit = queue_limit
        self._sequence_bounds = sequences
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
        """Name of the one model: that which serves, else the one that is expected."""
        return self._name_of(self._registry.current)

    def _name_of(self, serving: ServingModel | None) -> str:
        return serving.name if serving else self._registry.expected or self._name

    @property
    def is_draining(self) -> bool:
        """Whether the process is about to stop."""
        return self._is_draining

    @property
    def pending(self) -> int:
        """Inferences that run in threads or wait for one."""
        return self._queued

    def model_tensors(self) -> int:
        """Return how many inputs or outputs the serving model has, whichever are more."""
        serving = self._registry.current
        if serving is None:
            return 0
        metadata = serving.model.metadata
        return min(MAX_TENSORS, max(len(metadata.inputs), len(metadata.outputs)))

    def is_ready(self) -> bool:
        """Tell whether new requests should come here."""
        return self._registry.current is not None and not self._is_draining

    def server_info(self) -> ServerInfo:
        """Name the server and what it can do beyond the protocol's core."""
        return ServerInfo(SERVER_NAME, __version__, EXTENSIONS)

    def require_ready(self, name: str, version: str | None) -> None:
        """Return when the model serves.

        Raises:
            UnknownModel: no such model or version.
            NotReady: nothing serves.
        """
        self._serving(name, version)

    def model_info(self, name: str, version: str | None) -> ModelInfo:
        """Describe the serving model.

        Raises:
            UnknownModel, NotReady: as `require_ready`.
        """
        serving = self._serving(name, version)
        served, metadata = serving.served, serving.model.metadata
        inputs, outputs = _infos(metadata)
        return ModelInfo(
            serving.name, served.version, served.revision, metadata.platform, inputs, outputs
        )

    def statistics(self, name: str, version: str | None) -> ModelStatistics:
        """Return the counts of the serving revision.

        Raises:
            UnknownModel, NotReady: as `require_ready`.
        """
        serving = self._serving(name, version)
        lane, served = self._lane_of(serving), serving.served
        total, _ = lane.counters.snapshot()
        failures = sum(total.failures.values())
        waits, wait_s = lane.waits
        return ModelStatistics(
            serving.name,
            version or _as_number(served.version),
            served.version,
            lane.counters.last_request_s(),
            successes=total.requests - failures,
            success_ns=round(total.sum_ms * 1e6),
            failures=failures,
            runs=total.requests - failures - lane.executions_saved,
            waits=waits,
            wait_ns=round(wait_s * 1e9),
            batches=tuple(BatchInfo(*count) for count in lane.batcher.counts())
            if lane.batcher
            else (),
            batching=_batching_info(serving.batching, lane.decision),
        )

    def repository_index(self) -> tuple[IndexEntry, ...]:
        """List the one model, or say that it is not there yet."""
        serving = self._registry.current
        if serving is None:
            return (IndexEntry(self.name, "", "UNAVAILABLE", "no model is serving yet"),)
        return (IndexEntry(serving.name, serving.served.version, "READY", ""),)

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
        """Run one inference on exactly one revision, here when it is quick, and count it there.

        Raises:
            InvalidRequest: the request does not fit the model's metadata.
            UnknownModel: no such model or version.
            NotReady: nothing serves.
            Overloaded: too many inferences wait.
            InferenceFailed: the model failed.
        """
        serving = self._lend()
        try:
            lane = self._lane_of(serving)
            self._check_name(request.model, request.version, serving)
            response = lane.run_now(request)
            if response is not None:
                return response
            results = await self._run(lane, lane.check(request), request)
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
        if isinstance(error, InvalidRequest | UnknownModel):
            counters.reject()
            return error
        if isinstance(error, ServingError):
            counters.fail(type(error).__name__)
            return error
        counters.fail("Internal")
        _log.error("inference failed unexpectedly", exc_info=error)
        return InferenceFailed("internal error")

    async def _run(self, lane: Lane, feed: Feed, request: InferRequest) -> Tensors:
        """Run in a thread: alone, in a batch, or on the state of its sequence."""
        received = request.received
        if lane.sequences is None or request.sequence is None:
            return await self._run_in_thread(
                lane, received, partial(self._submit, lane, feed, received)
            )
        async with lane.sequences.turn(request.sequence) as state:
            run = partial(self._pool.submit, lane.run_step, state, feed, received)
            return await self._run_in_thread(lane, received, run)

    async def _run_in_thread(
        self, lane: Lane, received: float, submit: Callable[[], Future[Tensors]]
    ) -> Tensors:
        """Wait for a run that `submit` begins.

        A thread goes on when its client has left, so it holds the model and counts on its own
        account: a revision too slow for its clients' patience must not look like one unused.
        """
        self._enter_queue()
        users = lane.serving.users
        users.enter_beside()

        def leave(_: Future[Tensors]) -> None:
            users.leave()
            self._leave_queue()

        try:
            future = submit()
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

    def _submit(self, lane: Lane, feed: Feed, received: float) -> Future[Tensors]:
        if lane.untried is not None:
            self._try_batching(lane, lane.untried, feed)
        if lane.batcher is not None:
            return lane.batcher.submit(feed, received)
        return self._pool.submit(lane.run, feed, received)

    def _try_batching(self, lane: Lane, batching: Batching, feed: Feed) -> None:
        """Find out in a thread whether batching pays; requests meanwhile run alone."""
        lane.untried = None
        loop = asyncio.get_running_loop()
        trial = self._pool.submit(decide, batching, lane.serving.model, kept(feed))
        lane.serving.users.enter_beside()

        def end(_: Future[BatchingDecision]) -> None:
            lane.serving.users.leave()
            with suppress(RuntimeError):  # the loop is closed: nobody waits for the decision
                loop.call_soon_threadsafe(self._end_trial, lane, batching, trial)

        trial.add_done_callback(end)

    def _end_trial(self, lane: Lane, batching: Batching, trial: Future[BatchingDecision]) -> None:
        if trial.cancelled():
            return
        error = trial.exception()
        decision = (
            BatchingDecision(False, f"the trial failed: {error}") if error else trial.result()
        )
        batcher = Batcher(lane, batching, self._pool, self._workers) if decision.is_on else None
        if lane.decide(decision, batcher):
            _log_decision(batching, decision)

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
            counters = self._metrics.of(serving.served.revision)
            lane = self._lane = Lane(serving, counters, self._sequence_bounds)
        return lane

    def _serving(self, name: str, version: str | None) -> ServingModel:
        serving = self._registry.current
        self._check_name(name, version, serving)
        if serving is None:
            raise NotReady("no model is serving yet")
        return serving

    def _check_name(self, name: str, version: str | None, serving: ServingModel | None) -> None:
        """Raise UnknownModel unless the name is ours, and the version is the one that serves."""
        known = self._name_of(serving)
        if name != known:
            raise UnknownModel(f"no model '{name[:64]}' here; this server has '{known}'")
        if version and serving is not None:
            served = serving.served
            if version not in (served.version, served.revision):
                raise UnknownModel(
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


def _log_decision(batching: Batching, decision: BatchingDecision) -> None:
    info = asdict(_batching_info(batching, decision))
    state = "on" if decision.is_on else "off"
    level = logging.WARNING if decision.warning else logging.INFO
    _log.log(level, "batching is %s: %s", state, decision.reason, extra={"batching": info})


def _batching_info(asked: Batching | None, decision: BatchingDecision | None) -> BatchingInfo:
    """Describe whether requests are batched, with the figures that decided."""
    if asked is None or decision is None:
        reason = "not asked for" if asked is None else "not decided yet: no request has come"
        return BatchingInfo(False, asked.mode.value if asked else "Off", reason)
    figures = decision.figures
    return BatchingInfo(
        decision.is_on,
        asked.mode.value,
        decision.reason,
        round(figures.alone_s * 1e6, 1) if figures else None,
        round(figures.batched_s * 1e6, 1) if figures else None,
    )


def _as_number(version: str) -> str:
    """Return a version as Triton has them: decimal; any other is the first."""
    return version if re.fullmatch(r"0|[1-9][0-9]{0,17}", version) else "1"


def _infos(metadata: ModelMetadata) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Return inputs and outputs in the protocol's types."""
    inputs, outputs = (
        tuple(TensorInfo(s.name, s.datatype, s.shape, s.any_shape) for s in specs)
        for specs in (metadata.inputs, metadata.outputs)
    )
    return inputs, outputs
