"""The stages of bringing up a revision: each does its IO, and raises why it could not."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from skerry_runtime import __version__
from skerry_runtime.agent import exam as exams
from skerry_runtime.agent.goal import Blob, Goal
from skerry_runtime.agent.host import Host
from skerry_runtime.agent.memory import Room
from skerry_runtime.agent.npz import BadArchive, read_npz
from skerry_runtime.agent.ports import MIB, Tuning
from skerry_runtime.agent.probe import ProbeRequest, probe
from skerry_runtime.agent.refusal import Corrupt, Refused, Transient
from skerry_runtime.agent.sample import is_guess, zeros
from skerry_runtime.agent.score import InvalidExam
from skerry_runtime.agent.slots import Slots
from skerry_runtime.agent.verify import Verifier, check_format
from skerry_runtime.agent.worker import Overdue, Worker
from skerry_runtime.backends.base import (
    Backend,
    EngineAway,
    EngineDied,
    Interruptible,
    LoadError,
    LoadRequest,
    Model,
    ProviderMissing,
    Sweepable,
)
from skerry_runtime.contract import ExamResult, Execution, FailureReason
from skerry_runtime.errors import ServingError

if TYPE_CHECKING:
    from skerry_runtime.agent.fetch import Fetcher

LOADED_OVERHEAD_BYTES = 30 * MIB
PROBE_OVERHEAD_BYTES = 96 * MIB
"""What the child needs before it loads anything: interpreter, numpy, engine."""

ENGINES = ("onnxruntime", "onnxruntime-openvino", "onnxruntime-gpu")
"""Distributions that may bring the engine: a new one is probed again."""

_UNBOUNDED = 1 << 62
"""Stands for memory that nothing limits."""

OnProgress = Callable[[int, int | None], None]


@cache
def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0"


def fingerprint(goal: Goal) -> str:
    """Return what a passed probe was passed with: runtime, engine, files and providers."""
    golden = goal.golden_blob
    facts = [
        __version__,
        *(_version(distribution) for distribution in ENGINES),
        goal.sha256,
        golden.sha256 if golden else "",
        goal.execution.model_dump(mode="json"),
        sorted(goal.model.input_shapes.items()),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass
class Stages:
    """Everything between an assignment and a model that may answer, short of the switch."""

    slots: Slots
    backend: Backend
    worker: Worker
    tuning: Tuning
    threads: int
    host: Host = field(default_factory=Host)
    verifier: Verifier = field(default_factory=Verifier)

    async def fetch(self, goal: Goal, on_progress: OnProgress) -> None:
        """Bring every missing file of the goal into the slots.

        Raises:
            Refused, Transient: see `Fetcher.fetch`; a revision of several models.
        """
        _require_one_model(goal)
        fetcher = self._fetcher()
        done = 0
        for blob in self.slots.missing(goal):
            await self._fetch_one(fetcher, blob, _shifted(on_progress, done))
            done += self.slots.path(blob).stat().st_size

    def _fetcher(self) -> Fetcher:
        # Imported late: a pod that starts from its disk does not pay for the HTTP client.
        from skerry_runtime.agent.fetch import Fetcher  # noqa: PLC0415

        limit = self.tuning.slots_limit_bytes
        return Fetcher(self.tuning, self.worker, lambda: self.slots.free_bytes(limit))

    async def _fetch_one(self, fetcher: Fetcher, blob: Blob, on_progress: OnProgress) -> None:
        from skerry_runtime.agent.fetch import Download  # noqa: PLC0415 (as above)

        target = self.slots.path(blob)
        download = Download(blob.uri, blob.sha256, self.slots.part(blob), target)
        await fetcher.fetch(download, on_progress)
        await self.worker.run(self.verifier.trust, target, blob.sha256)

    async def verify(self, goal: Goal) -> None:
        """Check digests and format of the files on disk; a damaged file is removed.

        Raises:
            Corrupt: a file has to be fetched again.
            Refused: InvalidModel.
        """
        _require_one_model(goal)
        await self.worker.run(self._verify, goal)

    def _verify(self, goal: Goal) -> None:
        for blob in goal.blobs:
            try:
                self.verifier.check_digest(self.slots.path(blob), blob.sha256)
            except Corrupt:
                self.slots.discard(blob)
                raise
        check_format(self.slots.path(goal.model_blob), goal.model.format)

    def room(self, goal: Goal, serving: Goal | None, *, with_probe: bool) -> Room:
        """Return the memory that the goal needs and that there is."""
        available = self.host.available_bytes()
        overhead = PROBE_OVERHEAD_BYTES if with_probe else 0
        return Room(
            needed=self._needed_bytes(goal) + overhead,
            available=_UNBOUNDED if available is None else self._less_reserve(available),
            freed=self._needed_bytes(serving) if serving else 0,
        )

    def _needed_bytes(self, goal: Goal) -> int:
        """Return the declared need, else twice the file and what a session takes."""
        if goal.model.memory_bytes is not None:
            return goal.model.memory_bytes
        files = (self.slots.path(b) for b in goal.blobs if b.folder == goal.model_blob.folder)
        size = sum(path.stat().st_size for path in files if path.is_file())
        return 2 * size + LOADED_OVERHEAD_BYTES

    def _less_reserve(self, available: int) -> int:
        return max(0, available - self.tuning.memory_reserve_bytes)

    async def probe(self, goal: Goal, *, is_device_taken: bool) -> None:
        """Load the model in a child process.

        A device that the serving model holds cannot be opened twice. The child then uses the CPU,
        and a refusal to load says nothing about the device: only crashes and limits count.

        Raises:
            Refused, Transient: see `probe.probe`.
        """
        try:
            await probe(self._probe_request(goal, is_stand_in=is_device_taken), self.host)
        finally:
            await self.sweep()

    async def sweep(self) -> None:
        """Take away what a killed probe, or an earlier life, left in an engine beside us."""
        if isinstance(self.backend, Sweepable):
            await self.worker.run(self.backend.sweep)

    def _probe_request(self, goal: Goal, *, is_stand_in: bool) -> ProbeRequest:
        golden = goal.golden_blob
        engine = type(self.backend)
        return ProbeRequest(
            backend=f"{engine.__module__}:{engine.__qualname__}",
            path=self.slots.path(goal.model_blob).absolute(),
            golden=self.slots.path(golden).absolute() if golden else None,
            format=goal.model.format,
            execution=Execution(profile=goal.execution.profile) if is_stand_in else goal.execution,
            threads=goal.model.threads or self.threads,
            input_shapes=goal.model.input_shapes,
            memory_bytes=self._probe_limit(),
            timeout_s=self.tuning.probe_timeout_s,
            cpu_s=self.tuning.probe_cpu_s,
            is_stand_in=is_stand_in,
        )

    def _probe_limit(self) -> int | None:
        available = self.host.available_bytes()
        limits = [] if available is None else [self._less_reserve(available)]
        if self.tuning.probe_memory_bytes:
            limits.append(self.tuning.probe_memory_bytes)
        return min(limits, default=None)

    async def load(self, goal: Goal, *, is_known_good: bool) -> Model:
        """Open the model in this process.

        A call that is cancelled, or hangs, is left behind; the model that it may still bring is
        closed.

        Raises:
            Refused: ProviderMissing, LoadFailed or InsufficientMemory.
            Transient: the engine's own process does not answer, or ended while it loaded a model
                that is known good.
        """
        request = LoadRequest(
            path=self.slots.path(goal.model_blob),
            format=goal.model.format,
            execution=goal.execution,
            threads=goal.model.threads or self.threads,
            input_shapes=goal.model.input_shapes,
        )
        try:
            return await self._load(request)
        except Overdue as err:
            text = f"the model was not open within {self.tuning.load_timeout_s:g} s"
            raise Refused(FailureReason.LOAD_FAILED, text) from err
        except ProviderMissing as err:
            raise Refused(FailureReason.PROVIDER_MISSING, str(err)) from err
        except EngineAway as err:
            if isinstance(err, EngineDied) and not is_known_good:
                raise Refused(FailureReason.LOAD_FAILED, str(err)) from err
            raise Transient(str(err), FailureReason.ENGINE_AWAY) from err
        except LoadError as err:
            raise Refused(FailureReason.LOAD_FAILED, str(err)) from err
        except MemoryError as err:
            text = "the model did not fit into memory when it was loaded"
            raise Refused(FailureReason.INSUFFICIENT_MEMORY, text) from err

    async def _load(self, request: LoadRequest) -> Model:
        await self.worker.wait_for_leftovers(self.tuning.leftover_s)
        limit_s = self.tuning.load_timeout_s
        return await self.worker.run_within(
            limit_s, lambda: self.backend.load(request), late=lambda model: model.close()
        )

    async def examine(self, goal: Goal, model: Model) -> ExamResult | None:
        """Run the golden exam, or without one a single inference, which also warms up.

        Raises:
            Refused: ExamFailed, also for one that does not end; InvalidExam or LoadFailed.
        """
        limit_s = self.tuning.exam_timeout_s
        try:
            return await self.worker.run_within(limit_s, lambda: self._examine(goal, model))
        except asyncio.CancelledError:
            _interrupt(model)
            raise
        except Overdue as err:
            _interrupt(model)
            text = f"the exam did not end within {limit_s:g} s: use fewer samples, or a faster unit"
            raise Refused(FailureReason.EXAM_FAILED, text) from err

    def _examine(self, goal: Goal, model: Model) -> ExamResult | None:
        golden, blob = goal.model.golden, goal.golden_blob
        if golden is None or blob is None:
            _warm_up(model)
            return None
        try:
            exam = exams.prepare(golden, read_npz(self.slots.path(blob)), model.metadata)
            grade = exams.run(exam, model)
        except (InvalidExam, BadArchive) as err:
            raise Refused(FailureReason.INVALID_EXAM, str(err)) from err
        except ServingError as err:
            text = f"the model failed on the golden samples: {err}"
            raise Refused(FailureReason.EXAM_FAILED, text) from err
        if not grade.result.passed:
            raise Refused(FailureReason.EXAM_FAILED, grade.message, grade.result)
        return grade.result


def _require_one_model(goal: Goal) -> None:
    count = len(goal.content.models)
    if count > 1:
        text = f"the revision has {count} models, this runtime serves one: it needs a newer image"
        raise Refused(FailureReason.INVALID_MODEL, text)


def _shifted(on_progress: OnProgress, done: int) -> OnProgress:
    """Count the files before this one as well."""
    return lambda got, total: on_progress(done + got, None if total is None else done + total)


def _interrupt(model: Model) -> None:
    if isinstance(model, Interruptible):
        model.interrupt()


def _warm_up(model: Model) -> None:
    """Run once, so that the first client does not pay for it."""
    try:
        model.infer(zeros(model.metadata))
    except ServingError as err:
        if not is_guess(model.metadata):
            text = f"the loaded model failed on its first input: {err}"
            raise Refused(FailureReason.LOAD_FAILED, text) from err
