"""Operators that move numbers and change none."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from onnx import numpy_helper

from skerry_optimize.jaxgraph.registry import GraphNode, Tensor, operator


def _whole(node: GraphNode, value: Tensor, role: str) -> list[int]:
    return [int(one) for one in node.static(value, role).reshape(-1)]


@operator("Reshape", last=25)
def reshape(node: GraphNode, x: Tensor, shape: Tensor) -> Tensor:
    """Give other axes: 0 keeps one, -1 takes what is left."""
    wanted = _whole(node, shape, "shape")
    if not node.get("allowzero", 0):
        wanted = [x.shape[n] if size == 0 else size for n, size in enumerate(wanted)]
    return jnp.reshape(x, wanted)


@operator("Flatten", last=25)
def flatten(node: GraphNode, x: Tensor) -> Tensor:
    """Make two axes of all."""
    axis = node.get("axis", 1)
    first = math.prod(x.shape[: axis if axis >= 0 else axis + x.ndim])
    return jnp.reshape(x, (first, math.prod(x.shape) // first if first else 0))


@operator("Transpose", last=25)
def transpose(node: GraphNode, x: Tensor) -> Tensor:
    """Put the axes into another order."""
    return jnp.transpose(x, node.get("perm"))


@operator("Squeeze", last=25, first=13)
def squeeze(node: GraphNode, x: Tensor, axes: Tensor = None) -> Tensor:
    """Drop axes of one."""
    return jnp.squeeze(x, None if axes is None else tuple(_whole(node, axes, "axes")))


@operator("Unsqueeze", last=25, first=13)
def unsqueeze(node: GraphNode, x: Tensor, axes: Tensor) -> Tensor:
    """Put in axes of one."""
    return jnp.expand_dims(x, tuple(_whole(node, axes, "axes")))


@operator("Concat", last=13)
def concat(node: GraphNode, *inputs: Tensor) -> Tensor:
    """Put tensors one behind the other."""
    return jnp.concatenate(inputs, axis=node.get("axis"))


@operator("Split", last=18, first=13)
def split(node: GraphNode, x: Tensor, sizes: Tensor = None) -> tuple[Tensor, ...]:
    """Cut a tensor into parts."""
    axis, count = node.get("axis", 0), len(node.outputs)
    if sizes is None:
        each = -(-x.shape[axis] // count)
        ends = [min(each * n, x.shape[axis]) for n in range(1, count)]
    else:
        ends = np.cumsum(_whole(node, sizes, "sizes"))[:-1].tolist()
    return tuple(jnp.split(jnp.asarray(x), ends, axis=axis))


@operator("Slice", last=13, first=10)
def slice_(
    node: GraphNode,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor = None,
    steps: Tensor = None,
) -> Tensor:
    """Take a part of each axis."""
    first, last = _whole(node, starts, "starts"), _whole(node, ends, "ends")
    over = range(len(first)) if axes is None else _whole(node, axes, "axes")
    by = [1] * len(first) if steps is None else _whole(node, steps, "steps")
    parts = [slice(None)] * x.ndim
    for axis, start, end, step in zip(over, first, last, by, strict=True):
        parts[axis] = _part(x.shape[axis], start, end, step)
    return jnp.asarray(x)[tuple(parts)]


def _part(size: int, start: int, end: int, step: int) -> slice:
    """Return ONNX's slice as one of Python, where a backward one to the beginning ends at None."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    first, last = (
        max(low, min(high, one + size if one < 0 else one)) if one >= -size else low
        for one in (start, end)
    )
    return slice(max(first, 0) if step > 0 else first, None if last < 0 else last, step)


@operator("Expand", last=13)
def expand(node: GraphNode, x: Tensor, shape: Tensor) -> Tensor:
    """Spread over a shape."""
    wanted = tuple(_whole(node, shape, "shape"))
    return jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, wanted))


@operator("Tile", last=13)
def tile(node: GraphNode, x: Tensor, repeats: Tensor) -> Tensor:
    """Repeat along axes."""
    return jnp.tile(x, _whole(node, repeats, "repeats"))


@operator("Pad", last=25, first=11)
def pad(
    node: GraphNode, x: Tensor, pads: Tensor, value: Tensor = None, axes: Tensor = None
) -> Tensor:
    """Put something around; what is negative cuts."""
    given = _whole(node, pads, "pads")
    over = list(range(x.ndim)) if axes is None else _whole(node, axes, "axes")
    sides = [(0, 0)] * x.ndim
    for n, axis in enumerate(over):
        sides[axis] = (given[n], given[n + len(over)])
    parts = [slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(sides, x.shape, strict=True)]
    around = [(max(0, before), max(0, behind)) for before, behind in sides]
    mode = node.get("mode", "constant")
    kept = jnp.asarray(x)[tuple(parts)]
    if mode == "constant":
        filled = 0 if value is None else jnp.reshape(value, ())
        return jnp.pad(kept, around, constant_values=filled)
    return jnp.pad(kept, around, mode=mode)


@operator("Shape", last=25)
def shape(node: GraphNode, x: Tensor) -> np.ndarray[Any, Any]:
    """Return the sizes of the axes; they are known when data is not."""
    return np.array(x.shape[node.get("start", 0) : node.get("end")], np.int64)


@operator("Size", last=25)
def size(_: GraphNode, x: Tensor) -> np.ndarray[Any, Any]:
    """Return how many numbers there are."""
    return np.array(math.prod(x.shape), np.int64)


@operator("Constant", last=25)
def constant(node: GraphNode) -> np.ndarray[Any, Any]:
    """Return what the node holds."""
    value = node.get("value")
    if value is None:
        raise node.refuse("holds no tensor")
    return np.asarray(numpy_helper.to_array(value))


@operator("ConstantOfShape", last=25)
def constant_of_shape(node: GraphNode, shape: Tensor) -> np.ndarray[Any, Any]:
    """Fill a shape with one value."""
    value = node.get("value")
    filled = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)
    return np.full(_whole(node, shape, "shape"), filled[0], filled.dtype)


@operator("Range", last=27)
def range_(node: GraphNode, start: Tensor, limit: Tensor, delta: Tensor) -> np.ndarray[Any, Any]:
    """Count."""
    first, last, step = (node.static(one, "limits") for one in (start, limit, delta))
    return np.arange(first.item(), last.item(), step.item(), dtype=first.dtype)


@operator("DepthToSpace", last=28)
def depth_to_space(node: GraphNode, x: Tensor) -> Tensor:
    """Lay channels out as a picture."""
    count, channels, high, wide = x.shape
    block = node.get("blocksize")
    if node.get("mode", "DCR") == "DCR":
        apart = jnp.reshape(x, (count, block, block, channels // block**2, high, wide))
        moved = jnp.transpose(apart, (0, 3, 4, 1, 5, 2))
    else:
        apart = jnp.reshape(x, (count, channels // block**2, block, block, high, wide))
        moved = jnp.transpose(apart, (0, 1, 4, 2, 5, 3))
    return jnp.reshape(moved, (count, channels // block**2, high * block, wide * block))


@operator("SpaceToDepth", last=28)
def space_to_depth(node: GraphNode, x: Tensor) -> Tensor:
    """Lay a picture out as channels."""
    count, channels, high, wide = x.shape
    block = node.get("blocksize")
    apart = jnp.reshape(x, (count, channels, high // block, block, wide // block, block))
    order = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    moved = jnp.transpose(apart, order)
    return jnp.reshape(moved, (count, channels * block**2, high // block, wide // block))
