"""A prefix in an S3 bucket as a store: a file by its sha256, a note by its key."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import PurePosixPath

import aiohttp

from skerry_optimize.store.base import MAX_NOTE_BYTES, BuildFile, problem_of, sha256_of
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.sources.client import Client, Sent
from skerry_runtime.agent.sources.keyring import Keyring, host_of
from skerry_runtime.agent.sources.s3 import access_key, object_url
from skerry_runtime.agent.sources.sigv4 import Asked, signed
from skerry_runtime.clock import unix_now

_NOTHING = sha256_of(b"")


class _Signer:
    """Signs one request to the endpoint, and nothing that goes elsewhere."""

    def __init__(self, credentials: Keyring, endpoint: str, asked: Asked) -> None:
        self._key = access_key(credentials)
        self._trust = credentials.trust()
        self._endpoint = host_of(endpoint)
        self._asked = asked

    def headers(self, place: str, asked: Mapping[str, str], /) -> Mapping[str, str]:
        """Return the headers for an address."""
        if self._key is None or host_of(place) != self._endpoint:
            return asked
        now = datetime.fromtimestamp(unix_now(), UTC)
        return signed(place, asked, self._key, now, asked=self._asked)

    def trust(self, place: str, /) -> ssl.SSLContext | None:
        """Return the Secret's own authorities for the endpoint."""
        return self._trust if host_of(place) == self._endpoint else None


class S3Store:
    """A prefix in a bucket."""

    def __init__(self, uri: str, credentials: Keyring, tuning: Tuning) -> None:
        self._uri = uri.rstrip("/")
        self._credentials = credentials
        self._tuning = tuning
        object_url(f"{self._uri}/any", credentials)

    async def note(self, key: str, /) -> bytes | None:
        """See `BuildStore.note`."""
        async with self._asked(Sent(), self._note(key), _NOTHING) as (answer, client):
            if answer.status == HTTPStatus.NOT_FOUND:
                return None
            if answer.status != HTTPStatus.OK:
                raise problem_of(answer.status, "GET", self._uri)
            return await client.text(answer, MAX_NOTE_BYTES)

    async def holds(self, uri: str, /) -> bool:
        """See `BuildStore.holds`."""
        if not uri.startswith(f"{self._uri}/"):
            return False
        async with self._asked(Sent("HEAD"), uri, _NOTHING) as (answer, _):
            if answer.status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
                return answer.status == HTTPStatus.OK
            raise problem_of(answer.status, "HEAD", self._uri)

    async def keep(self, file: BuildFile, /) -> str:
        """See `BuildStore.keep`. The server itself checks the sha256, which is signed."""
        uri = f"{self._uri}/{file.sha256}{PurePosixPath(file.name).suffix}"
        if not await self.holds(uri):
            await self._put(uri, Sent("PUT", file.path), file.sha256)
        return uri

    async def write_note(self, key: str, content: bytes, /) -> None:
        """See `BuildStore.write_note`."""
        await self._put(self._note(key), Sent("PUT", content), sha256_of(content))

    def _note(self, key: str) -> str:
        return f"{self._uri}/builds/{key}.json"

    async def _put(self, uri: str, sent: Sent, sha256: str) -> None:
        async with self._asked(sent, uri, sha256) as (answer, _):
            if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT):
                raise problem_of(answer.status, "PUT", self._uri)

    @asynccontextmanager
    async def _asked(
        self, sent: Sent, uri: str, payload_sha256: str
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, Client]]:
        place = object_url(uri, self._credentials)
        signer = _Signer(self._credentials, place, Asked(sent.method, payload_sha256))
        client = Client(self._tuning, self._uri, signer)
        length = {"Content-Length": str(sent.size)} if sent.method == "PUT" else {}
        async with client.send(sent, place, length, is_encoded=True) as answer:
            yield answer, client
