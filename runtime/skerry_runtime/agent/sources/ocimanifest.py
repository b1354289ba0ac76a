"""References, manifests and the layer that is meant. Pure.

After the OCI image and distribution specifications, and the CNCF ModelPack one for names of files.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.urls import shown
from skerry_runtime.contract import FailureReason, clipped

MAX_LAYERS = 1000
"""Most layers, or entries of an index, that are looked at."""
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
_NAMES = ("org.cncf.model.filepath", "org.opencontainers.image.title")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_FORM = re.compile(
    r"oci://(?P<registry>[A-Za-z0-9.-]+(?::\d{1,5})?|\[[0-9a-f:]+\](?::\d{1,5})?)"
    rf"/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?(?:#(?P<path>[^#]+))?",
    re.ASCII,
)
_SHOWN = 5


@dataclass(frozen=True)
class Reference:
    """Where an artefact is."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None
    path: str | None
    """Name of the file that is meant, where there are several."""

    @property
    def version(self) -> str:
        """What the manifest is asked for by: the digest counts, a tag beside it is for people."""
        return self.digest or self.tag or ""


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class Platform(_Model):
    """What a manifest of an index is for."""

    os: str = ""
    architecture: str = ""


class Descriptor(_Model):
    """Points to a manifest or a layer."""

    media_type: str = ""
    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    annotations: Mapping[str, str] | None = None
    platform: Platform | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the file in the layer was given."""
        found = self.annotations or {}
        return tuple(dict.fromkeys(found[name] for name in _NAMES if name in found))


class _Document(_Model):
    layers: tuple[Descriptor, ...] | None = None
    manifests: tuple[Descriptor, ...] | None = None


class _Sizes(_Model):
    layers: Sequence[object] | None = None
    manifests: Sequence[object] | None = None


def parse(uri: str) -> Reference:
    """Return the parts of a reference.

    Raises:
        Refused: it is none.
    """
    found = _FORM.fullmatch(uri)
    if found is None or not (found["tag"] or found["digest"]):
        text = (
            f"{shown(uri)}: write oci://REGISTRY/REPOSITORY@sha256:DIGEST, or :TAG in its place; "
            "#FILE after it names one of several files"
        )
        raise Refused(FailureReason.FETCH_FAILED, text)
    path = unquote(found["path"]) if found["path"] else None
    return Reference(found["registry"], found["repository"], found["tag"], found["digest"], path)


def check_digest(body: bytes, digest: str, uri: str) -> None:
    """Check that a document is the one that was asked for.

    Raises:
        Refused: DigestMismatch.
    """
    if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
        text = f"GET {shown(uri)}: the registry sent another manifest than {digest}"
        raise Refused(FailureReason.DIGEST_MISMATCH, text)


def manifest_of(body: bytes, uri: str) -> Descriptor | tuple[Descriptor, ...]:
    """Return the layers of a manifest, or which manifest of an index is for this machine.

    Raises:
        Refused: it is neither, has too many entries, or none for this machine.
    """
    try:
        sizes = _Sizes.model_validate_json(body)
        largest = max(len(one or ()) for one in (sizes.layers, sizes.manifests))
        if largest > MAX_LAYERS:
            text = (
                f"{shown(uri)}: the manifest has {largest} entries: at most {MAX_LAYERS} are read"
            )
            raise Refused(FailureReason.FETCH_FAILED, text)
        document = _Document.model_validate_json(body)
    except (ValidationError, RecursionError) as err:
        raise _no_manifest(uri) from err
    if document.manifests:
        return _for_us(document.manifests, uri)
    if document.layers is None:
        raise _no_manifest(uri)
    return document.layers


def _no_manifest(uri: str) -> Refused:
    text = f"{shown(uri)}: what the registry sent is no OCI manifest with sha256 digests"
    return Refused(FailureReason.FETCH_FAILED, text)


def _for_us(manifests: Sequence[Descriptor], uri: str) -> Descriptor:
    machine = platform.machine()
    ours = Platform(os="linux", architecture=_ARCHITECTURES.get(machine, machine))
    fitting = [one for one in manifests if one.platform == ours]
    free = [one for one in manifests if one.platform is None]
    if fitting:
        return fitting[0]
    if len(free) == 1:
        return free[0]
    offered = sorted({f"{p.os}/{p.architecture}" for one in manifests if (p := one.platform)})
    text = (
        f"{shown(uri)}: the index has nothing for linux/{ours.architecture}, only for "
        f"{', '.join(offered[:_SHOWN]) or 'nobody in particular, several times'}: push a build for "
        "it, or name a manifest by its own digest"
    )
    raise Refused(FailureReason.FETCH_FAILED, text)


def layer_of(layers: Sequence[Descriptor], path: str | None, sha256: str, uri: str) -> Descriptor:
    """Return the layer that is meant: by name, by the file's sha256, or because it is the only one.

    Raises:
        Refused: none is, or several are.
    """
    if path is None:
        raw = [one for one in layers if one.digest == f"sha256:{sha256}"]
        found = raw[:1] or (list(layers) if len(layers) == 1 else [])
    else:
        found = [one for one in layers if path in one.names]
    if len(found) == 1:
        return found[0]
    names = sorted(name for one in layers for name in one.names)
    listed = clipped(", ".join(names[:_SHOWN]), 256) or "none with a name"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    asked = f"{len(found)} layers are named {path}" if path else "which of its layers is not said"
    text = f"{shown(uri)}: {asked}: add #FILE with one of: {listed}{more}"
    raise Refused(FailureReason.FETCH_FAILED, text)
