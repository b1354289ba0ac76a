"""What an exam takes is found out by the probe: the serving process never feels it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from skerry_runtime.agent.ports import MIB
from skerry_runtime.backends.onnx import OnnxBackend
from skerry_runtime.contract import FailureReason
from unit.runtime.agent.support import FAST, Pod, Source, classifier, content, npz

WIDTH = 1 << 20
"""Numbers that the model answers to each one that it is asked: 4 MiB."""


def wide_model() -> bytes:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "wide",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
            [numpy_helper.from_array(np.ones((1, WIDTH), np.float32), "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


async def test_an_exam_that_does_not_fit_into_memory_is_refused_by_the_probe(
    tmp_path: Path, source: Source
) -> None:
    """One request of 128 rows asks for 512 MiB of answers; sample by sample it would be 4."""
    wide, good = wide_model(), classifier()
    labels = np.zeros((1, 128), np.int64)
    large = npz(x=np.ones((1, 128, 1), np.float32), labels=labels)
    small = npz(x=np.ones((128, 1), np.float32), labels=labels[0])
    revisions = {"v1": content(good, source.add("good.onnx", good))}
    for name, exam in (("v2", large), ("v3", small)):
        uris = source.add("wide.onnx", wide), source.add(f"{name}.npz", exam)
        revisions[name] = content(wide, uris[0], exam=exam, exam_uri=uris[1], threshold="1")
    tuning = FAST.model_copy(update={"probe_memory_bytes": 400 * MIB})
    async with Pod(tmp_path, OnnxBackend(), tuning) as pod:
        pod.mount.assign("v1", revisions)
        await pod.until_serving("v1")
        pod.mount.assign("v2", revisions)
        status = await pod.until_failed("v2")
        assert status.progress
        assert status.progress.reason is FailureReason.INSUFFICIENT_MEMORY
        assert pod.revision == "v1"
        pod.mount.assign("v3", revisions)
        await pod.until_serving("v3")
