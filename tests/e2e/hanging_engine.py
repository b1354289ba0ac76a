"""A runtime whose engine stands in for a driver that hangs, for a model that asks for it.

It is the entry point of an image of its own (see `derived_image`), beside the runtime's code.
"""

from __future__ import annotations

import ctypes
import sys
import threading

from skerry_runtime import cli, server
from skerry_runtime.agent.probe import CHILD_MODULE
from skerry_runtime.backends.base import LoadRequest
from skerry_runtime.backends.onnx import OnnxBackend, OnnxModel

MARK = "stand-in-hangs-in-load:"
"""Before the way to hang, in the file's metadata: `waits`, or `holds` the interpreter's lock."""


class HangingOnRequestBackend(OnnxBackend):
    """ONNX Runtime; not in a probe's child: a driver may hang in the server alone."""

    def load(self, request: LoadRequest) -> OnnxModel:
        main = sys.modules["__main__"].__spec__
        content = b"" if main and main.name == CHILD_MODULE else request.path.read_bytes()
        while f"{MARK}holds".encode() in content:
            ctypes.PyDLL(None).pause()  # never gives the lock back
        if f"{MARK}waits".encode() in content:
            threading.Event().wait()
        return super().load(request)


if __name__ == "__main__":
    import hanging_engine  # a probe's child looks the class up by its module

    server.backend_of = lambda _: hanging_engine.HangingOnRequestBackend()
    sys.exit(cli.main())
