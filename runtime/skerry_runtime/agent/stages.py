"""The stages of bringing up a revision: each does its IO, and raises why it could not."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from skerry_runtime import __version__
from skerry_runtime.agent import exam as exams
from skerry_runtime.agent.contents import Contents, OpenedModel
from skerry_runtime.agent.goal import Blob, Goal, as_before
from skerry_runtime.agent.host import Host
from skerry_runtime.agent.needs import Needs
from skerry_runtime.agent.npz import BadArchive, read_npz
from skerry_runtime.agent.pace import DownloadPace, WindowShut
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.probe import ProbeAnswer, ProbeRequest, probe
from skerry_runtime.agent.refusal import Corrupt, Hung, Refused, Transient, Wedged
from skerry_runtime.agent.sample import samples
from skerry_runtime.agent.score import InvalidExam
from skerry_runtime.agent.site import SiteLink
from skerry_runtime.agent.slots import Slots
from skerry_runtime.agent.verify import Verifier, check_format
from skerry_runtime.agent.vouching import Notary, Vouched
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
    Remote,
    Sweepable,
)
from skerry_runtime.contract import (
    ExamResult,
    Execution,
    FailureReason,
    MemoryNeed,
    Trial,
    TrustPolicy,
    clipped,
)
from skerry_runtime.errors import ServingError

if TYPE_CHECKING:
    from skerry_runtime.agent.fetch import Fetcher

log = logging.getLogger(__name__)

ENGINES = ("onnxruntime", "onnxruntime-openvino", "onnxruntime-gpu")
"""Distributions that may bring the engine: a new one is probed again."""

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
        *sorted(f"{blob.path} {blob.sha256}" for blob in goal.blobs_beside),
        as_before(goal.execution),
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
    trust: TrustPolicy = field(default_factory=TrustPolicy)
    """Whose word counts here, as the assignment has it."""
    pace: DownloadPace = field(default_factory=DownloadPace)
    site: SiteLink = field(default_factory=SiteLink)
    hung: str = ""
    """Revision of the last load that was left behind."""

    @cached_property
    def needs(self) -> Needs:
        """What models need of memory."""
        return Needs(self.slots, self.host, self.tuning)

    async def fetch(self, goal: Goal, on_progress: OnProgress) -> None:
        """Bring every missing file of the goal into the slots.

        Raises:
            Refused, Transient: see `Fetcher.fetch`; a revision of several models.
        """
        _require_one_model(goal)
        fetcher = self._fetcher()
        done = 0
        for blob in self.slots.missing(goal):
            await self._fetch_one(fetcher, blob, goal.revision, _shifted(on_progress, done))
            done += self.slots.path(blob).stat().st_size

    def _fetcher(self) -> Fetcher:
        # Imported late: a pod that starts from its disk does not pay for the HTTP client.
        from skerry_runtime.agent.fetch import Fetcher  # noqa: PLC0415

        limit = self.tuning.slots_limit_bytes
        free_bytes = lambda: self.slots.free_bytes(limit)  # noqa: E731
        return Fetcher(self.tuning, self.worker, free_bytes, self.pace, self.site)

    async def _fetch_one(
        self, fetcher: Fetcher, blob: Blob, revision: str, on_progress: OnProgress
    ) -> None:
        """Fetch a file, in as many pieces as the download windows make of it."""
        from skerry_runtime.agent.fetch import Download  # noqa: PLC0415 (as above)

        target, part = self.slots.path(blob), self.slots.part(blob)
        download = Download(blob.uri, blob.sha256, part, target, blob.secret, revision)
        while not target.is_file():
            try:
                await fetcher.fetch(download, on_progress)
            except WindowShut:
                # The site's cache may get it meanwhile, from a unit that may fetch.
                await self.pace.opened(revision, self.tuning.site_shut_s)
        await self.worker.run(self.verifier.trust, target, blob.sha256)

    async def verify(self, goal: Goal) -> Vouched | None:
        """Check digests, format and signature of the files on disk; a damaged file is removed.

        Returns:
            Who vouches for them; None: nobody has to.

        Raises:
            Corrupt: a file has to be fetched again.
            Refused: InvalidModel; what `Notary.vouched` and `opened` raise.
            Transient: the signature cannot be had now.
        """
        _require_one_model(goal)
        await self.worker.run(self._check_files, goal)
        content = await self._opened(goal)
        await self.worker.run(check_format, content.path, goal.model.format)
        known = Vouched.of(self.slots.manifest(goal.revision))
        notary = Notary(self.slots, self.tuning, self.worker)
        return await notary.vouched(goal, content, self.trust, known)

    async def _opened(self, goal: Goal) -> OpenedModel:
        contents = Contents(self.slots, self.backend, self.host, self.tuning)
        return await self.worker.run(contents.of, goal)

    def _check_files(self, goal: Goal) -> None:
        for blob in goal.blobs:
            try:
                self.slots.check_place(blob)
                self.verifier.check_digest(self.slots.path(blob), blob.sha256)
            except Corrupt:
                self.slots.discard(blob)
                raise

    async def probe(self, goal: Goal, *, is_device_taken: bool) -> Trial:
        """Load the model in a child process.

        A device that the serving model holds cannot be opened twice. The child then uses the CPU,
        and a refusal to load says nothing about the device: only crashes and limits count.

        Raises:
            Refused, Transient: see `probe.probe`.
        """
        content = await self._opened(goal)
        try:
            request = self._probe_request(goal, content, is_stand_in=is_device_taken)
            found = _as_trial(await probe(request, self.host))
            return found.model_copy(update={"memory": None}) if is_device_taken else found
        finally:
            await self.sweep()

    def is_proven(self, goal: Goal) -> bool:
        """Tell whether these very files passed the probe in this pod, under this runtime."""
        manifest = self.slots.manifest(goal.revision)
        return bool(manifest and manifest.probed and manifest.probed == fingerprint(goal))

    @property
    def has_engine_beside(self) -> bool:
        """Tell whether the engine is another process, which a model may take down."""
        return isinstance(self.backend, Sweepable)

    async def sweep(self) -> None:
        """Take away what a killed probe, or an earlier life, left in an engine beside us."""
        if isinstance(self.backend, Sweepable):
            await self.worker.run(self.backend.sweep)

    def _probe_request(
        self, goal: Goal, content: OpenedModel, *, is_stand_in: bool
    ) -> ProbeRequest:
        golden = goal.golden_blob
        engine = type(self.backend)
        return ProbeRequest(
            backend=f"{engine.__module__}:{engine.__qualname__}",
            path=content.path.absolute(),
            memory_fd=content.memory.fd if content.memory else None,
            files=tuple(blob.path for blob in goal.blobs_beside),
            golden=self.slots.path(golden).absolute() if golden else None,
            metric=goal.model.golden.metric if goal.model.golden else None,
            format=goal.model.format,
            execution=Execution(profile=goal.execution.profile) if is_stand_in else goal.execution,
            threads=goal.model.threads or self.threads,
            input_shapes=goal.model.input_shapes,
            memory_bytes=self.needs.probe_limit(),
            timeout_s=max(self.tuning.probe_timeout_s, goal.load_timeout_s or 0.0),
            cpu_s=self.tuning.probe_cpu_s,
            is_stand_in=is_stand_in,
        )

    async def load(self, goal: Goal, *, is_known_good: bool) -> Model:
        """Open the model in this process.

        A call that is cancelled, or hangs, is left behind; the model that it may still bring is
        closed.

        Raises:
            Refused: ProviderMissing, LoadFailed or InsufficientMemory; Hung: it had no end.
            Wedged: it failed, and an earlier call still hangs.
            Transient: the engine's own process does not answer, or ended while it loaded a model
                that is known good.
        """
        await self.worker.wait_for_leftovers(self.tuning.leftover_s)
        is_beside_hung = self.worker.has_leftovers
        try:
            return await self._load(goal, is_known_good, is_beside_hung=is_beside_hung)
        except asyncio.CancelledError:
            self.hung = self.hung or goal.revision
            raise
        except Refused as err:
            if is_beside_hung:
                text = f"{goal.revision} failed beside a call that hangs: {err}"
                raise Wedged(text) from err
            self.hung = goal.revision if isinstance(err, Hung) else ""
            raise

    async def _load(self, goal: Goal, is_known_good: bool, *, is_beside_hung: bool) -> Model:
        limit_s = goal.load_timeout_s or self.tuning.load_timeout_s
        if is_beside_hung:
            limit_s = min(limit_s, self.tuning.beside_hung_s)
        content = await self._opened(goal)
        request = LoadRequest(
            path=content.path,
            memory=content.memory,
            format=goal.model.format,
            execution=goal.execution,
            threads=goal.model.threads or self.threads,
            input_shapes=goal.model.input_shapes,
        )
        try:
            return await self._open(request, limit_s)
        except Overdue as err:
            text = (
                f"the model was not open within {limit_s:g} s: where it needs longer, "
                "raise spec.runtime.loadTimeout"
            )
            raise Hung(FailureReason.LOAD_FAILED, text) from err
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

    async def _open(self, request: LoadRequest, limit_s: float) -> Model:
        with self.slots.deadman.watching(limit_s):
            return await self.worker.run_within(
                limit_s, lambda: self.backend.load(request), late=lambda model: model.close()
            )

    async def close(self, model: Model) -> None:
        """Close a model that will not serve; a driver that hangs in it is left behind."""
        with contextlib.suppress(Overdue):
            await self.worker.run_within(self.tuning.leftover_s, model.close)

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
    """Run once, so that the first client does not pay for it.

    The inputs are made up: that the engine refuses them is no verdict, but that it is gone is.
    """
    complaint: ServingError | None = None
    for questions in samples(model.metadata):
        try:
            model.infer(questions)
        except ServingError as err:
            complaint = complaint or err
        else:
            return
    if isinstance(model, Remote) and model.is_lost():
        text = f"the loaded model failed on its first input: {complaint}"
        raise Refused(FailureReason.LOAD_FAILED, text) from complaint
    log.info("the model was not warmed up: no made-up input fits it: %s", complaint)


def _as_trial(answer: ProbeAnswer) -> Trial:
    """Return what the child found, and log that it could not run the model."""
    if answer.not_tried:
        log.warning("not tried: the engine refused made-up inputs: %s", answer.not_tried)
    measured = answer.peak_bytes is not None
    memory = MemoryNeed(
        peak_bytes=answer.peak_bytes, resting_bytes=answer.resting_bytes, at=answer.at
    )
    return Trial(memory=memory if measured else None, not_tried=clipped(answer.not_tried, 256))
