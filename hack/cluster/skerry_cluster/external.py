"""Use the cluster that KUBECONFIG names instead of starting one."""

import json
import os
import shutil
from pathlib import Path

from skerry_cluster import tools
from skerry_cluster.command import ClusterError, CommandError, run
from skerry_cluster.progress import say
from skerry_cluster.settings import Layout

_OR_LOCAL = "or `unset KUBECONFIG` to use the local cluster"
_SERVER = "jsonpath={.clusters[0].cluster.server}"


def kubeconfig(layout: Layout) -> Path | None:
    """Return the user's kubeconfig; None if it is not set or is the local cluster's own."""
    value = os.environ.get("KUBECONFIG", "")
    path = Path(value)
    if not value or path.resolve() == layout.kubeconfig.resolve():
        return None
    return path


def check(layout: Layout, path: Path) -> None:
    """Say which server the kubeconfig leads to, and which version answers.

    Raises:
        ClusterError: if none does.
    """
    if os.pathsep in str(path):
        raise ClusterError(f"KUBECONFIG={path} names several files: name one, {_OR_LOCAL}")
    if not path.is_file():
        raise ClusterError(f"KUBECONFIG={path}: there is no such file; correct it, {_OR_LOCAL}")
    kubectl = [str(programs(layout) / "kubectl"), f"--kubeconfig={path}"]
    try:
        server = run(*kubectl, "config", "view", "--minify", "-o", _SERVER).strip()
    except CommandError as error:
        raise ClusterError(f"KUBECONFIG={path} cannot be used: {error}") from error
    say(f"KUBECONFIG={path}: using the cluster at {server}, starting none")
    try:
        version = json.loads(run(*kubectl, "get", "--raw", "/version", "--request-timeout=10s"))
    except CommandError as error:
        raise ClusterError(
            f"the cluster at {server} does not answer: {error}\n"
            f"Start it, or correct KUBECONFIG={path}, {_OR_LOCAL}"
        ) from error
    say(f"it runs Kubernetes {version['gitVersion']} ({version['platform']})")


def programs(layout: Layout) -> Path:
    """Return the folder of kubectl and helm: the user's own, if that has both, else ours."""
    kubectl = shutil.which("kubectl")
    if kubectl and (Path(kubectl).parent / "helm").exists():
        return Path(kubectl).parent
    return tools.ensure(layout, tools.KUBERNETES)["kubectl"].parent


def host_address(layout: Layout, local: str) -> str:
    """Return the address at which pods reach this machine; `local` for the local cluster.

    Raises:
        ClusterError: if nobody said what it is in the user's own cluster.
    """
    given = os.environ.get("SKERRY_HOST_ADDRESS")
    if given:
        return given
    if kubeconfig(layout) is not None:
        raise ClusterError(
            "KUBECONFIG names a cluster of your own: set SKERRY_HOST_ADDRESS to an address of "
            "this machine that its pods can reach"
        )
    return local
