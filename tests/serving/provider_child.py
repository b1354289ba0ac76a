"""Loads models in a process of its own, with whatever engine is first on its path.

Reads a JSON list of cases on stdin, writes a JSON list of answers on the last line of stdout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from skerry_runtime.agent.sample import zeros
from skerry_runtime.backends.base import LoadError, LoadRequest
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import Execution, Format


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """Load and run once; tell what came of it."""
    request = LoadRequest(
        Path(case["path"]),
        Format.ONNX,
        Execution.model_validate(case["execution"]),
        threads=1,
        input_shapes={name: tuple(shape) for name, shape in case["input_shapes"].items()},
    )
    try:
        model = OnnxBackend().load(request)
    except LoadError as error:
        return {"error": type(error).__name__, "message": str(error)}
    outputs = model.infer(zeros(model.metadata))
    return {
        "acceleration": model.acceleration.model_dump(),
        "shapes": {spec.name: spec.shape for spec in model.metadata.inputs},
        "outputs": {name: array.tolist() for name, array in outputs.items()},
    }


if __name__ == "__main__":
    answers = [answer(case) for case in json.load(sys.stdin)]
    print(json.dumps(answers))  # noqa: T201
