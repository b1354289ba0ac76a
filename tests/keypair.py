"""Keys of tests, made by the openssl command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

KINDS = {
    "P-256": ("EC", "ec_paramgen_curve:P-256"),
    "P-384": ("EC", "ec_paramgen_curve:P-384"),
    "P-521": ("EC", "ec_paramgen_curve:P-521"),
    "Ed25519": ("ED25519", ""),
    "RSA": ("RSA", "rsa_keygen_bits:2048"),
}


@dataclass(frozen=True)
class KeyPair:
    """A private key and its public one, as files."""

    private: Path
    public: Path

    @property
    def pem(self) -> str:
        return self.public.read_text()

    @property
    def fingerprint(self) -> str:
        argv = ["openssl", "pkey", "-pubin", "-in", self.public, "-outform", "DER"]
        der = subprocess.run(argv, check=True, capture_output=True).stdout
        digest = subprocess.run(
            ["openssl", "dgst", "-sha256", "-r"], input=der, check=True, capture_output=True
        )
        return digest.stdout.decode().split()[0]


def keypair(folder: Path, kind: str = "P-256", name: str = "key") -> KeyPair:
    """Make a pair of keys in a folder."""
    algorithm, option = KINDS[kind]
    found = KeyPair(folder / f"{name}.pem", folder / f"{name}.pub")
    argv = ["openssl", "genpkey", "-algorithm", algorithm, "-out", found.private]
    subprocess.run(
        [*argv, *(["-pkeyopt", option] if option else [])], check=True, capture_output=True
    )
    argv = ["openssl", "pkey", "-in", found.private, "-pubout", "-out", found.public]
    subprocess.run(argv, check=True, capture_output=True)
    return found
