"""NetworkPolicy: kube-router's controller in every node, by the rules of the node's own network.

It is the engine that K3s embeds. kube-proxy's rules stand beside its own and know nothing of them.
"""

from pathlib import Path
from typing import Any

from skerry_cluster import certificates
from skerry_cluster.api import Api
from skerry_cluster.certificates import Identity
from skerry_cluster.node import Node
from skerry_cluster.settings import SERVICE_CIDR, Layout

IDENTITY = Identity("netpol", "skerry:netpol")
PART = "netpol"
"""Name of its process in a node."""


def objects() -> dict[str, dict[str, Any]]:
    """Build what the API server must know: path -> object."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    group, version = "rbac.authorization.k8s.io", "rbac.authorization.k8s.io/v1"
    watch = ["list", "watch"]
    role = {
        "apiVersion": version,
        "kind": "ClusterRole",
        "metadata": {"name": IDENTITY.user},
        "rules": [
            {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": watch},
            {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
            {
                "apiGroups": ["networking.k8s.io"],
                "resources": ["networkpolicies"],
                "verbs": watch,
            },
        ],
    }
    binding = {
        "apiVersion": version,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": IDENTITY.user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": IDENTITY.user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": IDENTITY.user}],
    }
    return {
        f"{rbac}/clusterroles/{IDENTITY.user}": role,
        f"{rbac}/clusterrolebindings/{IDENTITY.user}": binding,
    }


def arguments(node: str, kubeconfig: Path) -> list[str]:
    """Arguments of the controller of one node."""
    return [f"--kubeconfig={kubeconfig}", f"--node={node}", f"--service-cidr={SERVICE_CIDR}"]


def prepare(layout: Layout, api: Api) -> None:
    """Give the controllers their rights and their kubeconfig."""
    certificates.write_kubeconfig(_kubeconfig(layout), layout.pki, IDENTITY)
    for path, body in objects().items():
        api.apply(path, body)


def start(item: Node, program: Path) -> None:
    """Enforce policies on a node; it must be registered, the controller asks for its address."""
    item.start_part(PART, str(program), *arguments(item.spec.name, _kubeconfig(item.layout)))


def _kubeconfig(layout: Layout) -> Path:
    return layout.config / f"{IDENTITY.file}.kubeconfig"
