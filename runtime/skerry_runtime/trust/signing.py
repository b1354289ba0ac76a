"""Signs models, in the form of OpenSSF's model signing: what `trust.vouch` verifies."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from skerry_runtime.trust import keys
from skerry_runtime.trust.bundle import (
    BUNDLE_MEDIA_TYPE,
    PREDICATE_TYPE,
    STATEMENT_MEDIA_TYPE,
    STATEMENT_TYPE,
    encoded,
)

ONLY_FILE = "."
"""Name of a model's only file in a statement."""


def sign_model(sha256s: Mapping[str, str], private_key: bytes) -> bytes:
    """Return a bundle that vouches for the files of one model.

    Args:
        sha256s: name of each file, as it lies in the model's folder -> its sha256. A model of one
            file has no need of its name.
        private_key: PEM of a key of P-256, P-384, P-521 or Ed25519, without a password.

    Raises:
        keys.BadKey: the key is none of these.
    """
    key = _private(private_key)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    names = dict(sha256s) if len(sha256s) > 1 else dict.fromkeys([ONLY_FILE], *sha256s.values())
    payload = json.dumps(_statement(names), separators=(",", ":")).encode()
    signature = _signed(key, encoded(STATEMENT_MEDIA_TYPE, payload))
    document = {
        "mediaType": BUNDLE_MEDIA_TYPE,
        "verificationMaterial": {
            # model-signing takes no other: the sha256 of the key's PEM text
            "publicKey": {"hint": hashlib.sha256(pem).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": STATEMENT_MEDIA_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def public_of(private_key: bytes) -> object:
    """Return the public key that goes with a private one, as `keys.of` takes it.

    Raises:
        keys.BadKey: the key is none that can sign.
    """
    return _private(private_key).public_key()


Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def _private(pem: bytes) -> Private:
    try:
        key = load_pem_private_key(pem, None)
    except TypeError as err:
        raise keys.BadKey("the private key has a password: take it off, or use another") from err
    except (ValueError, UnsupportedAlgorithm) as err:
        raise keys.BadKey("no private key: write it as PEM, without a password") from err
    keys.of(key.public_key())
    assert isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)  # noqa: S101
    return key


def _signed(key: Private, message: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    return key.sign(message, ec.ECDSA(keys.CURVES[key.curve.name]))


def _statement(names: Mapping[str, str]) -> dict[str, object]:
    ordered = sorted(names.items())
    digest = hashlib.sha256(b"".join(bytes.fromhex(sha256) for _, sha256 in ordered)).hexdigest()
    resources = [{"name": n, "digest": d, "algorithm": "sha256"} for n, d in ordered]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "model", "digest": {"sha256": digest}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": resources,
        },
    }
