"""Pools."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from skerry_optimize.jaxgraph.registry import GraphNode, Tensor, operator
from skerry_optimize.jaxgraph.windows import Sweep, window


@operator("MaxPool", last=22)
def max_pool(node: GraphNode, x: Tensor) -> Tensor:
    """Take the largest of each window."""
    if len(node.outputs) > 1:
        raise node.refuse("tells where its largest values were")
    moves = window(node, x.shape[2:], node.get("kernel_shape"))
    lowest = -np.inf if jnp.issubdtype(x.dtype, jnp.floating) else np.iinfo(x.dtype).min
    return _reduced(x, moves, _behind(node, x, moves), lowest, lax.max)


@operator("AveragePool", last=22)
def average_pool(node: GraphNode, x: Tensor) -> Tensor:
    """Take the mean of each window; what lies outside counts only where it is asked for."""
    moves = window(node, x.shape[2:], node.get("kernel_shape"))
    behind = _behind(node, x, moves)
    sums = _reduced(x, moves, behind, 0.0, lax.add)
    return sums / _counts(node, x.shape[2:], moves, behind).astype(np.float32)


def _counts(
    node: GraphNode, sizes: tuple[int, ...], moves: Sweep, behind: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    """Return how many values each window has."""
    rank = len(sizes)
    found: np.ndarray[Any, Any] = np.ones((1, 1, *(1,) * rank), np.int64)
    for axis, (size, (before, after)) in enumerate(zip(sizes, moves.pads, strict=True)):
        edge = 1 if node.get("count_include_pad", 0) else 0
        line = np.pad(np.ones(size, np.int64), (before, after), constant_values=edge)
        line = np.pad(line, (0, behind[axis]))
        kernel, step, hole = moves.kernel[axis], moves.strides[axis], moves.dilations[axis]
        starts = range(0, len(line) - moves.reach[axis] + 1, step)
        counts = np.array([line[s : s + moves.reach[axis] : hole].sum() for s in starts])
        assert kernel >= 1  # noqa: S101 (ONNX says so)
        found = found * counts.reshape(1, 1, *(-1 if n == axis else 1 for n in range(rank)))
    return found


def _behind(node: GraphNode, x: Tensor, moves: Sweep) -> tuple[int, ...]:
    """Return what is missing behind each axis for the last window, when it may be cut."""
    rank = len(moves.kernel)
    if not node.get("ceil_mode", 0):
        return (0,) * rank
    return tuple(
        _missing(x.shape[axis + 2], moves.pads[axis], moves.strides[axis], moves.reach[axis])
        for axis in range(rank)
    )


def _missing(size: int, pads: tuple[int, int], stride: int, reach: int) -> int:
    whole = size + sum(pads)
    count = -(-(whole - reach) // stride) + 1
    if (count - 1) * stride >= size + pads[0]:  # a window that begins behind the input is none
        count -= 1
    return max(0, (count - 1) * stride + reach - whole)


def _reduced(x: Tensor, moves: Sweep, behind: tuple[int, ...], start: Any, work: Any) -> Tensor:
    x = jnp.asarray(x)
    pads = [
        (before, after + more) for (before, after), more in zip(moves.pads, behind, strict=True)
    ]
    return lax.reduce_window(
        x,
        np.asarray(start, x.dtype)[()],
        work,
        (1, 1, *moves.kernel),
        (1, 1, *moves.strides),
        ((0, 0), (0, 0), *pads),
        window_dilation=(1, 1, *moves.dilations),
    )


@operator("GlobalAveragePool", last=22)
def global_average_pool(_: GraphNode, x: Tensor) -> Tensor:
    """Take the mean of each channel."""
    return jnp.mean(x, axis=tuple(range(2, x.ndim)), keepdims=True)


@operator("GlobalMaxPool", last=22)
def global_max_pool(_: GraphNode, x: Tensor) -> Tensor:
    """Take the largest of each channel."""
    return jnp.max(x, axis=tuple(range(2, x.ndim)), keepdims=True)
