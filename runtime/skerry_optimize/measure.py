"""What a build is worth: its exam, its time beside that of its origin, and its memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from skerry_optimize.apart import apart
from skerry_optimize.calibration import Feed, inputs_of
from skerry_optimize.errors import BadPlan, StepRefused
from skerry_optimize.graphs import first_line, shapes_of
from skerry_optimize.runners import Runner, opened
from skerry_runtime.agent import exam
from skerry_runtime.agent.npz import Arrays
from skerry_runtime.agent.score import InvalidExam
from skerry_runtime.backends.base import Backend, LoadError, LoadRequest
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import Execution, Format, GoldenExam, GoldenMetric
from skerry_runtime.errors import InferenceFailed, InvalidRequest

ROUNDS = 5
RUNS = 40
"""Of each model in a round, after as many as warm it up."""
WARM_UP = 10


@dataclass(frozen=True)
class Speed:
    """Two models in turns, in one process with one thread, a run of one sample each."""

    before_us: float
    """Median of the origin's runs, in microseconds."""
    after_us: float
    ratios: tuple[float, ...]
    """Of the medians, round by round."""

    @property
    def ratio(self) -> float:
        """Return the middle ratio."""
        return statistics.median(self.ratios)


def examined(path: Path, form: Format, golden: Arrays, metric: GoldenMetric) -> float:
    """Return the model's result in the golden exam: the same that a unit of a rollout has.

    Raises:
        BadPlan: the golden file does not fit the model.
        StepRefused: the model cannot be opened, or fails on a question.
    """
    asked = GoldenExam(uri="file:///golden", sha256="0" * 64, metric=metric, threshold="0")
    try:
        model = _engine(form).load(LoadRequest(path, form, Execution(profile="cpu"), threads=1))
    except LoadError as err:
        raise StepRefused(f"the model cannot be opened: {first_line(err)}") from err
    try:
        return exam.run(exam.prepare(asked, golden, model.metadata), model).result.value
    except InvalidExam as err:
        raise BadPlan(f"golden: {err}") from err
    except (InferenceFailed, InvalidRequest) as err:
        raise StepRefused(f"the model fails in the exam: {first_line(err)}") from err
    finally:
        model.close()


def _engine(form: Format) -> Backend:
    if form is Format.TFLITE:
        from skerry_runtime.backends.litert import LiteRtBackend  # noqa: PLC0415 (another engine)

        return LiteRtBackend()
    return OnnxBackend()


def question(model: onnx.ModelProto) -> Feed:
    """Return a run of numbers that are the same every time; free axes have size 1."""
    shapes, random = shapes_of(model), np.random.default_rng(0)
    found = {}
    for name, dtype in inputs_of(model).items():
        shape = tuple(max(1, size) for size in shapes.get(name, ()))
        values = random.normal(size=shape) if dtype.kind == "f" else np.zeros(shape)
        found[name] = values.astype(dtype)
    return found


def compare_speed(before: Path, after: Path, feed: Feed) -> Speed:
    """Return the times of two models, measured in turns.

    Raises:
        StepRefused: one of them cannot be opened, or does not take the feed.
    """
    try:
        runners = [opened(path) for path in (before, after)]
        for run in runners:
            _times(run, feed, WARM_UP)
        rounds = [[_times(run, feed, RUNS) for run in runners] for _ in range(ROUNDS)]
    except Exception as err:  # the engines have no base of their own for what they raise
        raise StepRefused(f"the model does not run: {first_line(err)}") from err
    medians = [[statistics.median(times) for times in pair] for pair in rounds]
    return Speed(
        before_us=statistics.median(t for pair in rounds for t in pair[0]) * 1e6,
        after_us=statistics.median(t for pair in rounds for t in pair[1]) * 1e6,
        ratios=tuple(after / before for before, after in medians),
    )


def _times(run: Runner, feed: Feed, runs: int) -> list[float]:
    """Return the seconds of each run."""
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        run(feed)
        found.append(time.perf_counter() - began)
    return found


def peak_bytes(path: Path, feed: Feed) -> int:
    """Return what opening the model and running it adds to a process at most.

    Raises:
        StepRefused: the process ended by itself.
    """
    return apart("measuring its memory", _peak, path, feed)


def _peak(path: Path, feed: Feed) -> int:
    """Run in a process of its own, which has done nothing yet."""
    before = _memory()["VmRSS"]
    _times(opened(path), feed, 3)
    return max(0, _memory()["VmHWM"] - before)


def _memory() -> Mapping[str, int]:
    """Return what the kernel says of this process, in bytes (proc(5), /proc/pid/status)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    pairs = (line.split(":") for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def cpu_name() -> str:
    """Return what the CPU calls itself: figures speak of no other."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "unknown CPU")
