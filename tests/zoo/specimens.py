"""What is put before a pod: model files, each with a request that its own engine can answer."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests, load_node_model_tests

from serving.running import ROOT
from skerry_runtime.contract import Format

LOCK = ROOT / "requirements" / "zoo.txt"
CACHE = Path.home() / ".cache" / "skerry" / "zoo"
FORMATS = {".onnx": Format.ONNX, ".tflite": Format.TFLITE}
FREE_AXIS = 64
"""Length of a dynamic axis that is not the first, where no other is told."""

SHAPES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "silero_vad.onnx": {"input": (1, 576), "state": (2, 1, 128)},
    "silero_vad_16k_op15.onnx": {"input": (1, 576), "state": (2, 1, 128)},
    "silero_vad_half.onnx": {"input": (1, 576), "state": (2, 1, 128)},
    "silero_vad_op18_ifless.onnx": {"input": (1, 576), "state": (2, 1, 128)},
    "silero_vad_16k_sequence.onnx": {"input": (3, 576)},
    "openwakeword/resources/models/silero_vad.onnx": {
        "input": (1, 512),
        "h": (2, 1, 64),
        "c": (2, 1, 64),
    },
    "melspectrogram.onnx": {"input": (1, 1280)},
    "ch_PP-OCRv4_rec_infer.onnx": {"x": (1, 3, 48, 96)},
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": {"x": (1, 3, 48, 192)},
}
"""End of a file's name -> shapes that its makers feed it with; the longest end counts."""
SCALARS = {"sr": 16000}
"""Input -> the value that its makers give it."""


@dataclass(frozen=True)
class Specimen:
    """A model, and one request."""

    name: str
    body: bytes
    request: Mapping[str, np.ndarray] = field(repr=False)
    format: Format = Format.ONNX


def of_packages(*packages: str) -> Iterator[Specimen]:
    """Yield the model files of packages in the lock; none named: of all."""
    for wheel in wheels(packages):
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                kind = FORMATS.get(Path(name).suffix)
                if kind and ".data/" not in name:
                    body = archive.read(name)
                    yield Specimen(name, body, _fed(name, body, kind), kind)


def of_backend_data(every: int = 1) -> Iterator[Specimen]:
    """Yield models that ONNX ships as files, every so manyth of them."""
    kinds = ("simple", "light", "pytorch-converted", "pytorch-operator")
    found = sorted((case for kind in kinds for case in load_model_tests(kind=kind)), key=_name)
    for case in found[::every]:
        folder = Path(case.model_dir)
        body = (folder / "model.onnx").read_bytes()
        data = sorted((folder / "test_data_set_0").glob("input_*.pb"), key=_number)
        if data:
            yield Specimen(case.name, body, _zipped(body, [_tensor(path) for path in data]))


def of_operators(every: int = 1) -> Iterator[Specimen]:
    """Yield ONNX's models of one operator, which it makes in code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of them divide by zero on purpose
        cases = load_node_model_tests()
    for case in sorted(cases, key=_name)[::every]:
        inputs, _ = case.data_sets[0]
        if all(isinstance(one, np.ndarray | np.generic) for one in inputs):
            body = case.model.SerializeToString()
            yield Specimen(case.name, body, _zipped(body, [np.asarray(one) for one in inputs]))


def _name(case: object) -> str:
    return str(getattr(case, "name", ""))


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _tensor(path: Path) -> np.ndarray:
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def _zipped(body: bytes, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Name the arrays as the graph's inputs, in order; initializers are none."""
    graph = onnx.load_model_from_string(body).graph
    given = {tensor.name for tensor in graph.initializer}
    names = [one.name for one in graph.input if one.name not in given and one.name]
    return dict(zip(names, arrays, strict=False))


def wheels(packages: tuple[str, ...]) -> list[Path]:
    """Return the packages' files, fetched once for each version of the lock."""
    blocks = [b for b in LOCK.read_text().replace("\\\n", " ").splitlines() if "==" in b]
    chosen = [b for b in blocks if not packages or b.partition("==")[0] in packages]
    digest = hashlib.sha256("\n".join(chosen).encode()).hexdigest()[:12]
    folder = CACHE / digest
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        wanted = folder / "wanted.txt"
        wanted.write_text("\n".join(chosen))
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "-r", str(wanted), "-d", str(folder)]
        subprocess.run(command, check=True)
        (folder / "complete").touch()
    return sorted(folder.glob("*.whl"))


def _fed(name: str, body: bytes, kind: Format) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    ends = sorted((end for end in SHAPES if name.endswith(end)), key=len)
    shapes = SHAPES[ends[-1]] if ends else {}
    declared = _declared(body) if kind is Format.ONNX else _declared_by_tflite(body)
    return {
        one: _values(one, shapes.get(one, axes), dtype, random)
        for one, (axes, dtype) in declared.items()
    }


def _values(
    name: str, shape: tuple[int, ...], dtype: np.dtype, random: np.random.Generator
) -> np.ndarray:
    if name in SCALARS:
        return np.full(shape, SCALARS[name], dtype)
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 100, shape).astype(dtype)


def _declared(body: bytes) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    graph = onnx.load_model_from_string(body, format="protobuf").graph
    given = {tensor.name for tensor in graph.initializer}
    found = {}
    for one in graph.input:
        if one.name not in given:
            kind = one.type.tensor_type
            axes = [axis.dim_value or -1 for axis in kind.shape.dim]
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
            found[one.name] = (_fixed(axes), dtype)
    return found


def _declared_by_tflite(body: bytes) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 (a large library)

    engine = Interpreter(model_content=body)
    details = {detail["name"]: detail for detail in engine.get_input_details()}
    if len(engine.get_signature_list()) == 1:  # whose names clients use
        details = engine.get_signature_runner().get_input_details()
    return {
        name: (_fixed(list(detail["shape"])), np.dtype(detail["dtype"]))
        for name, detail in details.items()
    }


def _fixed(axes: list[int]) -> tuple[int, ...]:
    return tuple(
        int(axis) if axis > 0 else (1 if place == 0 else FREE_AXIS)
        for place, axis in enumerate(axes)
    )
