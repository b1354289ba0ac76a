"""A registry as a store: builds are artefacts of CNCF ModelPack, as `skerry push` makes them.

After the OCI distribution specification. An artefact is named by its digest, which depends on the
file alone; the note of a job is an artefact of its own under a tag made of the job's key.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp

from skerry_optimize.store.base import MAX_NOTE_BYTES, BuildFile, problem_of, sha256_of
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sources.client import Client, Sent
from skerry_runtime.agent.sources.keyring import Keyring
from skerry_runtime.agent.sources.oci import MAX_MANIFEST_BYTES, registry_base
from skerry_runtime.agent.sources.ocilogin import Login
from skerry_runtime.agent.sources.ocimanifest import ACCEPT, Descriptor, manifest_of, parse
from skerry_runtime.agent.urls import shown
from skerry_runtime.contract import FailureReason

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ARTEFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
LAYER = "application/vnd.cncf.model.weight.v1.raw"
NOTE = "application/vnd.skerry.build.verdict.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
NAMES = ("org.cncf.model.filepath", "org.opencontainers.image.title")
_NOTHING = b"{}"


class OciStore:
    """One repository of one registry."""

    def __init__(self, uri: str, credentials: Keyring | None, tuning: Tuning) -> None:
        self._uri = uri
        self._tuning = tuning
        self._reference = parse(f"{uri}:any")
        base = registry_base(self._reference.registry, credentials)
        self._repository = f"{base}/v2/{self._reference.repository}"
        self._login = Login(base, credentials, "pull,push")
        self._client = Client(tuning, uri, self._login)

    async def note(self, key: str, /) -> bytes | None:
        """See `BuildStore.note`."""
        manifest = await self._read(f"manifests/{tag_of(key)}", MAX_MANIFEST_BYTES)
        if manifest is None:
            return None
        found = manifest_of(manifest, self._uri)
        layer = None if isinstance(found, Descriptor) or not found else found[0]
        if layer is None or layer.media_type != NOTE or layer.size > MAX_NOTE_BYTES:
            return None
        content = await self._read(f"blobs/{layer.digest}", MAX_NOTE_BYTES)
        is_whole = content is not None and f"sha256:{sha256_of(content)}" == layer.digest
        return content if is_whole else None

    async def holds(self, uri: str, /) -> bool:
        """See `BuildStore.holds`."""
        name, _, digest = uri.partition("@")
        if name != self._uri:
            return False
        return await self._has(f"manifests/{digest}")

    async def keep(self, file: BuildFile, /) -> str:
        """See `BuildStore.keep`. A tag beside the digest keeps a registry from clearing it away."""
        config = _config(file)
        await self._put_blob(file.sha256, file.path)
        await self._put_blob(sha256_of(config), config)
        layer = _described(LAYER, file.sha256, file.path.stat().st_size, file.name)
        manifest = _manifest(ARTEFACT, _described(CONFIG, sha256_of(config), len(config)), layer)
        digest = f"sha256:{sha256_of(manifest)}"
        await self._put_manifest(f"file-{file.sha256[:32]}", manifest)
        if not await self._has(f"manifests/{digest}"):  # a registry that rewrites pins nothing
            text = f"{shown(self._uri)}: the registry keeps another manifest than it was sent"
            raise Refused(FailureReason.DIGEST_MISMATCH, text)
        return f"{self._uri}@{digest}"

    async def write_note(self, key: str, content: bytes, /) -> None:
        """See `BuildStore.write_note`: the manifest is the last thing that is written."""
        await self._put_blob(sha256_of(_NOTHING), _NOTHING)
        await self._put_blob(sha256_of(content), content)
        empty = _described(EMPTY, sha256_of(_NOTHING), len(_NOTHING))
        layer = _described(NOTE, sha256_of(content), len(content))
        await self._put_manifest(tag_of(key), _manifest(NOTE, empty, layer))

    async def _read(self, place: str, limit: int) -> bytes | None:
        async with self._asked(Sent(), f"{self._repository}/{place}", {"Accept": ACCEPT}) as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                return None
            if answer.status != HTTPStatus.OK:
                raise problem_of(answer.status, "GET", self._uri)
            return await self._client.text(answer, limit)

    async def _has(self, place: str) -> bool:
        headers = {"Accept": ACCEPT}
        async with self._asked(Sent("HEAD"), f"{self._repository}/{place}", headers) as answer:
            if answer.status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
                return answer.status == HTTPStatus.OK
            raise problem_of(answer.status, "HEAD", self._uri)

    async def _put_blob(self, sha256: str, body: bytes | Path) -> None:
        digest = f"sha256:{sha256}"
        if await self._has(f"blobs/{digest}"):
            return
        uploads = f"{self._repository}/blobs/uploads/"
        async with self._asked(Sent("POST"), uploads, {}) as answer:
            if answer.status != HTTPStatus.ACCEPTED:
                raise problem_of(answer.status, "POST", self._uri)
            place = urljoin(uploads, answer.headers.get("Location", ""))
        joint = "&" if "?" in place else "?"
        sent = Sent("PUT", body)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(sent.size)}
        async with self._asked(sent, f"{place}{joint}digest={digest}", headers) as answer:
            self._require_created(answer)

    async def _put_manifest(self, version: str, manifest: bytes) -> None:
        place = f"{self._repository}/manifests/{version}"
        async with self._asked(Sent("PUT", manifest), place, {"Content-Type": MANIFEST}) as answer:
            self._require_created(answer)

    def _require_created(self, answer: aiohttp.ClientResponse) -> None:
        if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
            raise problem_of(answer.status, "PUT", self._uri)

    @asynccontextmanager
    async def _asked(
        self, sent: Sent, place: str, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, after a login if the registry wants one."""
        async with self._client.send(sent, place, headers) as answer:
            if answer.status != HTTPStatus.UNAUTHORIZED:
                yield answer
                return
            challenges = answer.headers.getall("WWW-Authenticate", [])
        repository = self._reference.repository
        await self._login.answer(challenges, repository, self._uri, self._tuning)
        async with self._client.send(sent, place, headers) as answer:
            yield answer


def tag_of(key: str) -> str:
    """Return the tag of a job's note.

    >>> tag_of("0" * 64)
    'build-00000000000000000000000000000000'
    """
    return f"build-{key[:32]}"


def _config(file: BuildFile) -> bytes:
    """Return the description of a model: nothing of the moment, so that a push repeats itself."""
    document = {
        "descriptor": {"name": file.path.stem},
        "config": {"format": file.path.suffix.removeprefix(".").lower()},
        "modelfs": {"type": "layers", "diffIds": [f"sha256:{file.sha256}"]},
    }
    return _written(document)


def _manifest(kind: str, config: Mapping[str, Any], layer: Mapping[str, Any]) -> bytes:
    return _written(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": config,
            "layers": [layer],
        }
    )


def _described(kind: str, sha256: str, size: int, name: str = "") -> dict[str, Any]:
    described: dict[str, Any] = {"mediaType": kind, "digest": f"sha256:{sha256}", "size": size}
    return described | ({"annotations": dict.fromkeys(NAMES, name)} if name else {})


def _written(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
