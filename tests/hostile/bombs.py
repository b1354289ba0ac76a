"""Small files that ask for much: memory, time, depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hostile.building import (
    REFUSED,
    STOPPED,
    Case,
    Y,
    added,
    ints,
    model,
    node,
    tensor_info,
)
from hostile.external import with_initializer


def _shaped(op: str, weights: dict[str, np.ndarray], inputs: str, **attributes: Any) -> bytes:
    nodes = [
        node(op, inputs, "big", **attributes),
        node("ReduceSum", "big", "sum", keepdims=0),
        node("Cast", "sum", "s", to=TensorProto.FLOAT),
    ]
    return model([*nodes, added("s")], weights).SerializeToString()


def bombs() -> Iterator[Case]:
    one, huge = np.ones(1, np.float32), ints(1 << 20, 1 << 20)
    files = {
        "ConstantOfShape of 4 TiB": _shaped("ConstantOfShape", {"s0": huge}, "s0"),
        "ConstantOfShape whose size overflows": _shaped(
            "ConstantOfShape", {"s0": ints(1 << 40, 1 << 40)}, "s0"
        ),
        "ConstantOfShape of 3 GiB": _shaped("ConstantOfShape", {"s0": ints(3 << 28)}, "s0"),
        "Expand to 4 TiB": _shaped("Expand", {"o": one, "s0": huge}, "o s0"),
        "Expand of the input to 3 GiB": _shaped("Expand", {"s0": ints(3 << 26, 1, 4)}, "x s0"),
        "Tile to 4 TiB": _shaped("Tile", {"o": np.ones((1, 1), np.float32), "s0": huge}, "o s0"),
        "Range of 10**12": _shaped(
            "Range",
            {"a": np.array(0, np.int64), "b": np.array(10**12), "c": np.array(1)},
            "a b c",
        ),
        "Pad to 1 TiB": _shaped("Pad", {"p": ints(0, 0, 0, 1 << 38)}, "x p"),
        "Resize by 10**6": _shaped(
            "Resize",
            {"o": np.ones((1, 1, 8, 8), np.float32), "k": np.float32([1, 1, 1e6, 1e6])},
            "o  k",
        ),
        "OneHot of depth 10**10": _shaped(
            "OneHot",
            {"i": ints(0, 1), "d": np.array(10**10), "v": np.float32([0, 1])},
            "i d v",
        ),
        "RandomNormal of 4 TiB": _shaped("RandomNormal", {}, "", shape=[1 << 20, 1 << 20], dtype=1),
        "an outer product of 16 GiB": _shaped(
            "MatMul",
            {"a": np.ones((1 << 16, 1), np.float32), "b": np.ones((1, 1 << 16), np.float32)},
            "a b",
        ),
    }
    for number, (name, body) in enumerate(files.items()):
        yield Case(f"bomb: {name}", body, REFUSED, is_kin=number >= 8)
    yield Case("bomb: an input of 4 TiB", _wide_input([1, 1 << 20, 1 << 20]), REFUSED)
    yield Case("bomb: an input whose size overflows", _wide_input([1 << 31, 1 << 31]), REFUSED)
    yield Case("bomb: an input of 2 GiB", _wide_input([1, 1 << 29]), REFUSED)
    yield Case(
        "bomb: strings that double 40 times", _doubling("StringConcat", 40), REFUSED, is_kin=True
    )
    yield Case("bomb: concatenations that double 40 times", _doubling("Concat", 40), REFUSED)
    yield Case("bomb: a loop of 2**62 turns", endless_loop(1 << 62), STOPPED)
    yield Case(
        "bomb: a loop that keeps 2**40 rows",
        endless_loop(1 << 40, is_kept=True),
        STOPPED,
        is_kin=True,
    )
    yield Case("bomb: a dense tensor of 4 TiB from a sparse one", _sparse_bomb(), REFUSED)
    yield Case("bomb: an initializer that claims 4 TiB", _claiming(1 << 40, 4), REFUSED)
    yield Case("bomb: an initializer whose size overflows", _claiming(1 << 62, 4), REFUSED)


def _wide_input(shape: list[int]) -> bytes:
    inputs = [tensor_info("x", shape)]
    return model([node("ReduceSum", "x", keepdims=0)], inputs=inputs).SerializeToString()


def _doubling(op: str, times: int) -> bytes:
    is_text = op == "StringConcat"
    start = np.array(["0123456789abcdef"]) if is_text else np.ones(16, np.float32)
    more = {} if is_text else {"axis": 0}
    nodes = [node(op, f"a{i} a{i}", f"a{i + 1}", **more) for i in range(times)]
    last = node("Shape", f"a{times}", "s")
    cast = node("Cast", "s", "f", to=1)
    weights = {"a0": start.astype(object) if is_text else start}
    opsets = [helper.make_opsetid("", 20)]
    made = model([*nodes, last, cast, added("f")], weights, opset_imports=opsets)
    return made.SerializeToString()


def endless_loop(turns: int, *, is_kept: bool = False) -> bytes:
    kept = [node("Identity", "acc", "row")] if is_kept else []
    rows = [tensor_info("row", ["n", 4])] if is_kept else []
    body = helper.make_graph(
        [node("Identity", "c", "go"), node("Add", "acc k", "next"), *kept],
        "body",
        [
            tensor_info("i", [], TensorProto.INT64),
            tensor_info("c", [], TensorProto.BOOL),
            tensor_info("acc", ["n", 4]),
        ],
        [tensor_info("go", [], TensorProto.BOOL), tensor_info("next", ["n", 4]), *rows],
    )
    outputs = "y rows" if is_kept else "y"
    return model(
        [node("Loop", "turns always x", outputs, body=body)],
        {"turns": np.array(turns), "always": np.array(True), "k": np.float32([1])},
        outputs=[Y, tensor_info("rows", None)] if is_kept else [Y],  # type: ignore[arg-type]
    ).SerializeToString()


def _sparse_bomb() -> bytes:
    made = model([node("ReduceSum", "w", "s", keepdims=0), node("Add", "x s")])
    made.graph.sparse_initializer.append(
        onnx.SparseTensorProto(
            values=numpy_helper.from_array(np.ones(1, np.float32), "w"),
            indices=numpy_helper.from_array(ints(0), "i"),
            dims=(1 << 20, 1 << 20),
        )
    )
    return made.SerializeToString()


def _claiming(*dims: int) -> bytes:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=dims, raw_data=b"\0" * 16)
    return with_initializer(tensor).SerializeToString()


def nested() -> Iterator[Case]:
    yield Case(
        "nested: If in If, 12 deep and both ways",
        _nested_if(12),
        REFUSED,
        may_serve=True,
        is_kin=True,
    )
    yield Case(
        "nested: If in If, 28 deep and one way", _nested_if(28, both=False), REFUSED, may_serve=True
    )
    yield Case("nested: functions that double 40 times", _functions(40, 2), REFUSED)
    yield Case("nested: a function that calls itself", _functions(1, 1, is_circle=True), REFUSED)
    yield Case("nested: 300 functions in a row", _functions(300, 1), REFUSED, may_serve=True)
    chain = [node("Identity", f"a{i}", f"a{i + 1}") for i in range(50_000)]
    long = model([node("Identity", "x", "a0"), *chain, node("Identity", "a50000")])
    yield Case("nested: 50000 nodes in a row", long.SerializeToString(), REFUSED, may_serve=True)


def _nested_if(depth: int, *, both: bool = True) -> bytes:
    leaf = helper.make_graph([node("Identity", "x", "b")], "leaf", [], [tensor_info("b", None)])
    graph = leaf
    for level in range(depth):
        inner = node("If", "c", "b", then_branch=graph, else_branch=graph if both else leaf)
        graph = helper.make_graph([inner], f"g{level}", [], [tensor_info("b", None)])
    made = model([node("If", "c", "y", then_branch=graph, else_branch=leaf)])
    made.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    return made.SerializeToString()


def _functions(count: int, calls: int, *, is_circle: bool = False) -> bytes:
    """Functions of which each calls the next so many times: an engine that inlines them grows."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    made = model([onnx.NodeProto(op_type="F0", domain="f", input=["x"], output=["y"])])
    made.opset_import.append(opsets[1])
    for level in range(count):
        following = f"F{level}" if is_circle else f"F{level + 1}"
        is_leaf = level == count - 1 and not is_circle
        nodes = [
            node("Identity", f"t{i}", f"t{i + 1}")
            if is_leaf
            else onnx.NodeProto(
                op_type=following, domain="f", input=[f"t{i}"], output=[f"t{i + 1}"]
            )
            for i in range(calls)
        ]
        made.functions.append(
            helper.make_function("f", f"F{level}", ["t0"], [f"t{calls}"], nodes, opsets)
        )
    return made.SerializeToString()
