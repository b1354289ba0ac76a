"""Which engine runs a file: that of the pod, or the one that the file's format asks for."""

from __future__ import annotations

from typing import Literal

from skerry_runtime.backends.base import Backend, LoadError, LoadRequest, Model
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import Engine, Format


def backend_of(engine: Engine | None) -> Backend:
    """Return the engine of the process; ONNX Runtime and LiteRT are told apart by the format."""
    if engine is not Engine.TRITON:
        return FormatBackend()
    from skerry_runtime.backends.triton import TritonBackend  # noqa: PLC0415 (as LiteRT below)

    return TritonBackend()


class FormatBackend:
    """Chooses by the format: ONNX Runtime for .onnx and .ort, LiteRT for .tflite."""

    reads_memory: Literal[True] = True

    def load(self, request: LoadRequest) -> Model:
        """Open the file.

        Raises:
            LoadError: no engine here runs the format, or the file is no model.
        """
        if request.format is Format.TFLITE:
            # Imported late: who serves no .tflite file does not pay for the engine.
            from skerry_runtime.backends.litert import LiteRtBackend  # noqa: PLC0415

            return LiteRtBackend().load(request)
        if request.format is Format.CUSTOM:
            raise LoadError(
                "a model of format Custom needs the vendor's engine, and this runtime image has "
                "none: name an image that has it in the accelerator profile"
            )
        return OnnxBackend().load(request)
