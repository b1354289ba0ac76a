"""Operators that multiply matrices."""

from __future__ import annotations

import jax.numpy as jnp

from skerry_optimize.jaxgraph.registry import GraphNode, Tensor, operator


@operator("MatMul", last=13)
def matmul(_: GraphNode, x: Tensor, y: Tensor) -> Tensor:
    """Multiply the matrices of the last two axes."""
    return jnp.matmul(x, y)


@operator("Gemm", last=13)
def gemm(node: GraphNode, x: Tensor, y: Tensor, bias: Tensor = None) -> Tensor:
    """Multiply two matrices, and add."""
    x = x.T if node.get("transA", 0) else x
    y = y.T if node.get("transB", 0) else y
    found = jnp.matmul(x, y)
    if (alpha := node.get("alpha", 1.0)) != 1:
        found = found * alpha
    if bias is None:
        return found
    beta = node.get("beta", 1.0)
    return found + (bias if beta == 1 else bias * beta)


@operator("Einsum", last=28)
def einsum(node: GraphNode, *inputs: Tensor) -> Tensor:
    """Sum products, as an equation says."""
    return jnp.einsum(node.get("equation").replace(" ", ""), *inputs)
