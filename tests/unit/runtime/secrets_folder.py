"""A secret as the kubelet mounts it, and certificates for it."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path


class Secret:
    """Files behind one link, which is swapped when they change."""

    def __init__(self, folder: Path, **files: bytes) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True)
        self.write(**files)

    def write(self, **files: bytes) -> None:
        """Replace every file; `tls_crt` stands for tls.crt."""
        version = self.folder / f"..{time.monotonic_ns()}"
        version.mkdir()
        for name, body in files.items():
            (version / name.replace("_", ".")).write_bytes(body)
        before = (self.folder / "..data").resolve() if (self.folder / "..data").exists() else None
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.replace(self.folder / "..data")
        for name in files:
            link = self.folder / name.replace("_", ".")
            if not link.is_symlink():
                link.symlink_to(f"..data/{link.name}")
        if before:
            shutil.rmtree(before)


def certificate(folder: Path, name: str) -> dict[str, bytes]:
    """Return a self-signed certificate for localhost with the given common name, and its key."""
    key, crt = folder / f"{name}.key", folder / f"{name}.crt"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-nodes", "-days", "2", "-keyout", str(key), "-out", str(crt)]
    subprocess.run([*request, *names, *files], check=True, capture_output=True)
    return {"tls_crt": crt.read_bytes(), "tls_key": key.read_bytes()}
