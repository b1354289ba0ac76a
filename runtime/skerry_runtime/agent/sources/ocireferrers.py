"""Signature bundles of an artefact in a registry: what refers to its manifest.

After the OCI distribution specification 1.1: the referrers API, and where a registry has none the
tag that stands for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sources.base import Order
from skerry_runtime.agent.sources.client import refusal_of
from skerry_runtime.agent.sources.oci import MAX_MANIFEST_BYTES, OciSource
from skerry_runtime.agent.sources.ocimanifest import (
    ACCEPT,
    MAX_LAYERS,
    Descriptor,
    check_digest,
    manifest_of,
)
from skerry_runtime.agent.urls import shown
from skerry_runtime.contract import FailureReason
from skerry_runtime.trust.bundle import BUNDLE_MEDIA_TYPE, MAX_BUNDLE_BYTES

MAX_BUNDLES = 8
"""Most bundles of one artefact that are read."""


class _Referrer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")

    artifact_type: str = ""
    digest: str
    annotations: Mapping[str, str] | None = None


class _Referrers(BaseModel):
    manifests: Annotated[tuple[_Referrer, ...], Field(max_length=MAX_LAYERS)] = ()


async def referring(order: Order, tuning: Tuning) -> Sequence[bytes]:
    """Return the bundles that refer to an artefact.

    Raises:
        Refused, Transient: there is none, or none can be had.
    """
    return await _Bundles(order, tuning).read()


class _Bundles(OciSource):
    """Reads what refers to the manifest that a reference names, or leads to through an index."""

    async def read(self) -> Sequence[bytes]:
        found: list[bytes] = []
        for digest in await self._subjects():
            for referrer in await self._referrers(digest):
                if len(found) < MAX_BUNDLES:
                    found.append(await self._bundle(referrer))
        if not found:
            text = (
                f"{shown(self._order.uri)}: nothing of type {BUNDLE_MEDIA_TYPE} refers to it in "
                "its registry: sign it, for example with `skerry push --key`, or name a bundle "
                "elsewhere with signature.uri"
            )
            raise Refused(FailureReason.FETCH_FAILED, text)
        return found

    async def _subjects(self) -> list[str]:
        """Return the manifests that may have been signed: that which is named, and ours in it."""
        body = await self._manifest(self._reference.version)
        digests = [f"sha256:{hashlib.sha256(body).hexdigest()}"]
        inner = manifest_of(body, self._order.uri)
        return [*digests, inner.digest] if isinstance(inner, Descriptor) else digests

    async def _referrers(self, digest: str) -> list[str]:
        """Return the digests of the bundles' manifests, the newest way of asking first."""
        place = f"{self._repository}/referrers/{digest}?artifactType={BUNDLE_MEDIA_TYPE}"
        body = await self._index(place.replace("+", "%2B"))
        if body is None:
            body = await self._index(f"{self._repository}/manifests/{digest.replace(':', '-')}")
        return [] if body is None else self._bundles_in(body)

    async def _index(self, place: str) -> bytes | None:
        async with self._get(place, {"Accept": ACCEPT}) as response:
            if response.status == HTTPStatus.NOT_FOUND:
                return None
            if response.status != HTTPStatus.OK:
                raise refusal_of(response.status, self._order.uri, " for its referrers")
            return await self._client.text(response, MAX_MANIFEST_BYTES)

    def _bundles_in(self, body: bytes) -> list[str]:
        try:
            found = _Referrers.model_validate_json(body).manifests
        except (ValidationError, RecursionError) as err:
            text = f"{shown(self._order.uri)}: the registry's list of referrers cannot be read"
            raise Refused(FailureReason.FETCH_FAILED, text) from err
        return [one.digest for one in found if one.artifact_type == BUNDLE_MEDIA_TYPE]

    async def _bundle(self, digest: str) -> bytes:
        layers = manifest_of(await self._manifest(digest), self._order.uri)
        if isinstance(layers, Descriptor) or len(layers) != 1:
            text = f"{shown(self._order.uri)}: a bundle that refers to it is not one layer"
            raise Refused(FailureReason.SIGNATURE_INVALID, text)
        place = f"{self._repository}/blobs/{layers[0].digest}"
        async with self._get(place, {}) as response:
            if response.status != HTTPStatus.OK:
                raise refusal_of(response.status, self._order.uri, " for a bundle")
            body = await self._client.text(response, MAX_BUNDLE_BYTES)
        check_digest(body, layers[0].digest, self._order.uri)
        return body
