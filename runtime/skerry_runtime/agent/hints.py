"""Finds out which values a graph's inputs may have, from the operators that take them. Pure.

An input that nobody explained is asked with zeros; but zeros divide, scale and step by nothing.
Operators and the places of their inputs: github.com/onnx/onnx, docs/Operators.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from skerry_runtime.agent.onnxfile import NotOnnx, length_delimited

MAX_NODES = 100_000
_MAX_PASSES = 64


class Fill(Enum):
    """With what an input is filled."""

    ZEROS = "zeros"
    ONES = "ones"
    COUNT = "count"  # 0, 1, 2, ...: axes must differ
    SHAPE = "shape"  # that of another input


@dataclass(frozen=True)
class Hint:
    """How one input is to be made up."""

    fill: Fill
    of: str = ""
    """Input whose shape it is."""


@dataclass
class _Node:
    kind: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


_ONES = {
    "BlackmanWindow": (0,),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "DequantizeLinear": (1,),
    "Div": (1,),
    "Expand": (1,),
    "GRU": (4,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "LSTM": (4,),
    "Loop": (0, 1),
    "MatMulInteger": (),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 4),
    "Mod": (1,),
    "NonMaxSuppression": (2,),
    "OneHot": (1,),
    "QLinearConv": (1, 4, 6),
    "QLinearMatMul": (1, 4, 6),
    "QuantizeLinear": (1,),
    "RNN": (4,),
    "Range": (1, 2),
    "Resize": (2,),
    "STFT": (1, 3),
    "Slice": (2, 4),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Upsample": (1,),
}
"""Operator -> the inputs that must not be zero."""

_COUNT = {
    "Pad": (3,),
    "ReduceL1": (1,),
    "ReduceL2": (1,),
    "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "ReduceSumSquare": (1,),
    "Slice": (3,),
    "Unsqueeze": (1,),
}
"""Operator -> the inputs whose values are axes."""

_SHAPE = {"CenterCropPad": (1, 0), "Reshape": (1, 0), "Resize": (3, 0), "AffineGrid": (1, 0)}
"""Operator -> the input that is a shape, and the one whose shape does."""

_ALL_PASS = frozenset({"Add", "Concat", "Max", "Mul", "Sum", "Where"})
_FIRST_PASSES = frozenset(
    {
        "Abs", "Cast", "Ceil", "Clip", "Expand", "Flatten", "Floor", "Gather", "Identity",
        "ReduceMax", "ReduceMean", "ReduceProd", "ReduceSum", "Reshape", "Round", "Slice", "Sqrt",
        "Squeeze", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Operators that hand ones on: what they need of their result they need of what they take."""


def hints_of(content: memoryview) -> Mapping[str, Hint]:
    """Return how inputs are to be made up, by name; those without a hint are not in it.

    Raises:
        NotOnnx: the file is damaged.
    """
    nodes = list(_nodes(content))
    hints: dict[str, Hint] = {}
    for node in nodes:
        hints.update(_wanted(node))
    makers = {output: node for node in nodes for output in node.outputs}
    _hand_back(hints, makers)
    return hints


def _wanted(node: _Node) -> Iterator[tuple[str, Hint]]:
    """Yield what an operator needs of its inputs."""
    named = dict(enumerate(node.inputs))
    if node.kind in _SHAPE:
        place, source = _SHAPE[node.kind]
        yield named.get(place, ""), Hint(Fill.SHAPE, named.get(source, ""))
    for places, fill in ((_COUNT, Fill.COUNT), (_ONES, Fill.ONES)):
        for place in places.get(node.kind, ()):
            yield named.get(place, ""), Hint(fill)


def _hand_back(hints: dict[str, Hint], makers: Mapping[str, _Node]) -> None:
    """Carry hints from computed values to what they are computed of."""
    waiting = [name for name in hints if name in makers]
    for _ in range(_MAX_PASSES):
        found: list[str] = []
        for name in waiting:
            for source in _sources(makers[name]):
                if source not in hints:
                    hints[source] = hints[name]
                    found.append(source)
        waiting = [name for name in found if name in makers]
        if not waiting:
            return


def _sources(node: _Node) -> list[str]:
    if node.kind in _ALL_PASS:
        return node.inputs
    return node.inputs[:1] if node.kind in _FIRST_PASSES else []


_GRAPH, _NODE, _INPUT, _OUTPUT, _OP_TYPE = 7, 1, 1, 2, 4


def _nodes(content: memoryview) -> Iterator[_Node]:
    count = 0
    for number, graph in length_delimited(content):
        if number != _GRAPH:
            continue
        for inner, message in length_delimited(graph):
            if inner == _NODE:
                count += 1
                if count > MAX_NODES:
                    return
                yield _node(message)


def _node(message: memoryview) -> _Node:
    node = _Node()
    for number, value in length_delimited(message):
        if number == _OP_TYPE:
            node.kind = _text(value)
        elif number in (_INPUT, _OUTPUT):
            (node.inputs if number == _INPUT else node.outputs).append(_text(value))
    return node


def _text(value: memoryview) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as err:
        raise NotOnnx("the file has a name that is no text") from err
