"""Models of either engine as functions that can be timed: one thread, a feed a call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort

from skerry_optimize.calibration import Feed

Runner = Callable[[Feed], object]


def opened(path: Path) -> Runner:
    """Return the model as a function; the ending of its name says of which engine it is."""
    return _of_litert(path) if path.suffix == ".tflite" else _of_onnx_runtime(path)


def _of_onnx_runtime(path: Path) -> Runner:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, feed)


def _of_litert(path: Path) -> Runner:
    from ai_edge_litert.interpreter import (  # noqa: PLC0415 (only where there is such a file)
        Interpreter,
    )

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner()
    types = {name: detail["dtype"] for name, detail in run.get_input_details().items()}
    return lambda feed: run(**{name: feed[name].astype(types[name]) for name in types})
