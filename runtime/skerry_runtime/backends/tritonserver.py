"""The Triton server beside this process: where it is, its repository, its models by name.

The repository is a folder on the volume that holds the model files, and the server sees that volume
at the same path. So a model of the repository is a configuration and a symbolic link: nothing is
copied, and the file keeps its one name.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from skerry_runtime.backends.base import (
    EngineAway,
    EngineDied,
    LoadError,
    LoadRequest,
)
from skerry_runtime.backends.messages import safe_text
from skerry_runtime.contract import ENV_TRITON_URL, TRITON_REPOSITORY

ENV_REPOSITORY = "SKERRY_TRITON_REPOSITORY"
"""Environment variable with the repository's folder, where it is not the usual one."""

TENSORRT = "TensorrtExecutionProvider"
CUDA = "CUDAExecutionProvider"
ON_GPU = (TENSORRT, CUDA)
"""Providers that Triton's ONNX Runtime backend has for a GPU."""

CHANNEL = [
    # a server that was started again is found at once, and not after gRPC's own two minutes
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]

_POLL_S = 0.1
_UNLOAD_S = 30.0
_SHORT_S = 2.0
"""Longest time for an answer that costs the server nothing."""


@dataclass(frozen=True)
class Place:
    """Where the server is, and how long it may take."""

    url: str = "127.0.0.1:8001"
    """Address of its gRPC port."""
    repository: Path = Path(TRITON_REPOSITORY)
    """Its model repository, the same path for both."""
    start_s: float = 5.0
    """How long a load waits for a server that starts; it is tried again later."""
    load_s: float = 300.0
    infer_s: float = 60.0

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Place:
        """Read the place from the environment."""
        return cls(
            url=environ.get(ENV_TRITON_URL) or cls.url,
            repository=Path(environ.get(ENV_REPOSITORY) or cls.repository),
        )


@dataclass(frozen=True)
class TritonServer:
    """Its models, by explicit control. Thread-safe, as the client is."""

    place: Place
    client: triton.InferenceServerClient
    owned: set[str] = field(default_factory=set)
    """Models that this object loaded."""

    @classmethod
    def at(cls, place: Place) -> TritonServer:
        """Return the server at a place; nothing is asked of it yet."""
        return cls(place, triton.InferenceServerClient(place.url, channel_args=CHANNEL))

    def load(self, request: LoadRequest, configuration: str) -> str:
        """Have the server load the file under a name of its own; return the name.

        Raises:
            EngineAway: the server does not answer.
            EngineDied: it ended while it loaded the file.
            LoadError: it cannot load the file.
        """
        self._wait_live()
        name = f"{request.path.stem[:40]}-{uuid.uuid4().hex[:12]}"
        self.owned.add(name)
        try:
            self._publish(name, request.path, configuration)
            self.client.load_model(name, client_timeout=self.place.load_s)
        except BaseException as error:
            self.unload(name)
            if not isinstance(error, InferenceServerException):
                raise
            if is_away(error):
                raise EngineDied("the Triton server ended while it loaded the file") from error
            raise LoadError(f"the server cannot load the file: {text_of(error)}") from error
        return name

    def unload(self, name: str) -> None:
        """Have the server drop a model, and take its files away; what fails is left to `sweep`."""
        self.owned.discard(name)
        try:
            self.client.unload_model(name, client_timeout=_UNLOAD_S)
        except InferenceServerException as error:
            if not is_away(error):  # a server that is away holds no model either
                return
        shutil.rmtree(self.place.repository / name, ignore_errors=True)

    def sweep(self) -> None:
        """Take away every model that this object did not load."""
        for name in self._known() - self.owned:
            self.unload(name)

    def has(self, name: str) -> bool:
        """Tell whether the server has the model loaded; one broken connection says nothing.

        Raises:
            TimeoutError: it does not say.
        """
        for wait_s in (_POLL_S, 0.0):
            try:
                return bool(self.client.is_model_ready(name, client_timeout=_SHORT_S))
            except InferenceServerException as error:
                if not is_away(error):
                    raise TimeoutError from error
                time.sleep(wait_s)
        return False

    def _known(self) -> set[str]:
        """Return the models that are in the repository, or loaded without being there any more."""
        names: set[str] = set()
        with suppress(OSError):
            names |= {path.name for path in self.place.repository.iterdir()}
        with suppress(InferenceServerException):
            index = self.client.get_model_repository_index(as_json=True, client_timeout=_SHORT_S)
            states = {entry["name"]: entry.get("state") for entry in index.get("models", [])}
            names |= {name for name, state in states.items() if state in ("READY", "LOADING")}
        return names

    def _publish(self, name: str, file: Path, configuration: str) -> None:
        version = self.place.repository / name / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").symlink_to(file.absolute())
        (version.parent / "config.pbtxt").write_text(configuration)

    def _wait_live(self) -> None:
        deadline = time.monotonic() + self.place.start_s
        while not self._is_live():
            if time.monotonic() >= deadline:
                raise EngineAway(
                    f"the Triton server at {self.place.url} does not answer after "
                    f"{self.place.start_s:g} s: see the log of the pod's container `triton`"
                )
            time.sleep(_POLL_S)

    def _is_live(self) -> bool:
        """Tell whether it answers; it is not `ready` any more after a file that it cannot load."""
        try:
            return bool(self.client.is_server_live(client_timeout=_SHORT_S))
        except InferenceServerException:
            return False


def is_away(error: InferenceServerException) -> bool:
    """Tell whether the error says that nobody listens, or that the connection broke."""
    return str(error.status()) == "StatusCode.UNAVAILABLE"


def text_of(error: InferenceServerException) -> str:
    """Return the server's message, fit for a report."""
    return safe_text(Exception(error.message()))
