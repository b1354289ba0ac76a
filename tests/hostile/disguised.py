"""Files that are no models: other formats, cut ones, and bytes that no library writes."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hostile.building import INVALID, REFUSED, SERVES, Case, field, good, model, node, varint

ESCAPED = Path(tempfile.gettempdir()) / f"skerry-escaped-{os.getpid()}"
"""What a harmful pickle would write; each run of the tests has its own."""


class Harmful:
    """Unpickling it would write a file."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return eval, (f"open({str(ESCAPED)!r}, 'w')",)


def zipped(names: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, body in names.items():
            archive.writestr(name, body)
    return out.getvalue()


def _tar(mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        link = tarfile.TarInfo("model.onnx")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        inside = tarfile.TarInfo("../../../state.json")
        inside.size = 4
        archive.addfile(inside, io.BytesIO(b"evil"))
    return out.getvalue()


def disguised() -> Iterator[Case]:
    harmful = pickle.dumps(Harmful())
    inside = good().SerializeToString()
    files = {
        "nothing": b"",
        "one zero byte": b"\0",
        "zeros": bytes(65536),
        "text": b"#!/bin/sh\nrm -rf /\n",
        "HTML of a login page": b"<!DOCTYPE html><html><body>Sign in</body></html>",
        "JSON": b'{"inputs": []}',
        "pickle": harmful,
        "torch zip": zipped({"archive/data.pkl": harmful, "archive/version": b"3\n"}),
        "TorchScript zip": zipped(
            {"m/code/__torch__.py": b"import os", "m/constants.pkl": harmful}
        ),
        "joblib": b"\x80\x04\x95" + harmful,
        "zip that slips": zipped({"../../../state.json": b"evil", "/etc/skerry/x": b"evil"}),
        "zip around a model": zipped({"model.onnx": inside}),
        "zip bomb": zipped({"model.onnx": bytes(64 << 20)}),
        "tar that slips": _tar(),
        "tar.gz that slips": _tar("w:gz"),
        "safetensors with a huge header": struct.pack("<Q", 2**62) + b"{}",
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(512),
        "GGUF": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60),
        "ELF": b"\x7fELF" + bytes(512),
        "TensorFlow saved model": field(1, b"\x12" + bytes(64)),
    }
    for name, body in files.items():
        yield Case(f"{name} as a model", body, INVALID)
    # Unknown fields are what a newer ONNX would write: the engine skips them, and so do we.
    yield Case("a model with a pickle in an unknown field", inside + field(1999, harmful), SERVES)
    yield Case("a model with a zip behind it", inside + zipped({"a": harmful}), INVALID)


def truncated() -> Iterator[Case]:
    whole = model(
        [node("MatMul", "x w", "h"), node("Add", "h b")],
        {"w": np.ones((4, 64), np.float32), "b": np.ones(64, np.float32)},
    ).SerializeToString()
    for percent in (1, 2, 3, 5, 10, 20, 35, 50, 75, 90, 99):
        yield Case(f"a model cut at {percent} %", whole[: len(whole) * percent // 100], INVALID)
    yield Case("a model without its last byte", whole[:-1], INVALID)


def malformed() -> Iterator[Case]:
    """Bytes that no protobuf library writes."""
    inside = good().SerializeToString()
    graph = good().graph.SerializeToString()
    files = {
        "a field of 2 GiB that is not there": varint(7 << 3 | 2) + varint(2**31) + b"x",
        "a length of ten bytes": varint(7 << 3 | 2) + b"\xff" * 9 + b"\x01",
        "a length without an end": varint(7 << 3 | 2) + b"\xff" * 64,
        "field number 0": b"\x02\x00" + inside,
        "a group": b"\x3b" * 2000 + inside,
        "wire type 7": b"\x3f" + inside,
        "200000 empty fields": varint(14 << 3 | 2) + b"\0" + b"\x72\0" * 200_000,
        "messages 4000 deep": _deep_messages(4000),
    }
    for name, body in files.items():
        yield Case(f"wire format: {name}", body, INVALID)
    twice = inside + field(7, graph)
    yield Case("wire format: two graphs, which merge into a cycle", twice, REFUSED)


def _deep_messages(depth: int) -> bytes:
    """Graph in attribute in node in graph, and so on."""
    body = b""
    for _ in range(depth):
        body = field(1, field(5, field(6, body)))  # GraphProto.node, .attribute, .g
    return field(7, body)
