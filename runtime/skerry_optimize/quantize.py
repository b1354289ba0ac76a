"""Quantisation: 8-bit integers or 16-bit floats in the place of 32-bit floats.

By ONNX Runtime's own tools. Static quantisation (Jacob et al. 2018, "Quantization and Training of
Neural Networks for Efficient Integer-Arithmetic-Only Inference") writes QuantizeLinear and
DequantizeLinear around operators, with a scale for each channel of the weights; where activations
lie is measured on data. Dynamic quantisation measures them in every run.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnxruntime import quantization
from onnxruntime.transformers import float16

from skerry_optimize.calibration import Feeds
from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import first_line, weights_of

DYNAMIC_OPERATORS = ("MatMul", "Gemm", "LSTM")
"""What dynamic quantisation takes: integer convolutions of this kind are several times slower."""
_QUANTIZED = frozenset(
    ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger")
)


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # has no types
    """Gives the feeds one after another."""

    def __init__(self, feeds: Feeds) -> None:
        self._left = iter(feeds)

    def get_next(self) -> Any:
        """Return the next run's inputs; None at the end."""
        return next(self._left, None)


def quantize_dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with 8-bit weights in what multiplies matrices, and the rest as it was.

    Raises:
        StepRefused: there is nothing of the kind, or it is quantised already.
    """
    _require_floats(model)
    weights = weights_of(model)
    if not any(
        node.op_type in DYNAMIC_OPERATORS and any(name in weights for name in node.input)
        for node in model.graph.node
    ):
        raise StepRefused(
            "quantize: Dynamic takes MatMul, Gemm and LSTM with weights of their own, and the "
            "model has none: use Static, which takes convolutions too"
        )
    return _through_files(
        model,
        lambda source, target: quantization.quantize_dynamic(
            source,
            target,
            op_types_to_quantize=list(DYNAMIC_OPERATORS),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
        ),
    )


def quantize_static(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
    """Return the model with 8-bit weights and activations, whose ranges `feeds` show.

    Raises:
        StepRefused: it is quantised already, or cannot be.
    """
    _require_floats(model)
    return _through_files(
        model,
        lambda source, target: quantization.quantize_static(
            source,
            target,
            _Reader(feeds),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        ),
    )


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with 16-bit floats inside; inputs and outputs keep their types.

    Raises:
        StepRefused: it is quantised already, or cannot be converted.
    """
    _require_floats(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        with _quiet():
            return float16.convert_float_to_float16(copy, keep_io_types=True)  # type: ignore[no-any-return]
    except Exception as err:  # the tool raises what it likes
        raise StepRefused(f"quantize: Float16: {first_line(err)}") from err


def _require_floats(model: onnx.ModelProto) -> None:
    found = next((node for node in model.graph.node if node.op_type in _QUANTIZED), None)
    if found is not None:
        raise StepRefused(
            f"quantize: the model is quantised already ({found.op_type}): give the float one"
        )


def _through_files(model: onnx.ModelProto, work: Any) -> onnx.ModelProto:
    """Let a tool that works on files work on the model."""
    with tempfile.TemporaryDirectory(prefix="skerry-optimize-") as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "quantized.onnx")
        onnx.save_model(model, source)
        try:
            with _quiet():
                work(source, target)
        except Exception as err:  # the tool raises what it likes
            raise StepRefused(f"quantize: {first_line(err)}") from err
        return onnx.load_model(target)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tool's advice, which speaks of its own command line, off the terminal."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
