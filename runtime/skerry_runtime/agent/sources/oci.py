"""oci://registry/repository@sha256:...: a file that is a layer of an artefact in a registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import aiohttp

from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Refused, Transient
from skerry_runtime.agent.sources.base import Begun, BrokenOff, Order, Stream
from skerry_runtime.agent.sources.client import (
    Client,
    chunks_of,
    range_headers,
    refusal_of,
    stream_of,
)
from skerry_runtime.agent.sources.keyring import Keyring, host_of
from skerry_runtime.agent.sources.ocilogin import Login
from skerry_runtime.agent.sources.ocimanifest import (
    ACCEPT,
    Descriptor,
    check_digest,
    layer_of,
    manifest_of,
    parse,
)
from skerry_runtime.agent.sources.tarball import Tarball, inflated
from skerry_runtime.agent.urls import shown
from skerry_runtime.contract import FailureReason

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
"""As much as the distribution specification wants registries to take."""
_DOCKER_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


class OciSource:
    """A layer of an artefact."""

    def __init__(self, order: Order, tuning: Tuning) -> None:
        self._order = order
        self._tuning = tuning
        self._reference = parse(order.uri)
        base = registry_base(self._reference.registry, order.credentials)
        self._repository = f"{base}/v2/{self._reference.repository}"
        self._login = Login(base, order.credentials)
        self._client = Client(tuning, order.uri, self._login)

    @asynccontextmanager
    async def open(self, begun: Begun, /) -> AsyncIterator[Stream]:
        """See `ByteSource.open`. A file in an archive comes from its start."""
        layer = await self._layer()
        place = f"{self._repository}/blobs/{layer.digest}"
        if layer.digest == f"sha256:{self._order.sha256}":
            async with self._get(place, range_headers(begun)) as response:
                yield stream_of(response, begun, self._order.uri)
            return
        compression = _compression(layer, self._order.uri)
        async with self._get(place, {}) as response:
            if response.status != HTTPStatus.OK:
                raise refusal_of(response.status, self._order.uri)
            chunks = chunks_of(response)
            yield await self._unpacked(inflated(chunks) if compression == "gzip" else chunks)

    async def _unpacked(self, chunks: AsyncIterator[bytes]) -> Stream:
        tarball = Tarball(chunks)
        try:
            async with asyncio.timeout(self._tuning.trickle_window_s):
                size = await tarball.find()
        except (BrokenOff, TimeoutError) as err:
            reason = str(err) or "no answer in time"
            raise Transient(f"GET {shown(self._order.uri)}: {reason}") from err
        return Stream(tarball.content(size), size)

    async def _layer(self) -> Descriptor:
        """Return the layer that is meant, through an index if need be."""
        found = manifest_of(await self._manifest(self._reference.version), self._order.uri)
        if isinstance(found, Descriptor):
            found = manifest_of(await self._manifest(found.digest), self._order.uri)
        if isinstance(found, Descriptor):
            text = f"{shown(self._order.uri)}: an index within an index: name the inner one"
            raise Refused(FailureReason.FETCH_FAILED, text)
        return layer_of(found, self._reference.path, self._order.sha256, self._order.uri)

    async def _manifest(self, version: str) -> bytes:
        place = f"{self._repository}/manifests/{version}"
        async with self._get(place, {"Accept": ACCEPT}) as response:
            if response.status != HTTPStatus.OK:
                raise refusal_of(response.status, self._order.uri, " for the manifest")
            body = await self._client.text(response, MAX_MANIFEST_BYTES)
        if ":" in version:
            check_digest(body, version, self._order.uri)
        return body

    @asynccontextmanager
    async def _get(
        self, place: str, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET, after a login if the registry wants one."""
        async with self._client.get(place, headers) as response:
            if response.status != HTTPStatus.UNAUTHORIZED:
                yield response
                return
            challenges = response.headers.getall("WWW-Authenticate", [])
        repository = self._reference.repository
        await self._login.answer(challenges, repository, self._order.uri, self._tuning)
        async with self._client.get(place, headers) as response:
            yield response


def source(order: Order, tuning: Tuning) -> OciSource:
    """Return the source of a layer.

    Raises:
        Refused: FetchFailed: no reference, or a Secret that the registry may not see.
    """
    return OciSource(order, tuning)


def registry_base(registry: str, credentials: Keyring | None) -> str:
    """Return the registry's address: https, unless the Secret names it as http://REGISTRY."""
    name = _DOCKER_HUB.get(registry, registry).lower()
    plain = f"http://{name}"
    is_plain = credentials is not None and credentials.may_see(plain)
    if host_of(plain) is None:
        raise Refused(FailureReason.FETCH_FAILED, f"oci://{registry}: no host and port")
    return plain if is_plain else f"https://{name}"


def _compression(layer: Descriptor, uri: str) -> str:
    """Return how an archive is packed.

    Raises:
        Refused: it is none, or one that cannot be unpacked here.
    """
    kind = layer.media_type.lower()
    if ".tar" not in kind:
        # Who may only write an EdgeModel must not learn here what an address answers.
        text = f"{shown(uri)}: the layer is another file than the spec names: correct its sha256"
        raise Refused(FailureReason.DIGEST_MISMATCH, text)
    if "zstd" in kind:
        text = f"{shown(uri)}: the layer is packed with zstd: push it uncompressed, or with gzip"
        raise Refused(FailureReason.INVALID_MODEL, text)
    return "gzip" if "gzip" in kind else ""
