"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax.scipy.special import logsumexp

from skerry_optimize.jaxgraph.registry import GraphNode, Tensor, operator

_Work = Callable[..., Tensor]

_REDUCTIONS: dict[str, tuple[int, _Work]] = {
    "ReduceL1": (18, lambda x, **how: jnp.sum(jnp.abs(x), **how)),
    "ReduceL2": (18, lambda x, **how: jnp.sqrt(jnp.sum(jnp.square(x), **how))),
    "ReduceLogSum": (28, lambda x, **how: jnp.log(jnp.sum(x, **how))),
    "ReduceLogSumExp": (28, logsumexp),
    "ReduceMax": (20, jnp.max),
    "ReduceMean": (18, jnp.mean),
    "ReduceMin": (20, jnp.min),
    "ReduceProd": (18, jnp.prod),
    "ReduceSum": (13, jnp.sum),
    "ReduceSumSquare": (18, lambda x, **how: jnp.sum(jnp.square(x), **how)),
}


def _reduction(work: _Work) -> _Work:
    def reduced(node: GraphNode, x: Tensor, axes: Tensor = None) -> Tensor:
        wanted = node.get("axes") if axes is None else node.static(axes, "axes").tolist()
        if not wanted and node.get("noop_with_empty_axes", 0):
            return x
        over = tuple(int(axis) for axis in wanted) if wanted else None
        return work(x, axis=over, keepdims=bool(node.get("keepdims", 1)))

    return reduced


for _kind, (_last, _work) in _REDUCTIONS.items():
    operator(_kind, last=_last)(_reduction(_work))


def _place(node: GraphNode, x: Tensor, work: _Work) -> Tensor:
    axis = node.get("axis", 0) % x.ndim
    if node.get("select_last_index", 0):
        found = x.shape[axis] - 1 - work(jnp.flip(x, axis), axis=axis)
    else:
        found = work(x, axis=axis)
    return jnp.expand_dims(found, axis) if node.get("keepdims", 1) else found


@operator("ArgMax", last=13)
def arg_max(node: GraphNode, x: Tensor) -> Tensor:
    """Return where the largest is."""
    return _place(node, x, jnp.argmax)


@operator("ArgMin", last=13)
def arg_min(node: GraphNode, x: Tensor) -> Tensor:
    """Return where the smallest is."""
    return _place(node, x, jnp.argmin)


@operator("CumSum", last=14)
def cum_sum(node: GraphNode, x: Tensor, axis: Tensor) -> Tensor:
    """Sum up along an axis."""
    over = int(node.static(axis, "axis"))
    turned = jnp.flip(x, over) if node.get("reverse", 0) else jnp.asarray(x)
    found = jnp.cumsum(turned, axis=over)
    found = found - turned if node.get("exclusive", 0) else found
    return jnp.flip(found, over) if node.get("reverse", 0) else found
