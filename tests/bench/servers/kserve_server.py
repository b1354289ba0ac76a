"""KServe's Python server with an ONNX model, as its documentation shows. Runs in its own venv.

python kserve_server.py MODEL HTTP_PORT GRPC_PORT
"""

from __future__ import annotations

import sys

import kserve
import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse


class Onnx(kserve.Model):
    """The model of the bench."""

    def __init__(self, path: str) -> None:
        super().__init__("digits")
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.ready = True

    def predict(self, payload: InferRequest, *_: object, **__: object) -> InferResponse:
        result = self._session.run(None, {"x": payload.inputs[0].as_numpy()})[0]
        output = InferOutput(name="y", shape=list(result.shape), datatype="FP32")
        output.set_data_from_numpy(result, binary_data=True)
        return InferResponse(
            response_id=payload.id or "0", model_name=self.name, infer_outputs=[output]
        )


if __name__ == "__main__":
    ports = {"http_port": int(sys.argv[2]), "grpc_port": int(sys.argv[3])}
    kserve.ModelServer(**ports, workers=1).start([Onnx(sys.argv[1])])
