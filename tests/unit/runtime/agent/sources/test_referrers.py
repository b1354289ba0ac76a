"""Registries with the referrers API, and registries that answer it with what means harm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from fetching import TUNING, Fetching, sha256_of
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sources.bundles import bundles_at
from skerry_runtime.agent.sources.keyring import read_keyring
from skerry_runtime.agent.sources.ocireferrers import MAX_BUNDLES
from skerry_runtime.trust.bundle import BUNDLE_MEDIA_TYPE, MAX_BUNDLE_BYTES
from unit.runtime.agent.sources.server import Answer, serving

MODEL = json.dumps({"layers": []}).encode()
BUNDLE = b'{"a": "bundle"}'


def digest(body: bytes) -> str:
    return f"sha256:{sha256_of(body)}"


def artefact(*blobs: bytes) -> bytes:
    layers = [{"digest": digest(blob), "size": len(blob)} for blob in blobs]
    return json.dumps({"layers": layers}).encode()


def referrers(*manifests: bytes, kind: str = BUNDLE_MEDIA_TYPE) -> bytes:
    found = [{"artifactType": kind, "digest": digest(one), "size": 1} for one in manifests]
    return json.dumps({"manifests": found}).encode()


def registry(listed: bytes | int, documents: Mapping[str, bytes]) -> tuple[Answer, list[str]]:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        _, _, name = request.path.rpartition("/")
        if "/referrers/" in request.path:
            if isinstance(listed, int):
                return web.Response(status=listed)
            return web.Response(body=listed)
        if name in documents:
            return web.Response(body=documents[name])
        raise web.HTTPNotFound

    return answer, asked


async def found(fetching: Fetching, answer: Answer) -> Any:
    async with serving(answer) as server:
        name = fetching.secret(hosts=server.url)
        keyring = read_keyring(fetching.root / "secrets", name)
        uri = f"oci://{server.address}/models/digits@{digest(MODEL)}"
        return await bundles_at(uri, "0" * 64, keyring, TUNING)


def documents(*blobs: bytes, manifest: bytes = b"") -> dict[str, bytes]:
    manifest = manifest or artefact(*blobs)
    known = {digest(MODEL): MODEL, digest(manifest): manifest}
    return {**known, **{digest(blob): blob for blob in blobs}}


async def refusal(fetching: Fetching, answer: Answer) -> str:
    with pytest.raises(Refused) as caught:
        await found(fetching, answer)
    return str(caught.value)


async def test_the_referrers_api_is_asked_for_bundles_alone(fetching: Fetching) -> None:
    answer, asked = registry(referrers(artefact(BUNDLE)), documents(BUNDLE))
    assert await found(fetching, answer) == [BUNDLE]
    (question,) = [path for path in asked if "/referrers/" in path]
    kind = BUNDLE_MEDIA_TYPE.replace("+", "%2B")
    assert question.endswith(f"/referrers/{digest(MODEL)}?artifactType={kind}")


async def test_a_registry_that_filters_nothing_is_filtered_here(fetching: Fetching) -> None:
    other = referrers(artefact(BUNDLE), kind="application/spdx+json")
    answer, _ = registry(other, documents(BUNDLE))
    assert "nothing of type" in await refusal(fetching, answer)


async def test_no_more_bundles_are_read_than_are_tried(fetching: Fetching) -> None:
    answer, asked = registry(referrers(*[artefact(BUNDLE)] * 100), documents(BUNDLE))
    assert len(await found(fetching, answer)) == MAX_BUNDLES
    assert len(asked) < 4 * MAX_BUNDLES


LARGE = b" " * (MAX_BUNDLE_BYTES + 1)
HOSTILE = {
    "no JSON": (b"<html>", documents(BUNDLE), "list of referrers cannot be read"),
    "brackets": (b"[" * 100_000, documents(BUNDLE), "list of referrers cannot be read"),
    "10,000": (referrers(*[b""] * 10_000), documents(BUNDLE), "list of referrers cannot be read"),
    "5 MiB": (b" " * (5 << 20), documents(BUNDLE), "more than 4.0 MiB"),
    "two layers": (
        referrers(artefact(BUNDLE, b"")),
        documents(BUNDLE, b""),
        "a bundle that refers to it is not one layer",
    ),
    "too large": (referrers(artefact(LARGE)), documents(LARGE), "more than 1.0 MiB"),
    "another manifest": (
        referrers(b"wanted"),
        {**documents(BUNDLE), digest(b"wanted"): artefact(BUNDLE)},
        "sent another manifest than",
    ),
    "another blob": (
        referrers(artefact(BUNDLE)),
        {**documents(BUNDLE), digest(BUNDLE): b"{}"},
        "the registry sent another manifest than",
    ),
    "gone": (referrers(b"gone"), documents(BUNDLE), "HTTP 404"),
    "forbidden": (403, documents(BUNDLE), "HTTP 403 for its referrers"),
}


@pytest.mark.parametrize(("listed", "known", "says"), HOSTILE.values(), ids=HOSTILE)
async def test_what_means_harm_is_refused_with_the_reason(
    fetching: Fetching, listed: bytes | int, known: dict[str, bytes], says: str
) -> None:
    answer, _ = registry(listed, known)
    assert says in await refusal(fetching, answer)
