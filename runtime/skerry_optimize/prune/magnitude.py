"""Unstructured pruning: in each layer, the weights that are nearest to zero become zero.

The L1 magnitude criterion of Han et al. 2015, "Learning both Weights and Connections for Efficient
Neural Networks", by layer, with as many weights as torch.nn.utils.prune.l1_unstructured takes.
"""

from __future__ import annotations

import numpy as np
import onnx

from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import Weights, put_weights, weights_of

_WEIGHT_INPUT = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}


def prune_magnitude(model: onnx.ModelProto, share: float) -> onnx.ModelProto:
    """Return the model with that share of each layer's weights set to zero.

    Neither the file nor its runs become smaller by that: zeros pay where the file is compressed.

    Raises:
        StepRefused: no layer has weights of its own.
    """
    weights = weights_of(model)
    names = {
        node.input[_WEIGHT_INPUT[node.op_type]]
        for node in model.graph.node
        if node.op_type in _WEIGHT_INPUT
    }
    found = {
        name: zeroed(weights[name], share)
        for name in sorted(names)
        if name in weights and weights[name].dtype.kind == "f"
    }
    if not found:
        raise StepRefused(
            "prune: no Conv, ConvTranspose, Gemm or MatMul has float weights of its own"
        )
    pruned = onnx.ModelProto()
    pruned.CopyFrom(model)
    put_weights(pruned, found)
    return pruned


def zeroed(weights: Weights, share: float) -> Weights:
    """Return the array with round(share x size) of its smallest magnitudes as zero.

    Of equal ones those that come first go first.
    """
    flat = weights.reshape(-1).copy()
    count = round(share * flat.size)
    flat[np.argsort(np.abs(flat), kind="stable")[:count]] = 0
    return flat.reshape(weights.shape)
