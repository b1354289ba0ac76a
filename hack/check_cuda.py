"""Check CUDA, and TensorRT where it is there, on a real GPU: the runtime's own loading code.

    pip install onnxruntime-gpu onnx      # in place of onnxruntime, in an environment of its own
    PYTHONPATH=runtime python hack/check_cuda.py [--model FILE.onnx]

Prints one JSON object: what was asked for, what was got, the share of the graph, and the median
latency beside the CPU's of the same run. Exit status: 0 the GPU took every node; 1 it did not, or
failed; 2 wrong usage; 3 CUDA is not part of this build of ONNX Runtime.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from skerry_runtime.agent.sample import zeros
from skerry_runtime.backends.base import LoadError, LoadRequest, Model
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import Execution, Format

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
NOT_WHOLE, USAGE, NOT_BUILT = 1, 2, 3


def main(arguments: list[str] | None = None) -> int:
    """Run the check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="an .onnx file (default: a small CNN)")
    parser.add_argument("--runs", type=int, default=50, help="timed runs of each (default 50)")
    given = parser.parse_args(arguments)
    if given.runs < 1 or (given.model and not given.model.is_file()):
        print("--runs must be at least 1, and --model a file", file=sys.stderr)
        return USAGE
    available = ort.get_available_providers()
    if CUDA not in available:
        report = {"onnxruntime": ort.__version__, "available": available}
        print(json.dumps(report | {"error": "CUDA is not part of this build"}, indent=2))
        return NOT_BUILT
    with tempfile.TemporaryDirectory() as folder:
        report = check(given.model or small_cnn(Path(folder) / "cnn.onnx"), given.runs)
    print(json.dumps(report, indent=2))
    return 0 if all(row.get("delegated_percent") == 100 for row in report["gpu"]) else NOT_WHOLE


def check(path: Path, runs: int) -> dict[str, Any]:
    """Load the model on the CPU and on the GPU; time them in turns, as machines drift."""
    cpu = _load(path, (CPU,))
    wanted = [(CUDA, CPU)]
    if TENSORRT in ort.get_available_providers():
        wanted.append((TENSORRT, CUDA, CPU))
    rows = [_row(path, providers, cpu, runs) for providers in wanted]
    return {"onnxruntime": ort.__version__, "model": path.name, "gpu": rows}


def _row(path: Path, providers: tuple[str, ...], cpu: Model, runs: int) -> dict[str, Any]:
    try:
        gpu = _load(path, providers)
    except LoadError as error:
        return {"requested": providers, "error": str(error)}
    times: dict[str, list[float]] = {"cpu": [], "gpu": []}
    feed = zeros(cpu.metadata)
    expected, found = cpu.infer(feed), gpu.infer(feed)  # both warm now
    for _ in range(runs):
        for name, model in (("cpu", cpu), ("gpu", gpu)):
            start = time.perf_counter()
            model.infer(feed)
            times[name].append(1000 * (time.perf_counter() - start))
    cpu_ms, gpu_ms = (statistics.median(times[name]) for name in ("cpu", "gpu"))
    return gpu.acceleration.model_dump() | {
        "cpu_ms": round(cpu_ms, 3),
        "gpu_ms": round(gpu_ms, 3),
        "times_faster": round(cpu_ms / gpu_ms, 2),
        "largest_difference": max(
            float(np.max(np.abs(expected[name] - found[name]), initial=0)) for name in expected
        ),
    }


def _load(path: Path, providers: tuple[str, ...]) -> Model:
    execution = Execution(profile="check", providers=providers)
    return OnnxBackend().load(LoadRequest(path, Format.ONNX, execution, threads=1))


def small_cnn(path: Path) -> Path:
    """Write six convolutions over an image of 3 x 224 x 224, with fixed random weights."""
    import onnx  # noqa: PLC0415 - a given model needs it not
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    random = np.random.default_rng(0)
    nodes, weights, source, depth = [], [], "image", 3
    for index, width in enumerate((16, 32, 32, 64, 64, 128)):
        kernel = random.normal(0, (2 / (9 * depth)) ** 0.5, (width, depth, 3, 3))
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"w{index}"))
        options = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
        nodes.append(helper.make_node("Conv", [source, f"w{index}"], [f"c{index}"], **options))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        source, depth = f"r{index}", width
    nodes.append(helper.make_node("GlobalAveragePool", [source], ["features"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, depth, 1, 1])
    graph = helper.make_graph(nodes, "cnn", [image], [features], weights)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


if __name__ == "__main__":
    sys.exit(main())
