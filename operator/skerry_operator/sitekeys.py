"""The keys of site caches: one pair for tickets, one certificate for all caches.

The certificate is its own authority and is valid from 1970 on, for ever: boards have no clocks, and
nobody is there to renew it. New keys are made by deleting the Secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from skerry_runtime.tickets import SERVER_NAME, Ticket, signed_bytes

_PRIVATE = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280, 4.1.2.5: none


def make_keys() -> Mapping[str, bytes]:
    """Return the files of the Secret: ticket.key and ticket.pub, tls.crt and tls.key."""
    tickets, tls = Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
    return {
        "ticket.key": tickets.private_bytes(*_PRIVATE, serialization.NoEncryption()),
        "ticket.pub": tickets.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "tls.crt": _certificate(tls).public_bytes(serialization.Encoding.PEM),
        "tls.key": tls.private_bytes(*_PRIVATE, serialization.NoEncryption()),
    }


@dataclass(frozen=True)
class TicketSigner:
    """Signs tickets, and knows whom pods are to believe."""

    key: Ed25519PrivateKey
    ca: str

    def ticket(self, namespace: str, sha256: str) -> str:
        """Return the word that a namespace uses a file; the same every time."""
        return str(Ticket(namespace, self.key.sign(signed_bytes(namespace, sha256))))


def read_signer(files: Mapping[str, bytes]) -> TicketSigner:
    """Return what ticket.key and tls.crt make.

    Raises:
        ValueError: they are none.
    """
    key = serialization.load_pem_private_key(files["ticket.key"], None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("ticket.key is no Ed25519 key")
    x509.load_pem_x509_certificate(files["tls.crt"])
    return TicketSigner(key, files["tls.crt"].decode())


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    public = key.public_key()
    own_id = x509.SubjectKeyIdentifier.from_public_key(public)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(own_id, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_id), critical=False
        )
        .add_extension(_usage(), critical=True)
        .sign(key, hashes.SHA256())
    )


def _usage() -> x509.KeyUsage:
    names = (
        "content_commitment key_encipherment data_encipherment key_agreement crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, **dict.fromkeys(names.split(), False)
    )
