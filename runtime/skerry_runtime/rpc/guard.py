"""Asks for a token before a call reaches its handler, and serves the certificate of the day."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from typing_extensions import override

from skerry_runtime.access import KeyPair, Tls, Tokens
from skerry_runtime.errors import Unauthenticated
from skerry_runtime.rpc.methods import is_open
from skerry_runtime.rpc.statuses import STATUSES


class TokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Turns calls without a known token away."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._refusal = grpc.unary_unary_rpc_method_handler(_refuse)
        self._stream_refusal = grpc.stream_stream_rpc_method_handler(_refuse)

    @override
    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Return the method's handler, or one that refuses."""
        details = handler_call_details
        handler = await continuation(details)
        if handler is None or is_open(details.method) or self._admits(details):
            return handler
        return self._stream_refusal if handler.request_streaming else self._refusal

    def _admits(self, details: Any) -> bool:
        given = [value for key, value in details.invocation_metadata if key == "authorization"]
        return bool(given) and self._tokens.admits(_bytes(given[-1]))


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


async def _refuse(_: Any, context: Any) -> None:
    error = Unauthenticated()
    await context.abort(STATUSES[error.code], str(error))


def credentials(tls: Tls) -> grpc.ServerCredentials:
    """Return credentials that each handshake takes anew from what the secret holds then."""
    last: list[KeyPair] = [tls.pair]

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        if tls.pair is last[0]:
            return None  # nothing new
        last[0] = tls.pair
        return _configuration(tls.pair)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(tls.pair), fetch, require_client_authentication=False
    )


def _configuration(pair: KeyPair) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)])
