"""Debian packages that the cluster needs, installed where they are missing."""

import os
import shutil
from pathlib import Path

from skerry_cluster.command import ClusterError, run
from skerry_cluster.progress import step

CNI_BIN = Path("/usr/lib/cni")

CLUSTER = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "socat": "socat",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "sysctl": "procps",
    "openssl": "openssl",
    str(CNI_BIN / "bridge"): "containernetworking-plugins",
}
"""Program that must exist -> package that brings it."""

COMPILERS = {"gcc": "gcc", "/usr/include/stdlib.h": "libc6-dev"}
"""For kine's SQLite and the pause program."""

IMAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}
"""For building images."""


def missing(wanted: dict[str, str]) -> list[str]:
    """List the packages whose program is not there."""
    return sorted({package for program, package in wanted.items() if not _exists(program)})


def _exists(program: str) -> bool:
    return Path(program).exists() if program.startswith("/") else bool(shutil.which(program))


def install(wanted: dict[str, str]) -> None:
    """Install what is missing and say which packages these are.

    Raises:
        ClusterError: if something is missing and this is no Debian machine.
    """
    names = missing(wanted)
    if not names:
        return
    if not shutil.which("apt-get"):
        raise ClusterError(f"please install what brings: {', '.join(names)} (no apt-get here)")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing Debian packages: {' '.join(names)}"):
        run("apt-get", "update", "-q", env=env)
        run("apt-get", "install", "-q", "-y", "--no-install-recommends", *names, env=env)
