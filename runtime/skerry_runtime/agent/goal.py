"""A revision that this unit can be told to serve, with all that is needed to do so."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from typing_extensions import override

from skerry_runtime.agent.urls import place_of_bundle
from skerry_runtime.contract import Execution, GoldenExam, ModelContent, RevisionContent

GOLDEN_NAME = "golden.npz"
BUNDLE_NAME = "bundle.json"


@dataclass(frozen=True)
class Blob:
    """One file of a revision."""

    uri: str
    sha256: str
    path: str
    """Where it lies in its folder."""
    folder: str
    """Digest of all the files that lie there together; of a file that is alone, its own."""
    secret: str | None = None
    """The Secret with credentials for its source."""


@dataclass(frozen=True)
class Goal:
    """One revision, its content, and where its sessions run."""

    revision: str
    content: RevisionContent
    execution: Execution

    @property
    def load_timeout_s(self) -> float | None:
        """How long the load may take: the revision's word, else the hardware's; None: nobody's."""
        own = self.model.load_timeout_s
        return self.execution.load_timeout_s if own is None else own

    @cached_property
    def key(self) -> str:
        """Digest of everything a failure may depend on, the `retry` text included.

        Not the shadow: it ends with the trial, and what served stays what it was. Nor the names
        that clients ask for: a model that gets another name is no other model.
        """
        document = [
            self.revision,
            self.content.model_dump(mode="json", exclude={"shadow", "models"}),
            [as_before(model) for _, model in sorted(self.content.models.items())],
            as_before(self.execution),
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
    def retry(self) -> str:
        """The text under which it is tried: failures under another one are over."""
        return self.content.retry

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
    def blobs_beside(self) -> tuple[Blob, ...]:
        """The model's other files, which lie beside that one."""
        return _model_blobs(self.model)[1:]

    @property
    def golden_blob(self) -> Blob | None:
        """The exam's file."""
        golden = self.model.golden
        return _golden_blob(golden) if golden else None

    @property
    def bundle_blob(self) -> Blob | None:
        """The signature bundle, where it is known by its sha256."""
        return _bundle_blob(self.model)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every file of the revision, a model's own first."""
        return tuple(blob for model in self.content.models.values() for blob in _blobs(model))

    @property
    def is_accelerated(self) -> bool:
        """Tell whether something else than the CPU is wanted."""
        return self.execution.providers[:1] not in ((), ("CPUExecutionProvider",))


_LATER = frozenset({"load_timeout_s", "secret", "signature", "encryption"})
"""Fields that older runtimes did not know: they count where they are set, and a key stays."""
_OF_FILES = frozenset({"files", "golden"})


def as_before(part: ModelContent | Execution) -> dict[str, object]:
    """Return the part for a digest that stays what it was when fields are added."""
    dumped: dict[str, object] = part.model_dump(mode="json")
    return {
        name: _known_before(value) if name in _OF_FILES else value
        for name, value in dumped.items()
        if name not in _LATER or value
    }


def _known_before(value: object) -> object:
    """Return a field without what its files, or its exam, have not set of what came later."""
    if isinstance(value, list):
        return [_known_before(one) for one in value]
    if isinstance(value, dict):
        return {name: one for name, one in value.items() if name not in _LATER or one}
    return value


def _blobs(model: ModelContent) -> tuple[Blob, ...]:
    golden = (_golden_blob(model.golden),) if model.golden else ()
    bundle = _bundle_blob(model)
    return (*_model_blobs(model), *golden, *((bundle,) if bundle else ()))


def _model_blobs(model: ModelContent) -> tuple[Blob, ...]:
    folder = _folder(model)
    return tuple(
        Blob(file.uri, file.sha256, file.path, folder, file.secret) for file in model.files
    )


def _folder(model: ModelContent) -> str:
    """Return where the files lie: models of equal files share them."""
    if len(model.files) == 1:
        return model.files[0].sha256
    lines = sorted(f"{file.path} {file.sha256}" for file in model.files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _bundle_blob(model: ModelContent) -> Blob | None:
    signature, first = model.signature, model.files[0]
    if signature is None or signature.sha256 is None:
        return None
    uri = signature.uri or place_of_bundle(first.uri)
    return Blob(uri, signature.sha256, BUNDLE_NAME, signature.sha256, first.secret)


def _golden_blob(golden: GoldenExam) -> Blob:
    return Blob(golden.uri, golden.sha256, GOLDEN_NAME, golden.sha256, golden.secret)
