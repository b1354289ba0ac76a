"""What the engine's ways with memory cost and keep: `python -P -m bench.memory [ROUNDS]`.

Each way runs in a process of its own, all of them in turn, round by round. CPU time of the thread
that runs the model is compared, with one intra-op thread, so that a busy machine changes little.
"""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from bench.models import network, tiny

LAYERS, WIDTH, HEADS, WORDS = 3, 384, 12, 2000
LARGEST = (32, 256)
"""Texts and words of the transformer's largest request."""

SETTINGS: dict[str, dict[str, Any]] = {
    "arena (engine's default)": {},
    "arena, shrunk after each run": {"shrink": True},
    "no arena": {"arena": False},
    "no arena, plan of memory off": {"arena": False, "pattern": False},
    "no arena, fixed thresholds": {"arena": False, "fixed": 32 << 20},
}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def transformer() -> bytes:
    """An encoder of 22 MB: embedding, attention with 12 heads, feed forward, three layers."""
    random, nodes, weights = np.random.default_rng(0), [], []

    def weight(name: str, *shape: int) -> str:
        values = random.standard_normal(shape, dtype=np.float32) * 0.02
        weights.append(numpy_helper.from_array(values, name))
        return name

    def constant(name: str, values: list[int]) -> str:
        weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def node(kind: str, inputs: list[str], **more: Any) -> str:
        name = f"n{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **more))
        return name

    split = constant("split", [0, 0, HEADS, WIDTH // HEADS])
    whole = constant("whole", [0, 0, WIDTH])
    value = node("Gather", [weight("words", WORDS, WIDTH), "x"])
    for layer in range(LAYERS):
        parts = [
            node(
                "Transpose",
                [
                    node(
                        "Reshape",
                        [node("MatMul", [value, weight(f"{p}{layer}", WIDTH, WIDTH)]), split],
                    )
                ],
                perm=[0, 2, 3, 1] if p == "k" else [0, 2, 1, 3],
            )
            for p in "qkv"
        ]
        mixed = node("MatMul", [node("Softmax", [node("MatMul", parts[:2])]), parts[2]])
        joined = node("Reshape", [node("Transpose", [mixed], perm=[0, 2, 1, 3]), whole])
        value = node("Add", [value, node("MatMul", [joined, weight(f"o{layer}", WIDTH, WIDTH)])])
        wide = node("Relu", [node("MatMul", [value, weight(f"f{layer}", WIDTH, 4 * WIDTH)])])
        value = node("Add", [value, node("MatMul", [wide, weight(f"g{layer}", 4 * WIDTH, WIDTH)])])
    nodes.append(helper.make_node("Identity", [value], ["y"]))
    graph = helper.make_graph(
        nodes,
        "transformer",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n", "words"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "words", WIDTH])],
        weights,
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def rss_mb() -> float:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def child(folder: Path, setting: dict[str, Any]) -> dict[str, float]:
    """Measure one way."""
    libc = ctypes.CDLL(None)
    if "fixed" in setting:
        libc.mallopt(M_MMAP_THRESHOLD, setting["fixed"])
        libc.mallopt(M_TRIM_THRESHOLD, setting["fixed"])
    options, run = ort.SessionOptions(), ort.RunOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = setting.get("arena", True)
    options.enable_mem_pattern = setting.get("pattern", True)
    if setting.get("shrink"):
        run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    names = ("tiny", "cnn", "transformer")
    sessions = {
        name: ort.InferenceSession(
            folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"]
        )
        for name in names
    }
    ids = np.ones((1, 32), np.int64)
    asked = {
        "tiny": (np.ones((1, 16), np.float32), 2000),
        "cnn": (np.ones((1, 3, 224, 224), np.float32), 30),
        "transformer": (ids, 30),
    }
    found: dict[str, float] = {}
    for name, (array, calls) in asked.items():
        found[f"{name} us"] = timed(sessions[name], run, array, calls)
    found["MB before"] = rss_mb()
    large = np.ones(LARGEST, np.int64)
    found["largest ms"] = timed(sessions["transformer"], run, large, 1) / 1000
    found["MB after largest"] = rss_mb()
    libc.malloc_trim(0)
    found["MB after trim"] = rss_mb()
    found["transformer us after"] = timed(sessions["transformer"], run, ids, 20)
    return found


def timed(session: ort.InferenceSession, run: ort.RunOptions, array: Any, calls: int) -> float:
    """Return the median CPU time of a run in microseconds."""
    for _ in range(max(1, calls // 10)):
        session.run(None, {"x": array}, run)
    times = []
    for _ in range(calls):
        began = time.thread_time()
        session.run(None, {"x": array}, run)
        times.append(time.thread_time() - began)
    return statistics.median(times) * 1e6


def main(rounds: int) -> None:
    """Print one table: medians over the rounds."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for name, model in (("tiny", tiny()), ("cnn", network()), ("transformer", transformer())):
            (folder / f"{name}.onnx").write_bytes(model)
        for _ in range(rounds):
            for name, setting in SETTINGS.items():
                command = [sys.executable, "-P", "-m", "bench.memory", text, json.dumps(setting)]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                for key, value in json.loads(out).items():
                    found[name][key].append(value)
    columns = list(next(iter(found.values())))
    sys.stdout.write(f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}\n")
    for name, values in found.items():
        cells = " | ".join(f"{statistics.median(values[key]):.4g}" for key in columns)
        sys.stdout.write(f"| {name} | {cells} |\n")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.stdout.write(json.dumps(child(Path(sys.argv[1]), json.loads(sys.argv[2]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
