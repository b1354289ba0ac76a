"""Takes the place of Triton's ONNX Runtime backend, which the tests' server lacks.

A backend in Python, by the name `onnxruntime`: models need the same configuration as with NVIDIA's.
"""

from pathlib import Path

import onnxruntime as ort
import triton_python_backend_utils as triton

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}


def _session() -> ort.InferenceSession:
    """Open the file that this process was started for; only its command line says which."""
    return ort.InferenceSession(Path("/proc/self/cmdline").read_text().split("\0")[1])


def _described(node: ort.NodeArg) -> dict[str, object]:
    dims = [axis if isinstance(axis, int) else -1 for axis in node.shape]
    return {"name": node.name, "data_type": TYPES[node.type], "dims": dims}


class TritonPythonModel:
    """What the server calls."""

    @staticmethod
    def auto_complete_config(config: object) -> object:
        """Tell the server inputs and outputs, as its own ONNX Runtime backend does."""
        session = _session()
        for node in session.get_inputs():
            config.add_input(_described(node))
        for node in session.get_outputs():
            config.add_output(_described(node))
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Open the file."""
        self.session = _session()

    def execute(self, requests: list[object]) -> list[object]:
        """Answer every request on its own."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: object) -> object:
        names = [node.name for node in self.session.get_inputs()]
        feed = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in names}
        outputs = [node.name for node in self.session.get_outputs()]
        try:
            arrays = self.session.run(outputs, feed)
        except Exception as error:  # noqa: BLE001
            return triton.InferenceResponse([], triton.TritonError(str(error)))
        tensors = [triton.Tensor(n, a) for n, a in zip(outputs, arrays, strict=True)]
        return triton.InferenceResponse(tensors)
