"""A revision that this unit can be told to serve, with all that is needed to do so."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from typing_extensions import override

from skerry_runtime.contract import Execution, GoldenExam, ModelContent, RevisionContent

GOLDEN_NAME = "golden.npz"


@dataclass(frozen=True)
class Blob:
    """One file of a revision."""

    uri: str
    sha256: str
    path: str
    """Where it lies in its folder."""
    folder: str
    """Digest of all the files that lie there together; of a file that is alone, its own."""


@dataclass(frozen=True)
class Goal:
    """One revision, its content, and where its sessions run."""

    revision: str
    content: RevisionContent
    execution: Execution

    @cached_property
    def key(self) -> str:
        """Digest of everything a failure may depend on, the `retry` text included.

        Not the shadow: it ends with the trial, and what served stays what it was. Nor the names
        that clients ask for: a model that gets another name is no other model.
        """
        document = [
            self.revision,
            self.content.model_dump(mode="json", exclude={"shadow", "models"}),
            [model.model_dump(mode="json") for _, model in sorted(self.content.models.items())],
            self.execution.model_dump(mode="json"),
        ]
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @override
    def __hash__(self) -> int:
        """Hash by the key: content and execution hold mappings."""
        return hash(self.key)

    @property
    def name(self) -> str:
        """Name under which clients ask for the model."""
        return self.content.name

    @property
    def model(self) -> ModelContent:
        """The model; a revision of several is refused before anything is fetched."""
        return self.content.model

    @property
    def sha256(self) -> str:
        """Digest of the file that an engine opens."""
        return self.model.files[0].sha256

    @property
    def model_blob(self) -> Blob:
        """The file that an engine opens."""
        return _model_blobs(self.model)[0]

    @property
    def golden_blob(self) -> Blob | None:
        """The exam's file."""
        golden = self.model.golden
        return _golden_blob(golden) if golden else None

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every file of the revision, a model's own first."""
        return tuple(blob for model in self.content.models.values() for blob in _blobs(model))

    @property
    def is_accelerated(self) -> bool:
        """Tell whether something else than the CPU is wanted."""
        return self.execution.providers[:1] not in ((), ("CPUExecutionProvider",))


def _blobs(model: ModelContent) -> tuple[Blob, ...]:
    golden = (_golden_blob(model.golden),) if model.golden else ()
    return (*_model_blobs(model), *golden)


def _model_blobs(model: ModelContent) -> tuple[Blob, ...]:
    folder = _folder(model)
    return tuple(Blob(file.uri, file.sha256, file.path, folder) for file in model.files)


def _folder(model: ModelContent) -> str:
    """Return where the files lie: models of equal files share them."""
    if len(model.files) == 1:
        return model.files[0].sha256
    lines = sorted(f"{file.path} {file.sha256}" for file in model.files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _golden_blob(golden: GoldenExam) -> Blob:
    return Blob(golden.uri, golden.sha256, GOLDEN_NAME, golden.sha256)
