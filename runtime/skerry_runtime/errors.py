"""Errors of serving, free of any transport.

    ServingError
    ├── InvalidRequest      the client's mistake: shape, datatype, name, size
    ├── UnknownModel        no such model or version
    ├── NotReady            no model serves yet
    ├── Overloaded          the bounded queue is full
    ├── Unauthenticated     no token that this server knows
    └── InferenceFailed     the model or its accelerator failed

    Unusable                this process is of no more use; no client sees it

Each adapter owns the table from `code` to its protocol's status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Code(StrEnum):
    """What went wrong, in words that no transport owns."""

    INVALID = "Invalid"
    NOT_FOUND = "NotFound"
    NOT_READY = "NotReady"
    OVERLOADED = "Overloaded"
    UNAUTHENTICATED = "Unauthenticated"
    INTERNAL = "Internal"


class ServingError(Exception):
    """Base of all errors that a client may see; the text is safe to send."""

    code: ClassVar[Code] = Code.INTERNAL


class InvalidRequest(ServingError):  # noqa: N818 (reads as the protocol's word)
    """The request cannot be served as it is."""

    code = Code.INVALID


class UnknownModel(ServingError):  # noqa: N818 (reads as the protocol's word)
    """The model or version does not exist here."""

    code = Code.NOT_FOUND


class NotReady(ServingError):  # noqa: N818 (reads as the protocol's word)
    """No model serves at the moment."""

    code = Code.NOT_READY


class Overloaded(ServingError):  # noqa: N818 (reads as the protocol's word)
    """More requests wait than the queue may hold."""

    code = Code.OVERLOADED


class Unauthenticated(ServingError):  # noqa: N818 (reads as the protocol's word)
    """The request carries no token that this server knows."""

    code = Code.UNAUTHENTICATED

    def __init__(self) -> None:
        super().__init__("send 'Authorization: Bearer TOKEN' with a token that this server knows")


class InferenceFailed(ServingError):  # noqa: N818 (reads as the protocol's word)
    """The model failed on a valid request."""

    code = Code.INTERNAL


class Unusable(Exception):  # noqa: N818 (says what the process is)
    """Something hangs in this process that nothing but its end will end; the text says what."""
