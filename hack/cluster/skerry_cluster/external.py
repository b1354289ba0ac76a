"""Use the cluster that KUBECONFIG names instead of starting one."""

import os
import shutil
from pathlib import Path

from skerry_cluster import tools
from skerry_cluster.command import run
from skerry_cluster.progress import say
from skerry_cluster.settings import Layout


def kubeconfig(layout: Layout) -> Path | None:
    """Return the user's kubeconfig; None if it is not set or is the local cluster's own."""
    value = os.environ.get("KUBECONFIG", "")
    path = Path(value)
    if not value or path.resolve() == layout.kubeconfig.resolve():
        return None
    return path


def check(layout: Layout, path: Path) -> None:
    """Ask the user's cluster for its version.

    Raises:
        ClusterError: if it does not answer.
    """
    kubectl = shutil.which("kubectl") or str(tools.ensure(layout, tools.KUBERNETES)["kubectl"])
    answer = run(kubectl, f"--kubeconfig={path}", "version", "--request-timeout=10s")
    say(f"KUBECONFIG={path} is set: using that cluster, starting none")
    print(answer.strip())
