"""Triton: a server of NVIDIA's beside this process runs the model, under explicit model control.

Each loaded model is a model of its own in Triton's repository, named by its file and this load, so
that the old and the new one are there side by side until the switch. Both processes see the
repository's folder.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from skerry_runtime.backends.base import (
    CPU,
    LoadError,
    LoadRequest,
    ModelMetadata,
    ProviderMissing,
    Tensors,
    TensorSpec,
    accelerators,
    safe_text,
)
from skerry_runtime.backends.shapes import require_static
from skerry_runtime.contract import Acceleration, Execution, Format
from skerry_runtime.errors import InferenceFailed

ENV_URL = "SKERRY_TRITON_URL"
ENV_REPOSITORY = "SKERRY_TRITON_REPOSITORY"
ENV_TEMPLATE = "SKERRY_TRITON_TEMPLATE"

TENSORRT = "TensorrtExecutionProvider"
UNMEASURED = "Triton tells the device of a model, not the share of its graph"


@dataclass(frozen=True)
class Place:
    """Where the server is, and what it shares with this process."""

    url: str = "127.0.0.1:8001"
    """Address of its gRPC port."""
    repository: Path = Path("/var/lib/skerry/triton")
    """Its model repository, the same path for both."""
    template: Path | None = None
    """Folder whose files go into every model's: a config.pbtxt here replaces ours."""
    load_timeout_s: float = 300.0
    infer_timeout_s: float = 60.0

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Place:
        """Read the place from the environment."""
        template = environ.get(ENV_TEMPLATE)
        return cls(
            url=environ.get(ENV_URL) or cls.url,
            repository=Path(environ.get(ENV_REPOSITORY) or cls.repository),
            template=Path(template) if template else None,
        )


@dataclass(frozen=True)
class TritonBackend:
    """The Triton engine."""

    place: Place = field(default_factory=lambda: Place.from_env(os.environ))

    def load(self, request: LoadRequest) -> TritonModel:
        """Put the file into the repository and have the server load it.

        Raises:
            ProviderMissing: fallback is forbidden, and the server runs the model on its CPU.
            LoadError: the server cannot be asked, or cannot load the file.
        """
        if request.format is not Format.ONNX:
            raise LoadError(f"Triton is given .onnx files, and this one is {request.format}")
        if request.input_shapes:
            raise LoadError("Triton cannot fix axes: export the model with the lengths")
        name = f"{request.path.stem[:40]}-{uuid.uuid4().hex[:12]}"
        client = triton.InferenceServerClient(self.place.url)
        folder = self.place.repository / name
        try:
            _publish(folder, request, self.place.template)
            client.load_model(name, client_timeout=self.place.load_timeout_s)
            model = _describe(client, name, request.execution)
        except InferenceServerException as error:
            _withdraw(client, name, folder)
            raise LoadError(f"the server cannot load the file: {_text(error)}") from error
        except BaseException:
            _withdraw(client, name, folder)
            raise
        return TritonModel(client, name, folder, model, self.place.infer_timeout_s)


class TritonModel:
    """One model in the server. `infer` is thread-safe, as the client is."""

    def __init__(
        self,
        client: triton.InferenceServerClient,
        name: str,
        folder: Path,
        described: tuple[ModelMetadata, Acceleration],
        timeout_s: float,
    ) -> None:
        self._client: triton.InferenceServerClient | None = client
        self._name, self._folder, self._timeout_s = name, folder, timeout_s
        self._metadata, self._acceleration = described
        self._types = {spec.name: spec.datatype for spec in self._metadata.inputs}
        self._outputs = [spec.name for spec in self._metadata.outputs]

    @property
    def metadata(self) -> ModelMetadata:
        """Inputs and outputs, as the server tells them."""
        return self._metadata

    @property
    def acceleration(self) -> Acceleration:
        """On which kind of device the server runs the model; the share is not told."""
        return self._acceleration

    def infer(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> Tensors:
        """Run the model once.

        Raises:
            InferenceFailed: the server failed, is away, or the model is closed.
        """
        client, names = self._client, self._outputs if outputs is None else outputs
        if client is None:
            raise InferenceFailed("the model was closed")
        try:
            answer = client.infer(
                self._name,
                [self._asked(name, array) for name, array in inputs.items()],
                outputs=[triton.InferRequestedOutput(name) for name in names],
                client_timeout=self._timeout_s,
            )
        except InferenceServerException as error:
            raise InferenceFailed(f"the model failed: {_text(error)}") from error
        return {name: answer.as_numpy(name) for name in names}

    def close(self) -> None:
        """Have the server unload the model, and take its files away."""
        client, self._client = self._client, None
        if client is not None:
            _withdraw(client, self._name, self._folder)

    def _asked(self, name: str, array: np.ndarray[Any, Any]) -> triton.InferInput:
        asked = triton.InferInput(name, list(array.shape), self._types[name])
        asked.set_data_from_numpy(array)
        return asked


def _publish(folder: Path, request: LoadRequest, template: Path | None) -> None:
    """Write a model of the repository: its configuration, and the file, by a link if possible."""
    version = folder / "1"
    version.mkdir(parents=True)
    try:
        os.link(request.path, version / "model.onnx")
    except OSError:  # another volume
        shutil.copyfile(request.path, version / "model.onnx")
    (folder / "config.pbtxt").write_text(configuration(request.execution))
    if template is not None:
        shutil.copytree(template, folder, dirs_exist_ok=True)


def configuration(execution: Execution) -> str:
    """Return the server's text for one instance on the wanted device; it completes the tensors."""
    wanted = accelerators(execution)
    lines = ['backend: "onnxruntime"', "max_batch_size: 0"]
    lines.append(f"instance_group [{{ count: 1 kind: {'KIND_GPU' if wanted else 'KIND_CPU'} }}]")
    if TENSORRT in wanted:
        accelerators_of = '{ gpu_execution_accelerator: [{ name: "tensorrt" }] }'
        lines.append(f"optimization {{ execution_accelerators {accelerators_of} }}")
    return "\n".join(lines) + "\n"


def _describe(
    client: triton.InferenceServerClient, name: str, execution: Execution
) -> tuple[ModelMetadata, Acceleration]:
    found = client.get_model_metadata(name, as_json=True)
    metadata = ModelMetadata(
        platform=f"triton_{found.get('platform') or 'model'}",
        inputs=tuple(_spec(tensor) for tensor in found.get("inputs", [])),
        outputs=tuple(_spec(tensor) for tensor in found.get("outputs", [])),
    )
    if execution.static_shapes:
        require_static({spec.name: spec.shape for spec in metadata.inputs})
    return metadata, _acceleration(client, name, execution)


def _spec(tensor: dict[str, Any]) -> TensorSpec:
    shape = tuple(int(axis) for axis in tensor.get("shape", []))
    return TensorSpec(tensor["name"], tensor["datatype"], shape)


def _acceleration(
    client: triton.InferenceServerClient, name: str, execution: Execution
) -> Acceleration:
    """Tell the device kind of the instances.

    Raises:
        ProviderMissing: fallback is forbidden, and it is the CPU.
    """
    config = client.get_model_config(name, as_json=True)["config"]
    kinds = {group.get("kind", "KIND_AUTO") for group in config.get("instance_group", [])}
    wanted = accelerators(execution)
    is_accelerated = bool(wanted) and kinds == {"KIND_GPU"}
    if wanted and not is_accelerated and not execution.fallback:
        raise ProviderMissing(
            f"Triton runs the model as {', '.join(sorted(kinds)) or 'nothing'}, "
            f"{wanted[0]} is wanted, and fallback is forbidden"
        )
    return Acceleration(
        requested=execution.providers,
        effective=wanted[0] if is_accelerated else CPU,
        delegated_percent=100.0 if is_accelerated or not wanted else 0.0,
        reason=UNMEASURED,
    )


def _withdraw(client: triton.InferenceServerClient, name: str, folder: Path) -> None:
    """Unload and remove; a server that is away holds no model either."""
    with suppress(InferenceServerException):
        client.unload_model(name)
    client.close()
    shutil.rmtree(folder, ignore_errors=True)


def _text(error: InferenceServerException) -> str:
    return safe_text(Exception(error.message()))
