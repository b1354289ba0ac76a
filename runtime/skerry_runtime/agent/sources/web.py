"""http:// and https://, with a user's password or a bearer token where the Secret has one."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.sources.base import Begun, Order, Stream
from skerry_runtime.agent.sources.client import Client, NoKeys, range_headers, stream_of
from skerry_runtime.agent.sources.keyring import Keyring
from skerry_runtime.agent.urls import require_http


class HostKeys:
    """Shows what a Secret holds to the hosts that it names, on every hop anew."""

    def __init__(self, credentials: Keyring) -> None:
        self._credentials = credentials
        self._authorization = credentials.authorization()
        self._trust = credentials.trust()

    def headers(self, place: str, asked: Mapping[str, str], /) -> Mapping[str, str]:
        """Return the headers for an address, with credentials if its host may see them."""
        if self._authorization is None or not self._credentials.may_see(place):
            return asked
        return {**asked, "Authorization": self._authorization}

    def trust(self, place: str, /) -> ssl.SSLContext | None:
        """Return the Secret's own authorities for the hosts that it names."""
        return self._trust if self._trust and self._credentials.may_see(place) else None


class WebSource:
    """A file at an address."""

    def __init__(self, uri: str, place: str, order: Order, tuning: Tuning) -> None:
        self._uri = uri
        self._place = place
        if order.credentials is not None:
            order.credentials.require_host(place)
        keys = NoKeys() if order.credentials is None else HostKeys(order.credentials)
        self._client = Client(tuning, uri, keys)

    @asynccontextmanager
    async def open(self, begun: Begun, /) -> AsyncIterator[Stream]:
        """See `ByteSource.open`."""
        async with self._client.get(self._place, range_headers(begun)) as response:
            yield stream_of(response, begun, self._uri)


def source(order: Order, tuning: Tuning) -> WebSource:
    """Return the source of an http or https address.

    Raises:
        Refused: FetchFailed: no address, or a Secret that its host may not see.
    """
    require_http(order.uri)
    return WebSource(order.uri, order.uri, order, tuning)
