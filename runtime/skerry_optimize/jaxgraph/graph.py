"""The interpreter: one graph as a function of weights and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import onnx

from skerry_optimize.graphs import Weights, opset, weights_of
from skerry_optimize.jaxgraph import (  # noqa: F401 (each registers its operators)
    convolution,
    elementwise,
    indexing,
    matrix,
    normalisation,
    pooling,
    recurrent,
    reduction,
    resizing,
    shaping,
)
from skerry_optimize.jaxgraph.folding import folded
from skerry_optimize.jaxgraph.registry import (
    GraphNode,
    Handler,
    Tensor,
    UnknownOperator,
    handler_of,
    read_node,
)
from skerry_optimize.jaxgraph.weights import trainable

_ALWAYS_KNOWN = ("Shape", "Size")
"""Operators whose output follows from the shape of what they take."""


@dataclass(frozen=True)
class Line:
    """A node with what carries it out."""

    node: GraphNode
    proto: onnx.NodeProto
    handler: Handler


class JaxGraph:
    """A graph that can be run, differentiated and traced.

    Calling it with weights and a feed (name -> array, each as the graph declares it) returns
    name -> array of the outputs. Sizes must be known while it is traced: every size of a batch is
    a trace of its own.
    """

    def __init__(self, model: onnx.ModelProto, *, trains: bool = False) -> None:
        """Read a model that was tidied; `trains`: it is to be quick in training.

        Raises:
            UnknownOperator: a node is not on the list; the text names it.
        """
        self._opset = opset(model)
        self._lines = [_line(node, self._opset, trains=trains) for node in model.graph.node]
        values = weights_of(model)
        self.weights: dict[str, Weights] = trainable((one.node for one in self._lines), values)
        self._known = {n: v for n, v in values.items() if n not in self.weights}
        self.outputs = tuple(one.name for one in model.graph.output)

    def __call__(
        self, weights: Mapping[str, Tensor], feed: Mapping[str, Tensor]
    ) -> dict[str, jax.Array]:
        """Return the outputs.

        Raises:
            UnknownOperator: a node needs beforehand what follows from data.
        """
        values: dict[str, Tensor] = {"": None, **self._known, **weights}
        values.update({name: jax.numpy.asarray(array) for name, array in feed.items()})
        for line in self._lines:
            given = [values[name] for name in line.node.inputs]
            made = self._carried_out(line, given)
            values.update(zip(line.node.outputs, made, strict=False))
            values[""] = None
        return {name: jax.numpy.asarray(values[name]) for name in self.outputs}

    def _carried_out(self, line: Line, given: list[Tensor]) -> tuple[Tensor, ...]:
        known = all(isinstance(one, np.ndarray | None) for one in given)
        if known and line.node.kind not in (*_ALWAYS_KNOWN, "Constant"):
            return folded(line.node, line.proto, self._opset, given)
        try:
            made = line.handler(line.node, *given)
        except (TypeError, ValueError) as err:
            raise UnknownOperator(f"{line.node} cannot be done: {_short(err)}") from err
        return made if isinstance(made, tuple) else (made,)


def _line(proto: onnx.NodeProto, version: int, *, trains: bool) -> Line:
    node = read_node(proto, version, trains=trains)
    return Line(node, proto, handler_of(node))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def run(model: onnx.ModelProto, feed: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the outputs for one feed, compiled.

    Raises:
        UnknownOperator: a node is not on the list.
    """
    graph = JaxGraph(model)
    made = jax.jit(graph)(graph.weights, dict(feed))
    return {name: np.asarray(made[name]) for name in graph.outputs}
