"""Fixed shapes: accelerators without dynamic axes take a model only with them."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import checker

from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import INVALID, first_line, shapes_of, weights_of, with_shapes


def fix_shapes(model: onnx.ModelProto, wanted: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """Return the model with these shapes of its inputs, and what follows of them for the rest.

    Raises:
        StepRefused: no such input, or a shape that it cannot have.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    weights, shapes = weights_of(model), shapes_of(model)
    inputs = {one.name: one for one in fixed.graph.input if one.name not in weights}
    for name, shape in wanted.items():
        if name not in inputs:
            raise StepRefused(
                f"fixShapes: no input {name!r}: there are {', '.join(sorted(inputs))}"
            )
        _require_fit(name, shapes.get(name), shape)
        kind = inputs[name].type.tensor_type
        kind.ClearField("shape")
        for size in shape:
            kind.shape.dim.add().dim_value = size
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        found = _with_outputs(with_shapes(fixed), model)
        checker.check_model(found, full_check=True)
    except INVALID as err:
        raise StepRefused(f"fixShapes: the model cannot have them: {first_line(err)}") from err
    return found


def _with_outputs(found: onnx.ModelProto, before: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the old shapes of outputs whose new ones cannot be inferred."""
    for output, old in zip(found.graph.output, before.graph.output, strict=True):
        if not output.type.tensor_type.HasField("shape"):
            output.type.CopyFrom(old.type)
    return found


def _require_fit(name: str, before: tuple[int, ...] | None, shape: tuple[int, ...]) -> None:
    if before is None:
        return
    fits = len(before) == len(shape) and all(
        old in (-1, 0, new) for old, new in zip(before, shape, strict=True)
    )
    if not fits:
        raise StepRefused(
            f"fixShapes: input {name!r} has shape {list(before)} (-1: any size), which "
            f"{list(shape)} does not fit"
        )
