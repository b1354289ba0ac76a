"""Operators that work on every number by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from onnx import helper

from skerry_optimize.jaxgraph.registry import GraphNode, Tensor, operator

_UNARY: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "Abs": (13, jnp.abs),
    "Ceil": (13, jnp.ceil),
    "Cos": (22, jnp.cos),
    "Erf": (13, erf),
    "Exp": (13, jnp.exp),
    "Floor": (13, jnp.floor),
    "HardSwish": (22, lambda x: x * jnp.clip(x / 6 + 0.5, 0, 1)),
    "Identity": (25, lambda x: x),
    "IsNaN": (20, jnp.isnan),
    "Log": (13, jnp.log),
    "Mish": (22, lambda x: x * jnp.tanh(jax.nn.softplus(x))),
    "Neg": (13, jnp.negative),
    "Not": (1, jnp.logical_not),
    "Reciprocal": (13, lambda x: 1 / x),
    "Relu": (14, lambda x: jnp.maximum(x, 0)),
    "Round": (22, jnp.round),
    "Sigmoid": (13, jax.nn.sigmoid),
    "Sign": (13, jnp.sign),
    "Sin": (22, jnp.sin),
    "Softplus": (22, jax.nn.softplus),
    "Softsign": (22, lambda x: x / (1 + jnp.abs(x))),
    "Sqrt": (13, jnp.sqrt),
    "Tanh": (13, jnp.tanh),
}
_BINARY: dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor]]] = {
    "Add": (14, jnp.add),
    "And": (7, jnp.logical_and),
    "Equal": (19, jnp.equal),
    "Greater": (13, jnp.greater),
    "GreaterOrEqual": (16, jnp.greater_equal),
    "Less": (13, jnp.less),
    "LessOrEqual": (16, jnp.less_equal),
    "Mul": (14, jnp.multiply),
    "Or": (7, jnp.logical_or),
    "Sub": (14, jnp.subtract),
    "Xor": (7, jnp.logical_xor),
}
_MANY: dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor]]] = {
    "Max": (13, jnp.maximum),
    "Min": (13, jnp.minimum),
    "Sum": (13, jnp.add),
}
NARROW = {np.dtype(k): np.dtype(v) for k, v in (("i8", "i4"), ("u8", "u4"), ("f8", "f4"))}
"""Types that JAX does not have as it is set up here -> those that stand for them."""


def _unary(work: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda _, x: work(x)


def _binary(work: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda _, x, y: work(x, y)


def _many(work: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda _, *inputs: reduce(work, inputs)


for _kind, (_last, _work) in _UNARY.items():
    operator(_kind, last=_last)(_unary(_work))
for _kind, (_last, _pair) in _BINARY.items():
    operator(_kind, last=_last)(_binary(_pair))
for _kind, (_last, _pair) in _MANY.items():
    operator(_kind, last=_last)(_many(_pair))


@operator("Mean", last=13)
def mean(_: GraphNode, *inputs: Tensor) -> Tensor:
    """Take the mean of several tensors."""
    return reduce(jnp.add, inputs) / len(inputs)


@operator("Div", last=14)
def divide(_: GraphNode, x: Tensor, y: Tensor) -> Tensor:
    """Divide; integers towards zero, as ONNX Runtime does."""
    if jnp.issubdtype(jnp.result_type(x), jnp.integer):
        return jax.lax.div(*jnp.broadcast_arrays(x, y))
    return jnp.divide(x, y)


@operator("Pow", last=15)
def power(_: GraphNode, x: Tensor, y: Tensor) -> Tensor:
    """Raise to a power; small whole ones by multiplication, whose gradient is finite at zero."""
    if isinstance(y, np.ndarray) and y.size == 1 and float(y.reshape(-1)[0]) in (1, 2, 3, 4):
        found = jnp.power(x, int(y.reshape(-1)[0]))
        return jnp.broadcast_to(found, jnp.broadcast_shapes(x.shape, y.shape))
    return jnp.power(x, y).astype(x.dtype)


@operator("Where", last=16)
def where(_: GraphNode, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Choose."""
    return jnp.where(condition, x, y)


@operator("Clip", last=13, first=11)
def clip(_: GraphNode, x: Tensor, low: Tensor = None, high: Tensor = None) -> Tensor:
    """Keep between limits."""
    x = x if low is None else jnp.maximum(x, low)
    return x if high is None else jnp.minimum(x, high)


@operator("Dropout", last=22, first=12)
def dropout(node: GraphNode, x: Tensor, _: Tensor = None, training: Tensor = None) -> Tensor:
    """Do nothing: builds are for inference."""
    if training is not None and node.static(training, "training mode").any():
        raise node.refuse("drops values in inference")
    kept = jnp.ones(x.shape, bool)
    return (x, kept) if len(node.outputs) > 1 else x


@operator("Cast", last=28)
def cast(node: GraphNode, x: Tensor) -> Tensor:
    """Change the type; 64-bit types become the 32-bit ones that stand for them."""
    return jnp.asarray(x).astype(narrow(node, node.get("to")))


@operator("CastLike", last=25)
def cast_like(_: GraphNode, x: Tensor, like: Tensor) -> Tensor:
    """Change the type to another tensor's."""
    dtype = np.dtype(like.dtype)
    return jnp.asarray(x).astype(NARROW.get(dtype, dtype))


def narrow(node: GraphNode, kind: int) -> np.dtype[Any]:
    """Return the type that stands for one of ONNX's."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    if dtype.kind not in "fiub":
        raise node.refuse(f"makes {dtype}, which no step works on")
    return NARROW.get(dtype, dtype)


@operator("LeakyRelu", last=16)
def leaky_relu(node: GraphNode, x: Tensor) -> Tensor:
    """Let a little of what is negative through."""
    return jnp.where(x < 0, node.get("alpha", 0.01) * x, x)


@operator("PRelu", last=16)
def prelu(_: GraphNode, x: Tensor, slope: Tensor) -> Tensor:
    """Let a share of what is negative through."""
    return jnp.where(x < 0, slope * x, x)


@operator("Elu", last=22)
def elu(node: GraphNode, x: Tensor) -> Tensor:
    """Bend what is negative towards -alpha."""
    return jnp.where(x < 0, node.get("alpha", 1.0) * jnp.expm1(jnp.minimum(x, 0)), x)


@operator("Celu", last=28)
def celu(node: GraphNode, x: Tensor) -> Tensor:
    """Bend what is negative towards -alpha, smoothly."""
    return jax.nn.celu(x, node.get("alpha", 1.0))


@operator("Selu", last=22)
def selu(node: GraphNode, x: Tensor) -> Tensor:
    """Bend what is negative, and scale."""
    alpha, gamma = node.get("alpha", 1.6732632), node.get("gamma", 1.0507010)
    return gamma * jnp.where(x <= 0, alpha * jnp.expm1(jnp.minimum(x, 0)), x)


@operator("HardSigmoid", last=22)
def hard_sigmoid(node: GraphNode, x: Tensor) -> Tensor:
    """Go from 0 to 1 in a straight line."""
    return jnp.clip(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0, 1)


@operator("ThresholdedRelu", last=22)
def thresholded_relu(node: GraphNode, x: Tensor) -> Tensor:
    """Let through what is above a threshold."""
    return jnp.where(x > node.get("alpha", 1.0), x, 0)


@operator("Gelu", last=20)
def gelu(node: GraphNode, x: Tensor) -> Tensor:
    """Gate by the normal distribution."""
    if node.get("approximate", "none") == "tanh":
        return 0.5 * x * (1 + jnp.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + erf(x * np.float32(0.5**0.5)))


@operator("Swish", last=24)
def swish(node: GraphNode, x: Tensor) -> Tensor:
    """Gate by the sigmoid."""
    return x * jax.nn.sigmoid(node.get("alpha", 1.0) * x)
