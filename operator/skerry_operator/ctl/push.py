"""`skerry push`: a model file -> an artefact in a registry, in the form of CNCF ModelPack."""

from __future__ import annotations

import hashlib
import json as jsonlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry_operator.ctl.answer import Answer, Declined
from skerry_operator.ctl.layers import NAMES, source_text
from skerry_operator.ctl.registry import INDEX, MANIFEST, RegistryClient, RegistryWish, digest_of
from skerry_operator.ctl.table import as_json

ARTEFACT = "application/vnd.cncf.model.manifest.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
EMPTY = "application/vnd.oci.empty.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
LAYER = "application/vnd.cncf.model.weight.v1.raw"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class PushWish:
    """Which file to push, and where to."""

    file: str
    to: RegistryWish
    key: str | None = None
    """File of a private key to sign with."""


def push(wish: PushWish, *, json: bool) -> Answer:
    """Push a file, and print the source that names it for ever.

    Raises:
        Declined: it cannot be read, or the registry does not take it.
    """
    client = RegistryClient.of(wish.to, "pull,push")
    reference = client.reference
    if reference.path or reference.digest:
        raise Declined(f"{wish.to.uri}: write a tag and no digest: it is what comes of the push")
    path = Path(wish.file)
    sha256, size = _measured(path)
    bundle = None if wish.key is None else _bundle({path.name: sha256}, wish.key)
    layer = _described(LAYER, f"sha256:{sha256}", size, dict.fromkeys(NAMES, path.name))
    config = _config(path, sha256)
    manifest = _manifest(_described(CONFIG, digest_of(config), len(config)), layer)
    if not client.has_blob(layer["digest"]):
        with path.open("rb") as file:
            client.put_blob(layer["digest"], size, file)
    client.put_blob(digest_of(config), len(config), config)
    digest = digest_of(manifest)
    client.put_manifest(reference.tag or digest, manifest)
    if digest_of(client.manifest(digest)) != digest:  # a registry that rewrites pins nothing
        raise Declined(f"{reference.name}: the registry keeps another manifest than it was sent")
    if bundle is not None:
        _refer(client, _described(MANIFEST, digest, len(manifest)), bundle)
    source = {"uri": f"{reference.name}@{digest}", "sha256": sha256}
    return Answer(as_json({"source": source}) if json else source_text(source))


def _bundle(files: Mapping[str, str], key: str) -> bytes:
    """Return what vouches for the files, before anything is sent."""
    try:
        from skerry_runtime.trust.keys import BadKey  # noqa: PLC0415 (packages of an extra)
        from skerry_runtime.trust.signing import sign_model  # noqa: PLC0415
    except ImportError as error:
        text = "--key needs packages that are not here: pip install 'skerry[trust]'"
        raise Declined(text) from error
    try:
        return sign_model(files, Path(key).read_bytes())
    except OSError as error:
        raise Declined(f"{key}: {error.strerror}: name a private key in PEM form") from error
    except BadKey as error:
        raise Declined(f"--key: {error}") from error


def _refer(client: RegistryClient, subject: Mapping[str, Any], bundle: bytes) -> None:
    """Push a bundle that refers to a manifest.

    A registry that does not note what refers to a manifest has an index of it under a tag.
    """
    layer = _described(BUNDLE, digest_of(bundle), len(bundle))
    empty = _described(EMPTY, digest_of(b"{}"), 2)
    manifest = _manifest(empty, layer, artifactType=BUNDLE, subject=subject)
    client.put_blob(layer["digest"], len(bundle), bundle)
    client.put_blob(empty["digest"], 2, b"{}")
    if client.put_manifest(digest_of(manifest), manifest):
        return
    entry = {**_described(MANIFEST, digest_of(manifest), len(manifest)), "artifactType": BUNDLE}
    tag = str(subject["digest"]).replace(":", "-")
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*client.index_at(tag), entry]}
    client.put_manifest(tag, _written(index), INDEX)


def _measured(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise Declined(f"{path}: {error.strerror}: name a model file") from error
    if not size:
        raise Declined(f"{path}: is empty: name a model file")
    return digest.hexdigest(), size


def _config(path: Path, sha256: str) -> bytes:
    """Return the description of the model: nothing of the moment, so that a push repeats itself."""
    document = {
        "descriptor": {"name": path.stem},
        "config": {"format": path.suffix.removeprefix(".").lower()},
        "modelfs": {"type": "layers", "diffIds": [f"sha256:{sha256}"]},
    }
    return _written(document)


def _manifest(config: Mapping[str, Any], layer: Mapping[str, Any], **more: Any) -> bytes:
    return _written(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTEFACT,
            "config": config,
            "layers": [layer],
            **more,
        }
    )


def _described(
    kind: str, digest: str, size: int, notes: Mapping[str, str] | None = None
) -> dict[str, Any]:
    described: dict[str, Any] = {"mediaType": kind, "digest": digest, "size": size}
    return described | ({"annotations": dict(notes)} if notes else {})


def _written(document: Mapping[str, Any]) -> bytes:
    return jsonlib.dumps(document, separators=(",", ":"), sort_keys=True).encode()
