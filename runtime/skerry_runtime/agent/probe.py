"""Loads a model in a child process first: what kills the child would have killed the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from skerry_runtime.agent.host import Host
from skerry_runtime.agent.refusal import OutOfRoom, Refused, Transient
from skerry_runtime.contract import (
    Execution,
    FailureReason,
    Format,
    GoldenMetric,
    Open,
    size_text,
)

log = logging.getLogger(__name__)

CHILD_MODULE = "skerry_runtime.agent.probe_child"
_MAX_ANSWER_BYTES = 64 * 1024
_WATCH_S = 0.05
_END_S = 5.0
"""How long a child that was killed is waited for."""
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "ADSP_LIBRARY_PATH")
_ENVIRONMENT_PREFIXES = ("CUDA_", "NVIDIA_", "OPENVINO_", "HAILO", "OMP_", "SKERRY_TRITON_")


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProbeRequest(_Wire):
    """What the child must do."""

    backend: str
    """`module:Class` of the engine."""
    path: Path
    files: tuple[str, ...] = ()
    """The model's other files, by their place in its folder."""
    golden: Path | None = None
    metric: Open[GoldenMetric] | None = None
    """Of the exam, whose questions depend on what its answers are held against."""
    format: Format
    execution: Execution
    threads: int
    input_shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    memory_bytes: int | None = None
    """Resident memory that the child may reach in all."""
    timeout_s: float
    cpu_s: int = 0
    """CPU time that the child may use in all; 0: the timeout, on every thread."""
    memory_fd: int | None = None
    """Descriptor of the model's file in memory, which the child is handed."""
    is_stand_in: bool = False
    """The CPU stands in for a device that is taken: only crashes and limits count."""


NEAR = 3
"""A model that had not a third of its memory, and then ran out of it, asked for far more at once
than unloading another could free."""


class ProbeResult(StrEnum):
    """What the child found."""

    OK = "ok"
    EXTERNAL = "external"  # tensors in another file
    DAMAGED = "damaged"  # not ONNX inside
    LOAD = "load"  # the engine refused the file
    PROVIDER = "provider"  # fallback forbidden, accelerator not got
    MEMORY = "memory"  # an allocation failed under the limit
    RUN = "run"  # loaded, but failed on its first input
    AWAY = "away"  # the engine's own process does not answer


class ProbeAnswer(_Wire):
    """The child's last words."""

    verdict: ProbeResult
    message: str = ""
    not_tried: str = ""
    """What the engine said to made-up inputs, all of which it refused."""
    peak_bytes: int | None = None
    """Most memory that loading and running took; None: not measured."""
    resting_bytes: int | None = None
    at: str = ""
    """Inputs of the run, by name and shape."""


@dataclass(frozen=True)
class _End:
    """How the child ended."""

    returncode: int
    answer: bytes
    complaint: bytes
    is_over_memory: bool = False
    is_over_time: bool = False


_REASONS = {
    ProbeResult.EXTERNAL: FailureReason.INVALID_MODEL,
    ProbeResult.DAMAGED: FailureReason.INVALID_MODEL,
    ProbeResult.LOAD: FailureReason.INVALID_MODEL,
    ProbeResult.PROVIDER: FailureReason.PROVIDER_MISSING,
    ProbeResult.MEMORY: FailureReason.INSUFFICIENT_MEMORY,
    ProbeResult.RUN: FailureReason.PROBE_FAILED,
}

_ENGINES_WORDS = frozenset({ProbeResult.LOAD, ProbeResult.PROVIDER, ProbeResult.RUN})
"""Verdicts that an engine on another device might not have given."""


async def probe(request: ProbeRequest, host: Host) -> ProbeAnswer:
    """Load and run the model once in a child; kill it at its limits, or when cancelled.

    Returns:
        What was measured, and why the model was not run where its inputs are unknown.

    Raises:
        Refused: InvalidModel, ProviderMissing, InsufficientMemory or ProbeFailed.
        Transient: the engine's own process does not answer.
    """
    return judge(request, await _run(request, host))


def judge(request: ProbeRequest, end: _End) -> ProbeAnswer:
    """Turn the child's end into a refusal, or into what it found.

    Raises:
        Refused: the model did not pass.
        Transient: it could not be tried.
    """
    if end.is_over_memory:
        raise OutOfRoom(_over_memory(request), is_near=True)
    if end.is_over_time:
        text = f"the probe did not end within {request.timeout_s:g} s"
        raise Refused(FailureReason.PROBE_FAILED, text)
    if end.returncode != 0:
        raise _crashed(request, end)
    answer = _parsed(end.answer)
    if answer.verdict is ProbeResult.OK or (
        request.is_stand_in and answer.verdict in _ENGINES_WORDS
    ):
        return ProbeAnswer(verdict=ProbeResult.OK) if request.is_stand_in else answer
    if answer.verdict is ProbeResult.AWAY:
        raise Transient(answer.message, FailureReason.ENGINE_AWAY)
    if answer.verdict is ProbeResult.MEMORY:
        raise OutOfRoom(_over_memory(request), is_near=_was_near(request, answer))
    raise Refused(_REASONS[answer.verdict], answer.message)


def _crashed(request: ProbeRequest, end: _End) -> Refused:
    if b"bad_alloc" in end.complaint or b"MemoryError" in end.complaint:
        return OutOfRoom(_over_memory(request), is_near=False)
    if end.returncode == -signal.SIGXCPU:
        return Refused(FailureReason.PROBE_FAILED, "the probe used up its CPU time")
    how = f"exit status {end.returncode}"
    if end.returncode < 0:
        how = f"signal {-end.returncode} ({_signal_name(-end.returncode)})"
    return Refused(
        FailureReason.PROBE_FAILED, f"the model crashed its probe: {how}; the server was not harmed"
    )


def _was_near(request: ProbeRequest, answer: ProbeAnswer) -> bool:
    """Tell whether the model had much of the memory when it ran out of it."""
    limit = request.memory_bytes
    return limit is not None and NEAR * (answer.peak_bytes or 0) >= limit


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return "unknown"


def _over_memory(request: ProbeRequest) -> str:
    limit = size_text(request.memory_bytes, digits=0) if request.memory_bytes else "what is"
    return f"the probe needed more memory than {limit} available to it: raise the memory limit"


def _parsed(answer: bytes) -> ProbeAnswer:
    try:
        return ProbeAnswer.model_validate(json.loads(answer))
    except (ValueError, ValidationError) as err:
        raise Refused(FailureReason.PROBE_FAILED, "the probe gave no verdict") from err


async def _run(request: ProbeRequest, host: Host) -> _End:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # never import from the working directory
        "-s",
        "-m",
        CHILD_MODULE,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=child_environment(os.environ),
        cwd="/",
        pass_fds=() if request.memory_fd is None else (request.memory_fd,),
        start_new_session=True,
    )
    talk = asyncio.create_task(_converse(child, request))
    try:
        return await _watch(child, request, host, talk)
    finally:
        _kill(child)
        talk.cancel()
        await asyncio.wait({talk})
        await _gone(child)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the child may see of the environment: how to find code and devices."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}


async def _watch(
    child: Process, request: ProbeRequest, host: Host, talk: asyncio.Task[tuple[bytes, bytes]]
) -> _End:
    """Wait for the end of the child; bring it about when it passes a limit."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + request.timeout_s
    over_memory = over_time = False
    while not talk.done():
        await asyncio.wait({talk}, timeout=min(_WATCH_S, max(0.0, deadline - loop.time())))
        if talk.done():
            break
        over_memory = over_memory or _is_over(host.rss_bytes(child.pid), request.memory_bytes)
        over_time = over_time or loop.time() >= deadline
        if over_memory or over_time:
            _kill(child)
            await asyncio.wait({talk}, timeout=_END_S)
            break
    answer, complaint = talk.result() if talk.done() else (b"", b"")
    return _End(await _gone(child), answer, complaint, over_memory, over_time)


async def _gone(child: Process) -> int:
    """Return how a child ended that has to end now; one that hangs in the kernel is left behind."""
    ending = asyncio.ensure_future(child.wait())
    done, _ = await asyncio.wait({ending}, timeout=_END_S)
    if done:
        return ending.result()
    log.error("the probe's child %s does not end although it was killed: a driver hangs", child.pid)
    ending.cancel()
    return -signal.SIGKILL


async def _converse(child: Process, request: ProbeRequest) -> tuple[bytes, bytes]:
    """Hand over the request; return the bounded answer and complaint."""
    stdin, stdout, stderr = child.stdin, child.stdout, child.stderr
    if stdin is None or stdout is None or stderr is None:
        raise RuntimeError("the probe has no pipes")
    with contextlib.suppress(ConnectionError):
        stdin.write(request.model_dump_json().encode())
        await stdin.drain()
    stdin.close()
    answer, complaint = await asyncio.gather(_bounded(stdout), _bounded(stderr))
    await child.wait()
    return answer, complaint


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    """Return the last bytes of a stream; the rest is read and dropped, so the child never waits."""
    kept = b""
    while chunk := await stream.read(_MAX_ANSWER_BYTES):
        kept = (kept + chunk)[-_MAX_ANSWER_BYTES:]
    return kept


def _is_over(rss_bytes: int | None, limit_bytes: int | None) -> bool:
    return rss_bytes is not None and limit_bytes is not None and rss_bytes > limit_bytes


def _kill(child: Process) -> None:
    """Kill the child and whatever it started; it leads its own process group."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
