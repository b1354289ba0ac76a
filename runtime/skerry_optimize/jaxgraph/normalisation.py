"""Normalisations, and the softmax family."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from skerry_optimize.jaxgraph.registry import GraphNode, Tensor, operator


def _spread(array: Tensor, rank: int) -> Tensor:
    """Return an array of channels as it lies on axis 1 of a tensor."""
    return array.reshape(1, -1, *(1,) * (rank - 2))


@operator("BatchNormalization", last=15)
def batch_norm(
    node: GraphNode, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """Normalise by what was measured when the model was trained."""
    if node.get("training_mode", 0) or len(node.outputs) > 1:
        raise node.refuse("measures its data")
    factor = scale / jnp.sqrt(variance + node.get("epsilon", 1e-5))
    return x * _spread(factor, x.ndim) + _spread(bias - mean * factor, x.ndim)


@operator("InstanceNormalization", last=22)
def instance_norm(node: GraphNode, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalise each channel of each sample."""
    found = _standard(x, tuple(range(2, x.ndim)), node.get("epsilon", 1e-5))
    return found * _spread(scale, x.ndim) + _spread(bias, x.ndim)


@operator("GroupNormalization", last=21, first=21)
def group_norm(node: GraphNode, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalise groups of channels of each sample."""
    apart = x.reshape(x.shape[0], node.get("num_groups"), -1)
    found = _standard(apart, (2,), node.get("epsilon", 1e-5)).reshape(x.shape)
    return found * _spread(scale, x.ndim) + _spread(bias, x.ndim)


@operator("LayerNormalization", last=17)
def layer_norm(node: GraphNode, x: Tensor, scale: Tensor, bias: Tensor = None) -> Tensor:
    """Normalise over all axes from one on; tell mean and spread where they are asked for."""
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    found = _standard(x, axes, node.get("epsilon", 1e-5)) * scale
    found = found if bias is None else found + bias
    if len(node.outputs) == 1:
        return found
    mean, variance = (work(x, axis=axes, keepdims=True) for work in (jnp.mean, jnp.var))
    return found, mean, 1 / jnp.sqrt(variance + node.get("epsilon", 1e-5))


@operator("RMSNormalization", last=23)
def rms_norm(node: GraphNode, x: Tensor, scale: Tensor) -> Tensor:
    """Divide by the root of the mean square over all axes from one on."""
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    mean = jnp.mean(jnp.square(x), axis=axes, keepdims=True)
    return x / jnp.sqrt(mean + node.get("epsilon", 1e-5)) * scale


def _standard(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    centred = x - jnp.mean(x, axis=axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=axes, keepdims=True)
    return centred / jnp.sqrt(variance + epsilon)


@operator("LpNormalization", last=22)
def lp_norm(node: GraphNode, x: Tensor) -> Tensor:
    """Divide by the norm along one axis; of nothing stays nothing."""
    axis = node.get("axis", -1)
    if node.get("p", 2) == 1:
        norm = jnp.sum(jnp.abs(x), axis=axis, keepdims=True)
    else:
        square = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
        norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return jnp.where(norm == 0, 0, x / jnp.where(norm == 0, 1, norm))


@operator("LRN", last=13)
def local_response_norm(node: GraphNode, x: Tensor) -> Tensor:
    """Divide by what the channels beside hold."""
    size = node.get("size")
    before = (size - 1) // 2
    padded = jnp.pad(jnp.square(x), [(0, 0), (before, size - 1 - before), *[(0, 0)] * (x.ndim - 2)])
    sums = sum(padded[:, n : n + x.shape[1]] for n in range(size))
    base = node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * sums
    return x / base ** node.get("beta", 0.75)


@operator("Softmax", last=13, first=13)
def softmax(node: GraphNode, x: Tensor) -> Tensor:
    """Make shares of exponentials along one axis."""
    return jax.nn.softmax(x, axis=node.get("axis", -1))


@operator("LogSoftmax", last=13, first=13)
def log_softmax(node: GraphNode, x: Tensor) -> Tensor:
    """Take the logarithm of the softmax."""
    return jax.nn.log_softmax(x, axis=node.get("axis", -1))
