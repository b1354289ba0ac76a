"""ONNX Runtime's own format: smaller to parse, for its builds without the ONNX schema."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime as ort

from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import first_line


def to_ort(model: onnx.ModelProto) -> bytes:
    """Return the model in ORT format, optimised for no particular CPU.

    Raises:
        StepRefused: ONNX Runtime cannot open the model.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-optimize-") as folder:
        target = Path(folder, "model.ort")
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(target)
        options.add_session_config_entry("session.save_model_format", "ORT")
        try:
            ort.InferenceSession(
                model.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["NchwcTransformer"],  # its layout is that of one CPU
            )
        except Exception as err:  # ONNX Runtime has no base of its own for what it raises
            raise StepRefused(f"convert: ONNX Runtime cannot open it: {first_line(err)}") from err
        return target.read_bytes()
