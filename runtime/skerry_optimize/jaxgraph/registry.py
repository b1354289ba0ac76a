"""Which operators are known, by kind and version, and what a node says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper
from typing_extensions import override

Tensor = Any
"""A numpy array where its value is known beforehand, one of JAX elsewhere; None: not given."""
Handler = Callable[..., Any]
"""Takes a node and its inputs, and returns its output, or a tuple of them."""
_HANDLERS: dict[str, tuple[Known, ...]] = {}


class UnknownOperator(Exception):  # noqa: N818 (as the others here)
    """A node does what nobody knows here; the text names it, without a remedy."""


@dataclass(frozen=True)
class Known:
    """An operator in those versions of its definition that mean the same."""

    first: int
    last: int
    handler: Handler


@dataclass(frozen=True)
class GraphNode:
    """One node, read."""

    name: str
    kind: str
    version: int
    """Opset in which its definition was last changed."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    trains: bool = False
    """Whether it is to be quick in training, rather than to be what it was when it is converted."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value."""
        return self.attributes.get(name, default)

    def static(self, value: Tensor, role: str) -> np.ndarray[Any, Any]:
        """Return a value that has to be known before data is.

        Raises:
            UnknownOperator: it follows from data.
        """
        if isinstance(value, np.ndarray | np.generic):
            return np.asarray(value)
        raise UnknownOperator(f"{self} takes its {role} from data")

    def refuse(self, what: str) -> UnknownOperator:
        """Return the error for a use of the operator that is not known."""
        return UnknownOperator(f"{self} {what}")

    @override
    def __str__(self) -> str:
        return f"node {self.name!r} ({self.kind})"


def operator(kind: str, *, last: int, first: int = 1) -> Callable[[Handler], Handler]:
    """Say that a function does what the definitions from `first` to `last` say."""

    def register(handler: Handler) -> Handler:
        _HANDLERS[kind] = (*_HANDLERS.get(kind, ()), Known(first, last, handler))
        return handler

    return register


def kinds() -> frozenset[str]:
    """Return all operators that are known."""
    return frozenset(_HANDLERS)


def handler_of(node: GraphNode) -> Handler:
    """Return what carries the node out.

    Raises:
        UnknownOperator: nothing does.
    """
    found = [one for one in _HANDLERS.get(node.kind, ()) if one.first <= node.version <= one.last]
    if found:
        return found[0].handler
    if node.kind in _HANDLERS:
        raise UnknownOperator(f"{node} has the meaning of opset {node.version}, which is not known")
    raise UnknownOperator(f"{node} is an operator that is not known")


def read_node(node: onnx.NodeProto, opset: int, *, trains: bool) -> GraphNode:
    """Return the node.

    Raises:
        UnknownOperator: it is of another domain, carries graphs, or no such operator exists.
    """
    name = node.name or (node.output[0] if node.output else "")
    kind = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    found = GraphNode(name, kind, opset, tuple(node.input), tuple(node.output))
    if any(one.HasField("g") or one.graphs for one in node.attribute):
        raise found.refuse("carries graphs of its own")
    if kind != node.op_type:
        raise found.refuse("is of another domain")
    try:
        version = defs.get_schema(node.op_type, opset).since_version
    except defs.SchemaError as err:
        raise found.refuse(f"does not exist in opset {opset}") from err
    values = {one.name: _plain(helper.get_attribute_value(one)) for one in node.attribute}
    return GraphNode(name, kind, version, found.inputs, found.outputs, values, trains)


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
