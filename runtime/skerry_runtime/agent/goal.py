"""A revision that this unit can be told to serve, with all that is needed to do so."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from typing_extensions import override

from skerry_runtime.contract import Execution, Format, RevisionContent

_SUFFIXES = {
    Format.ONNX: "model.onnx",
    Format.ORT: "model.ort",
    Format.TFLITE: "model.tflite",
}
_OTHER = "model.bin"
"""Name of a file in a format that this runtime does not read, and so refuses."""
GOLDEN_NAME = "golden.npz"


@dataclass(frozen=True)
class Blob:
    """One file of a revision, named by its digest."""

    uri: str
    sha256: str
    name: str


@dataclass(frozen=True)
class Goal:
    """One revision, its content, and where its sessions run."""

    revision: str
    content: RevisionContent
    execution: Execution

    @cached_property
    def key(self) -> str:
        """Digest of everything a failure may depend on, the `retry` text included.

        Not the shadow: it ends with the trial, and what served stays what it was.
        """
        document = [
            self.revision,
            self.content.model_dump(mode="json", exclude={"shadow"}),
            self.execution.model_dump(mode="json"),
        ]
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @override
    def __hash__(self) -> int:
        """Hash by the key: content and execution hold mappings."""
        return hash(self.key)

    @property
    def sha256(self) -> str:
        """Digest of the model file."""
        return self.content.artifact.sha256

    @property
    def model_blob(self) -> Blob:
        """The model file."""
        artifact = self.content.artifact
        return Blob(artifact.uri, artifact.sha256, _SUFFIXES.get(artifact.format, _OTHER))

    @property
    def golden_blob(self) -> Blob | None:
        """The exam's file."""
        golden = self.content.golden
        return Blob(golden.uri, golden.sha256, GOLDEN_NAME) if golden else None

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every file of the revision, the model first."""
        golden = self.golden_blob
        return (self.model_blob, golden) if golden else (self.model_blob,)

    @property
    def is_accelerated(self) -> bool:
        """Tell whether something else than the CPU is wanted."""
        return self.execution.providers[:1] not in ((), ("CPUExecutionProvider",))
