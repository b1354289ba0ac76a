"""Models that builds are made of: an MLP and a CNN that know the digits, and other graphs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.neural_network import MLPClassifier

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Digits:
    """The data set, divided."""

    training: Floats
    training_labels: npt.NDArray[np.int64]
    held_out: Floats
    held_out_labels: npt.NDArray[np.int64]


@cache
def digits() -> Digits:
    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16).astype(np.float32), labels.astype(np.int64)
    order = np.random.default_rng(1).permutation(len(images))
    first, rest = order[540:], order[:540]
    return Digits(images[first], labels[first], images[rest], labels[rest])


class GraphBuilder:
    """Makes an ONNX graph line by line."""

    def __init__(self, shape: tuple[Any, ...], *, opset: int = 17, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, npt.NDArray[Any]] = {}
        self._input = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        self._opset = opset

    def weight(self, array: npt.NDArray[Any]) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def drawn(self, *shape: int) -> str:
        return self.weight(self.random.normal(size=shape).astype(np.float32))

    def he(self, taken: int, made: int) -> str:
        """Weights of a layer, drawn so that answers keep in range (He et al. 2015)."""
        drawn = self.random.normal(size=(taken, made)) * (2 / taken) ** 0.5
        return self.weight(drawn.astype(np.float32))

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, list(inputs), [name], name=f"{kind}_{name}", **attributes)
        )
        return name

    def conv(self, x: str, taken: int, made: int, size: int = 3, group: int = 1) -> str:
        drawn = self.random.normal(size=(made, taken // group, size, size))
        scale = (2 / (taken // group * size * size)) ** 0.5  # He et al. 2015: answers keep in range
        weights = self.weight((drawn * scale).astype(np.float32))
        pads = [size // 2] * 4
        return self.add("Conv", x, weights, self.drawn(made), group=group, pads=pads)

    def gemm(self, x: str, taken: int, made: int) -> str:
        return self.add("Gemm", x, self.drawn(taken, made), self.drawn(made))

    def batch_norm(self, x: str, count: int) -> str:
        spread = self.weight(np.abs(self.random.normal(size=count)).astype(np.float32) + 0.5)
        return self.add(
            "BatchNormalization", x, self.drawn(count), self.drawn(count), self.drawn(count), spread
        )

    def model(self, output: str, shape: tuple[Any, ...] | None = None) -> bytes:
        made = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        weights = [numpy_helper.from_array(a, n) for n, a in self.weights.items()]
        graph = helper.make_graph(self.nodes, "g", [self._input], [made], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)])
        model.ir_version = 8
        return model.SerializeToString()


@cache
def mlp() -> bytes:
    """64-128-64-10, trained."""
    known = digits()
    trained = MLPClassifier((128, 64), max_iter=400, random_state=1, tol=0.01, n_iter_no_change=5)
    trained.fit(known.training, known.training_labels)
    made = GraphBuilder(("n", 64))
    x = "x"
    for place, (weights, bias) in enumerate(zip(trained.coefs_, trained.intercepts_, strict=True)):
        names = [made.weight(array.astype(np.float32)) for array in (weights, bias)]
        x = made.add("Gemm", x, *names)
        if place < 2:
            x = made.add("Relu", x)
    return made.model(x, ("n", 10))


@cache
def cnn() -> bytes:
    """Three convolutions, drawn, and a layer over them that was trained."""
    known = digits()
    trunk, tip = _trunk()
    session = ort.InferenceSession(trunk.model(tip), providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {"x": known.training.reshape(-1, 1, 8, 8)})
    trained = RidgeClassifier(alpha=1.0).fit(features, known.training_labels)
    made, tip = _trunk()
    weights = made.weight(trained.coef_.T.astype(np.float32))
    bias = made.weight(trained.intercept_.astype(np.float32))
    return made.model(made.add("Gemm", tip, weights, bias), ("n", 10))


@cache
def tiny() -> bytes:
    """64-16-10, drawn: a student of `mlp`, more than eight times smaller."""
    made = GraphBuilder(("n", 64), seed=4)
    hidden = made.add("Relu", made.add("MatMul", "x", made.he(64, 16)))
    return made.model(made.add("MatMul", hidden, made.he(16, 10)), ("n", 10))


def data_of(model: str) -> dict[str, npt.NDArray[Any]]:
    """Return inputs to calibrate with, as `mlp` or `cnn` takes them."""
    rows = digits().training[:300]
    return {"x": rows.reshape(-1, 1, 8, 8) if model == "cnn" else rows}


def golden_of(model: str) -> dict[str, npt.NDArray[Any]]:
    rows = digits().held_out
    x = rows.reshape(-1, 1, 8, 8) if model == "cnn" else rows
    return {"x": x, "labels": digits().held_out_labels}


def _trunk() -> tuple[GraphBuilder, str]:
    made = GraphBuilder(("n", 1, 8, 8), seed=3)
    x = made.add("Relu", made.conv("x", 1, 16))
    x = made.add("Relu", made.conv(x, 16, 32))
    x = made.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = made.add("Relu", made.conv(x, 32, 32))
    return made, made.add("Flatten", x)
