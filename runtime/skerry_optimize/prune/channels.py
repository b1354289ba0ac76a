"""Which channels of a graph belong together, so that they can only be taken out together.

Every channel of a tensor (its axis 1) has a number. An operator passes numbers on, gives new ones,
makes two the same (an Add of two branches), or fixes them because nobody knows what it does with
them. What is left is, for every array of weights, which of its rows belong to which channel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from skerry_optimize.graphs import Weights, attribute, captured, has_subgraphs

Numbers = tuple[int, ...]
"""The channel of each index on an axis."""

_PASSING = frozenset(
    (
        "Abs",
        "AveragePool",
        "Cast",
        "Celu",
        "Clip",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "MaxPool",
        "Mish",
        "Neg",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Tanh",
        "ThresholdedRelu",
    )
)
"""Operators that treat every channel by itself and alike, and have no weights."""


@dataclass(frozen=True)
class Cut:
    """Rows of an initialiser that go with their channels."""

    weights: str
    axis: int
    numbers: Numbers


@dataclass(frozen=True)
class Maker:
    """A layer that makes channels."""

    layer: str
    weights: str
    axis: int
    """Of the weights: the one with a row for each channel that is made."""
    numbers: Numbers


@dataclass
class ChannelMap:
    """What belongs together in one graph."""

    makers: list[Maker] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    depthwise: dict[int, Numbers] = field(default_factory=dict)
    """Place of a node -> channels that its attribute `group` counts."""
    sizes: dict[str, Numbers] = field(default_factory=dict)
    """Initialiser that a Reshape takes its shape from -> what its last axis counts."""
    _parents: list[int] = field(default_factory=list)
    _fixed: dict[int, str] = field(default_factory=dict)

    def new(self, count: int) -> Numbers:
        """Return so many channels that belong to nothing yet."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return tuple(range(first, first + count))

    def root(self, number: int) -> int:
        """Return the number that stands for all channels that are one with this."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def join(self, some: Numbers, others: Numbers) -> None:
        """Make channels one with others, each with the one in its place."""
        for one, other in zip(some, others, strict=True):
            kept, gone = sorted((self.root(one), self.root(other)))
            self._parents[gone] = kept
            if gone in self._fixed:
                self._fixed.setdefault(kept, self._fixed.pop(gone))

    def fix(self, numbers: Iterable[int], why: str) -> None:
        """Say that channels have to stay."""
        for number in numbers:
            self._fixed.setdefault(self.root(number), why)

    def why_fixed(self, number: int) -> str | None:
        """Return why a channel has to stay; None: it need not."""
        return self._fixed.get(self.root(number))


def map_channels(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], weights: Mapping[str, Weights]
) -> ChannelMap:
    """Return what belongs together; every initialiser must have one use only (`unshared`)."""
    walk = _Walk(model, shapes, weights)
    for place, node in enumerate(model.graph.node):
        walk.visit(place, node)
    walk.fix_ends()
    return walk.found


class _Walk:
    """Goes through the nodes in their order."""

    def __init__(
        self,
        model: onnx.ModelProto,
        shapes: Mapping[str, tuple[int, ...]],
        weights: Mapping[str, Weights],
    ) -> None:
        self.found = ChannelMap()
        self._model = model
        self._shapes = shapes
        self._weights = weights
        self._of: dict[str, Numbers] = {}
        """Tensor -> the channels on its axis 1."""
        self._rules: dict[str, Callable[[int, onnx.NodeProto], Numbers | None]] = {
            "Conv": self._conv,
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            "BatchNormalization": self._batch_norm,
            "Concat": self._concat,
            "Flatten": self._flatten,
            "Reshape": self._reshape,
            "ReduceMean": self._reduce,
            "Squeeze": self._reduce,
            **dict.fromkeys(("Add", "Sub", "Mul", "Div", "PRelu"), self._binary),
            **dict.fromkeys(_PASSING, self._passing),
        }

    def visit(self, place: int, node: onnx.NodeProto) -> None:
        """Find what becomes of the channels in a node."""
        rule = None if has_subgraphs(node) or node.domain else self._rules.get(node.op_type)
        made = rule(place, node) if rule else None
        if made is None:
            self._fix_inputs(node)
        else:
            self._of[node.output[0]] = made

    def fix_ends(self) -> None:
        """Keep what the model answers with, and what subgraphs take."""
        for value in self._model.graph.output:
            self.found.fix(self._of.get(value.name, ()), "it is an output of the model")
        for name in captured(self._model):
            self.found.fix(self._of.get(name, ()), "a subgraph uses it")

    def _fix_inputs(self, node: onnx.NodeProto) -> None:
        for name in node.input:
            self.found.fix(self._of.get(name, ()), f"it goes into {node.op_type} ({named(node)})")

    # each rule returns the channels of its first output, or None for what it does not know

    def _passing(self, _: int, node: onnx.NodeProto) -> Numbers | None:
        return self._of.get(node.input[0]) if len(node.output) == 1 else None

    def _conv(self, place: int, node: onnx.NodeProto) -> Numbers | None:
        weights = self._weights.get(node.input[1])
        group = attribute(node, "group", 1)
        if weights is None or weights.ndim < 3:
            return None
        if group == 1:
            return self._layer(node, 1, 0)
        taken = self._of.get(node.input[0])
        if taken is None or not group == len(taken) == len(weights) or weights.shape[1] != 1:
            return None
        self.found.depthwise[place] = taken
        self.found.cuts += [Cut(name, 0, taken) for name in node.input[1:] if name]
        return taken

    def _gemm(self, _: int, node: onnx.NodeProto) -> Numbers | None:
        weights = self._weights.get(node.input[1])
        if weights is None or attribute(node, "transA", 0):
            return None
        return self._layer(node, *((1, 0) if attribute(node, "transB", 0) else (0, 1)))

    def _matmul(self, _: int, node: onnx.NodeProto) -> Numbers | None:
        weights = self._weights.get(node.input[1])
        if weights is None or weights.ndim != 2 or len(self._shapes.get(node.input[0], ())) != 2:
            return None
        return self._layer(node, 0, 1)

    def _layer(self, node: onnx.NodeProto, axis_in: int, axis_out: int) -> Numbers | None:
        """Take channels in on one axis of the weights, and make new ones on the other."""
        name = node.input[1]
        weights = self._weights[name]
        bias = node.input[2] if len(node.input) > 2 else ""
        count = weights.shape[axis_out]
        if bias and (bias not in self._weights or self._weights[bias].shape[-1:] != (count,)):
            return None
        if taken := self._of.get(node.input[0]):
            if len(taken) != weights.shape[axis_in]:
                return None
            self.found.cuts.append(Cut(name, axis_in, taken))
        made = self.found.new(count)
        self.found.makers.append(Maker(named(node), name, axis_out, made))
        self.found.cuts.append(Cut(name, axis_out, made))
        if bias:
            self.found.cuts.append(Cut(bias, self._weights[bias].ndim - 1, made))
        return made

    def _batch_norm(self, _: int, node: onnx.NodeProto) -> Numbers | None:
        taken = self._of.get(node.input[0])
        if taken is None or len(node.output) > 1:
            return None
        if any(name not in self._weights for name in node.input[1:]):
            return None
        self.found.cuts += [Cut(name, 0, taken) for name in node.input[1:]]
        return taken

    def _binary(self, _: int, node: onnx.NodeProto) -> Numbers | None:
        one, other = node.input
        if other in self._weights:
            return self._with_weights(one, other)
        if one in self._weights:
            return self._with_weights(other, one)
        some, others = self._of.get(one), self._of.get(other)
        ranks = {len(self._shapes.get(name, ())) for name in (one, other)}
        if not some or not others or len(some) != len(others) or len(ranks) != 1:
            return None
        self.found.join(some, others)
        return some

    def _with_weights(self, tensor: str, name: str) -> Numbers | None:
        """Let rows of the weights go with the channels that they are spread over."""
        taken, weights = self._of.get(tensor), self._weights[name]
        rank = len(self._shapes.get(tensor, ()))
        if taken is None or rank < 2 or weights.ndim > rank:
            return None
        axis = weights.ndim - rank + 1  # of the weights, what lies on the tensor's axis 1
        if axis >= 0 and weights.shape[axis] != 1:
            if weights.shape[axis] != len(taken):
                return None
            self.found.cuts.append(Cut(name, axis, taken))
        return taken

    def _concat(self, _: int, node: onnx.NodeProto) -> Numbers | None:
        rank = len(self._shapes.get(node.input[0], ()))
        axis = attribute(node, "axis", 0)
        if rank < 2 or not isinstance(axis, int) or axis % rank != 1:
            return None
        made: list[int] = []
        for name in node.input:
            known = self._of.get(name)
            if known is None:
                count = self._shapes.get(name, (0, -1))[1]
                if count < 0:
                    return None
                known = self.found.new(count)
                self.found.fix(known, "an input of the model")
            made += known
        return tuple(made)

    def _flatten(self, _: int, node: onnx.NodeProto) -> Numbers | None:
        return self._spread(node.input[0]) if attribute(node, "axis", 1) == 1 else None

    def _reshape(self, _: int, node: onnx.NodeProto) -> Numbers | None:
        wanted = self._weights.get(node.input[1])
        if wanted is None or wanted.shape != (2,) or attribute(node, "allowzero", 0):
            return None
        before = self._shapes.get(node.input[0], ())
        made = self._spread(node.input[0])
        first, last = (int(one) for one in wanted)
        if made is None or first not in {0, -1, before[0]} or last not in {-1, len(made)}:
            return None
        if last != -1:
            self.found.sizes[node.input[1]] = made
        return made

    def _spread(self, name: str) -> Numbers | None:
        """Return the channels when all axes behind the first are made one."""
        taken, shape = self._of.get(name), self._shapes.get(name, ())
        if taken is None or len(shape) < 2 or any(size < 1 for size in shape[2:]):
            return None
        each = math.prod(shape[2:])
        return tuple(number for number in taken for _ in range(each))

    def _reduce(self, _: int, node: onnx.NodeProto) -> Numbers | None:
        """Pass channels where only axes behind them are worked on."""
        rank = len(self._shapes.get(node.input[0], ()))
        axes: object = attribute(node, "axes")
        if axes is None and len(node.input) > 1 and node.input[1] in self._weights:
            axes = self._weights[node.input[1]].reshape(-1).tolist()
        if not isinstance(axes, Sequence) or rank < 2 or any(axis % rank < 2 for axis in axes):
            return None
        return self._of.get(node.input[0])


def named(node: onnx.NodeProto) -> str:
    """Return the node's name, or its output's."""
    return node.name or node.output[0]


def unshared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a copy of an initialiser for each use of it."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    tensors = {one.name: one for one in found.graph.initializer}
    taken = {name for node in found.graph.node for name in (*node.input, *node.output)}
    uses: Counter[str] = Counter()
    for node in found.graph.node:
        for place, name in enumerate(node.input):
            if name not in tensors:
                continue
            uses[name] += 1
            if uses[name] > 1:
                copy = found.graph.initializer.add()
                copy.CopyFrom(tensors[name])
                copy.name = _free_name(f"{name}_{uses[name]}", taken)
                node.input[place] = copy.name
    return found


def _free_name(wanted: str, taken: set[str]) -> str:
    name = wanted
    while name in taken:
        name += "_"
    taken.add(name)
    return name
