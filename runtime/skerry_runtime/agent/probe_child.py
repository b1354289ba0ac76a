"""The probe's child process: `python -m skerry_runtime.agent.probe_child`.

Reads a request on stdin, limits itself, loads the file, runs it once, writes a verdict on the
descriptor that was stdout. The model's own noise goes to stderr.
"""

from __future__ import annotations

import ctypes
import importlib
import mmap
import os
import resource
import signal
import sys
from pathlib import Path

from skerry_runtime.agent.exam import first_questions
from skerry_runtime.agent.files import open_plain
from skerry_runtime.agent.host import Host
from skerry_runtime.agent.npz import BadArchive, read_npz
from skerry_runtime.agent.onnxfile import NotOnnx, has_external_data
from skerry_runtime.agent.ports import MIB
from skerry_runtime.agent.probe import ProbeAnswer, ProbeRequest, ProbeResult
from skerry_runtime.agent.sample import Unservable, is_guess, require_servable, zeros
from skerry_runtime.agent.score import InvalidExam
from skerry_runtime.backends.base import (
    Backend,
    EngineAway,
    EngineDied,
    LoadError,
    LoadRequest,
    Model,
    ProviderMissing,
    Tensors,
)
from skerry_runtime.contract import Format
from skerry_runtime.errors import ServingError

_MAX_REQUEST_BYTES = 1024 * 1024
_MAX_WRITTEN_BYTES = 64 * MIB
_THREAD_STACKS_BYTES = 64 * MIB
_PR_SET_PDEATHSIG = 1
_MEMORY_WORDS = ("bad_alloc", "failed to allocate", "bad allocation", "out of memory")


def main() -> None:
    """Answer one request."""
    answer_fd = _take_stdout()
    request = ProbeRequest.model_validate_json(sys.stdin.buffer.read(_MAX_REQUEST_BYTES))
    _bind_to_parent()
    backend = _engine(request.backend)
    _limit(request)
    answer = examine(request, backend)
    with os.fdopen(answer_fd, "w") as out:
        out.write(answer.model_dump_json())
    sys.stderr.flush()
    os._exit(0)  # an engine's destructors are no part of the question


def _take_stdout() -> int:
    """Keep stdout for the verdict, and lead everything else that is printed to stderr."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept


def _bind_to_parent() -> None:
    """End when the server ends, and be the first that the kernel kills for memory."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return  # a sandbox without it


def _engine(name: str) -> Backend:
    module, _, attribute = name.partition(":")
    engine: Backend = getattr(importlib.import_module(module), attribute)()
    return engine


def _limit(request: ProbeRequest) -> None:
    """Limit this process; called after the imports, which no model is to blame for."""
    cpu_s = request.cpu_s or max(1, round(request.timeout_s)) * max(1, request.threads)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_WRITTEN_BYTES, _MAX_WRITTEN_BYTES))
    if request.memory_bytes is not None:
        data = _data_limit(request.memory_bytes)
        resource.setrlimit(resource.RLIMIT_DATA, (data, data))


def _data_limit(memory_bytes: int) -> int:
    """Turn a limit of resident memory into one of private memory, which the kernel enforces.

    Address space is no measure: an engine reserves far more of it than it uses.
    """
    resident = Host().rss_bytes() or 0
    left = max(0, memory_bytes - resident)
    return _private_bytes() + left + _THREAD_STACKS_BYTES


def _private_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 0)


def examine(request: ProbeRequest, backend: Backend) -> ProbeAnswer:
    """Load the file and run it once."""
    try:
        if request.format is Format.ONNX and _is_external(request.path):
            text = "the model keeps tensors in another file: pack them into one"
            return ProbeAnswer(verdict=ProbeResult.EXTERNAL, message=text)
        model = backend.load(_load_request(request))
        try:
            require_servable(model.metadata)
            return _first_run(request, model)
        finally:
            model.close()  # an engine in another process would keep it
    except Exception as err:  # noqa: BLE001 whatever a file makes an engine raise is a verdict
        return _verdict_on(err)


def _verdict_on(err: Exception) -> ProbeAnswer:
    match err:
        case MemoryError():
            return ProbeAnswer(verdict=ProbeResult.MEMORY)
        case NotOnnx():
            return ProbeAnswer(verdict=ProbeResult.DAMAGED, message=str(err))
        case EngineAway():
            return _away(err)
        case ProviderMissing():
            return ProbeAnswer(verdict=ProbeResult.PROVIDER, message=str(err))
        case LoadError() | Unservable():
            return _failure(ProbeResult.LOAD, err)
        case _:
            text = f"the engine failed on the file with an unexpected {type(err).__name__}"
            return ProbeAnswer(verdict=ProbeResult.RUN, message=text)


def _away(err: EngineAway) -> ProbeAnswer:
    """Blame the file when its load was the engine's end, else nobody."""
    verdict = ProbeResult.RUN if isinstance(err, EngineDied) else ProbeResult.AWAY
    return ProbeAnswer(verdict=verdict, message=str(err))


def _is_external(path: Path) -> bool:
    with (
        open_plain(path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
    ):
        return has_external_data(content)


def _load_request(request: ProbeRequest) -> LoadRequest:
    return LoadRequest(
        request.path, request.format, request.execution, request.threads, request.input_shapes
    )


def _first_run(request: ProbeRequest, model: Model) -> ProbeAnswer:
    questions = _golden_questions(request, model)
    try:
        model.infer(zeros(model.metadata) if questions is None else questions)
    except ServingError as err:
        if questions is None and is_guess(model.metadata):
            return ProbeAnswer(verdict=ProbeResult.OK)  # our guess at the shape, not its fault
        return _failure(ProbeResult.RUN, err)
    return ProbeAnswer(verdict=ProbeResult.OK)


def _golden_questions(request: ProbeRequest, model: Model) -> Tensors | None:
    """Return the exam's first sample; a file that cannot be used is the exam's business."""
    if request.golden is None:
        return None
    try:
        return first_questions(read_npz(request.golden), model.metadata)
    except (BadArchive, InvalidExam):
        return None


def _failure(verdict: ProbeResult, err: Exception) -> ProbeAnswer:
    text = str(err)
    if any(words in text.lower() for words in _MEMORY_WORDS):
        return ProbeAnswer(verdict=ProbeResult.MEMORY)
    return ProbeAnswer(verdict=verdict, message=text[:1024])


if __name__ == "__main__":
    main()
