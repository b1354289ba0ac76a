"""Installs the operator with the chart, and makes room for a fresh run."""

from __future__ import annotations

from dataclasses import dataclass

from digits_demo.cluster import CHART, Access
from digits_demo.kube import Kube
from digits_demo.manifests import CHART_VALUES
from digits_demo.shell import run
from digits_demo.waiting import wait_for

RELEASE = "skerry"
RELEASE_NAMESPACE = "skerry-system"
INSTALL_TIMEOUT_S = 120
NAMESPACE_TIMEOUT_S = 90


@dataclass(frozen=True)
class ImageRef:
    """An image's name in the parts that the chart takes."""

    registry: str
    repository: str
    tag: str
    digest: str

    def settings(self, key: str) -> list[str]:
        """Return Helm options that set the image under a key of the values."""
        parts = {
            "registry": self.registry,
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
        }
        return [f"--set-string={key}.{name}={value}" for name, value in parts.items()]


def parse_image(reference: str) -> ImageRef:
    """Take an image reference apart.

    >>> parse_image("localhost/skerry/operator:1")
    ImageRef(registry='localhost', repository='skerry/operator', tag='1', digest='')
    """
    name, _, digest = reference.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    path = f"{head}{slash}{last}"
    first, _, rest = path.partition("/")
    has_registry = bool(rest) and (first == "localhost" or "." in first or ":" in first)
    return ImageRef(first, rest, tag, digest) if has_registry else ImageRef("", path, tag, digest)


def install(access: Access, images: dict[str, str]) -> None:
    """Install or upgrade the chart and wait until the operator is ready.

    Raises:
        DemoError: Helm failed.
    """
    command = [
        access.helm,
        f"--kubeconfig={access.kubeconfig}",
        "upgrade",
        "--install",
        RELEASE,
        str(CHART),
        f"--namespace={RELEASE_NAMESPACE}",
        "--create-namespace",
        f"--values={CHART_VALUES}",
        *parse_image(images["operator"]).settings("image"),
        *parse_image(images["runtime"]).settings("runtimeImage"),
        "--wait",
        f"--timeout={INSTALL_TIMEOUT_S}s",
    ]
    remedy = f"look at `kubectl -n {RELEASE_NAMESPACE} get pods,events`"
    run(command, remedy=remedy, timeout_s=INSTALL_TIMEOUT_S + 30)


def remove_namespace(kube: Kube) -> None:
    """Delete the demo's namespace and wait until it is gone.

    Raises:
        DemoError: it is still there at the deadline.
    """
    kube.delete_namespace()
    wait_for(
        lambda: None if kube.has_namespace() else True,
        "the removal of the demo's namespace",
        timeout_s=NAMESPACE_TIMEOUT_S,
        remedy="look at `kubectl get namespace digits -o yaml`: the conditions say what is left",
    )
