"""The registry that IMAGE_REGISTRY names: what it is called, what it has, how to push to it."""

import errno
import ipaddress
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from skerry_cluster import buildah
from skerry_cluster.command import ClusterError, CommandError
from skerry_cluster.settings import Layout

_ADDRESS = re.compile(r"[A-Za-z0-9.-]+(:\d+)?|\[[0-9a-fA-F:]+\](:\d+)?")
_PATH = re.compile(r"(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.image.manifest.v1+json"
)
_NOBODY_THERE = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}
_TIMEOUT_S = 10


@dataclass(frozen=True)
class Registry:
    """Where images go, and how."""

    address: str
    """Host and port."""
    path: str = ""
    """What stands before `/skerry/...`, with a slash in front; often nothing."""
    insecure: bool = False
    """Plain HTTP, or a certificate that nobody vouches for."""

    def reference(self, local: str) -> str:
        """Name an image here: `localhost/skerry/x:1` -> `ADDRESS/skerry/x:1`."""
        return self.address + self.path + local.removeprefix("localhost")

    def has(self, reference: str) -> bool:
        """Say whether an image is known to be there; False also if one may not look.

        Raises:
            ClusterError: if nothing answers at the address, or something without TLS.
        """
        scheme = "http" if self.insecure else "https"
        name, _, tag = reference.removeprefix(self.address).rpartition(":")
        url = f"{scheme}://{self.address}/v2{name}/manifests/{tag}"
        request = urllib.request.Request(url, method="HEAD", headers={"Accept": _MANIFESTS})
        try:
            with self._opener().open(request, timeout=_TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return False  # it has no such image, or wants a login: buildah knows that
        except HTTPException:
            return False
        except OSError as error:
            self._judge(error)
            return False

    def _opener(self) -> urllib.request.OpenerDirector:
        """Leave out a proxy for this machine itself, as buildah does."""
        if _is_loopback(self.address):
            return urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return urllib.request.build_opener()

    def _judge(self, error: OSError) -> None:
        """Raise if the cause is certain; else let buildah, which knows more, try."""
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, ssl.SSLError):
            if "WRONG_VERSION_NUMBER" in str(cause):
                raise ClusterError(
                    f"IMAGE_REGISTRY={self.address} does not speak TLS; "
                    "if it is meant to speak plain HTTP, set IMAGE_REGISTRY_INSECURE=1"
                ) from error
            return
        code = cause.errno if isinstance(cause, OSError) else None
        if isinstance(cause, socket.gaierror | TimeoutError) or code in _NOBODY_THERE:
            raise ClusterError(
                f"no registry answers at IMAGE_REGISTRY={self.address}: {cause}; "
                "check host and port, and that the registry runs"
            ) from error

    def push(self, layout: Layout, archive: Path, local: str) -> None:
        """Push an image from its archive.

        Raises:
            ClusterError: with what the registry said, and what may help.
        """
        target = f"docker://{self.reference(local)}"
        with buildah.unmounted(layout):
            buildah.load(layout, archive)
            try:
                buildah.push(layout, local, target, insecure=self.insecure)
            except CommandError as error:
                raise ClusterError(
                    f"{error}\nIs the address right? Does the registry want a login "
                    f"(`buildah login {self.address}`) or plain HTTP (IMAGE_REGISTRY_INSECURE=1)?"
                ) from error


def _is_loopback(address: str) -> bool:
    host = re.sub(r":\d+$", "", address).strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def from_environment() -> Registry | None:
    """Read IMAGE_REGISTRY and IMAGE_REGISTRY_INSECURE; None if the first is not set.

    Raises:
        ClusterError: if it is no address.
    """
    value = os.environ.get("IMAGE_REGISTRY", "").rstrip("/")
    if not value:
        return None
    address, slash, path = value.partition("/")
    if not _ADDRESS.fullmatch(address) or not _PATH.fullmatch(slash + path):
        raise ClusterError(
            f"IMAGE_REGISTRY={value} is no registry: give HOST[:PORT][/PATH], without http://"
        )
    return Registry(address, slash + path, os.environ.get("IMAGE_REGISTRY_INSECURE") == "1")
