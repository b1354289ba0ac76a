"""Loads a model in a child process first: what kills the child would have killed the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
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
from skerry_runtime.agent.ports import MIB
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.contract import Execution, FailureReason, Format

CHILD_MODULE = "skerry_runtime.agent.probe_child"
_MAX_ANSWER_BYTES = 64 * 1024
_WATCH_S = 0.05
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "ADSP_LIBRARY_PATH")
_ENVIRONMENT_PREFIXES = ("CUDA_", "NVIDIA_", "OPENVINO_", "HAILO", "OMP_", "SKERRY_TRITON_")


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProbeRequest(_Wire):
    """What the child must do."""

    backend: str
    """`module:Class` of the engine."""
    path: Path
    golden: Path | None = None
    format: Format
    execution: Execution
    threads: int
    input_shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    memory_bytes: int | None = None
    """Resident memory that the child may reach in all."""
    timeout_s: float
    cpu_s: int = 0
    """CPU time that the child may use in all; 0: the timeout, on every thread."""
    is_stand_in: bool = False
    """The CPU stands in for a device that is taken: only crashes and limits count."""


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


async def probe(request: ProbeRequest, host: Host) -> None:
    """Load and run the model once in a child; kill it at its limits, or when cancelled.

    Raises:
        Refused: InvalidModel, ProviderMissing, InsufficientMemory or ProbeFailed.
        Transient: the engine's own process does not answer.
    """
    judge(request, await _run(request, host))


def judge(request: ProbeRequest, end: _End) -> None:
    """Turn the child's end into a refusal, or into nothing.

    Raises:
        Refused: the model did not pass.
        Transient: it could not be tried.
    """
    if end.is_over_memory:
        raise Refused(FailureReason.INSUFFICIENT_MEMORY, _over_memory(request))
    if end.is_over_time:
        text = f"the probe did not end within {request.timeout_s:g} s"
        raise Refused(FailureReason.PROBE_FAILED, text)
    if end.returncode != 0:
        raise _crashed(request, end)
    answer = _parsed(end.answer)
    if answer.verdict is ProbeResult.OK or (
        request.is_stand_in and answer.verdict in _ENGINES_WORDS
    ):
        return
    if answer.verdict is ProbeResult.AWAY:
        raise Transient(answer.message, FailureReason.ENGINE_AWAY)
    message = _over_memory(request) if answer.verdict is ProbeResult.MEMORY else answer.message
    raise Refused(_REASONS[answer.verdict], message)


def _crashed(request: ProbeRequest, end: _End) -> Refused:
    if b"bad_alloc" in end.complaint or b"MemoryError" in end.complaint:
        return Refused(FailureReason.INSUFFICIENT_MEMORY, _over_memory(request))
    if end.returncode == -signal.SIGXCPU:
        return Refused(FailureReason.PROBE_FAILED, "the probe used up its CPU time")
    how = f"exit status {end.returncode}"
    if end.returncode < 0:
        how = f"signal {-end.returncode} ({_signal_name(-end.returncode)})"
    return Refused(
        FailureReason.PROBE_FAILED, f"the model crashed its probe: {how}; the server was not harmed"
    )


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return "unknown"


def _over_memory(request: ProbeRequest) -> str:
    limit = f"{(request.memory_bytes or 0) / MIB:.0f} MiB" if request.memory_bytes else "what is"
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
        start_new_session=True,
    )
    talk = asyncio.create_task(_converse(child, request))
    try:
        return await _watch(child, request, host, talk)
    finally:
        _kill(child)
        talk.cancel()
        await asyncio.wait({talk})
        await child.wait()


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
            await asyncio.wait({talk}, timeout=5.0)
            break
    answer, complaint = talk.result() if talk.done() else (b"", b"")
    returncode = await child.wait()
    return _End(returncode, answer, complaint, over_memory, over_time)


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
