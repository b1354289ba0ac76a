"""A whole runtime process whose engine hangs in a load while a file of the test says so."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from pathlib import Path

from skerry_runtime import cli, server
from skerry_runtime.agent.probe import CHILD_MODULE
from skerry_runtime.backends.base import LoadRequest
from skerry_runtime.backends.onnx import OnnxBackend, OnnxModel

HOW_ENV = "HANG_FILE"
"""Names the file: a line `<how> <bytes of the model's file>`; absent: nothing hangs."""


class HangsAsToldBackend(OnnxBackend):
    """`once`: the marked model. `driver`: from the marked model on, every load of this process.
    `lock`: the marked model, with the interpreter's lock held. Never in a probe's child."""

    is_stuck = False

    def load(self, request: LoadRequest) -> OnnxModel:
        how, size = _told()
        main = sys.modules["__main__"].__spec__
        is_marked = request.path.stat().st_size == size or type(self).is_stuck
        if is_marked and not (main and main.name == CHILD_MODULE):
            type(self).is_stuck = how == "driver"
            _hang(how)
        return super().load(request)


def _told() -> tuple[str, int]:
    path = Path(os.environ.get(HOW_ENV, ""))
    how, size = path.read_text().split() if path.is_file() else ("", "-1")
    return how, int(size)


def _hang(how: str) -> None:
    while how == "lock":
        ctypes.PyDLL(None).pause()  # never gives the lock back
    threading.Event().wait()


if __name__ == "__main__":
    from unit.runtime.agent import hanging_process

    server.backend_of = lambda _: hanging_process.HangsAsToldBackend()
    sys.exit(cli.main(["serve"]))
