"""Which initialisers of a graph are weights that may be trained."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from skerry_optimize.graphs import Weights
from skerry_optimize.jaxgraph.registry import GraphNode

_SLOTS: dict[str, tuple[int, ...]] = {
    "Add": (0, 1),
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "GRU": (1, 2, 3),
    "Gather": (0,),
    "Gemm": (0, 1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "Mul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
    "RNN": (1, 2, 3),
}
"""Operator -> its inputs that are weights where they are initialisers."""
_PASSED_ON = ("Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze")
"""Operators through which weights go on their way, as tied embeddings do."""


def trainable(nodes: Iterable[GraphNode], values: dict[str, Weights]) -> dict[str, Weights]:
    """Return the weights: 32-bit floats, more than one number, finite, used as nothing else."""
    uses: dict[str, list[bool]] = {}
    for node in nodes:
        for slot, name in enumerate(node.inputs):
            if name in values:
                is_weight = slot in _SLOTS.get(node.kind, ())
                uses.setdefault(name, []).append(
                    is_weight or (node.kind in _PASSED_ON and slot == 0)
                )
    return {name: values[name] for name, ways in uses.items() if all(ways) and _can(values[name])}


def _can(array: Weights) -> bool:
    """Tell whether an array is worth training: one number is mostly a constant of a formula."""
    return array.dtype == np.float32 and array.size > 1 and bool(np.isfinite(array).all())
