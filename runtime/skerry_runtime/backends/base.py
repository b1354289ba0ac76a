"""What every engine offers to the rest of the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from skerry_runtime.contract import Acceleration, Execution, Format

Tensors = Mapping[str, npt.NDArray[np.generic]]

CPU = "CPUExecutionProvider"
"""The provider that every engine has."""


class LoadError(Exception):
    """The file cannot be loaded; the text names the cause."""


class ProviderMissing(LoadError):  # noqa: N818 (the reason's name in the contract)
    """Fallback is forbidden and the wanted execution provider was not got."""


class EngineAway(LoadError):  # noqa: N818 (same)
    """The engine is a process of its own, and does not answer: no fault of the file."""


class EngineDied(EngineAway):
    """The engine's process ended while it loaded the file: maybe a fault of the file."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `datatype` in the protocol's words, -1 for a dynamic axis."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    any_shape: bool = False
    """The file declares no shape: every shape is taken, and `shape` is only one of them."""


@dataclass(frozen=True)
class ModelMetadata:
    """What a model takes and gives."""

    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class LoadRequest:
    """All that an engine needs to open one file."""

    path: Path
    format: Format
    execution: Execution
    threads: int
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Input -> the shape that its dynamic axes are fixed to."""
    memory: object | None = field(default=None, compare=False)
    """Holds the file, where it is one in memory: the path leads nowhere without it. Who opens the
    path again later keeps this; None: the file lies on the disk."""


class Model(Protocol):
    """A loaded model. `infer` is thread-safe."""

    @property
    def metadata(self) -> ModelMetadata:
        """Inputs and outputs."""
        ...

    @property
    def acceleration(self) -> Acceleration:
        """Which provider took the graph, measured on the session itself."""
        ...

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        """Run the model once.

        Args:
            inputs: one array per input, shapes as the metadata says.
            outputs: names to compute; None means all.

        Raises:
            InvalidRequest: a value that no metadata can rule out, such as text in a wrong encoding,
                an index beyond a table or a length that the graph cannot take.
            InferenceFailed: the engine failed, and named no input.
        """
        ...

    def close(self) -> None:
        """Release memory and accelerator; the model is unusable afterwards."""
        ...


@runtime_checkable
class Interruptible(Protocol):
    """A model whose runs can be broken off from another thread."""

    def interrupt(self) -> None:
        """End every run soon, with InferenceFailed; the model is of no use afterwards."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A model that keeps a state in the engine. Its `infer` answers as if it were the first run."""

    def begin(self) -> Model:
        """Return the model with a state of its own: each run builds on the one before.

        Closing it ends the state and leaves the model.

        Raises:
            InferenceFailed: the model is closed.
        """
        ...


@contextmanager
def on_fresh_state(model: Model) -> Iterator[Model]:
    """Give a model whose runs build on each other and on nothing before; most keep no state."""
    if not isinstance(model, Stateful):
        yield model
        return
    fresh = model.begin()
    try:
        yield fresh
    finally:
        fresh.close()


@runtime_checkable
class Remote(Protocol):
    """A model in a process of the engine's own, which may end without this one."""

    def is_lost(self) -> bool:
        """Tell whether the engine has the model no more; blocks for a second or so."""
        ...


class Backend(Protocol):
    """An engine."""

    def load(self, request: LoadRequest) -> Model:
        """Open the file.

        Raises:
            LoadError: the file is no model that this engine can run.
        """
        ...


@runtime_checkable
class ReadsMemory(Protocol):
    """An engine in this process, which opens a file in memory by a path of this process."""

    reads_memory: Literal[True]


@runtime_checkable
class Sweepable(Protocol):
    """A backend whose engine outlives this process, and what this process's children left."""

    def sweep(self) -> None:
        """Take away the models that this object did not load; an engine that is away has none."""
        ...


def accelerators(execution: Execution) -> tuple[str, ...]:
    """Return the wanted providers that come before the CPU's, best first."""
    names = execution.providers
    return names[: names.index(CPU)] if CPU in names else names
