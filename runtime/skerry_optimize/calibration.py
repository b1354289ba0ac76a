"""Data: what a model sees where it is used, for ranges to be measured on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from skerry_optimize.errors import BadPlan
from skerry_optimize.graphs import shapes_of, weights_of
from skerry_runtime.agent.npz import Arrays

MOST_SAMPLES = 200
"""Ranges change little beyond; what is more is passed over."""
EVERY_SAMPLE = 2**31
Feed = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Feeds:
    """What is put to the model, one run after another."""

    arrays: Mapping[str, npt.NDArray[np.generic]]
    rows: int
    """Of one run."""
    count: int
    """Samples."""

    def __iter__(self) -> Iterator[Feed]:
        """Yield the inputs of each run; samples that fill none are left out."""
        for start in range(0, self.count - self.rows + 1, self.rows):
            yield {name: array[start : start + self.rows] for name, array in self.arrays.items()}


def feeds_of(arrays: Arrays, model: onnx.ModelProto, most: int = MOST_SAMPLES) -> Feeds:
    """Fit arrays to the inputs of a model; labels and the like are passed over.

    At most so many samples are taken.

    Raises:
        BadPlan: an input is missing, or has another shape.
    """
    shapes, inputs = shapes_of(model), inputs_of(model)
    fitted = {name: _fitted(name, arrays, inputs, shapes.get(name)) for name in inputs}
    counts = {len(array) for array in fitted.values()}
    if len(counts) != 1:
        raise BadPlan(f"data: the inputs have different numbers of samples: {sorted(counts)}")
    count = min(counts.pop(), most)
    fixed = [shapes[name][0] for name in inputs if shapes.get(name, (-1,))[0] > 0]
    rows = fixed[0] if fixed else 1
    if count < rows:
        raise BadPlan(f"data: the model takes {rows} samples a run, and there are {count}")
    return Feeds(fitted, rows, count)


def inputs_of(model: onnx.ModelProto) -> dict[str, np.dtype[np.generic]]:
    """Return name -> type of each input that a caller gives."""
    weights = weights_of(model)
    return {
        one.name: helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)
        for one in model.graph.input
        if one.name not in weights
    }


def _fitted(
    name: str,
    arrays: Arrays,
    inputs: Mapping[str, np.dtype[np.generic]],
    shape: tuple[int, ...] | None,
) -> npt.NDArray[np.generic]:
    if name not in arrays:
        raise BadPlan(
            f"data: no array {name!r}: the model takes {', '.join(inputs)}, and the file has "
            f"{', '.join(sorted(arrays)) or 'nothing'}"
        )
    array = arrays[name]
    expected = (shape or ())[1:]
    fits = array.ndim >= 1 and (
        shape is None
        or (
            len(array.shape) == len(shape)
            and all(s in (-1, 0, a) for s, a in zip(expected, array.shape[1:], strict=True))
        )
    )
    if not fits:
        raise BadPlan(
            f"data: array {name!r} has shape {list(array.shape)}; the model takes samples of "
            f"{list(expected)} (-1: any size)"
        )
    if array.dtype.kind not in "fiub":
        raise BadPlan(f"data: array {name!r} holds {array.dtype}, not numbers")
    return array.astype(inputs[name], copy=False)
