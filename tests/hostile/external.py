"""ONNX files whose tensors lie in other files: by every way to name one, in every place for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hostile.building import (
    INVALID,
    Case,
    added,
    field,
    good,
    ints,
    model,
    node,
    tensor_info,
    varint,
)


def _external_tensor(
    location: str, shape: tuple[int, ...] = (1, 4), kind: int = TensorProto.FLOAT
) -> onnx.TensorProto:
    tensor = onnx.TensorProto(
        name="w", data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value=location)
    return tensor


def with_initializer(tensor: onnx.TensorProto) -> onnx.ModelProto:
    made = model([added()])
    made.graph.initializer.append(tensor)
    return made


def external(canary: Path) -> Iterator[Case]:
    away = "../" * 12 + str(canary).lstrip("/")
    places = {
        "traversal": away,
        "absolute": str(canary),
        "process memory": "/proc/self/mem",
        "memory address": "*/_ORT_MEM_ADDR_/*",
        "beside": "weights.bin",
        "the model itself": "model.onnx",
        "parent": "../../state.json",
        "hidden traversal": "a/./b/../../" + away,
        "absolute twice": "/" + str(canary),
        "file scheme": f"file://{canary}",
        "backslashes": away.replace("/", "\\"),
        "empty": "",
        "zero byte": f"{canary}\0.bin",
        "device": "/dev/zero",
    }
    for number, (name, location) in enumerate(places.items()):
        body = with_initializer(_external_tensor(location)).SerializeToString()
        yield Case(f"external data, {name}", body, INVALID, is_kin=number >= 4)
    for name, made in _external_elsewhere(away):
        yield Case(f"external data in {name}", made.SerializeToString(), INVALID)
    yield Case("external data with a second, harmless location", _two_locations(away), INVALID)
    yield Case("external data whose flag needs 33 bits", _wide_flag(away), INVALID)
    yield Case("external data named but not flagged", _unflagged(away), INVALID)
    tensor = _external_tensor(away)
    tensor.ClearField("external_data")
    body = with_initializer(tensor).SerializeToString()
    yield Case("external data flagged but not named", body, INVALID)


def _external_elsewhere(away: str) -> Iterator[tuple[str, onnx.ModelProto]]:
    tensor = _external_tensor(away)
    constant = node("Constant", "", "w", value=tensor)
    yield "a Constant", model([constant, added()])
    index = numpy_helper.from_array(ints(0, 1, 2, 3), "i")
    sparse = onnx.SparseTensorProto(values=_external_tensor(away, (4,)), indices=index, dims=(1, 4))
    attribute = helper.make_attribute("sparse_value", sparse)
    sparse_constant = onnx.NodeProto(op_type="Constant", output=["w"], attribute=[attribute])
    yield "a sparse Constant", model([sparse_constant, added()])
    made = model([added()])
    made.graph.sparse_initializer.append(sparse)
    yield "a sparse initializer", made
    made = model([added()])
    values = numpy_helper.from_array(np.ones(4, np.float32), "w")
    places = _external_tensor(away, (4,), TensorProto.INT64)
    made.graph.sparse_initializer.append(
        onnx.SparseTensorProto(values=values, indices=places, dims=(1, 4))
    )
    yield "the indices of a sparse initializer", made
    yield "a branch of an If", _with_branch([constant, node("Identity", "w", "b")])
    made = good()
    made.functions.append(
        helper.make_function("f", "F", [], ["w"], [constant], [helper.make_opsetid("", 17)])
    )
    yield "a function", made
    made = good()
    made.training_info.add().initialization.initializer.append(tensor)
    yield "training information", made


def _with_branch(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    branch = helper.make_graph(nodes, "branch", [], [tensor_info("b", [1, 4])])
    condition = node("If", "c", "w", then_branch=branch, else_branch=branch)
    return model([condition, added()], {"c": np.array(True)})


def _two_locations(away: str) -> bytes:
    tensor = _external_tensor("weights.bin")
    tensor.external_data.add(key="location", value=away)
    return with_initializer(tensor).SerializeToString()


def _wide_flag(away: str) -> bytes:
    """The flag as a varint of 2**32 + 1: a parser that keeps 32 bits of it reads EXTERNAL."""
    tensor = _external_tensor(away)
    tensor.ClearField("data_location")
    raw = tensor.SerializeToString() + varint(14 << 3) + varint(2**32 + 1)
    graph = model([added()]).graph.SerializeToString() + field(5, raw)
    made = model([])
    made.ClearField("graph")
    return made.SerializeToString() + field(7, graph)


def _unflagged(away: str) -> bytes:
    tensor = _external_tensor(away)
    tensor.data_location = TensorProto.DEFAULT
    return with_initializer(tensor).SerializeToString()
