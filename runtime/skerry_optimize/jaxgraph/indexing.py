"""Operators that take what indices name."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from skerry_optimize.jaxgraph.registry import GraphNode, Tensor, operator


@operator("Gather", last=13)
def gather(node: GraphNode, x: Tensor, indices: Tensor) -> Tensor:
    """Take entries of an axis; negative ones count from its end."""
    return jnp.take(x, jnp.asarray(indices), axis=node.get("axis", 0))


@operator("GatherElements", last=13)
def gather_elements(node: GraphNode, x: Tensor, indices: Tensor) -> Tensor:
    """Take an entry of an axis for each place."""
    axis = node.get("axis", 0) % x.ndim
    grid = list(jnp.indices(indices.shape, sparse=True))
    grid[axis] = jnp.where(indices < 0, indices + x.shape[axis], indices)
    return jnp.asarray(x)[tuple(grid)]


@operator("GatherND", last=13, first=12)
def gather_nd(node: GraphNode, x: Tensor, indices: Tensor) -> Tensor:
    """Take what tuples of indices name."""
    work = _named
    for _ in range(node.get("batch_dims", 0)):
        work = jax.vmap(work)
    return work(jnp.asarray(x), jnp.asarray(indices))


def _named(x: Tensor, indices: Tensor) -> Tensor:
    return x[tuple(jnp.moveaxis(indices, -1, 0))]


@operator("OneHot", last=28)
def one_hot(node: GraphNode, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """Write one value where an index points, and another elsewhere."""
    count = int(node.static(depth, "depth").reshape(-1)[0])
    axis = node.get("axis", -1)
    lines = jnp.arange(count)
    axis = axis if axis >= 0 else axis + indices.ndim + 1
    wanted = jnp.expand_dims(jnp.asarray(indices).astype(int) % count, axis)
    shape = [-1 if n == axis else 1 for n in range(indices.ndim + 1)]
    inside = jnp.expand_dims((indices >= -count) & (indices < count), axis)
    return jnp.where((wanted == lines.reshape(shape)) & inside, values[1], values[0])


@operator("TopK", last=24)
def top_k(node: GraphNode, x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest or smallest of an axis in order, and where they were."""
    axis, taken = node.get("axis", -1) % x.ndim, int(node.static(count, "k").reshape(-1)[0])
    order = jnp.argsort(x, axis=axis, descending=bool(node.get("largest", 1)), stable=True)
    places = jax.lax.slice_in_dim(order, 0, taken, axis=axis)
    return jnp.take_along_axis(jnp.asarray(x), places, axis=axis), places


@operator("Trilu", last=14)
def trilu(node: GraphNode, x: Tensor, k: Tensor = None) -> Tensor:
    """Keep a triangle."""
    offset = 0 if k is None else int(node.static(k, "k"))
    return jnp.triu(x, offset) if node.get("upper", 1) else jnp.tril(x, offset)
