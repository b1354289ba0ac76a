"""The cluster's own certificate authority, and kubeconfig files made from it."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from skerry_cluster.command import run
from skerry_cluster.files import write_if_changed
from skerry_cluster.settings import API_PORT, HOST_IP

DAYS = "3650"


@dataclass(frozen=True)
class Identity:
    """Whom a certificate names."""

    file: str
    """Name of its files, without ending."""
    user: str
    """Common name: the user that Kubernetes sees."""
    group: str = ""
    """Organisation: the group that Kubernetes sees."""
    addresses: tuple[str, ...] = ()
    """For servers: DNS names and IP addresses."""


def alternative_names(addresses: tuple[str, ...]) -> str:
    """Render the extension text: `("a", "10.0.0.1")` -> `DNS:a,IP:10.0.0.1`."""
    kinds = ("IP" if item.replace(".", "").isdigit() else "DNS" for item in addresses)
    return ",".join(f"{kind}:{item}" for kind, item in zip(kinds, addresses, strict=True))


def ensure_authority(folder: Path) -> None:
    """Make the authority and the key that signs service account tokens, unless they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not (folder / "ca.crt").exists():
        _new_key(folder / "ca.key")
        unfinished = folder / "ca.new"
        run(
            *("openssl", "req", "-x509", "-new", "-key", str(folder / "ca.key")),
            *("-subj", "/CN=skerry-cluster", "-days", DAYS, "-out", str(unfinished)),
        )
        unfinished.rename(folder / "ca.crt")
    if not (folder / "service-account.pub").exists():
        key = folder / "service-account.key"
        _new_key(key)
        unfinished = folder / "service-account.new"
        run("openssl", "pkey", "-in", str(key), "-pubout", "-out", str(unfinished))
        unfinished.rename(folder / "service-account.pub")


def _new_key(path: Path) -> None:
    run(
        *("openssl", "genpkey", "-algorithm", "EC", "-out", str(path)),
        *("-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:named_curve"),
    )


def ensure_certificate(folder: Path, identity: Identity) -> None:
    """Make a key and a certificate for one identity, unless they exist."""
    certificate = folder / f"{identity.file}.crt"
    if certificate.exists():
        return
    key, request = folder / f"{identity.file}.key", folder / f"{identity.file}.csr"
    extensions = folder / f"{identity.file}.ext"
    _new_key(key)
    subject = (
        f"/O={identity.group}/CN={identity.user}" if identity.group else f"/CN={identity.user}"
    )
    run("openssl", "req", "-new", "-key", str(key), "-subj", subject, "-out", str(request))
    lines = ["keyUsage=digitalSignature", "extendedKeyUsage=clientAuth,serverAuth"]
    if identity.addresses:
        lines.append(f"subjectAltName={alternative_names(identity.addresses)}")
    extensions.write_text("\n".join(lines) + "\n")
    unfinished = certificate.with_suffix(".new")
    run(
        *("openssl", "x509", "-req", "-in", str(request), "-days", DAYS),
        *("-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key")),
        *("-set_serial", str(int.from_bytes(identity.file.encode(), "big") % 2**63)),
        *("-extfile", str(extensions), "-out", str(unfinished)),
    )
    unfinished.rename(certificate)


def kubeconfig(folder: Path, identity: Identity) -> str:
    """Render a self-contained kubeconfig for one identity, as JSON (which is YAML)."""
    cluster = {
        "server": f"https://{HOST_IP}:{API_PORT}",
        "certificate-authority-data": _encoded(folder / "ca.crt"),
    }
    user = {
        "client-certificate-data": _encoded(folder / f"{identity.file}.crt"),
        "client-key-data": _encoded(folder / f"{identity.file}.key"),
    }
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "skerry", "cluster": cluster}],
            "users": [{"name": identity.user, "user": user}],
            "contexts": [
                {"name": "skerry", "context": {"cluster": "skerry", "user": identity.user}}
            ],
            "current-context": "skerry",
        },
        indent=1,
    )


def write_kubeconfig(path: Path, folder: Path, identity: Identity) -> Path:
    """Make the certificate if needed and write the kubeconfig, readable by root only."""
    ensure_certificate(folder, identity)
    write_if_changed(path, kubeconfig(folder, identity), 0o600)
    return path


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
