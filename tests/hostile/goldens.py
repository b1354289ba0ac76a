"""Golden files with ill intent, all beside a good model; and flatbuffers that are none."""

from __future__ import annotations

import io
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort

from hostile.building import EXAM, INVALID, REFUSED, Case, good
from hostile.disguised import Harmful, zipped
from serving import tflite_models
from skerry_runtime.contract import FailureReason, Format


def npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def fair() -> bytes:
    """An exam that any sound model of the corpus passes."""
    return npz(x=np.eye(4, dtype=np.float32), labels=np.arange(4))


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def _header(text: str, version: int = 1) -> bytes:
    form = "<H" if version == 1 else "<I"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(form, len(text)) + text.encode()


def goldens() -> Iterator[Case]:
    """Exams that must be refused before they are unpacked, evaluated or believed."""
    x, labels = _npy(np.eye(4, dtype=np.float32)), _npy(np.arange(4))
    lying = _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 4), }\n")
    code = _header("{'descr': __import__('os').system('id'), 'shape': (4,)}\n")
    deep = _header("(" * 5000 + ")" * 5000)
    files = {
        "nothing": b"",
        "a pickle": pickle.dumps(Harmful()),
        "pickled arrays": npz(x=np.array([{"a": 1}] * 4, dtype=object), labels=np.arange(4)),
        "a pickle named as an array": zipped({"x.npy": pickle.dumps(Harmful())}),
        "300 MB of zeros": zipped({"x.npy": x, "labels.npy": labels, "big.npy": bytes(300 << 20)}),
        "bz2 that unpacks to 300 MB": zipped({"x.npy": bytes(300 << 20)}, zipfile.ZIP_BZIP2),
        "a zip in a zip": zipped({"x.npy": zipped({"x.npy": x})}),
        "names that slip": zipped({"../../../state.json": x, "/etc/labels.npy": labels}),
        "a header that lies about the shape": zipped({"x.npy": lying, "labels.npy": labels}),
        "a header with code": zipped({"x.npy": code, "labels.npy": labels}),
        "a header 5000 deep": zipped({"x.npy": deep, "labels.npy": labels}),
        "a header of 4 GB": zipped({"x.npy": _header("x", 2)[:8] + b"\xff" * 4 + b"x"}),
        "300 arrays": zipped({f"{i}.npy": labels for i in range(300)}),
        "an array cut short": zipped({"x.npy": x[:-8], "labels.npy": labels}),
        "a cut archive": npz(x=np.eye(4, dtype=np.float32), labels=np.arange(4))[:-30],
        "no arrays": zipped({}),
        "no samples": npz(x=np.empty((0, 4), np.float32), labels=np.empty(0, np.int64)),
        "another shape": npz(x=np.ones((4, 5), np.float32), labels=np.arange(4)),
        "complex numbers": npz(x=np.ones((4, 4), np.complex64), labels=np.arange(4)),
        "structured arrays": npz(x=np.zeros(4, [("a", "<f4"), ("b", "<i8")]), labels=np.arange(4)),
        "dates as labels": npz(x=np.eye(4, dtype=np.float32), labels=np.zeros(4, "datetime64[ns]")),
        "an encrypted archive": _encrypted(x, labels),
        "a request with a number beyond all": zipped({"999999/x.npy": x, "0/labels.npy": labels}),
        "a request in a folder outside": zipped({"0/../../x.npy": x, "0/labels.npy": labels}),
        "one request of a thousand million": npz(
            x=np.zeros((1, 4), np.float32), **{"0/labels": np.zeros((10**9, 0))}
        ),
    }
    body = good().SerializeToString()
    failed = frozenset({FailureReason.EXAM_FAILED})
    for number, (name, golden) in enumerate(files.items()):
        verdicts = EXAM | failed if name == "dates as labels" else EXAM
        yield Case(f"exam: {name}", body, verdicts, golden=golden, is_kin=number >= 12)
    endless = npz(x=np.full((4, 4), np.nan, np.float32), labels=np.arange(4))
    yield Case("exam: NaN as questions", body, failed, golden=endless)


def _encrypted(x: bytes, labels: bytes) -> bytes:
    """The flag alone: the reader must ask for a password, which nobody has."""
    body = bytearray(zipped({"x.npy": x, "labels.npy": labels}, zipfile.ZIP_STORED))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = body.find(mark)
        while at >= 0:
            body[at + offset] |= 1
            at = body.find(mark, at + 1)
    return bytes(body)


def flatbuffers() -> Iterator[Case]:
    """Files of ORT's and LiteRT's formats: cut, turned over, claimed to be something else."""
    ort_file, onnx_file = _ort(), good().SerializeToString()
    yield Case("flatbuffer: ONNX claimed to be ORT", onnx_file, INVALID, Format.ORT)
    yield Case("flatbuffer: ORT claimed to be ONNX", ort_file, INVALID)
    yield from _damaged(ort_file, Format.ORT)
    yield from _damaged(_tflite(tflite_models.product), Format.TFLITE)
    unknown = _tflite(tflite_models.unknown_operator)
    yield Case("flatbuffer: TFLite with an operator of its own", unknown, REFUSED, Format.TFLITE)
    tflite = b"\x1c\0\0\0TFL3" + bytes(64)
    yield Case("flatbuffer: TFLite claimed to be ONNX", tflite, INVALID)
    yield Case("flatbuffer: TFLite without content", tflite, REFUSED, Format.TFLITE)
    yield Case("flatbuffer: ONNX claimed to be TFLite", onnx_file, INVALID, Format.TFLITE)
    yield Case("flatbuffer: a vendor's format", b"HEF", INVALID, Format.CUSTOM)


def _damaged(whole: bytes, kind: Format) -> Iterator[Case]:
    """A good file of a format, cut and turned over; its mark stays, or no engine would see it."""
    yield Case(f"flatbuffer: only the mark of {kind}", whole[:8], REFUSED, kind)
    far = struct.pack("<I", 0x7FFFFFF0) + whole[4:]
    yield Case(f"flatbuffer: {kind} with a root outside the file", far, REFUSED, kind)
    ones = whole[:8] + b"\xff" * (len(whole) - 8)
    yield Case(f"flatbuffer: {kind} of nothing but ones", ones, REFUSED, kind)
    for percent in (5, 25, 50, 75, 95):
        cut = whole[: max(8, len(whole) * percent // 100)]
        name = f"flatbuffer: {kind} cut at {percent} %"
        yield Case(name, cut, REFUSED, kind, may_serve=True, is_kin=percent != 50)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        body = bytearray(whole)
        for place in rng.integers(8, len(body), 40 if seed < 4 else 3):
            body[place] = int(rng.integers(256))
        name = f"flatbuffer: {kind} with wrong bytes, {seed}"
        yield Case(name, bytes(body), REFUSED, kind, may_serve=True, is_kin=seed not in (0, 4))


def _tflite(make: Callable[[Path], Path]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder) / "m.tflite").read_bytes()


def _ort() -> bytes:
    """Let the engine itself write its format."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "m.ort")
        options.add_session_config_entry("session.save_model_format", "ORT")
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        ort.InferenceSession(good().SerializeToString(), options, ["CPUExecutionProvider"])
        return (Path(folder) / "m.ort").read_bytes()
