"""Debian packages that the cluster needs, installed where they are missing."""

import os
import shutil
from pathlib import Path

from skerry_cluster.command import ClusterError, CommandError, run
from skerry_cluster.progress import say, step

CNI_BIN = Path("/usr/lib/cni")

CLUSTER = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "ethtool": "ethtool",
    "socat": "socat",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "umount": "mount",
    "modprobe": "kmod",
    "sysctl": "procps",
    "openssl": "openssl",
    str(CNI_BIN / "bridge"): "containernetworking-plugins",
}
"""Program that must exist -> package that brings it."""

COMPILERS = {"gcc": "gcc", "/usr/include/stdlib.h": "libc6-dev"}
"""For kine's SQLite and the pause program."""

IMAGES = {
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
"""For building images; Ubuntu lacks the last one."""

LIBPYTHON = {"/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0": "libpython3.11"}
"""For a program that embeds Python and comes from elsewhere."""

_LOCK_PATIENCE = ("-o", "DPkg::Lock::Timeout=300")
"""Seconds to wait for another apt-get, such as a machine's nightly upgrade."""


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
    if not shutil.which("apt-get") or os.geteuid() != 0:
        why = "no apt-get here" if os.geteuid() == 0 else "only root may"
        raise ClusterError(f"please install what these packages bring: {' '.join(names)} ({why})")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing Debian packages: {' '.join(names)}"):
        try:
            run("apt-get", *_LOCK_PATIENCE, "update", "-q", env=env)
        except CommandError as error:  # often one source of many, and not the one needed
            say(f"going on with the package lists that are there: {error}")
        options = ("-q", "-y", "--no-install-recommends")
        run("apt-get", *_LOCK_PATIENCE, "install", *options, *names, env=env)
