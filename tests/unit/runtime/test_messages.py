"""Engines' messages keep their numbers and the graph's names, and lose this machine's folders."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from serving import models
from skerry_runtime.backends.base import LoadError, LoadRequest
from skerry_runtime.backends.messages import MAX_MESSAGE_BYTES, safe_text
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import Execution, Format
from skerry_runtime.errors import ServingError

LONGEST_REMEDY_BYTES = 320


def one_node(path: Path, node: onnx.NodeProto, opset: int = 17, ir_version: int = 9) -> Path:
    """A model of one node from x to y; its domain is imported as well."""
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(node.domain, 1)] if node.domain else []
    graph = helper.make_graph([node], "g", [entry], [answer])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), path)
    return path


def told(path: Path) -> str:
    """Why the engine does not load a file."""
    request = LoadRequest(path, Format.ONNX, Execution(profile="cpu"), 1)
    with pytest.raises(LoadError) as refused:
        OnnxBackend().load(request)
    return str(refused.value)


def relu(**more: str) -> onnx.NodeProto:
    return helper.make_node("Relu", ["x"], ["y"], **more)


def test_a_newer_ir_version_is_told_with_both_numbers_and_the_remedy(tmp_path: Path) -> None:
    text = told(one_node(tmp_path / "m.onnx", relu(), ir_version=99))
    assert "IR version: 99, max supported IR version: " in text
    assert "save the model with ir_version " in text
    assert str(tmp_path) not in text


def test_a_newer_opset_is_told_with_both_numbers_and_the_remedy(tmp_path: Path) -> None:
    text = told(one_node(tmp_path / "m.onnx", relu(), opset=99))
    assert "Opset 99" in text
    newest = text.rpartition("is till opset ")[2].partition(";")[0]
    assert int(newest) > 20
    assert f"export the model with opset {newest} of ai.onnx or lower" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("name", "domain", "expected"),
    [
        ("BertTokenizer", "ai.onnx.contrib", "BertTokenizer is an operator of onnxruntime-ext"),
        ("Foo", "my.domain", "has no my.domain:Foo"),
        ("Foo", "", "opset 17 has no operator Foo"),
    ],
)
def test_an_operator_that_is_not_here_is_named(
    tmp_path: Path, name: str, domain: str, expected: str
) -> None:
    node = helper.make_node(name, ["x"], ["y"], domain=domain)
    assert expected in told(one_node(tmp_path / "m.onnx", node))


def test_a_kernel_that_is_not_here_is_named_with_its_node(tmp_path: Path) -> None:
    text = told(one_node(tmp_path / "m.onnx", relu(name="/encoder/act/Relu"), opset=3))
    assert "'/encoder/act/Relu'" in text
    assert "no Relu of opset 1 for these datatypes" in text


def test_data_beside_the_file_are_to_be_packed_into_it(tmp_path: Path) -> None:
    path = models.product(tmp_path / "m.onnx")
    beside = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
    onnx.save_model(onnx.load(path), path, **beside)
    (tmp_path / "w.bin").unlink()
    text = told(path)
    assert "w.bin" in text
    assert "onnx.save(onnx.load(" in text
    assert str(tmp_path) not in text


def test_a_run_that_fails_names_the_node_as_it_was_exported(tmp_path: Path) -> None:
    path = models.gather(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node[0].name = "/model/embed/Gather_1"
    onnx.save(model, path)
    loaded = OnnxBackend().load(LoadRequest(path, Format.ONNX, Execution(profile="cpu"), 1))
    with pytest.raises(ServingError, match=r"'/model/embed/Gather_1'.*idx=7.*\[-3,2\]"):
        loaded.infer({"index": np.int64([7])})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("open /var/lib/skerry/slots/ab/model: no", "open .../model: no"),
        ("cannot open '/usr/lib/libcuda.so.1'", "cannot open '.../libcuda.so.1'"),
        ("failed:/home/me/a.cc:12 why", "failed:.../a.cc:12 why"),
        ("file:///tmp/a/b and http://host/usr/b", "file:.../b and http://host/usr/b"),
        ("node /encoder/layers.0/mlp/MatMul", "node /encoder/layers.0/mlp/MatMul"),
        ("node model/var/lib/Gather", "node model/var/lib/Gather"),
        ("/onnxruntime_src/core/a.cc:1 Model", "/onnxruntime_src/core/a.cc:1 Model"),
        ("a ratio of 3/4 in m/s", "a ratio of 3/4 in m/s"),
        ("in /slots of one/ and /my models/ab/m.onnx", "in /slots of one/ and .../m.onnx"),
    ],
)
def test_only_folders_of_this_machine_are_taken_out(text: str, expected: str) -> None:
    assert safe_text(Exception(text), Path("/my models/ab/m.onnx")) == expected


def test_folders_that_the_process_was_told_are_taken_out(tmp_path: Path) -> None:
    assert str(sys.prefix) not in safe_text(Exception(f"no {sys.prefix}/lib/x.so here"))
    assert str(tmp_path) not in safe_text(Exception(f"no {tmp_path}/x.so here"))


def test_a_long_message_keeps_both_ends() -> None:
    text = safe_text(Exception("begin 12 " + "ä" * 5000 + " /tmp/a/b end 34"))
    assert text.startswith("begin 12 ")
    assert text.endswith(" .../b end 34")
    assert " ... " in text


@given(st.text(max_size=3000), st.text(max_size=50))
def test_no_message_is_longer_than_the_contract_s_texts_hold(first: str, last: str) -> None:
    text = safe_text(Exception(f"{first} Could not find an implementation for {last}"))
    assert len(text.encode("utf-8", "replace")) <= MAX_MESSAGE_BYTES + LONGEST_REMEDY_BYTES
    assert "\n" not in text
