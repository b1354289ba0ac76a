"""Keys that vouch: elliptic curves of NIST, and Ed25519."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

MAX_KEYS = 8
"""Most keys that are tried on a bundle."""
MAX_PEM_BYTES = 1024

CURVES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
"""Curve -> the hash that goes with it."""

Known = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class BadKey(ValueError):  # noqa: N818 (says what it is)
    """What was given is no key that can vouch; the text says why."""


@dataclass(frozen=True)
class PublicKey:
    """One key; `fingerprint` is what people know it by."""

    fingerprint: str
    """sha256 of the key's DER form (`openssl pkey -pubin -outform DER | sha256sum`)."""
    key: Known

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Tell whether the signature of this message is the key's."""
        try:
            if isinstance(self.key, ed25519.Ed25519PublicKey):
                self.key.verify(signature, message)
            else:
                self.key.verify(signature, message, ec.ECDSA(CURVES[self.key.curve.name]))
        except InvalidSignature:
            return False
        return True

    def signed_digest(self, digest: bytes, algorithm: str, signature: bytes) -> bool:
        """Tell whether the signature of something with this digest is the key's.

        Args:
            digest: of what was signed.
            algorithm: name of the hash: sha256, sha384 or sha512.
            signature: in DER.
        """
        if isinstance(self.key, ed25519.Ed25519PublicKey):
            return False  # signs no digest, but all there is
        known = {one.name: one for one in CURVES.values()}
        try:
            self.key.verify(signature, digest, ec.ECDSA(Prehashed(known[algorithm])))
        except (InvalidSignature, KeyError):
            return False
        return True


def public_key(pem: str) -> PublicKey:
    """Return a key from its PEM text.

    Raises:
        BadKey: it is none, or of another kind.
    """
    if len(pem) > MAX_PEM_BYTES:
        raise BadKey(f"a public key has at most {MAX_PEM_BYTES} characters")
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as err:
        text = "no public key: write it as PEM, from -----BEGIN PUBLIC KEY----- on"
        raise BadKey(text) from err
    return of(key)


def of(key: object) -> PublicKey:
    """Return the key for one that was read already.

    Raises:
        BadKey: it is of another kind.
    """
    is_curve = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES
    if not (is_curve or isinstance(key, ed25519.Ed25519PublicKey)):
        raise BadKey("a key of another kind: use P-256, P-384, P-521 or Ed25519")
    assert isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)  # noqa: S101
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(hashlib.sha256(der).hexdigest(), key)


def public_keys(pems: Iterable[str]) -> tuple[PublicKey, ...]:
    """Return keys from their PEM texts, each once.

    Raises:
        BadKey: one of them is none, or there are too many.
    """
    found = {key.fingerprint: key for key in map(public_key, pems)}
    if len(found) > MAX_KEYS:
        raise BadKey(f"{len(found)} keys: at most {MAX_KEYS} are tried")
    return tuple(found.values())
