"""Finds out whether a row's answer depends on the rows beside it: such a model shares no run.

Dynamically quantised models take one scale from the whole batch, others sort, normalise or count
over it. A row is run alone and again among rows unlike it; what differs by more than rounding is
coupled. The unlike rows are made of the request's own, because nothing else is known of the model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skerry_runtime.backends.base import Model, Tensors
from skerry_runtime.errors import ServingError

Array = npt.NDArray[Any]

BUDGET_S = 1.0
"""Time after which no further row is tried."""

MAX_OWN_ROWS = 4
"""Rows of the request itself that are used; each costs a run."""

SEED = 7  # the same rows each time: two pods come to one verdict
STRANGERS = 5
_LARGER, _SMALLER = 100.0, 0.01

ROUNDING = {"FP16": 1e-2, "BF16": 1e-2, "FP32": 1e-4, "FP64": 1e-4}
"""Datatype of an output -> difference that another order of sums makes, as a share of the row's
largest value; all other datatypes must be equal."""


@dataclass(frozen=True, slots=True)
class Coupling:
    """What was found."""

    text: str
    """How answers change; empty: they do not."""
    is_known: bool = True
    """False: no row unlike the request's own could be made that the model takes."""


def find_coupling(model: Model, inputs: Tensors, outputs: Sequence[str], size: int) -> Coupling:
    """Compare rows alone with the same rows in one batch of `size`.

    Args:
        model: takes any number of rows.
        inputs: of one request; belong to the caller alone.
        outputs: names to compute.
        size: most rows of a run.

    Raises:
        ServingError: the model fails on the request's first row, or on all rows together.
    """
    alone = _taken(model, inputs, outputs)
    rows = [row for row, _ in alone]
    if all(_is_same(row, rows[0]) for row in rows):
        return Coupling("", is_known=False)
    together = [rows[place % len(rows)] for place in range(max(size, 2))]
    batch = {name: np.concatenate([row[name] for row in together]) for name in inputs}
    answers = model.infer(batch, outputs)
    types = {spec.name: spec.datatype for spec in model.metadata.outputs}
    for name, array in answers.items():
        if array.shape[:1] != (len(together),):
            return Coupling(f"output '{name}' does not have one row for each row of the input")
        for place, (_, own) in enumerate(alone[: len(together)]):
            change = _change(own[name], array[place : place + 1], types[name])
            if change is not None:
                return Coupling(f"a row's output '{name}' changes {change} beside other rows")
    return Coupling("")


def _taken(model: Model, inputs: Tensors, outputs: Sequence[str]) -> list[tuple[Tensors, Tensors]]:
    """Return the rows that the model takes, with its answer to each alone; the request's first."""
    began = time.perf_counter()
    taken: list[tuple[Tensors, Tensors]] = []
    for row in _rows(inputs):
        try:
            taken.append((row, model.infer(row, outputs)))
        except ServingError:
            if not taken:
                raise
        if len(taken) > 1 and time.perf_counter() - began > BUDGET_S:
            break
    return taken


def _rows(inputs: Tensors) -> Iterator[Tensors]:
    """Yield rows of the request, and rows made of its first."""
    first = {name: array[:1] for name, array in inputs.items()}
    yield first
    for number in range(STRANGERS):
        random = np.random.default_rng(SEED + number)
        yield {name: _stranger(array, number, random) for name, array in first.items()}
    length = min(len(array) for array in inputs.values())
    for place in range(1, min(length, MAX_OWN_ROWS)):
        yield {name: array[place : place + 1] for name, array in inputs.items()}


def _stranger(row: Array, number: int, random: np.random.Generator) -> Array:
    """Return another row of the same shape and type, of values that the model should take."""
    if np.issubdtype(row.dtype, np.floating):
        return _other_floats(row, number, random)
    if row.dtype == np.bool_:
        return (~row, row[..., ::-1], np.ones_like(row), np.zeros_like(row), row)[number].copy()
    return _other_items(row, number)


def _other_floats(row: Array, number: int, random: np.random.Generator) -> Array:
    noise = random.standard_normal(row.shape) * max(1.0, float(np.abs(row).max(initial=0.0)))
    with np.errstate(all="ignore"):
        other = (
            row * _LARGER,
            noise,
            noise * _LARGER,
            row * _SMALLER,
            noise - row,
        )[number]
        return np.asarray(other).astype(row.dtype)


def _other_items(row: Array, number: int) -> Array:
    """Return indices, words or texts that occur in the row, or zeros: tables have a first entry."""
    flat = row.reshape(-1)
    if not flat.size:
        return row
    if number == 0:
        return np.ascontiguousarray(flat[::-1]).reshape(row.shape)
    if number == 1:
        return np.roll(flat, 1).reshape(row.shape)
    if number == 2:
        return np.full_like(row, flat[0])
    if number == 3:
        return np.full_like(row, flat[-1])
    return np.full_like(row, b"" if row.dtype == object else 0)


def _is_same(row: Tensors, other: Tensors) -> bool:
    return all(np.array_equal(array, other[name]) for name, array in row.items())


def _change(alone: Array, beside: Array, datatype: str) -> str | None:
    """Say by how much an answer changes; None when it is the same but for rounding."""
    if alone.shape != beside.shape:
        return "its shape"
    if datatype not in ROUNDING:
        return None if np.array_equal(alone, beside) else "its values"
    a, b = _numbers(alone, datatype), _numbers(beside, datatype)
    is_finite = np.isfinite(a)
    if not np.array_equal(is_finite, np.isfinite(b)):
        return "to or from infinity"
    a, b = a[is_finite], b[is_finite]
    largest = float(max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)))
    difference = float(np.abs(a - b).max(initial=0.0))
    if difference <= ROUNDING[datatype] * largest:
        return None
    return f"by {100 * difference / largest:.3g} % of its largest value"


def _numbers(array: Array, datatype: str) -> Array:
    if datatype == "BF16":  # as words
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)
