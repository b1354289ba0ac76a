"""Engines that misbehave, for the probe's child process to load by name."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from serving.fakes import Gate
from skerry_runtime.agent.probe import CHILD_MODULE
from skerry_runtime.backends.base import (
    EngineAway,
    EngineDied,
    LoadError,
    LoadRequest,
    Model,
    Tensors,
)
from skerry_runtime.backends.onnx import OnnxBackend, OnnxModel


class Crashing:
    """As an engine does that follows a bad pointer."""

    def load(self, request: LoadRequest) -> Model:
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


class Hungry:
    """Takes memory until it is stopped."""

    def load(self, request: LoadRequest) -> Model:
        taken = []
        while True:
            taken.append(np.ones(16 << 20, dtype=np.uint8))


class Mapping:
    """Takes memory that no limit of the kernel counts: only the parent sees it."""

    def load(self, request: LoadRequest) -> Model:
        size = 512 << 20
        shared = mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        for place in range(0, size, mmap.PAGESIZE):
            shared[place] = 1
        time.sleep(60)
        raise AssertionError


class Hanging:
    """Never returns."""

    def load(self, request: LoadRequest) -> Model:
        time.sleep(60)
        raise AssertionError


class Busy:
    """Computes for ever."""

    def load(self, request: LoadRequest) -> Model:
        while True:
            pass


class Chatty:
    """Prints where its verdict should go."""

    def load(self, request: LoadRequest) -> Model:
        os.write(1, b'{"verdict": "ok"}' * 10_000)
        raise LoadError("it was the model")


class Curious:
    """Tells what it can see."""

    def load(self, request: LoadRequest) -> Model:
        raise LoadError(" ".join(sorted(os.environ)))


class CrashesInChild(OnnxBackend):
    """Crashes wherever it is made under its own name, which is what a probe does."""

    def load(self, request: LoadRequest) -> OnnxModel:
        main = sys.modules["__main__"].__spec__
        if main and main.name == CHILD_MODULE:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().load(request)


class Pausing(OnnxBackend):
    """Its models wait in their first run, where a test says so; never in a probe's child."""

    gate: ClassVar[Gate | None] = None

    def load(self, request: LoadRequest) -> OnnxModel:
        model = super().load(request)
        if self.gate:
            gate, infer = self.gate, model.infer

            def wait_and_infer(inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
                gate()
                return infer(inputs, outputs)

            model.infer = wait_and_infer  # type: ignore[method-assign]
        return model


class CrashesWhenAsked(OnnxBackend):
    """Opens a model, and dies when it is asked."""

    def load(self, request: LoadRequest) -> OnnxModel:
        model = super().load(request)

        def crash(inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
            os.kill(os.getpid(), signal.SIGFPE)
            raise AssertionError

        model.infer = crash  # type: ignore[method-assign]
        return model


class Away:
    """As an engine in another process that has ended."""

    def load(self, request: LoadRequest) -> Model:
        raise EngineAway("nobody answers")


class Dying:
    """As an engine in another process that the file ends."""

    def load(self, request: LoadRequest) -> Model:
        raise EngineDied("it ended while it loaded the file")


class Beside(OnnxBackend):
    """As an engine in another process: it may be away, lose its models, and have to be swept."""

    is_away: ClassVar[bool] = False
    dies: bool = False
    """Of this object only, and so not in a probe's child."""

    def __init__(self) -> None:
        super().__init__()
        self.models: list[OnnxModel] = []
        self.sweeps = 0

    def load(self, request: LoadRequest) -> OnnxModel:
        if self.is_away:
            raise EngineAway("nobody answers")
        if self.dies:
            raise EngineDied("it ended while it loaded the file")
        model = super().load(request)
        model.is_lost = lambda: model not in self.models  # type: ignore[attr-defined]
        self.models.append(model)
        return model

    def sweep(self) -> None:
        self.sweeps += 1


class Broken:
    """Raises what no engine may raise."""

    def load(self, request: LoadRequest) -> Model:
        raise ZeroDivisionError
