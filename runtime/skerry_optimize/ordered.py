"""One job of an EdgeModel, from its order to its verdict: look, fetch, make, examine, keep."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage
from typing import Any, TypeVar

from pydantic import ValidationError

from skerry_optimize.errors import BadPlan, StepRefused
from skerry_optimize.job import measured_origin, read_material, run_plan
from skerry_optimize.measure import cpu_name
from skerry_optimize.plan import OptimizePlan
from skerry_optimize.progress import Say
from skerry_optimize.report import JobPhase, JobReport
from skerry_optimize.store import store_of
from skerry_optimize.store.base import BuildFile, BuildStore
from skerry_optimize.verdicts import failed, note_of, read_note, verdict_of
from skerry_runtime.agent.fetch import Download, Fetcher
from skerry_runtime.agent.npz import Arrays, BadArchive, read_npz
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.agent.sources.keyring import read_keyring
from skerry_runtime.agent.worker import Worker
from skerry_runtime.contract import BuildOrder, BuildVerdict, OrderedFile

TRIES = 6
"""Of one request to a source or the store: what was trained is not lost for a moment's outage."""
ORIGIN, STUDENT, DATA, GOLDEN = "origin.onnx", "student.onnx", "data.npz", "golden.npz"
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_OUT_OF_DISK = "the disk ran full: raise optimize.resources.diskLimit"
_OUT_OF_MEMORY = "it needs more memory: raise optimize.resources.memoryLimit"

T = TypeVar("T")


@dataclass(frozen=True)
class Workplace:
    """Where a job works, and how it asks others."""

    folder: Path
    tuning: Tuning
    say: Say
    pause_s: float = 1.0
    """Before the second try of a request; each further one waits twice as long."""


def carry_out(order: BuildOrder, place: Workplace) -> BuildVerdict:
    """Return what becomes of an order.

    Raises:
        Transient: a source or the store may answer later: try again.
    """
    began = time.monotonic()
    try:
        return asyncio.run(_carry_out(order, place))
    except (BadPlan, StepRefused, Refused) as err:
        message = str(err)
    except MemoryError:
        message = _OUT_OF_MEMORY
    except OSError as err:
        if err.errno not in _DISK_FULL:
            raise
        message = _OUT_OF_DISK
    return failed(order, message, time.monotonic() - began)


async def _carry_out(order: BuildOrder, place: Workplace) -> BuildVerdict:
    _clear(place.folder)
    store = await _store(order, place)
    known = await _known(order, store, place)
    if known is not None:
        place.say("stored", phase=known.phase, message=known.message)
        return known
    files = await _fetched(order, place)
    plan = plan_of(order, files)
    report = await asyncio.to_thread(_made, plan, files, place)
    verdict = verdict_of(order, report, cpu_name(), await _kept(report, store, place))
    await _insistently(lambda: store.write_note(order.key, note_of(verdict, order)), place)
    place.say("noted", phase=verdict.phase)
    return verdict


def _clear(folder: Path) -> None:
    """Remove what a try before this one left: nothing of it is gone on with."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()


async def _store(order: BuildOrder, place: Workplace) -> BuildStore:
    secret = order.store.secret
    keyring = None if secret is None else read_keyring(place.tuning.sources_dir, secret)
    return store_of(order.store.uri, keyring, place.tuning)


async def _known(order: BuildOrder, store: BuildStore, place: Workplace) -> BuildVerdict | None:
    """Return what the store says that this very job came to; None: it was never done."""
    note = await _insistently(lambda: store.note(order.key), place)
    verdict = None if note is None else read_note(note, order)
    if verdict is None or verdict.build is None:
        return verdict
    uri = verdict.build.uri
    return verdict if await _insistently(lambda: store.holds(uri), place) else None


async def _fetched(order: BuildOrder, place: Workplace) -> Mapping[str, Path]:
    """Return the files of the order by name."""
    wanted: dict[str, OrderedFile | None] = {
        ORIGIN: order.origin,
        STUDENT: order.student,
        DATA: order.data,
        GOLDEN: order.golden,
    }
    worker = Worker("fetch")
    fetcher = Fetcher(place.tuning, worker, lambda: disk_usage(place.folder).free)
    found = {}
    try:
        for name, file in wanted.items():
            if file is not None:
                found[name] = await _fetch(fetcher, name, file, place)
    finally:
        worker.close()
    return found


async def _fetch(fetcher: Fetcher, name: str, file: OrderedFile, place: Workplace) -> Path:
    target = place.folder / name
    part = target.with_suffix(".part")
    download = Download(file.uri, file.sha256, part, target, file.secret)
    await _insistently(lambda: fetcher.fetch(download, lambda _got, _total: None), place)
    place.say("fetched", file=name, bytes=target.stat().st_size)
    return target


async def _insistently(ask: Callable[[], Awaitable[T]], place: Workplace) -> T:
    """Return an answer, asking several times if need be."""
    for number in range(1, TRIES):
        try:
            return await ask()
        except Transient as err:
            place.say("waiting", problem=str(err), tries=number)
            await asyncio.sleep(place.pause_s * 2 ** (number - 1))
    return await ask()


def plan_of(order: BuildOrder, files: Mapping[str, Path]) -> OptimizePlan:
    """Return the plan of one job over the files that were fetched.

    Raises:
        BadPlan: its steps are none that this version can do.
    """
    content: dict[str, Any] = {
        "jobs": [{"name": order.job, "steps": list(order.steps)}],
        "guards": dict(order.guards),
    }
    if DATA in files:
        content["data"] = {"file": str(files[DATA])}
    if GOLDEN in files and order.golden is not None:
        content["golden"] = {"file": str(files[GOLDEN]), "metric": str(order.golden.metric)}
    try:
        return OptimizePlan.model_validate(content)
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"][2:]) or "the job"
        raise BadPlan(f"{where}: {first['msg'].removeprefix('Value error, ')}") from err


def _made(plan: OptimizePlan, files: Mapping[str, Path], place: Workplace) -> JobReport:
    """Make the one build of a plan."""
    data, golden = (_arrays(files.get(name)) for name in (DATA, GOLDEN))
    students = {STUDENT: files[STUDENT]} if STUDENT in files else {}
    material = read_material(files[ORIGIN], data, golden, students)
    origin = measured_origin(plan, material)
    place.say("origin", accuracy=origin.accuracy, bytes=origin.size_bytes)
    report = next(iter(run_plan(plan, material, origin, place.folder)))
    figures = report.artifact.model_dump(by_alias=True) if report.artifact else {}
    place.say("made", phase=report.phase, message=report.message, **figures)
    return report


def _arrays(path: Path | None) -> Arrays | None:
    try:
        return None if path is None else read_npz(path)
    except BadArchive as err:
        raise BadPlan(f"{path.name if path else ''}: {err}") from err


async def _kept(report: JobReport, store: BuildStore, place: Workplace) -> str | None:
    """Put a build that is good enough into the store; return its address there."""
    if report.phase is not JobPhase.SUCCEEDED or report.artifact is None:
        return None
    path = place.folder / report.artifact.file
    file = BuildFile(path, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    uri = await _insistently(lambda: store.keep(file), place)
    place.say("kept", uri=uri, sha256=file.sha256)
    return uri
