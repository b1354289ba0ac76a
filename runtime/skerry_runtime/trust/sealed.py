"""Files for few eyes: age, for X25519 recipients, as its tools and libraries write it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, Protocol

import pyrage

MAX_HEADER_BYTES = 64 * 1024
"""Largest header of an encrypted file: some 500 recipients."""
MAX_IDENTITIES = 8
MAGIC = b"age-encryption.org/v1\n"
_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_IDENTITY = "AGE-SECRET-KEY-1"


class Undecryptable(ValueError):  # noqa: N818 (says what the file is)
    """The file cannot be decrypted; the text says why."""


class Sink(Protocol):
    """Takes the plaintext piece by piece."""

    def write(self, data: bytes, /) -> int:
        """Take all of it and return how much that was."""
        ...

    def flush(self) -> None:
        """Do nothing that matters."""
        ...


def decrypt(sealed: BinaryIO, out: Sink, identities: Iterable[str]) -> None:
    """Decrypt a file as it streams. What went out before an error is not to be used.

    Args:
        sealed: the encrypted file, at its start.
        out: takes the plaintext.
        identities: lines of an identity file, as age-keygen writes it.

    Raises:
        Undecryptable: it is no age file, is damaged, or none of the identities fits.
    """
    known = [_identity(line) for line in _keys(identities)]
    _require_header(sealed)
    try:
        pyrage.decrypt_io(sealed, out, known)
    except pyrage.DecryptError as err:
        raise Undecryptable(_reason(str(err))) from err
    except OSError as err:
        if err.errno is not None:
            raise  # of the disk, or of the memory
        text = "it is cut off, or its parts are damaged or not in their order"
        raise Undecryptable(text) from err


def encrypt(plain: BinaryIO, out: Sink, recipients: Iterable[str]) -> None:
    """Encrypt a file for whoever has the identity of one of the recipients.

    Raises:
        Undecryptable: a recipient is none.
    """
    try:
        known = [pyrage.x25519.Recipient.from_str(one.strip()) for one in recipients]
    except pyrage.RecipientError as err:
        raise Undecryptable("no recipient of age: it begins with age1, see age-keygen -y") from err
    pyrage.encrypt_io(plain, out, known)


def _keys(lines: Iterable[str]) -> list[str]:
    found = [line.strip() for line in lines]
    keys = [line for line in found if line and not line.startswith("#")]
    if not keys or not all(key.startswith(_IDENTITY) for key in keys):
        raise Undecryptable(f"the key is no identity of age: it has a line that begins {_IDENTITY}")
    if len(keys) > MAX_IDENTITIES:
        raise Undecryptable(f"the key holds {len(keys)} identities: at most {MAX_IDENTITIES}")
    return keys


def _identity(line: str) -> pyrage.x25519.Identity:
    try:
        return pyrage.x25519.Identity.from_str(line)
    except pyrage.IdentityError as err:
        raise Undecryptable("the key is no identity of age: it is mistyped or cut off") from err


def _require_header(sealed: BinaryIO) -> None:
    """Check that the file begins as it must, with a header that has an end."""
    start = sealed.read(MAX_HEADER_BYTES)
    sealed.seek(0)
    if start.startswith(_ARMOR):
        raise Undecryptable("it is armored, as text: encrypt it without -a")
    if not start.startswith(MAGIC):
        raise Undecryptable("it is no age file: encrypt the model with `skerry seal` or `age -r`")
    if b"\n--- " not in start:
        raise Undecryptable("its header is cut off, or longer than is read here")


def _reason(text: str) -> str:
    """Return in our words why no identity fits, or why the header does not."""
    if "No matching keys" in text:
        return "it is encrypted for other recipients than the key that keyRef names"
    return "its header is damaged"
