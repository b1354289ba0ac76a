"""Graphs that are wrong, names that are strange, weights that are no numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from hostile.building import (
    INVALID,
    REFUSED,
    SERVES,
    Case,
    X,
    added,
    field,
    good,
    ints,
    model,
    node,
    tensor_info,
)
from hostile.external import with_initializer
from skerry_runtime.contract import FailureReason


def broken() -> Iterator[Case]:
    """Graphs that no exporter writes."""
    w = {"w": np.ones((1, 4), np.float32)}
    made: dict[str, onnx.ModelProto] = {
        "a cycle": model([node("Add", "x b", "a"), node("Add", "x a", "b"), node("Neg", "b")]),
        "a node that feeds itself": model([node("Add", "x y")]),
        "an output written twice": model([added(), node("Neg", "x")], w),
        "an input given twice": model([added()], w, inputs=[X, X]),
        "an output given twice": model([added()], w, outputs=[tensor_info("y", None)] * 2),
        "an input that does not exist": model([node("Add", "x nowhere")]),
        "no nodes": model([]),
        "no outputs": model([added()], w, outputs=[]),
        "a custom operator": model([helper.make_node("Evil", ["x"], ["y"], domain="com.evil")]),
        "an operator that runs Python": model(
            [helper.make_node("PythonOp", ["x"], ["y"], domain="com.microsoft", func_name="system")]
        ),
        "a compiled context in another file": model(
            [
                helper.make_node(
                    "EPContext",
                    ["x"],
                    ["y"],
                    domain="com.microsoft",
                    embed_mode=0,
                    ep_cache_context="/etc/passwd",
                )
            ]
        ),
        "opset 999": model([added()], w, opset_imports=[helper.make_opsetid("", 999)]),
        "opset -1": model([added()], w, opset_imports=[helper.make_opsetid("", -1)]),
        "no opset": model([added()], w, opset_imports=[]),
        "an input of type 999": model([added()], w, inputs=[tensor_info("x", [1, 4], 999)]),
        "an attribute of the wrong type": model([node("Softmax", "x", axis="all")]),
        "Concat without inputs": model([node("Concat", "", axis=0)]),
        "a Reshape that does not fit": model([node("Reshape", "x s")], {"s": ints(7, 13)}),
        "a Gather far outside": model(
            [node("Gather", "t i", "g"), added("g")],
            {"t": np.ones((2, 4), np.float32), "i": ints(1 << 40)},
        ),
        "an Einsum of nonsense": model([node("Einsum", "x", equation="i" * 5000 + "->...z")]),
        "a Slice with step 0": model(
            [node("Slice", "x a b c d")], {"a": ints(0), "b": ints(9), "c": ints(1), "d": ints(0)}
        ),
        "a pool with kernel 0": _image("MaxPool", kernel_shape=[0, 0]),
        "a pool with stride 0": _image("MaxPool", kernel_shape=[1, 1], strides=[0, 0]),
        "a convolution of 0 groups": _image("Conv", group=0),
        "a convolution of -1 groups": _image("Conv", group=-1),
        "a convolution with pads of 2**40": _image("Conv", pads=[1 << 40] * 4),
        "an LSTM of 2**40 cells": _lstm(1 << 40),
    }
    # what only the engine says, and only of an input that nobody gave, is no verdict on a model
    untried = {"a Reshape that does not fit", "a Gather far outside"}
    untried |= {"a convolution of 0 groups", "a convolution of -1 groups"}
    served = {"an output given twice", *untried}
    for number, (name, body) in enumerate(made.items()):
        yield Case(
            f"graph: {name}",
            body.SerializeToString(),
            REFUSED,
            may_serve=name in served,
            is_kin=number % 2 == 1,
        )
    zero = model(
        [node("Div", "a b", "d"), node("Cast", "d", "f", to=1), added("f")],
        {"a": np.ones(1, np.int32), "b": np.zeros(1, np.int32)},
    )
    yield Case("graph: an integer divided by zero", zero.SerializeToString(), REFUSED)
    newer = good()
    newer.ir_version = 99_999
    yield Case("graph: IR version 99999", newer.SerializeToString(), INVALID)
    newer.ir_version = -1
    yield Case("graph: IR version -1", newer.SerializeToString(), REFUSED, may_serve=True)
    yield from _sizes()
    yield from _settings_inside()


def _image(op: str, **attributes: Any) -> onnx.ModelProto:
    inputs = "x k" if op == "Conv" else "x"
    kernel = {"k": np.ones((1, 1, 1, 1), np.float32)} if op == "Conv" else {}
    x = tensor_info("x", [1, 1, 4, 4])
    return model([node(op, inputs, **attributes)], kernel, inputs=[x])


def _lstm(size: int) -> onnx.ModelProto:
    ones = np.ones((1, 4, 4), np.float32)
    x = tensor_info("x", [1, 1, 4])
    return model([node("LSTM", "x w r", hidden_size=size)], {"w": ones, "r": ones}, inputs=[x])


def _sizes() -> Iterator[Case]:
    """Initializers whose bytes and dimensions tell different stories."""
    stories = {
        "fewer bytes than it claims": ((4, 4), b"\0" * 4),
        "more bytes than it claims": ((1,), b"\0" * 4096),
        "a negative dimension": ((-4, 4), b"\0" * 64),
        "a thousand dimensions": ((1,) * 1000, b"\0" * 4),
    }
    for name, (dims, raw) in stories.items():
        tensor = onnx.TensorProto(name="w", data_type=1, dims=dims, raw_data=raw)
        body = with_initializer(tensor).SerializeToString()
        is_kin = "dimension" in name
        untried = "thousand" in name
        named = f"graph: an initializer with {name}"
        yield Case(named, body, REFUSED, may_serve=untried, is_kin=is_kin)
    tensor = onnx.TensorProto(name="w", data_type=99, dims=(1,), raw_data=b"\0" * 4)
    body = with_initializer(tensor).SerializeToString()
    yield Case("graph: an initializer of type 99", body, REFUSED)


def _settings_inside() -> Iterator[Case]:
    """Settings of a session inside the file, which the engine reads only where it is told to."""
    made = good()
    config = '{"session_options": {"enable_profiling": 1, "profile_file_prefix": "/tmp/evil"}}'
    made.metadata_props.add(key="ort_config", value=config)
    yield Case("graph: settings of the session in the file", made.SerializeToString(), SERVES)


def names() -> Iterator[Case]:
    """Names that a report, a log or a client could stumble over."""
    strange = {
        "an input's name of 1 MB": "n" * 1_000_000,
        "an input's name with a line break": "a\nERROR b",
        "an input's name with terminal codes": "\x1b[2J\x1b[31m",
        "an input's name with quotes and braces": '"}]}{"a":"',
        "an input's name that is a path": "../../../etc/passwd",
        "an empty input's name": "",
    }
    for name, text in strange.items():
        x = tensor_info(text, [1, 4])
        made = model([helper.make_node("Neg", [text], ["y"])], inputs=[x])
        yield Case(
            f"name: {name}",
            made.SerializeToString(),
            REFUSED,
            may_serve=len(text) < 99,
            is_kin="line" not in name and "MB" not in name,
        )
    raw = good().SerializeToString().replace(b"\x01x", b"\x01\xff")
    yield Case("name: an input's name that is no UTF-8", raw, REFUSED)
    raw = good().SerializeToString().replace(b"\x01y", b"\x01\xc0")
    yield Case("name: an output's name that is no UTF-8", raw, REFUSED)
    many = [tensor_info(f"i{i}", [1]) for i in range(5000)]
    body = model([node("Neg", "i0")], inputs=many).SerializeToString()
    yield Case("name: 5000 inputs", body, REFUSED, may_serve=True)
    tags = good()
    tags.doc_string = "d" * (4 << 20)
    tags.producer_name = "\x1b[31m" + "p" * 100_000
    yield Case("name: 4 MB of documentation", tags.SerializeToString(), SERVES)
    text = field(4, b"\xff\xfe not UTF-8")
    yield Case("name: a domain that is no UTF-8", good().SerializeToString() + text, SERVES)


def weights(exam: bytes) -> Iterator[Case]:
    """Weights that are no numbers: nothing but an exam can tell that they are no good."""
    for name, value in {"NaN": np.nan, "infinite": np.inf, "denormal": 1e-45}.items():
        body = model([added()], {"w": np.full((1, 4), value, np.float32)}).SerializeToString()
        yield Case(f"weights: {name}, no exam", body, SERVES)
        if name != "denormal":
            failed = frozenset({FailureReason.EXAM_FAILED})
            yield Case(f"weights: {name}, with an exam", body, failed, golden=exam)
    strings = onnx.TensorProto(name="w", data_type=TensorProto.STRING, dims=(1,))
    strings.string_data.append(b"\xff\xfe")
    made = model([node("Identity", "w", "t"), node("Neg", "x")])
    made.graph.initializer.append(strings)
    body = made.SerializeToString()
    yield Case("weights: text that is no UTF-8", body, REFUSED, may_serve=True)
