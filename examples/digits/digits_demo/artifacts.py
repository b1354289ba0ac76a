"""Names and digests of the files that the demo serves: the index written by training."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

INDEX_FILE = "index.json"


class File(BaseModel):
    """A file in the artifact folder."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Name inside the folder, and so the path at the model server."""
    sha256: str
    size: int
    """Bytes."""


class TrainedModel(BaseModel):
    """One version of the model."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Short name in the demo: v1 to v4."""
    version: str
    """Version for people, as in `EdgeModel.spec.version`."""
    story: str
    """What it is, in one sentence."""
    accuracy: float
    """Share of right answers on held-out images, measured on the exported file."""
    exam_accuracy: float
    """The same on the images of the golden exam."""
    file: File


class Index(BaseModel):
    """All that training made."""

    model_config = ConfigDict(frozen=True)

    golden: File
    """The exam: `image` float32 [n, 64] and `labels` int64 [n]."""
    clients: File
    """Held-out images that the clients send, in the same form."""
    models: tuple[TrainedModel, ...]

    def model(self, key: str) -> TrainedModel:
        """Return the version with this short name.

        Raises:
            KeyError: there is none.
        """
        for model in self.models:
            if model.key == key:
                return model
        raise KeyError(key)


def describe(path: Path) -> File:
    """Measure one file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return File(name=path.name, sha256=digest, size=path.stat().st_size)


def write_index(folder: Path, index: Index) -> None:
    """Write the index; it is last, so a folder with an index is complete."""
    (folder / INDEX_FILE).write_text(index.model_dump_json(indent=2) + "\n", "utf-8")


def read_index(folder: Path) -> Index | None:
    """Return the index of a folder whose files are all there and unchanged, else None."""
    try:
        index = Index.model_validate_json((folder / INDEX_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    files = [index.golden, index.clients, *(model.file for model in index.models)]
    return index if all(_is_intact(folder, file) for file in files) else None


def _is_intact(folder: Path, file: File) -> bool:
    path = folder / file.name
    return path.is_file() and describe(path) == file
