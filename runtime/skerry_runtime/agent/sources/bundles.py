"""Fetches signature bundles: small files beside a model, or what refers to it in a registry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import AgentError, Refused, Transient
from skerry_runtime.agent.sources import source_of
from skerry_runtime.agent.sources.base import Begun, BrokenOff, Order, Stream
from skerry_runtime.agent.sources.keyring import Keyring
from skerry_runtime.agent.urls import shown
from skerry_runtime.contract import FailureReason, size_text
from skerry_runtime.trust.bundle import MAX_BUNDLE_BYTES

_OCI = "oci://"


async def bundles_at(
    place: str, sha256: str, credentials: Keyring | None, tuning: Tuning
) -> Sequence[bytes]:
    """Return the bundles that are there: one, or in a registry as many as refer to the model.

    Args:
        place: address of a file; in a registry that of the model.
        sha256: of the model's file.
        credentials: what the Secret of the model's source holds.
        tuning: times and limits.

    Raises:
        Refused, Transient: there is none, or it cannot be had.
    """
    order = Order(place, sha256, credentials)
    try:
        if place.startswith(_OCI):
            from skerry_runtime.agent.sources.ocireferrers import referring  # noqa: PLC0415

            return await referring(order, tuning)
        async with source_of(order, tuning).open(Begun()) as stream:
            return [await _whole(stream, place, tuning)]
    except Refused as err:
        raise Refused(err.reason, f"the model's signature: {err}") from err
    except (Transient, BrokenOff) as err:
        raise _again(err, place) from err


def _again(err: AgentError | BrokenOff, place: str) -> Transient:
    told = str(err) if isinstance(err, AgentError) else f"GET {shown(place)}: {err}"
    return Transient(f"the model's signature: {told}")


async def _whole(stream: Stream, place: str, tuning: Tuning) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(tuning.trickle_window_s):
            async for chunk in stream.chunks:
                body += chunk
                if len(body) > MAX_BUNDLE_BYTES:
                    size = size_text(MAX_BUNDLE_BYTES, digits=0)
                    text = f"GET {shown(place)}: larger than {size}, which no bundle is"
                    raise Refused(FailureReason.SIGNATURE_INVALID, text)
    except TimeoutError as err:
        raise BrokenOff("no answer in time") from err
    if stream.total is not None and len(body) < stream.total:
        raise BrokenOff(f"ended after {len(body)} of {stream.total} bytes")
    return bytes(body)
