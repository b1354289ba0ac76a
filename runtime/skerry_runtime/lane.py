"""One serving model on the hot path: what can be worked out before a request comes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from skerry_runtime.backends.base import Model, Stateful, Tensors, TensorSpec
from skerry_runtime.batching import Batcher, BatchingDecision, Feed, Waits
from skerry_runtime.contract import Batching, BatchingMode
from skerry_runtime.errors import InvalidRequest, ServingError
from skerry_runtime.metrics import RevisionMetrics
from skerry_runtime.protocol.tensors import DTYPES, Array
from skerry_runtime.protocol.types import InferRequest, InferResponse, Tensor
from skerry_runtime.registry import ServingModel
from skerry_runtime.sequences import SequenceBounds, Sequences

INLINE_LIMIT_S = 0.0002
"""Runs expected to be shorter stay on the event loop: the hop to a thread would cost more."""

MAX_TRIALS = 10
"""Requests with which a decision on batching is tried before it stays as it is."""

_SLOW_WEIGHT = 0.1  # one run disturbed by a neighbour must not exile a small model to threads


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


class Lane:
    """One serving model with what the hot path would otherwise work out per request."""

    def __init__(
        self,
        serving: ServingModel,
        counters: RevisionMetrics,
        bounds: SequenceBounds | None = None,
    ) -> None:
        metadata, served = serving.model.metadata, serving.served
        self.serving = serving
        self._version, self._revision = served.version, served.revision
        self.counters = counters
        self.pace = Pace()
        self._waits = Waits()
        self.batcher: Batcher | None = None
        self.decision: BatchingDecision | None = None
        self.untried = _wanted(serving.batching)
        """Batching that was asked for and not decided on yet."""
        self._trials = 0
        self.sequences = _sequences(serving.model, bounds or SequenceBounds())
        self._never_inline = self.untried is not None or self.sequences is not None
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

    def decide(self, decision: BatchingDecision, batcher: Batcher | None) -> bool:
        """Batch from now on, or never, or let the next request tell; return whether it is final."""
        self.decision, self.batcher = decision, batcher
        self._trials += 1
        if not decision.is_final and self._trials < MAX_TRIALS:
            self.untried = _wanted(self.serving.batching)
            return False
        self._never_inline = batcher is not None or self.sequences is not None
        return True

    def run(self, feed: Feed, received: float) -> Tensors:
        """Run the model in a thread, and learn its pace."""
        began = time.perf_counter()
        self._waits.add(began - received)
        results = self.infer(feed.inputs, feed.outputs)
        self.pace.note(feed.size_bytes, time.perf_counter() - began)
        return results

    def run_step(self, state: Model, feed: Feed, received: float) -> Tensors:
        """Run a request of a sequence on its state; no shadow could follow it."""
        self._waits.add(time.perf_counter() - received)
        return state.infer(feed.inputs, feed.outputs)

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        """Run the model; what is on trial beside it may see the answer."""
        shadow = self.serving.shadow
        if shadow is None:
            return self.serving.model.infer(inputs, outputs)
        try:
            results = self.serving.model.infer(inputs, outputs)
        except ServingError:
            shadow.offer_failed(inputs, outputs)
            raise
        shadow.offer(inputs, results)
        return results

    def run_now(self, request: InferRequest) -> InferResponse | None:
        """Answer here when the model is known to be quick, and count it; None: it is not.

        Its pace is that of the whole request, because all of it keeps the loop from others.
        """
        feed = self.check(request)
        if self._never_inline or not self.pace.is_quick(feed.size_bytes):
            return None
        results = self.infer(feed.inputs, feed.outputs)
        seconds = time.perf_counter() - request.received
        self.pace.note(feed.size_bytes, seconds)
        self.counters.succeed(seconds)
        return self.answer(request, results)

    @property
    def executions_saved(self) -> int:
        """Inferences less runs of the engine."""
        return self.batcher.saved if self.batcher else 0

    @property
    def waits(self) -> tuple[int, float]:
        """How many requests waited for a thread, and how many seconds together."""
        batched = self.batcher.waits if self.batcher else Waits()
        return self._waits.count + batched.count, self._waits.seconds + batched.seconds

    def answer(self, request: InferRequest, results: Tensors) -> InferResponse:
        """Build the answer; name, version and revision are those of the model that ran."""
        tensors = [Tensor(name, self._outputs[name], array) for name, array in results.items()]
        return InferResponse(request.model, self._version, self._revision, request.id, tensors)

    def _wanted_outputs(self, names: tuple[str, ...] | None) -> tuple[str, ...]:
        if names is None:
            return self._all_outputs
        for name in names:
            if name not in self._outputs:
                known = ", ".join(self._all_outputs)
                raise InvalidRequest(f"unknown output '{name[:64]}'; the model has {known}")
        return tuple(dict.fromkeys(names))


def _sequences(model: Model, bounds: SequenceBounds) -> Sequences | None:
    """Return where the states of a model's sequences are kept; None: it has no state."""
    if not isinstance(model, Stateful):
        return None
    return Sequences(model.begin, bounds, time.monotonic)


def _wanted(batching: Batching | None) -> Batching | None:
    """Return the batching that was asked for; a mode of a newer version is none."""
    is_known = batching is not None and batching.mode in (BatchingMode.AUTO, BatchingMode.ON)
    return batching if is_known else None


def _check_input(tensor: Tensor, spec: TensorSpec | None, seen: dict[str, Array]) -> None:
    """Raise InvalidRequest unless the tensor is the input that `spec` describes."""
    name = tensor.name[:64]
    if spec is None:
        raise InvalidRequest(f"unknown input '{name}'")
    if tensor.name in seen:
        raise InvalidRequest(f"input '{name}' is given twice")
    if tensor.datatype != spec.datatype or tensor.array.dtype != DTYPES[spec.datatype]:
        raise InvalidRequest(f"input '{name}' is {spec.datatype}, not {tensor.datatype}")
    if not _fits(tensor.array.shape, spec.shape) and not spec.any_shape:
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
