"""Documents of the pod contract in few words: one model, `digits`, of one file."""

from __future__ import annotations

from typing import Any

from skerry_runtime.contract import (
    Format,
    ModelContent,
    ModelFile,
    Progress,
    RevisionContent,
    Served,
    ServedModel,
    Trial,
)

NAME = "digits"
PATH = "model.onnx"


def make_content(
    uri: str, sha256: str, *, name: str = NAME, retry: str = "", shadow: Any = None, **model: Any
) -> RevisionContent:
    """Return what a pod is told of a revision; `model` are fields of its model, and `swap`."""
    settings = {key: model.pop(key) for key in ("swap",) if key in model}
    fields = {"version": "1", "variant": "v", "format": Format.ONNX, **model}
    files = (ModelFile(path=PATH, uri=uri, sha256=sha256),)
    return RevisionContent(
        models={name: ModelContent(files=files, **fields)}, retry=retry, shadow=shadow, **settings
    )


def with_model(content: RevisionContent, **changes: Any) -> RevisionContent:
    """Return the revision with a model that differs in these fields."""
    model = content.model.model_copy(update=changes)
    return content.model_copy(update={"models": {content.name: model}})


def with_file(content: RevisionContent, **changes: Any) -> RevisionContent:
    """Return the revision with a model whose file differs in these fields."""
    return with_model(content, files=(content.model.files[0].model_copy(update=changes),))


def make_served(revision: str, version: str = "1", since: float = 0, **model: Any) -> Served:
    """Return what a pod says of the revision that it serves; `model` are fields of its model."""
    name = model.pop("name", NAME)
    fields = {"variant": "fp32", "sha256": "0" * 64, **model}
    return Served(
        revision=revision, since=since, models={name: ServedModel(version=version, **fields)}
    )


def with_found(served: Served, **changes: Any) -> Served:
    """Return the served revision with a model that differs in these fields."""
    model = served.model.model_copy(update=changes)
    return served.model_copy(update={"models": {served.name: model}})


def make_progress(revision: str, phase: Any, **fields: Any) -> Progress:
    """Return how far a pod is; `exam` and `agreement` are of its model."""
    found = {key: fields.pop(key) for key in ("exam", "agreement") if key in fields}
    return Progress(revision=revision, phase=phase, trials={NAME: Trial(**found)}, **fields)
