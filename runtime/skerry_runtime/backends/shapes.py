"""Fixed shapes: turns the shapes that a variant names into the values of a model's axes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skerry_runtime.backends.base import LoadError

Axis = int | str | None
"""An axis as ONNX has it: a length, the name of a dynamic one, or dynamic without a name."""

Axes = Mapping[str, Sequence[Axis]]
"""Input -> its axes."""

Shapes = Mapping[str, tuple[int, ...]]
"""Input -> its fixed shape."""

FIELD = "spec.variants[].inputShapes"
"""Where a user writes the shapes; every message names it."""


def is_fixed(axes: Axes, wanted: Shapes) -> bool:
    """Tell whether the model has exactly the wanted shapes already."""
    return all(tuple(axes.get(name, ())) == shape for name, shape in wanted.items())


def check_shapes(axes: Axes, wanted: Shapes) -> None:
    """Check that the shapes fit the model's inputs.

    Raises:
        LoadError: an input does not exist, or an axis contradicts the model.
    """
    for name, shape in wanted.items():
        if name not in axes:
            raise LoadError(
                f"{FIELD} names input '{name}', but the model's inputs are "
                f"{', '.join(sorted(axes)) or 'none'}"
            )
        if len(shape) != len(axes[name]):
            raise LoadError(
                f"{FIELD}: input '{name}' has {len(axes[name])} axes {_text(axes[name])}, "
                f"and {len(shape)} are given {_text(shape)}"
            )
        _check_lengths(name, axes[name], shape)


def _check_lengths(name: str, axes: Sequence[Axis], shape: tuple[int, ...]) -> None:
    for index, (axis, length) in enumerate(zip(axes, shape, strict=True)):
        if isinstance(axis, int) and axis >= 0 and axis != length:
            raise LoadError(
                f"{FIELD}: axis {index} of input '{name}' is {axis} in the model, "
                f"and {length} is given: only dynamic axes can be fixed"
            )


def axis_values(axes: Axes, wanted: Shapes) -> dict[str, int]:
    """Return the length of every named axis that the shapes fix.

    Raises:
        LoadError: the shapes contradict the model or each other, or an axis has no name by
            which the engine could be told.
    """
    check_shapes(axes, wanted)
    values: dict[str, int] = {}
    for name, shape in wanted.items():
        for index, (axis, length) in enumerate(zip(axes[name], shape, strict=True)):
            if axis is None:
                raise LoadError(_nameless(name, index))
            if isinstance(axis, str) and values.setdefault(axis, length) != length:
                raise LoadError(
                    f"{FIELD}: axis '{axis}' is one axis in the model and cannot be both "
                    f"{values[axis]} and {length}"
                )
    return values


def require_static(axes: Axes) -> None:
    """Check that no axis is dynamic any more.

    Raises:
        LoadError: one is; the text names all of them.
    """
    dynamic = [
        f"{name}[{index}]" + (f" ('{axis}')" if isinstance(axis, str) else "")
        for name, shape in axes.items()
        for index, axis in enumerate(shape)
        if not isinstance(axis, int) or axis < 0
    ]
    if dynamic:
        raise LoadError(
            f"this accelerator needs static shapes, and these axes are dynamic: "
            f"{', '.join(dynamic)}; set {FIELD} for them"
        )


def _nameless(name: str, index: int) -> str:
    return (
        f"{FIELD}: axis {index} of input '{name}' is dynamic and has no name, so it cannot be "
        f"fixed here: export the model with that length, or with a name for the axis "
        f"(dynamic_axes={{'{name}': {{{index}: 'batch'}}}})"
    )


def _text(axes: Sequence[Axis]) -> str:
    return "[" + ", ".join("?" if axis is None else str(axis) for axis in axes) + "]"
