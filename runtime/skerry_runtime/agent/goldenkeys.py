"""Finds out which form a golden file has: from its keys and shapes, and the model's inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

from skerry_runtime.agent.convert import require_datatype
from skerry_runtime.agent.golden import (
    GoldenForm,
    NumberedArrays,
    SampleRows,
    Spread,
    WholeRequests,
)
from skerry_runtime.agent.npz import Arrays
from skerry_runtime.agent.score import EXPECTED_KEY, LABELS_KEY, Array, InvalidExam
from skerry_runtime.backends.base import ModelMetadata, TensorSpec

SOLE_INPUT_KEY = "inputs"

_OF_A_REQUEST = re.compile(r"(0|[1-9][0-9]{0,5})/(.+)", re.DOTALL)


@dataclass(frozen=True)
class GoldenKeys:
    """A golden file's arrays, by full keys: an input's name, LABELS_KEY, or `expected_OUTPUT`."""

    whole: Mapping[str, Array]
    numbered: NumberedArrays
    metadata: ModelMetadata

    @property
    def answers(self) -> tuple[str, ...]:
        """Keys of everything that answers can be held against."""
        keys = (*self.whole, *(key for _, key in self.numbered))
        known = {f"{EXPECTED_KEY}_{spec.name}" for spec in self.metadata.outputs} | {LABELS_KEY}
        return tuple(dict.fromkeys(key for key in keys if key in known))


def sort_keys(arrays: Arrays, metadata: ModelMetadata) -> GoldenKeys:
    """Tell the arrays of single requests from the others, and give all of them full keys."""
    inputs = {spec.name for spec in metadata.inputs}
    whole: dict[str, Array] = {}
    numbered: dict[tuple[int, str], Array] = {}
    for key, array in arrays.items():
        found = None if key in inputs else _OF_A_REQUEST.fullmatch(key)
        if found:
            numbered[int(found[1]), _full(found[2], metadata)] = array
        else:
            whole[_full(key, metadata)] = array
    specs = tuple(_declared(spec, whole, numbered) for spec in metadata.inputs)
    return GoldenKeys(whole, numbered, replace(metadata, inputs=specs))


def _declared(spec: TensorSpec, whole: Mapping[str, Array], numbered: NumberedArrays) -> TensorSpec:
    """Give an input without a declared shape that of the file's array: rows of samples."""
    if not spec.any_shape:
        return spec
    if spec.name in whole:
        shape = whole[spec.name].shape
        return replace(spec, shape=(-1, *shape[1:]) if shape else ())
    own = (array for (_, key), array in numbered.items() if key == spec.name)
    return replace(spec, shape=(-1,) * next((array.ndim for array in own), 0))


def read_form(keys: GoldenKeys, wanted: tuple[str, ...]) -> GoldenForm:
    """Return the questions with the wanted answers, in the form that the file has.

    Raises:
        InvalidExam: a key is missing, its shape, type or length does not fit.
    """
    for spec in keys.metadata.inputs:
        _require_input(spec, keys)
    for key in wanted:
        _require_answer(key, keys)
    if _are_rows(keys, wanted):
        return _samples(keys, wanted)
    return _requests(keys, wanted)


def _full(key: str, metadata: ModelMetadata) -> str:
    if key == SOLE_INPUT_KEY and len(metadata.inputs) == 1:
        return metadata.inputs[0].name
    if key == EXPECTED_KEY and metadata.outputs:
        return f"{EXPECTED_KEY}_{metadata.outputs[0].name}"
    return key


def _require_input(spec: TensorSpec, keys: GoldenKeys) -> None:
    """Check that the input is there, and that it can be of the model's type."""
    found = list(_arrays_of(spec.name, keys))
    if not found:
        hint = f" or '{SOLE_INPUT_KEY}'" if len(keys.metadata.inputs) == 1 else ""
        raise InvalidExam(f"the golden file has no array '{spec.name}'{hint}")
    for array in found:
        require_datatype(spec, array)


def _require_answer(key: str, keys: GoldenKeys) -> None:
    strange = next((a.dtype for a in _arrays_of(key, keys) if a.dtype.kind not in "biufUS"), None)
    if strange is not None:
        raise InvalidExam(f"array '{key}' is {strange}: only numbers and texts can be answers")


def _arrays_of(key: str, keys: GoldenKeys) -> Iterator[Array]:
    if key in keys.whole:
        yield keys.whole[key]
    yield from (array for (_, name), array in keys.numbered.items() if name == key)


def _are_rows(keys: GoldenKeys, wanted: tuple[str, ...]) -> bool:
    """Tell whether all arrays have a row for each sample, scalars aside."""
    rows = [spec for spec in keys.metadata.inputs if spec.shape or spec.any_shape]
    sizes = {spec.shape[0] for spec in rows if spec.shape and spec.shape[0] > 0}
    if keys.numbered or not rows or len(sizes) > 1:
        return False
    lengths = {len(keys.whole[spec.name]) for spec in rows if _is_row_like(spec, keys.whole)}
    are_alike = all(_is_row_like(spec, keys.whole) for spec in rows) and len(lengths) == 1
    scalars = [spec for spec in keys.metadata.inputs if spec not in rows]
    if not are_alike or any(keys.whole[spec.name].ndim for spec in scalars):
        return False
    # Labels of another number are an error; expected outputs may be those of one whole request.
    expected = [keys.whole[key] for key in wanted if key != LABELS_KEY]
    return all(array.ndim and len(array) in lengths for array in expected)


def _is_row_like(spec: TensorSpec, arrays: Mapping[str, Array]) -> bool:
    array = arrays[spec.name]
    return array.ndim > 0 and (spec.any_shape or _matches(spec.shape[1:], array.shape[1:]))


def _takes(spec: TensorSpec, array: Array) -> bool:
    return spec.any_shape or _matches(spec.shape, array.shape)


def _matches(declared: tuple[int, ...], found: tuple[int, ...]) -> bool:
    return len(declared) == len(found) and all(
        d in (-1, f) for d, f in zip(declared, found, strict=True)
    )


def _samples(keys: GoldenKeys, wanted: tuple[str, ...]) -> SampleRows:
    inputs = {spec.name: keys.whole[spec.name] for spec in keys.metadata.inputs}
    answers = {key: keys.whole[key] for key in wanted}
    rows = {name: array for name, array in inputs.items() if array.ndim}
    count = _common_length({**rows, **answers})
    return SampleRows(count, inputs, answers, keys.metadata)


def _common_length(arrays: Mapping[str, Array]) -> int:
    lengths = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    first = next(iter(lengths.values()), 0)
    other = next((name for name, length in lengths.items() if length != first), None)
    if other is not None:
        raise InvalidExam(f"array '{other}' holds {lengths[other]} samples, others hold {first}")
    if first == 0:
        raise InvalidExam("the golden file holds no sample")
    return first


def _requests(keys: GoldenKeys, wanted: tuple[str, ...]) -> WholeRequests:
    count = _count_of_requests(keys)
    has_axis = count is not None
    specs = [spec for spec in keys.metadata.inputs if spec.name in keys.whole]
    spread = {spec.name: _spread(spec, keys.whole[spec.name], count) for spec in specs}
    answers = [key for key in wanted if key in keys.whole]
    spread |= dict.fromkeys(answers, Spread.AXIS if has_axis else Spread.WHOLE)
    for key in (key for key, how in spread.items() if how is Spread.AXIS):
        _require_length(key, keys.whole[key], count)
    _require_numbered(keys, wanted, count or 1)
    return WholeRequests(count or 1, keys.whole, spread, keys.numbered, wanted, keys.metadata)


def _count_of_requests(keys: GoldenKeys) -> int | None:
    """Return how many requests there are; None: a single one, and no array has an axis for it."""
    counts = {f"{number}/...": number + 1 for number in _highest(keys)}
    for spec in keys.metadata.inputs:
        array = keys.whole.get(spec.name)
        if array is not None and _has_axis_before(spec, array):
            counts[spec.name] = len(array)
    if not counts:
        counts = _counts_of_batches_of_one(keys)
    first = next(iter(counts.values()), None)
    other = next((name for name, count in counts.items() if count != first), None)
    if other is not None:
        raise InvalidExam(f"array '{other}' holds {counts[other]} requests, others hold {first}")
    if first == 0:
        raise InvalidExam("the golden file holds no request")
    return first


def _highest(keys: GoldenKeys) -> tuple[int, ...]:
    numbers = [number for number, _ in keys.numbered]
    return (max(numbers),) if numbers else ()


def _has_axis_before(spec: TensorSpec, array: Array) -> bool:
    if spec.any_shape:  # any number of axes is one that the model takes
        return False
    return array.ndim == len(spec.shape) + 1 and _matches(spec.shape, array.shape[1:])


def _counts_of_batches_of_one(keys: GoldenKeys) -> dict[str, int]:
    """Return the inputs that fit the model row by row only, and how many rows they have."""
    specs = [spec for spec in keys.metadata.inputs if spec.name in keys.whole]
    unfit = [spec for spec in specs if not _takes(spec, keys.whole[spec.name])]
    for spec in unfit:
        if spec.shape[:1] != (1,) or not _is_row_like(spec, keys.whole):
            _refuse_shape(spec, keys.whole[spec.name])
    return {spec.name: len(keys.whole[spec.name]) for spec in unfit}


def _spread(spec: TensorSpec, array: Array, count: int | None) -> Spread:
    """Tell what a request gets of an input.

    Raises:
        InvalidExam: the model takes neither all of it nor a part.
    """
    if count is not None and _has_axis_before(spec, array):
        return Spread.AXIS
    is_one_a_row = spec.shape[:1] in ((-1,), (1,)) and array.shape[:1] == (count,)
    if is_one_a_row and _matches(spec.shape[1:], array.shape[1:]):
        return Spread.ROW
    if not _takes(spec, array):
        _refuse_shape(spec, array)
    return Spread.WHOLE


def _refuse_shape(spec: TensorSpec, array: Array) -> NoReturn:
    raise InvalidExam(
        f"array '{spec.name}' has shape {list(array.shape)}, the model takes {list(spec.shape)}"
    )


def _require_length(key: str, array: Array, count: int | None) -> None:
    found = len(array) if array.ndim else 0
    if found != count:
        raise InvalidExam(f"array '{key}' holds {found} requests, others hold {count}")


def _require_numbered(keys: GoldenKeys, wanted: tuple[str, ...], count: int) -> None:
    """Check that what single requests have of their own fits, and is there for each of them."""
    specs = {spec.name: spec for spec in keys.metadata.inputs}
    for (number, key), array in keys.numbered.items():
        if key in specs and not _takes(specs[key], array):
            _refuse_shape(TensorSpec(f"{number}/{key}", "", specs[key].shape), array)
    for key in (*specs, *wanted):
        missing = next((n for n in range(count) if (n, key) not in keys.numbered), None)
        if key not in keys.whole and missing is not None:
            raise InvalidExam(f"the golden file has no array '{missing}/{key}'")
