"""The control plane on the host: kine, API server, controller manager, scheduler."""

import os
from pathlib import Path

from skerry_cluster import certificates, daemons
from skerry_cluster.api import Api
from skerry_cluster.certificates import Identity
from skerry_cluster.command import ClusterError
from skerry_cluster.daemons import Daemon
from skerry_cluster.settings import (
    API_PORT,
    CLUSTER_DOMAIN,
    HOST_IP,
    KUBERNETES_SERVICE_IP,
    POD_CIDR,
    SERVICE_CIDR,
    Layout,
)
from skerry_cluster.waiting import wait_until

ADMIN = Identity("admin", "skerry-admin", "system:masters")
CONTROLLER_MANAGER = Identity("controller-manager", "system:kube-controller-manager")
SCHEDULER = Identity("scheduler", "system:kube-scheduler")
_SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
API_SERVER = Identity(
    "apiserver",
    "kube-apiserver",
    addresses=(
        *_SERVICE_NAMES,
        f"kubernetes.default.svc.{CLUSTER_DOMAIN}",
        "localhost",
        "127.0.0.1",
        HOST_IP,
        KUBERNETES_SERVICE_IP,
    ),
)
KUBELET_CLIENT = Identity("kubelet-client", "kube-apiserver-kubelet-client", "system:masters")
NAMES = ("kine", "apiserver", "controller-manager", "scheduler")

_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
"""


def kine_socket(layout: Layout) -> Path:
    """Where kine listens."""
    return layout.database / "kine.sock"


def kine_args(layout: Layout) -> list[str]:
    """Arguments of the datastore."""
    # WAL and a shared cache are kine's own defaults for SQLite, spelled out because a
    # data source name replaces them all.
    options = "_journal=WAL&cache=shared&_busy_timeout=30000&_txlock=immediate"
    return [
        f"--endpoint=sqlite://{layout.database / 'state.db'}?{options}",
        f"--listen-address=unix://{kine_socket(layout)}",
        "--metrics-bind-address=0",
    ]


def api_server_args(layout: Layout, *, audit: bool) -> list[str]:
    """Arguments of the API server; PodSecurity admission is on by default."""
    pki = layout.pki
    args = [
        f"--etcd-servers=unix://{kine_socket(layout)}",
        f"--bind-address={HOST_IP}",
        f"--advertise-address={HOST_IP}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        f"--service-account-key-file={pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
        "--profiling=false",
    ]
    if audit:
        args += [
            f"--audit-policy-file={layout.config / 'audit.yaml'}",
            f"--audit-log-path={layout.logs / 'audit.log'}",
        ]
    return args


def controller_manager_args(layout: Layout, kubeconfig: Path) -> list[str]:
    """Arguments of the controller manager: a dead node is noticed after 20 s."""
    pki = layout.pki
    return [
        f"--kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={POD_CIDR}",
        "--node-cidr-mask-size=24",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--node-monitor-period=2s",
        "--node-monitor-grace-period=20s",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki / 'service-account.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--profiling=false",
    ]


def prepare(layout: Layout) -> None:
    """Make the authority, all certificates of the control plane and its kubeconfigs."""
    for folder in (layout.root, layout.config, layout.database, layout.logs):
        folder.mkdir(parents=True, exist_ok=True)
    certificates.ensure_authority(layout.pki)
    for identity in (API_SERVER, KUBELET_CLIENT):
        certificates.ensure_certificate(layout.pki, identity)
    certificates.write_kubeconfig(layout.kubeconfig, layout.pki, ADMIN)
    for identity in (CONTROLLER_MANAGER, SCHEDULER):
        path = _kubeconfig(layout, identity)
        certificates.write_kubeconfig(path, layout.pki, identity)
    (layout.config / "audit.yaml").write_text(_AUDIT_POLICY)


def _kubeconfig(layout: Layout, identity: Identity) -> Path:
    return layout.config / f"{identity.file}.kubeconfig"


def start(layout: Layout, tools: dict[str, Path]) -> Api:
    """Start what does not run yet and wait until the API server is ready."""
    if daemons.find(layout, "kine") is None:
        kine_socket(layout).unlink(missing_ok=True)
    daemons.start(layout, Daemon("kine", [str(tools["kine"]), *kine_args(layout)]))
    wait_until("kine's socket", lambda: _is_up(layout, "kine") and kine_socket(layout).exists())
    audit = os.environ.get("SKERRY_AUDIT") == "1"
    server = [str(tools["kube-apiserver"]), *api_server_args(layout, audit=audit)]
    daemons.start(layout, Daemon("apiserver", server))
    api = Api(layout.pki)
    wait_until("the API server", lambda: _is_up(layout, "apiserver") and api.is_ready())
    kubeconfig = _kubeconfig(layout, CONTROLLER_MANAGER)
    manager = [
        str(tools["kube-controller-manager"]),
        *controller_manager_args(layout, kubeconfig),
    ]
    daemons.start(layout, Daemon("controller-manager", manager))
    scheduler = [
        str(tools["kube-scheduler"]),
        f"--kubeconfig={_kubeconfig(layout, SCHEDULER)}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    ]
    daemons.start(layout, Daemon("scheduler", scheduler))
    return api


def _is_up(layout: Layout, name: str) -> bool:
    daemons.require_alive(layout, name)
    return True


def require_all(layout: Layout) -> None:
    """Check that every part of the control plane still runs.

    Raises:
        ClusterError: naming those that do not.
    """
    dead = [name for name in NAMES if daemons.find(layout, name) is None]
    if dead:
        tails = "\n".join(daemons.log_tail(layout, name) for name in dead)
        raise ClusterError(f"not running: {', '.join(dead)}\n{tails}")
