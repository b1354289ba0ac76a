"""s3://bucket/key: any server that speaks S3, by the keys in the Secret.

The Secret's keys have the names that AWS's own tools know from the environment.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

import aiohttp

from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sources.base import Begun, Order, Stream
from skerry_runtime.agent.sources.client import Client, range_headers, stream_of
from skerry_runtime.agent.sources.keyring import Host, Keyring, host_of
from skerry_runtime.agent.sources.sigv4 import AccessKey, encoded, signed
from skerry_runtime.agent.urls import shown
from skerry_runtime.clock import unix_now
from skerry_runtime.contract import FailureReason

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_DEFAULT_REGION = "us-east-1"
_ERROR_BYTES = 64 * 1024
_SKEWED = re.compile(rb"<Code>\s*RequestTimeTooSkewed\s*</Code>")


class _Skewed(Exception):  # noqa: N818 (says what the clock is)
    """The server refuses our clock."""

    def __init__(self, ahead: timedelta) -> None:
        super().__init__()
        self.ahead = ahead


class Signer:
    """Signs what goes to the endpoint, and nothing that goes elsewhere."""

    def __init__(
        self, key: AccessKey | None, endpoint: Host | None, trust: ssl.SSLContext | None
    ) -> None:
        self._key = key
        self._endpoint = endpoint
        self._trust = trust
        self.ahead = timedelta()
        """By how much the server's clock is ahead of ours."""

    def headers(self, place: str, asked: Mapping[str, str], /) -> Mapping[str, str]:
        """Return the headers for an address, signed if it is of the endpoint."""
        if self._key is None or host_of(place) != self._endpoint:
            return asked
        return signed(place, asked, self._key, self.now())

    def trust(self, place: str, /) -> ssl.SSLContext | None:
        """Return the Secret's own authorities for the endpoint."""
        return self._trust if host_of(place) == self._endpoint else None

    def now(self) -> datetime:
        """Return the time as the server has it, as far as is known."""
        return datetime.fromtimestamp(unix_now(), UTC) + self.ahead


class S3Source:
    """An object in a bucket."""

    def __init__(self, order: Order, tuning: Tuning) -> None:
        if order.credentials is None:
            text = "s3 needs source.secretRef: the Secret says which endpoint and keys to use"
            raise Refused(FailureReason.FETCH_FAILED, text)
        self._uri = order.uri
        self._place = object_url(order.uri, order.credentials)
        key, trust = access_key(order.credentials), order.credentials.trust()
        self._signer = Signer(key, host_of(self._place), trust)
        self._client = Client(tuning, order.uri, self._signer)

    @asynccontextmanager
    async def open(self, begun: Begun, /) -> AsyncIterator[Stream]:
        """See `ByteSource.open`. A clock that the server refuses is set by the server's, once."""
        try:
            async with self._open(begun) as stream:
                yield stream
                return
        except _Skewed as err:
            self._signer.ahead += err.ahead
        async with self._open(begun, is_last=True) as stream:
            yield stream

    @asynccontextmanager
    async def _open(self, begun: Begun, *, is_last: bool = False) -> AsyncIterator[Stream]:
        headers = range_headers(begun)
        async with self._client.get(self._place, headers, is_encoded=True) as response:
            if response.status == HTTPStatus.FORBIDDEN and not is_last:
                await self._check_clock(response)
            yield stream_of(response, begun, self._uri)

    async def _check_clock(self, response: aiohttp.ClientResponse) -> None:
        body = await self._client.text(response, _ERROR_BYTES)
        if not _SKEWED.search(body):
            return
        try:
            told = parsedate_to_datetime(response.headers.get("Date", ""))
        except ValueError:
            return
        raise _Skewed(told - self._signer.now())


def source(order: Order, tuning: Tuning) -> S3Source:
    """Return the source of an object.

    Raises:
        Refused: FetchFailed: the address or the Secret will not do.
    """
    return S3Source(order, tuning)


def access_key(credentials: Keyring) -> AccessKey | None:
    """Return who asks; None: anybody, as the Secret has no keys.

    Raises:
        Refused: it has half of a key, or no region can be named so.
    """
    key_id, secret = (
        credentials.text(key) for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    )
    if key_id is None and secret is None:
        return None
    if key_id is None or secret is None:
        raise credentials.refused("it needs both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    token = credentials.text("AWS_SESSION_TOKEN")
    return AccessKey(key_id, secret, _region(credentials), token)


def _region(credentials: Keyring) -> str:
    region = credentials.text("AWS_REGION") or credentials.text("AWS_DEFAULT_REGION")
    if region and not _REGION.fullmatch(region):
        raise credentials.refused("its key AWS_REGION is no region: write for example eu-north-1")
    return region or _DEFAULT_REGION


def object_url(uri: str, credentials: Keyring) -> str:
    """Return the address of the object at the endpoint that the Secret names.

    Raises:
        Refused: FetchFailed: the address or the Secret will not do.
    """
    bucket, key = _object(uri)
    given = credentials.text("AWS_ENDPOINT_URL_S3") or credentials.text("AWS_ENDPOINT_URL")
    endpoint = given or f"https://s3.{_region(credentials)}.amazonaws.com"
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or host_of(endpoint) is None or parts.query:
        raise credentials.refused("its key AWS_ENDPOINT_URL is no address: write https://HOST:PORT")
    style = credentials.text("AWS_S3_ADDRESSING_STYLE") or ("path" if given else "auto")
    if style not in ("path", "virtual", "auto"):
        raise credentials.refused("its key AWS_S3_ADDRESSING_STYLE is neither path nor virtual")
    base = parts.path.rstrip("/")
    # A certificate for *.s3.amazonaws.com is for no name with a dot more.
    if style == "path" or (style == "auto" and "." in bucket):
        return f"{parts.scheme}://{parts.netloc}{base}/{bucket}/{encoded(key)}"
    return f"{parts.scheme}://{bucket}.{parts.netloc}{base}/{encoded(key)}"


def _object(uri: str) -> tuple[str, str]:
    """Return bucket and key. Percent signs of the uri stand for the characters that they encode."""
    rest = uri.removeprefix("s3://")
    bucket, _, key = rest.partition("/")
    key = unquote(key)
    if not _BUCKET.fullmatch(bucket) or not key or any(p in (".", "..") for p in key.split("/")):
        text = f"{shown(uri)}: write s3://BUCKET/KEY, with a bucket's name in small letters"
        raise Refused(FailureReason.FETCH_FAILED, text)
    return bucket, key
