"""The probe's child process: `python -m skerry_runtime.agent.probe_child`.

Reads a request on stdin, limits itself, loads the file, runs it once, writes a verdict on the
descriptor that was stdout. The model's own noise goes to stderr.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import mmap
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from skerry_runtime.agent.exam import largest_questions
from skerry_runtime.agent.files import open_plain
from skerry_runtime.agent.footprint import Footprint
from skerry_runtime.agent.hints import Hint, hints_of
from skerry_runtime.agent.host import Host
from skerry_runtime.agent.npz import BadArchive, read_npz
from skerry_runtime.agent.onnxfile import NotOnnx, external_locations
from skerry_runtime.agent.ports import MIB
from skerry_runtime.agent.probe import ProbeAnswer, ProbeRequest, ProbeResult
from skerry_runtime.agent.sample import Unservable, require_servable, samples
from skerry_runtime.agent.score import InvalidExam
from skerry_runtime.backends.base import (
    Backend,
    EngineAway,
    EngineDied,
    LoadError,
    LoadRequest,
    Model,
    ProviderMissing,
    Remote,
    Tensors,
)
from skerry_runtime.contract import Format
from skerry_runtime.errors import ServingError

_MAX_REQUEST_BYTES = 1024 * 1024
_MAX_WRITTEN_BYTES = 64 * MIB
_THREAD_STACKS_BYTES = 64 * MIB
_PR_SET_PDEATHSIG = 1
_MAX_NAMED = 3
_MEMORY_WORDS = (
    "bad_alloc",
    "failed to allocate",
    "bad allocation",
    "out of memory",
    "integer overflow",  # of a size
    "would require more than",
)


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
    footprint = Footprint()
    try:
        if request.format is Format.ONNX and (stray := _stray_locations(request)):
            return ProbeAnswer(verdict=ProbeResult.EXTERNAL, message=_where_to_list(stray))
        model = backend.load(_load_request(request))
        try:
            require_servable(model.metadata)
            answer = _first_run(request, model)
            return answer if isinstance(model, Remote) else _with_memory(answer, footprint)
        finally:
            model.close()  # an engine in another process would keep it
    except Exception as err:  # noqa: BLE001 whatever a file makes an engine raise is a verdict
        return _with_memory(_verdict_on(err), footprint)


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


def _stray_locations(request: ProbeRequest) -> list[str]:
    """Return the places outside the file that are none of the model's other files."""
    with (
        open_plain(request.path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
    ):
        return sorted(external_locations(content) - set(request.files))


def _where_to_list(stray: list[str]) -> str:
    """Name the first places, as they are, and what to do about them."""
    more = f" and {len(stray) - _MAX_NAMED} more" if len(stray) > _MAX_NAMED else ""
    named = ", ".join(repr(place)[:120] for place in stray[:_MAX_NAMED])
    return (
        f"the model keeps tensors in {named}{more}, which the spec does not list: name each file "
        "in source.files with this path, or pack them into one (onnx.save_model(..., "
        "save_as_external_data=False))"
    )


def _load_request(request: ProbeRequest) -> LoadRequest:
    return LoadRequest(
        request.path, request.format, request.execution, request.threads, request.input_shapes
    )


def _first_run(request: ProbeRequest, model: Model) -> ProbeAnswer:
    questions = _golden_questions(request, model)
    if questions is None:
        return _made_up_run(request, model)
    try:
        model.infer(questions)
    except ServingError as err:
        return _failure(ProbeResult.RUN, err)
    return ProbeAnswer(verdict=ProbeResult.OK, at=_described(questions))


def _made_up_run(request: ProbeRequest, model: Model) -> ProbeAnswer:
    """Run the model on values that nobody gave: only a crash or a limit says something about it."""
    complaint = ""
    for questions in samples(model.metadata, _hints(request)):
        try:
            model.infer(questions)
        except ServingError as err:
            failure = _failure(ProbeResult.OK, err)
            if failure.verdict is ProbeResult.MEMORY:
                return failure
            complaint = complaint or failure.message
        else:
            return ProbeAnswer(verdict=ProbeResult.OK, at=_described(questions))
    return ProbeAnswer(verdict=ProbeResult.OK, not_tried=complaint)


def _hints(request: ProbeRequest) -> Mapping[str, Hint]:
    if request.format is not Format.ONNX:
        return {}
    with (
        open_plain(request.path) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
        contextlib.suppress(NotOnnx),  # the engine has taken it: its hints are none, no more
    ):
        return hints_of(content)
    return {}


def _described(questions: Tensors) -> str:
    shapes = ((name, np.shape(array)) for name, array in questions.items())
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes)


def _with_memory(answer: ProbeAnswer, footprint: Footprint) -> ProbeAnswer:
    found = {"peak_bytes": footprint.peak_bytes(), "resting_bytes": footprint.resting_bytes()}
    return answer.model_copy(update=found)


def _golden_questions(request: ProbeRequest, model: Model) -> Tensors | None:
    """Return the exam's largest portion; a file that cannot be used is the exam's business."""
    if request.golden is None:
        return None
    try:
        return largest_questions(read_npz(request.golden), model.metadata, request.metric)
    except (BadArchive, InvalidExam):
        return None


def _failure(verdict: ProbeResult, err: Exception) -> ProbeAnswer:
    text = str(err)
    if any(words in text.lower() for words in _MEMORY_WORDS):
        return ProbeAnswer(verdict=ProbeResult.MEMORY)
    return ProbeAnswer(verdict=verdict, message=text[:1024])


if __name__ == "__main__":
    main()
