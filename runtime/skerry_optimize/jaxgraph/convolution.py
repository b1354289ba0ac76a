"""Convolutions, over any number of axes, with groups."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from skerry_optimize.jaxgraph.registry import GraphNode, Tensor, operator
from skerry_optimize.jaxgraph.windows import Sweep, window


@operator("Conv", last=22)
def conv(node: GraphNode, x: Tensor, weights: Tensor, bias: Tensor = None) -> Tensor:
    """Convolve; x is [samples, channels, ...], weights [made, taken of a group, ...]."""
    moves = window(node, x.shape[2:], weights.shape[2:])
    if node.trains and weights.shape[1] == 1 and node.get("group", 1) == x.shape[1]:
        return _with_bias(_by_taps(jnp.asarray(x), jnp.asarray(weights), moves), bias)
    found = lax.conv_general_dilated(
        jnp.asarray(x),
        jnp.asarray(weights),
        moves.strides,
        moves.pads,
        rhs_dilation=moves.dilations,
        feature_group_count=node.get("group", 1),
    )
    return _with_bias(found, bias)


def _by_taps(x: Tensor, weights: Tensor, moves: Sweep) -> Tensor:
    """Convolve each channel by itself: a product for each place of the kernel.

    The same as a convolution of as many groups as channels, which XLA's CPU kernels are hundreds of
    times slower at, forwards and backwards.
    """
    x = jnp.repeat(x, weights.shape[0] // x.shape[1], axis=1)
    padded = jnp.pad(x, [(0, 0), (0, 0), *moves.pads])
    sizes = [
        (size - reach) // stride + 1
        for size, reach, stride in zip(padded.shape[2:], moves.reach, moves.strides, strict=True)
    ]
    total: Tensor = 0
    for tap in np.ndindex(*moves.kernel):
        starts = [n * d for n, d in zip(tap, moves.dilations, strict=True)]
        parts = [
            slice(start, start + (size - 1) * stride + 1, stride)
            for start, size, stride in zip(starts, sizes, moves.strides, strict=True)
        ]
        factor = weights[(slice(None), 0, *tap)].reshape(1, -1, *(1,) * len(tap))
        total = total + padded[(slice(None), slice(None), *parts)] * factor
    return total


@operator("ConvTranspose", last=22)
def conv_transpose(node: GraphNode, x: Tensor, weights: Tensor, bias: Tensor = None) -> Tensor:
    """Do the gradient of a convolution; weights are [taken, made of a group, ...]."""
    groups = node.get("group", 1)
    moves = transposed(node, x.shape[2:], weights.shape[2:])
    found = lax.conv_general_dilated(
        jnp.asarray(x),
        _turned(jnp.asarray(weights), groups),
        (1,) * len(moves.strides),
        moves.pads,
        lhs_dilation=moves.strides,
        rhs_dilation=moves.dilations,
        feature_group_count=groups,
    )
    return _with_bias(found, bias)


def transposed(node: GraphNode, sizes: Sequence[int], kernel: Sequence[int]) -> Sweep:
    """Return how a kernel moves over axes that its strides have spread out."""
    rank = len(sizes)
    strides = tuple(node.get("strides", (1,) * rank))
    extra = tuple(node.get("output_padding", (0,) * rank))
    dilations = tuple(node.get("dilations", (1,) * rank))
    bare = Sweep(tuple(kernel), strides, dilations, ((0, 0),) * rank)
    full = [
        stride * (size - 1) + more + reach
        for stride, size, more, reach in zip(strides, sizes, extra, bare.reach, strict=True)
    ]
    cut = _cut(node, full, [size * stride for size, stride in zip(sizes, strides, strict=True)])
    pads = tuple(
        (reach - 1 - before, reach - 1 - behind + more)
        for reach, (before, behind), more in zip(bare.reach, cut, extra, strict=True)
    )
    return Sweep(bare.kernel, strides, dilations, pads)


def _cut(node: GraphNode, full: list[int], same: list[int]) -> list[tuple[int, int]]:
    """Return what is cut off each axis, before and behind."""
    auto = node.get("auto_pad", "NOTSET")
    wanted = node.get("output_shape")
    if wanted is None and auto in ("NOTSET", "VALID"):
        given = node.get("pads", (0,) * 2 * len(full)) if auto == "NOTSET" else (0,) * 2 * len(full)
        return [(given[n], given[n + len(full)]) for n in range(len(full))]
    ends = same if wanted is None else wanted[-len(full) :]
    totals = [size - end for size, end in zip(full, ends, strict=True)]
    halves = [(total // 2, total - total // 2) for total in totals]
    return halves if auto == "SAME_UPPER" else [(more, less) for less, more in halves]


def _turned(weights: Tensor, groups: int) -> Tensor:
    """Return the weights as those of a convolution: [made, taken of a group, ...], mirrored."""
    taken, made, *kernel = weights.shape
    apart = weights.reshape(groups, taken // groups, made, *kernel).swapaxes(1, 2)
    whole = apart.reshape(groups * made, taken // groups, *kernel)
    return jnp.flip(whole, axis=range(2, whole.ndim))


def _with_bias(found: Tensor, bias: Tensor) -> Tensor:
    return found if bias is None else found + bias.reshape(1, -1, *(1,) * (found.ndim - 2))
