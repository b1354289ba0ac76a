"""8-bit integers in a .tflite file, by Google's ai-edge-quantizer.

Inputs and outputs keep their types, so that every build of a model takes the same requests.
"""

from __future__ import annotations

from typing import Any

from skerry_optimize.apart import apart, silenced
from skerry_optimize.calibration import Feed, Feeds
from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import first_line
from skerry_optimize.tflite.convert import SIGNATURE


def quantize_tflite_dynamic(content: bytes) -> bytes:
    """Return the file with 8-bit weights; activations are measured in every run.

    Raises:
        StepRefused: the quantizer is not installed, or cannot do it.
    """
    return apart("quantize", _quantized, content, None)


def quantize_tflite_static(content: bytes, feeds: Feeds) -> bytes:
    """Return the file with 8-bit weights and activations, whose ranges `feeds` show.

    Raises:
        StepRefused: the quantizer is not installed, or cannot do it.
    """
    return apart("quantize", _quantized, content, list(feeds))


def _quantized(content: bytes, feeds: list[Feed] | None) -> bytes:
    """Run in a process of its own: the tool paints on the terminal."""
    silenced()
    try:
        from ai_edge_quantizer import quantizer, recipe  # noqa: PLC0415 (a large library)
    except ImportError as err:
        raise StepRefused(
            "quantize: ai-edge-quantizer is not installed: it is for x86-64, and docs/optimise.md "
            "says how"
        ) from err
    try:
        if feeds is None:
            tool = quantizer.Quantizer(content, recipe.dynamic_wi8_afp32())
            found = tool.quantize(enable_progress_report=False)
        else:
            tool = quantizer.Quantizer(content, _static_recipe())
            ranges = tool.calibrate({SIGNATURE: feeds}, num_threads=1)
            found = tool.quantize(ranges, enable_progress_report=False)
    except Exception as err:  # the tool raises what it likes
        raise StepRefused(f"quantize: {first_line(err)}") from err
    return bytes(found.quantized_model)


def _static_recipe() -> Any:
    from ai_edge_quantizer import qtyping, recipe_manager  # noqa: PLC0415 (a large library)
    from ai_edge_quantizer.algorithm_manager import AlgorithmName  # noqa: PLC0415

    recipes = recipe_manager.RecipeManager()
    recipes.add_static_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        activation_num_bits=8,
        weight_num_bits=8,
    )
    for edge in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        recipes.add_quantization_config(
            regex=".*", operation_name=edge, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    return recipes.get_quantization_recipe()
