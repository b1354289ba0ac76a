"""Cluster DNS: CoreDNS as a process on the host, reached through the usual Service.

On the host it needs no image and outlives every node.
"""

from pathlib import Path
from typing import Any

from skerry_cluster import certificates, daemons
from skerry_cluster.api import Api
from skerry_cluster.certificates import Identity
from skerry_cluster.daemons import Daemon
from skerry_cluster.files import write_if_changed
from skerry_cluster.settings import (
    CLUSTER_DOMAIN,
    DNS_PORT,
    DNS_SERVICE_IP,
    HOST_IP,
    Layout,
)

IDENTITY = Identity("coredns", "skerry:coredns")
_LABELS = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}


def corefile(kubeconfig: Path) -> str:
    """Render CoreDNS's configuration."""
    return f"""\
.:{DNS_PORT} {{
    bind {HOST_IP}
    errors
    health 127.0.0.1:18080
    ready 127.0.0.1:18181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig} skerry
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }}
    forward . /etc/resolv.conf
    cache 5
    loop
}}
"""


def objects() -> dict[str, dict[str, Any]]:
    """Build what the API server must know: path -> object."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    readable = ["endpoints", "services", "pods", "namespaces"]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "skerry:coredns"},
        "rules": [
            {"apiGroups": [""], "resources": readable, "verbs": ["list", "watch"]},
            {
                "apiGroups": ["discovery.k8s.io"],
                "resources": ["endpointslices"],
                "verbs": ["list", "watch"],
            },
        ],
    }
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "skerry:coredns"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "skerry:coredns"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": IDENTITY.user}],
    }
    return {
        f"{rbac}/clusterroles/skerry:coredns": role,
        f"{rbac}/clusterrolebindings/skerry:coredns": binding,
        "/api/v1/namespaces/kube-system/services/kube-dns": _service(),
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns-host": _slice(),
    }


def _service() -> dict[str, Any]:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": DNS_PORT},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": DNS_PORT},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": _LABELS},
        "spec": {"clusterIP": DNS_SERVICE_IP, "ports": ports},
    }


def _slice() -> dict[str, Any]:
    ports = [
        {"name": "dns", "port": DNS_PORT, "protocol": "UDP"},
        {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP"},
    ]
    labels = {"kubernetes.io/service-name": "kube-dns"}
    labels["endpointslice.kubernetes.io/managed-by"] = "skerry-cluster"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns-host", "namespace": "kube-system", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [HOST_IP], "conditions": {"ready": True}}],
        "ports": ports,
    }


def start(layout: Layout, program: Path, api: Api) -> None:
    """Bring DNS up; it waits by itself until the API server serves it."""
    kubeconfig = layout.config / "coredns.kubeconfig"
    certificates.write_kubeconfig(kubeconfig, layout.pki, IDENTITY)
    config = layout.config / "Corefile"
    write_if_changed(config, corefile(kubeconfig))
    for path, body in objects().items():
        api.apply(path, body)
    daemons.start(layout, Daemon("coredns", [str(program), "-conf", str(config)]))
