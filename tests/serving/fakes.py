"""Stand-ins for the parts that a test does not look at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from documents import make_served
from skerry_runtime.backends.base import LoadRequest, ModelMetadata, Tensors, TensorSpec
from skerry_runtime.backends.onnx import OnnxBackend, OnnxModel
from skerry_runtime.contract import Acceleration, Execution, Format, StatusReport
from skerry_runtime.registry import ServingModel

CPU = Acceleration(
    requested=("CPUExecutionProvider",), effective="CPUExecutionProvider", delegated_percent=100.0
)

ONE_TO_ONE = ModelMetadata(
    "fake", (TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 4)),)
)


class FakeModel:
    """Answers y = x through a function that a test may make slow or faulty."""

    def __init__(self, work: Callable[[], None] = lambda: None) -> None:
        self.metadata = ONE_TO_ONE
        self.acceleration = CPU
        self.is_closed = False
        self._work = work

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        self._work()
        return {"y": np.asarray(inputs["x"])}

    def close(self) -> None:
        self.is_closed = True


class Gate:
    """Work that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self) -> None:
        self.entered.release()
        assert self.open.wait(30), "the test never opened the gate"

    def wait_entered(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=30), "no request came through the gate"


class FakeAgent:
    """Leaves the registry to the test."""

    async def run(self) -> None:
        return None

    def status(self) -> StatusReport:
        return StatusReport(
            unit="node-1", runtime_version="0", boot_id="b", started_at=0.0, now=1.0
        )

    def is_alive(self) -> bool:
        return True

    def is_stuck(self) -> bool:
        return False

    async def stop(self) -> None:
        return None


def load(
    path: Path,
    execution: Execution | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> OnnxModel:
    model_format = Format.ORT if path.suffix == ".ort" else Format.ONNX
    execution = execution or Execution(profile="cpu")
    shapes = input_shapes or {}
    return OnnxBackend().load(LoadRequest(path, model_format, execution, 1, shapes))


def serving(model: object, revision: str = "r1", version: str = "1.0.0") -> ServingModel:
    served = make_served(revision, version, variant="v")
    return ServingModel("digits", served, model)  # type: ignore[arg-type]
