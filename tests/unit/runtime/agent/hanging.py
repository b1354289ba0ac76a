"""An engine whose load hangs in the server's process; never in a probe's child."""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from serving.fakes import Gate
from skerry_runtime.backends.base import LoadRequest
from skerry_runtime.backends.onnx import OnnxBackend, OnnxModel


class HangsInLoad(OnnxBackend):
    gate: ClassVar[Gate | None] = None
    closed: ClassVar[int] = 0
    """Models that came late and were closed."""

    @override
    def load(self, request: LoadRequest) -> OnnxModel:
        gate, model = type(self).gate, super().load(request)
        if gate is None:
            return model
        type(self).gate = None  # the next load finds a driver that works again
        gate()
        return Late(model)  # type: ignore[return-value]


class Late:
    def __init__(self, model: OnnxModel) -> None:
        self._model = model

    def close(self) -> None:
        HangsInLoad.closed += 1
        self._model.close()
