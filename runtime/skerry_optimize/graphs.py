"""An ONNX graph as the steps want it: one file, whole, with its weights as initialisers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import checker, helper, inliner, numpy_helper, shape_inference, version_converter

from skerry_optimize.errors import StepRefused

MIN_OPSET = 13
"""From here on quantised operators have a scale for each channel."""
INVALID = (
    checker.ValidationError,
    shape_inference.InferenceError,
    RuntimeError,
    ValueError,
)
"""What ONNX raises at a graph that does not fit together."""
Weights = npt.NDArray[np.generic]


def read_graph(content: bytes) -> onnx.ModelProto:
    """Return the model, tidied.

    Constants are initialisers, functions are inlined, the opset is one that can be quantised, and
    every tensor whose shape can be known has it.

    Raises:
        StepRefused: the bytes are no model, or one that steps cannot work on.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as err:
        raise StepRefused("the file is no ONNX model: give the ONNX file itself") from err
    if not model.graph.node:
        raise StepRefused("the file holds no graph: give an ONNX model")
    _require_own_weights(model)
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        fold_constants(model)
        model = with_shapes(_modern(model))
        checker.check_model(model)
    except (*INVALID, TypeError) as err:
        raise StepRefused(f"the file is no valid ONNX model: {first_line(err)}") from err
    return model


def _require_own_weights(model: onnx.ModelProto) -> None:
    outside = [
        t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL
    ]
    if outside:
        raise StepRefused(
            f"the weights of {outside[0]!r} lie in another file: save the model as one file, with "
            "onnx.save_model(model, path, save_as_external_data=False)"
        )


def _modern(model: onnx.ModelProto) -> onnx.ModelProto:
    version = opset(model)
    if version >= MIN_OPSET:
        return model
    try:
        return version_converter.convert_version(model, MIN_OPSET)
    except (RuntimeError, ValueError, IndexError) as err:
        raise StepRefused(
            f"the model has opset {version} and could not be taken to {MIN_OPSET}: "
            f"{first_line(err)}: export it again with a newer one"
        ) from err


def opset(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that the model is written in."""
    return next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 1)


def fold_constants(model: onnx.ModelProto) -> None:
    """Turn Constant nodes into initialisers: that is where weights are looked for."""
    kept = []
    for node in model.graph.node:
        tensor = _constant(node)
        if tensor is None:
            kept.append(node)
            continue
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant" or len(node.attribute) != 1:
        return None
    value = helper.get_attribute_value(node.attribute[0])
    match node.attribute[0].name:
        case "value":
            found = onnx.TensorProto()
            found.CopyFrom(value)
            return found
        case "value_float" | "value_floats":
            return numpy_helper.from_array(np.array(value, dtype=np.float32))
        case "value_int" | "value_ints":
            return numpy_helper.from_array(np.array(value, dtype=np.int64))
        case _:
            return None


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the shapes of its tensors inferred anew."""
    del model.graph.value_info[:]
    return shape_inference.infer_shapes(model, data_prop=True)


def shapes_of(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return name -> shape, -1 for an axis of unknown size; unknown ranks are absent."""
    graph = model.graph
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            dims = (d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
            shapes[value.name] = tuple(dims)
    return shapes


def weights_of(model: onnx.ModelProto) -> dict[str, Weights]:
    """Return name -> array of every initialiser."""
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def put_weights(model: onnx.ModelProto, changed: dict[str, Weights]) -> None:
    """Put other arrays in the place of initialisers."""
    for one in model.graph.initializer:
        if one.name in changed:
            one.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed[one.name]), one.name))


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Return an attribute's value."""
    found = next((one for one in node.attribute if one.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def has_subgraphs(node: onnx.NodeProto) -> bool:
    """Tell whether a node carries graphs of its own, as If and Loop do."""
    return any(one.HasField("g") or one.graphs for one in node.attribute)


def captured(model: onnx.ModelProto) -> frozenset[str]:
    """Return names that subgraphs may take from around them."""
    return frozenset(_inner_names(model.graph, depth=0))


def _inner_names(graph: onnx.GraphProto, depth: int) -> Iterator[str]:
    for node in graph.node:
        if depth:
            yield from node.input
        for one in node.attribute:
            for inner in (*([one.g] if one.HasField("g") else []), *one.graphs):
                yield from (output.name for output in inner.output)
                yield from _inner_names(inner, depth + 1)


def first_line(error: BaseException) -> str:
    """Return the beginning of a library's message."""
    text = str(error).strip()
    return (text.splitlines() or [type(error).__name__])[0][:300]
