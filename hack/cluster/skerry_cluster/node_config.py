"""Render the configuration of a node's programs. Nothing here touches the system."""

from pathlib import Path
from typing import Any

from skerry_cluster.settings import (
    CLUSTER_DOMAIN,
    DNS_SERVICE_IP,
    PAUSE_IMAGE,
    POD_CIDR,
    NodeSpec,
)

BINDS = {
    "kubelet": "/var/lib/kubelet",
    "containerd": "/var/lib/containerd",
    "run-containerd": "/run/containerd",
    "pod-logs": "/var/log/pods",
    "container-logs": "/var/log/containers",
    "cni-state": "/var/lib/cni",
    "run-netns": "/run/netns",
}
"""Folder of the node -> fixed path that must be the node's own, seen from inside."""
VOLATILE = ("run-containerd", "run-netns", "cni-state")
"""Folders that mean nothing once the node's processes are gone."""
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


def containerd_config(cni_bin: Path, cni_conf: Path) -> str:
    """Render containerd's configuration file."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  [{cri}.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
  [{cri}.cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{cni_conf}"
"""


def kubelet_config(node: NodeSpec, cgroup_root: str, pki: Path, resolver: Path) -> dict[str, Any]:
    """Render kubelet's configuration: quick to report, never tidying up behind a test's back."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.ip,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / f"{node.name}.crt"),
        "tlsPrivateKeyFile": str(pki / f"{node.name}.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDomain": CLUSTER_DOMAIN,
        "clusterDNS": [DNS_SERVICE_IP],
        "resolvConf": str(resolver),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_root,
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "evictionHard": {
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "maxPods": 50,
        "nodeStatusUpdateFrequency": "5s",
        "nodeStatusReportFrequency": "20s",
        "nodeLeaseDurationSeconds": 20,
        "shutdownGracePeriod": "0s",
        "shutdownGracePeriodCriticalPods": "0s",
        "syncFrequency": "10s",
        "serializeImagePulls": False,
    }


def kubelet_args(node: NodeSpec, config: Path, kubeconfig: Path) -> list[str]:
    """Arguments that have no place in kubelet's configuration file."""
    labels = ",".join(f"{key}={value}" for key, value in sorted(node.labels.items()))
    return [
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.ip}",
        f"--node-labels={labels}",
    ]


def proxy_config(node: NodeSpec, kubeconfig: Path) -> dict[str, Any]:
    """Render kube-proxy's configuration: nftables, and no kernel limit touched."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node.name,
        "bindAddress": node.ip,
        "healthzBindAddress": f"{node.ip}:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clusterCIDR": POD_CIDR,
        "detectLocalMode": "ClusterCIDR",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
