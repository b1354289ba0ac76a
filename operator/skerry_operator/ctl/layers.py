"""`skerry resolve oci://…`: an artefact by its tag -> the source, pinned by digest and sha256."""

from __future__ import annotations

import hashlib
import json as jsonlib
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from skerry_operator.ctl.answer import Answer, Declined
from skerry_operator.ctl.registry import (
    OciReference,
    RegistryClient,
    RegistryWish,
    digest_of,
)
from skerry_operator.ctl.table import as_json

NAMES = ("org.cncf.model.filepath", "org.opencontainers.image.title")
"""Annotations that name the file in a layer."""
MAX_LAYERS = 1000
"""As many as a pod looks at."""
_CHUNK = 1 << 20
_SHOWN = 5

Described = Mapping[str, Any]


def resolve_layer(wish: RegistryWish, *, json: bool) -> Answer:
    """Print the source of a file in a registry.

    Raises:
        Declined: there is none, or several and no word which.
    """
    client = RegistryClient.of(wish)
    reference = client.reference
    body = client.manifest(reference.version)
    layer = layer_of(_layers(body, reference), reference)
    path = f"#{reference.path}" if reference.path else ""
    source = {
        "uri": f"{reference.name}@{digest_of(body)}{path}",
        "sha256": _sha256(client, layer),
    }
    return Answer(as_json({"source": source}) if json else source_text(source))


def source_text(source: Mapping[str, str]) -> str:
    """Return a source to paste into an EdgeModel."""
    return "\n".join(("source:", *(f"  {name}: {value}" for name, value in source.items())))


def layer_of(layers: Sequence[Described], reference: OciReference) -> Described:
    """Return the layer that is meant: the one with the name, or the only one.

    Raises:
        Declined: none is, or several are.
    """
    named = [(one, _names(one)) for one in layers]
    found = [one for one, names in named if reference.path is None or reference.path in names]
    if len(found) == 1:
        return found[0]
    known = sorted(name for _, names in named for name in names)
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    listed = ", ".join(known[:_SHOWN]) + more
    raise Declined(
        f"{reference.name}: {len(found)} layers may be meant: add #FILE with one of: "
        f"{listed or 'none, as they have no names'}"
    )


def _layers(body: bytes, reference: OciReference) -> Sequence[Described]:
    """Return the layers of a manifest.

    Raises:
        Declined: it is none, or an index, whose manifests have to be named one by one.
    """
    try:
        document = jsonlib.loads(body)
        entries = [dict(one) for one in document.get("layers") or document["manifests"]]
        digests = [str(one["digest"]) for one in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Declined(f"{reference.name}: what the registry sent is no manifest") from error
    if len(entries) > MAX_LAYERS:
        raise Declined(f"{reference.name}: {len(entries)} entries: pods read {MAX_LAYERS} at most")
    if document.get("layers"):
        return entries
    told = [f"{_platform(one)} @{digest}" for one, digest in zip(entries, digests, strict=True)]
    raise Declined(
        f"{reference.name}: an index, whose files differ by platform, and a source has one sha256: "
        f"resolve a manifest of it: {'; '.join(told[:_SHOWN])}"
    )


def _platform(entry: Described) -> str:
    found = entry.get("platform")
    parts = found if isinstance(found, dict) else {}
    return f"{parts.get('os', '?')}/{parts.get('architecture', '?')}"


def _names(layer: Described) -> list[str]:
    found = layer.get("annotations")
    notes = found if isinstance(found, dict) else {}
    return list(dict.fromkeys(str(notes[name]) for name in NAMES if name in notes))


def _sha256(client: RegistryClient, layer: Described) -> str:
    """Return the sha256 of the file: the layer's own digest, or what an archive holds."""
    digest = str(layer["digest"])
    kind = str(layer.get("mediaType", "")).lower()
    if ".tar" not in kind:
        return digest.removeprefix("sha256:")
    if "zstd" in kind:
        raise Declined(f"{client.reference.name}: the layer is packed with zstd: push it as it is")
    with client.blob(digest) as answer:
        try:
            archive = tarfile.open(fileobj=answer, mode="r|*")  # noqa: SIM115 (the blob's end is its)
        except tarfile.ReadError:  # tools that are told nothing call every file an archive
            return digest.removeprefix("sha256:")
        try:
            return _hashed(archive)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise Declined(f"{client.reference.name}: the archive cannot be read") from error


def _hashed(archive: tarfile.TarFile) -> str:
    """Return the sha256 of the one file in an archive.

    Raises:
        Declined: there is none, or several.
    """
    digests: list[str] = []
    for entry in archive:
        if entry.isdir():
            continue
        opened = archive.extractfile(entry) if entry.isreg() else None
        if opened is None or digests:
            raise Declined("the archive holds more than one plain file: pods refuse it")
        digest = hashlib.sha256()
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
        digests.append(digest.hexdigest())
    if not digests:
        raise Declined("the archive holds no file")
    return digests[0]
