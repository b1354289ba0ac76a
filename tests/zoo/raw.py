"""What the engine itself makes of a model, without any of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from skerry_runtime.contract import Format
from zoo.specimens import Specimen

OFFERED = frozenset(
    f"tensor({kind})"
    for kind in (
        *("bool", "float16", "bfloat16", "float", "double", "string"),
        *(f"{sign}int{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)),
    )
)
"""What the protocol has a word for."""


@dataclass(frozen=True)
class Raw:
    """The engine's answer, or why there is none."""

    outputs: Mapping[str, np.ndarray]
    refusal: str = ""
    strange_type: str = ""
    """A type of an input or output that the protocol has not."""
    is_steady: bool = True
    """The same request has the same answer."""


def ask(specimen: Specimen) -> Raw:
    """Run the request on the engine, twice."""
    try:
        run = _onnx if specimen.format is Format.ONNX else _tflite
        return run(specimen)
    except Exception as error:  # noqa: BLE001 (whatever an engine raises is its refusal)
        return Raw({}, refusal=f"{type(error).__name__}: {error}"[:300])


def _onnx(specimen: Specimen) -> Raw:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(specimen.body, options, providers=["CPUExecutionProvider"])
    nodes = [*session.get_inputs(), *session.get_outputs()]
    strange = next((node.type for node in nodes if node.type not in OFFERED), "")
    if strange:
        return Raw({}, strange_type=strange)
    wanted = {node.name for node in session.get_inputs()}
    feed = {name: array for name, array in specimen.request.items() if name in wanted}
    names = [node.name for node in session.get_outputs()]
    first, second = (dict(zip(names, session.run(names, feed), strict=True)) for _ in range(2))
    return Raw(first, is_steady=all(are_equal(first[name], second[name]) for name in names))


def _tflite(specimen: Specimen) -> Raw:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 (a large library)

    engine = Interpreter(model_content=specimen.body, num_threads=1)
    engine.allocate_tensors()
    if len(engine.get_signature_list()) == 1:
        return Raw(engine.get_signature_runner()(**specimen.request))
    for detail in engine.get_input_details():
        engine.set_tensor(detail["index"], specimen.request[detail["name"]])
    engine.invoke()
    return Raw({d["name"]: engine.get_tensor(d["index"]) for d in engine.get_output_details()})


def are_equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two arrays have the same type, shape and bits; texts, the same letters."""
    if one.dtype.kind in "OUS" or other.dtype.kind in "OUS":
        return one.shape == other.shape and [*map(_text, one.flat)] == [*map(_text, other.flat)]
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
