"""Tickets: the operator's word that a namespace uses a file. What is signed, and how it is written.

Imported by both sides of a site cache, so it knows next to nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from typing_extensions import override

TICKET_HEADER = "Skerry-Ticket"
SERVER_NAME = "site-cache.skerry.dev"
"""Every cache's name in its certificate, wherever it is."""
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIGNATURE_BYTES = 64  # of Ed25519
_MAX_TEXT = 63 + 1 + 86


class BadTicket(ValueError):  # noqa: N818 (says what it is)
    """The text is no ticket."""


@dataclass(frozen=True)
class Ticket:
    """Who may put, claim and pin a file, as it is said; the signature is still to be checked."""

    namespace: str
    signature: bytes

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """Read a ticket.

        Raises:
            BadTicket: it is none.
        """
        namespace, _, encoded = text.partition(".")
        if len(text) > _MAX_TEXT or not _NAMESPACE.fullmatch(namespace):
            raise BadTicket("a ticket is NAMESPACE.SIGNATURE")
        try:
            signature = base64.b64decode(encoded + "==", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as err:
            raise BadTicket("the ticket's signature is no base64url") from err
        if len(signature) != _SIGNATURE_BYTES:
            raise BadTicket(f"the ticket's signature has not {_SIGNATURE_BYTES} bytes")
        return cls(namespace, signature)

    @override
    def __str__(self) -> str:
        """Return what `parse` reads."""
        encoded = base64.urlsafe_b64encode(self.signature).decode().rstrip("=")
        return f"{self.namespace}.{encoded}"


def signed_bytes(namespace: str, sha256: str) -> bytes:
    """Return what the signature of a ticket is of.

    Raises:
        ValueError: no name of a namespace, or no sha256.
    """
    if not _NAMESPACE.fullmatch(namespace) or not _SHA256.fullmatch(sha256):
        raise ValueError("a ticket names a namespace and a sha256")
    return f"skerry site cache ticket 1\n{namespace}\n{sha256}\n".encode()
