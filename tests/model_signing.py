"""OpenSSF's model-signing, which signs what we verify, in an environment of its own."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

from skerry_cluster.command import run
from skerry_cluster.locks import alone
from skerry_cluster.settings import REPOSITORY, Layout
from skerry_cluster.tools import cache_key

_LOCK = REPOSITORY / "requirements" / "model-signing-test.txt"


@cache
def packages() -> Path:
    """Return the folder with the packages; it is filled when it is not there, once."""
    key = cache_key({"lock": _LOCK.read_bytes()}, sys.version, "")[:12]
    folder = Layout.from_environment().cache / "packages" / f"model-signing-test-{key}"
    with alone(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.partial")
            argv = ["-m", "pip", "install", "-q", "--no-deps", "--require-hashes"]
            argv += ["--only-binary=:all:", "--target", str(partial), "-r", str(_LOCK)]
            run(sys.executable, *argv)
            partial.rename(folder)
    return folder


def model_signing(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run its command line."""
    return _python("-m", "model_signing", *argv)


def sign(model: Path, key: Path, bundle: Path) -> bytes:
    """Sign a file, or all that is in a folder; return the bundle."""
    done = model_signing("sign", "key", model, "--private_key", key, "--signature", bundle)
    assert done.returncode == 0, done.stdout + done.stderr
    return bundle.read_bytes()


def verifies(model: Path, public_key: Path, bundle: Path) -> bool:
    """Tell whether it takes a bundle."""
    argv = ("verify", "key", model, "--public_key", public_key, "--signature", bundle)
    return model_signing(*argv).returncode == 0


_COSIGN = """
import base64, json, sys
from sigstore_models.bundle.v1 import Bundle
from sigstore_models.common.v1 import MessageSignature, HashOutput, HashAlgorithm
digest, signature, algorithm = sys.argv[1:]
bundle = Bundle.from_json(json.dumps({
    "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
    "verificationMaterial": {"publicKey": {"hint": "key"}, "tlogEntries": []},
    "messageSignature": {
        "messageDigest": {"algorithm": algorithm, "digest": digest},
        "signature": signature,
    },
}))
print(bundle.to_json())
"""


def in_cosigns_form(model: Path, key: Path, hashed: str = "sha256") -> bytes:
    """Return what `cosign sign-blob --key --bundle` writes.

    The signature is of the openssl command, the form of sigstore's own library.
    """

    def openssl(*argv: str | Path) -> str:
        done = subprocess.run(["openssl", *argv], check=True, capture_output=True)
        return base64.b64encode(done.stdout).decode()

    digest = openssl("dgst", f"-{hashed}", "-binary", model)
    signature = openssl("dgst", f"-{hashed}", "-sign", key, model)
    name = f"SHA2_{hashed.removeprefix('sha')}"
    done = _python("-c", _COSIGN, digest, signature, name)
    assert done.returncode == 0, done.stderr
    assert "messageSignature" in json.loads(done.stdout)
    return done.stdout.encode()


def _python(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    env = {"PYTHONPATH": str(packages()), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    return subprocess.run(
        [sys.executable, "-P", "-s", *argv], env=env, capture_output=True, text=True, check=False
    )
