"""Reads a signature bundle: the sigstore form that model-signing and cosign write.

After sigstore's protobuf-specs (bundle v0.3 as JSON), the DSSE protocol and in-toto's Statement v1.
Nothing here verifies anything.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

MAX_BUNDLE_BYTES = 1024 * 1024
MAX_SIGNATURES = 8
"""Most signatures of one bundle that are looked at."""
MAX_RESOURCES = 1000
"""Most files that a statement may speak of."""
_MAX_TEXT = 4096

STATEMENT_MEDIA_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
BUNDLE_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class BadBundle(ValueError):  # noqa: N818 (says what it is)
    """The bytes are no bundle that can be read; the text says why."""


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as err:
        raise ValueError("no base64") from err


Bytes = Annotated[bytes, BeforeValidator(_decoded)]
Text = Annotated[str, Field(max_length=_MAX_TEXT)]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class PayloadSignature(_Part):
    """One signature of an envelope."""

    sig: Bytes


class SignedPayload(_Part):
    """DSSE: a payload, its type, and signatures of both."""

    payload: Bytes
    payload_type: Text
    signatures: Annotated[
        tuple[PayloadSignature, ...], Field(min_length=1, max_length=MAX_SIGNATURES)
    ]

    @property
    def encoded(self) -> bytes:
        """What is signed."""
        return encoded(self.payload_type, self.payload)


class MessageDigest(_Part):
    """What was hashed how."""

    algorithm: Text = "SHA2_256"
    digest: Bytes


class Message(_Part):
    """A signature of one file's digest."""

    message_digest: MessageDigest
    signature: Bytes


class Bundle(_Part):
    """Exactly one of both."""

    dsse_envelope: SignedPayload | None = None
    message_signature: Message | None = None


class Resource(_Part):
    """One file of a model that was signed."""

    name: Text
    digest: Text
    algorithm: Text


class _Predicate(_Part):
    resources: Annotated[tuple[Resource, ...], Field(max_length=MAX_RESOURCES)]


class _Subject(_Part):
    digest: Annotated[dict[str, Text], Field(max_length=8)]


class _Kind(_Part):
    predicate_type: Text = ""
    type_: Annotated[Text, Field(alias="_type")] = ""


class Statement(_Part):
    """What the signer says of a model."""

    subject: Annotated[tuple[_Subject, ...], Field(min_length=1, max_length=1)]
    predicate: _Predicate


def encoded(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding of DSSE, which is what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def read_bundle(content: bytes) -> Bundle:
    """Read a bundle.

    Raises:
        BadBundle: it is none.
    """
    if len(content) > MAX_BUNDLE_BYTES:
        raise BadBundle(f"it is larger than {MAX_BUNDLE_BYTES // 1024} KiB")
    try:
        found = Bundle.model_validate(from_json(content))  # refuses what is nested too deep
    except ValueError as err:
        raise BadBundle(f"it is no sigstore bundle: {_first(err)}") from err
    if (found.dsse_envelope is None) is (found.message_signature is None):
        raise BadBundle("it is no sigstore bundle with one dsseEnvelope or one messageSignature")
    return found


def read_statement(envelope: SignedPayload) -> Statement:
    """Read what an envelope of a model says.

    Raises:
        BadBundle: it is about something else.
    """
    if envelope.payload_type != STATEMENT_MEDIA_TYPE:
        raise BadBundle(f"its payload is {envelope.payload_type:.80}, no in-toto statement")
    try:
        document = from_json(envelope.payload)
        kind = _Kind.model_validate(document)
        if kind.type_ != STATEMENT_TYPE:
            raise BadBundle(f"its statement is of type {kind.type_:.80}, not {STATEMENT_TYPE}")
        if kind.predicate_type != PREDICATE_TYPE:
            text = f"it states {kind.predicate_type:.80}, and not {PREDICATE_TYPE}"
            raise BadBundle(f"{text}: it speaks of something else than a model")
        return Statement.model_validate(document)
    except BadBundle:
        raise
    except ValueError as err:
        raise BadBundle(f"its statement cannot be read: {_first(err)}") from err


def _first(err: ValueError) -> str:
    """Return what is wrong first, without what was sent."""
    if not isinstance(err, ValidationError):
        return "it is no JSON, or nested too deep"
    first = err.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place:.80}: {first['msg']:.120}" if place else f"{first['msg']:.120}"
