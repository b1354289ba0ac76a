"""ONNX to .tflite: the graph as a JAX function, as StableHLO, as a flatbuffer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import onnx

from skerry_optimize.apart import apart, silenced
from skerry_optimize.calibration import inputs_of
from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import first_line, shapes_of
from skerry_optimize.jaxgraph.graph import JaxGraph
from skerry_optimize.jaxgraph.registry import UnknownOperator

SIGNATURE = "serving_default"


def to_tflite(model: onnx.ModelProto) -> bytes:
    """Return the model as a .tflite file whose signature has the names of the graph.

    Shapes are fixed in it: a dynamic first axis becomes a batch of one.

    Raises:
        StepRefused: an operator or an axis cannot be converted, or the converter is not installed.
    """
    try:
        module, inputs, outputs = _stablehlo(model), list(inputs_of(model)), _outputs(model)
        return apart("convert", _written, module, inputs, outputs)
    except UnknownOperator as err:
        raise StepRefused(f"convert: {err}: leave TFLite out, or export another graph") from err


def _outputs(model: onnx.ModelProto) -> list[str]:
    return [one.name for one in model.graph.output]


def _stablehlo(model: onnx.ModelProto) -> str:
    from jax import export  # noqa: PLC0415 (is no attribute of jax before it is imported)

    graph, names, outputs = JaxGraph(model), list(inputs_of(model)), _outputs(model)

    def function(*arrays: Any) -> tuple[Any, ...]:
        said = graph(graph.weights, dict(zip(names, arrays, strict=True)))
        return tuple(said[name] for name in outputs)

    with jax.enable_x64(True):  # inputs keep their 64-bit types, as callers send them
        shapes = _shapes(model)
        return str(export.export(jax.jit(function))(*shapes.values()).mlir_module())


def _shapes(model: onnx.ModelProto) -> Mapping[str, jax.ShapeDtypeStruct]:
    shapes = shapes_of(model)
    return {
        name: jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call] # has types in part
            _fixed(name, shapes.get(name)), dtype
        )
        for name, dtype in inputs_of(model).items()
    }


def _fixed(name: str, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    if shape is None or any(size < 1 for size in shape[1:]):
        raise StepRefused(
            f"convert: input {name!r} has an axis of any size behind the first: give it one with "
            "fixShapes before"
        )
    return (max(1, shape[0]), *shape[1:]) if shape else ()


def _written(module: str, inputs: list[str], outputs: list[str]) -> bytes:
    """Run in a process of its own: at a module that it does not like, the converter crashes."""
    silenced()
    try:
        from litert_converter.mlir import ir, passmanager  # noqa: PLC0415 (a large library)
        from litert_converter.mlir._mlir_libs import (  # noqa: PLC0415
            converter_api_ext as converter,
        )
    except ImportError as err:
        raise StepRefused(
            "convert: litert-converter is not installed: it is for x86-64, and docs/optimise.md "
            "says how"
        ) from err
    context = ir.Context()
    converter.prepare_mlir_context(context)
    try:
        with context:
            parsed = ir.Module.parse(module)
            converter.set_signature(
                parsed.operation,
                signature_name=SIGNATURE,
                input_names=inputs,
                output_names=outputs,
            )
            whole = converter.merge_modules([parsed])
            config = converter.ConvertToTFLConfig()
            config.model_origin_framework = "JAX"
            config.unsafe_fuse_dynamic_shaped_broadcast = True
            converter.run_convert_to_tfl_passes(whole, passmanager.PassManager(), config)
            return bytes(converter.export_flatbuffer_to_bytes(whole.operation))
    except Exception as err:  # the converter raises what it likes
        raise StepRefused(f"convert: the converter cannot do it: {first_line(err)}") from err
