"""Tells whether a signature bundle vouches for the files of a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from skerry_runtime.trust.bundle import (
    BadBundle,
    Message,
    Resource,
    SignedPayload,
    read_bundle,
    read_statement,
)
from skerry_runtime.trust.keys import PublicKey

ALGORITHMS = {"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}
"""Hashes by sigstore's names."""

HashAgain = Callable[[str], bytes]
"""Gives the digest of a model of one file by another algorithm than sha256, for example sha384."""


class NotVouched(ValueError):  # noqa: N818 (says what was found)
    """The bundle does not vouch for these files; the text says why."""


@dataclass(frozen=True)
class Files:
    """What is to be vouched for."""

    main: str
    """sha256 of the file that an engine opens."""
    beside: Mapping[str, str]
    """The other files: place beside that one -> sha256."""
    hash_again: HashAgain | None = None


def vouching_key(bundle: bytes, keys: Sequence[PublicKey], files: Files) -> str:
    """Return the fingerprint of the key that vouches for exactly these files.

    Raises:
        NotVouched: none does, or for other files.
    """
    try:
        found = read_bundle(bundle)
        if found.message_signature is not None:
            return _of_message(found.message_signature, keys, files)
        assert found.dsse_envelope is not None  # noqa: S101 (a bundle has one of both)
        return _of_statement(found.dsse_envelope, keys, files)
    except BadBundle as err:
        raise NotVouched(str(err)) from err


def _of_statement(envelope: SignedPayload, keys: Sequence[PublicKey], files: Files) -> str:
    encoded = envelope.encoded
    signed = (k for k in keys for one in envelope.signatures if k.signed(encoded, one.sig))
    key = next(signed, None)
    if key is None:
        raise NotVouched(_foreign(keys))
    statement = read_statement(envelope)
    resources = statement.predicate.resources
    _require_whole(resources, statement.subject[0].digest)
    _require_equal(resources, files)
    return key.fingerprint


def _of_message(message: Message, keys: Sequence[PublicKey], files: Files) -> str:
    if files.beside:
        raise NotVouched("it vouches for one file, and the model has several: sign their folder")
    algorithm = ALGORITHMS.get(message.message_digest.algorithm)
    if algorithm is None:
        raise NotVouched(f"it hashes with {message.message_digest.algorithm:.40}, not with SHA-2")
    digest = _digest(files, algorithm)
    if message.message_digest.digest != digest:
        raise NotVouched("it vouches for another file than this one")
    key = next((k for k in keys if k.signed_digest(digest, algorithm, message.signature)), None)
    if key is None:
        raise NotVouched(f"{_foreign(keys)}; a key of Ed25519 signs with `skerry sign`")
    return key.fingerprint


def _digest(files: Files, algorithm: str) -> bytes:
    if algorithm == "sha256":
        return bytes.fromhex(files.main)
    if files.hash_again is None:
        raise NotVouched(f"it hashes with {algorithm}, and here only sha256 is known")
    return files.hash_again(algorithm)


def _require_whole(resources: Sequence[Resource], subject: Mapping[str, str]) -> None:
    """Check that all files count, each whole, and that the statement's subject is these."""
    if any(one.algorithm != "sha256" for one in resources):
        text = "it hashes parts of files, or with another hash: sign files by their sha256"
        raise NotVouched(text)
    digest = hashlib.sha256(b"".join(map(_hex, resources))).hexdigest()
    if subject.get("sha256") != digest:
        raise NotVouched("its subject is not the files that it lists")


def _hex(resource: Resource) -> bytes:
    try:
        return bytes.fromhex(resource.digest)
    except ValueError as err:
        raise NotVouched("it lists a digest that is none") from err


def _require_equal(resources: Sequence[Resource], files: Files) -> None:
    """Check that the signed files are the model's, under the same names beside the first one."""
    if len({one.name for one in resources}) != len(resources):
        raise NotVouched("it lists two files of one name")
    firsts = [one for one in resources if one.digest == files.main]
    if not firsts:
        raise NotVouched("it vouches for another model: the sha256 of this one is not in it")
    wanted = dict(files.beside)
    if any(_beside(resources, first) == wanted for first in firsts):
        return
    count = 1 + len(wanted)
    if len(resources) != count:
        text = f"it vouches for {len(resources)} files together, and the model has {count}"
        raise NotVouched(f"{text}: sign what source and source.files name, and nothing else")
    raise NotVouched("its other files have other names, or another content, than source.files")


def _beside(resources: Sequence[Resource], first: Resource) -> dict[str, str] | None:
    """Return the other files by their place beside the first; None: one lies elsewhere."""
    folder = PurePosixPath(first.name).parent
    found = {}
    for one in resources:
        if one is first:
            continue
        path = PurePosixPath(one.name)
        if not path.is_relative_to(folder):
            return None
        found[str(path.relative_to(folder))] = one.digest
    return found


def _foreign(keys: Sequence[PublicKey]) -> str:
    if not keys:
        return "no key counts here"
    one = "the key" if len(keys) == 1 else f"any of the {len(keys)} keys"
    known = ", ".join(key.fingerprint[:12] for key in keys)
    return f"it was not signed by {one} that count{'s' if len(keys) == 1 else ''} here ({known})"
