"""Serves one given file and never changes it: for benches, tests and a first look."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from pathlib import Path

from skerry_runtime import __version__
from skerry_runtime.backends.base import Backend, LoadRequest, Model
from skerry_runtime.clock import unix_now
from skerry_runtime.contract import Batching, Execution, Format, Served, ServedModel, StatusReport
from skerry_runtime.metrics import Metrics
from skerry_runtime.registry import Registry, ServingModel
from skerry_runtime.settings import RuntimeSettings

_FORMATS = {".ort": Format.ORT, ".tflite": Format.TFLITE}
_log = logging.getLogger(__name__)


class FileAgent:
    """What decides which model serves, where a person has decided."""

    def __init__(
        self,
        settings: RuntimeSettings,
        registry: Registry,
        metrics: Metrics,
        backend: Backend,
        path: Path,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._metrics = metrics
        self._backend = backend
        self._path = path
        self._started_at = unix_now()
        self._boot_id = uuid.uuid4().hex

    async def run(self) -> None:
        """Load the file and put it into service.

        Raises:
            LoadError: it cannot be loaded.
        """
        serving = await asyncio.to_thread(self._load)
        self._metrics.activate(serving.served.revision)
        self._registry.switch(serving)
        _log.info("serving %s as '%s'", self._path.name, serving.name)

    def is_alive(self) -> bool:
        """Return true: nothing is looked at more than once."""
        return True

    def is_stuck(self) -> bool:
        """Return false: its one load is no thread that the process's end waits for."""
        return False

    def status(self) -> StatusReport:
        """Tell what serves."""
        serving = self._registry.current
        return StatusReport(
            unit=self._settings.unit,
            runtime_version=__version__,
            boot_id=self._boot_id,
            started_at=self._started_at,
            now=unix_now(),
            serving=serving.served if serving else None,
            counters=self._metrics.counters(),
        )

    async def stop(self) -> None:
        """Do nothing: `run` ends by itself."""

    def _load(self) -> ServingModel:
        with self._path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        model_format = _FORMATS.get(self._path.suffix, Format.ONNX)
        execution = Execution(profile="cpu")
        request = LoadRequest(self._path, model_format, execution, self._settings.threads)
        model = self._backend.load(request)
        name = self._settings.model_name
        served = _served(name, sha256, model)
        return ServingModel(name, served, model, self._batching())

    def _batching(self) -> Batching | None:
        size = self._settings.batch_max_size
        return Batching(max_size=size, mode=self._settings.batch_mode) if size > 1 else None


def _served(name: str, sha256: str, model: Model) -> Served:
    """Describe a file that no rollout brought: its hash is its revision and its version."""
    version = sha256[:10]
    served = ServedModel(
        version=version, variant="file", sha256=sha256, acceleration=model.acceleration
    )
    return Served(revision=version, since=unix_now(), models={name: served})
