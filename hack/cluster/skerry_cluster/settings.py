"""Fixed names, addresses and folders of the development cluster."""

import os
from dataclasses import dataclass
from pathlib import Path

KUBERNETES_VERSION = "v1.34.4"
"""The version that `tools/go.mod` pins; the API server reports it."""

CLUSTER_DOMAIN = "cluster.local"
NETWORK_NAME = "skerry"
"""Name of the pod network and prefix of everything the cluster makes on the host."""
NETNS_PREFIX = "skerry-"
BRIDGE = "skerry0"
VETH_PREFIX = "skv-"
CGROUP = "skerry"
"""Every process of the cluster lives in this cgroup, which is how `down` finds them."""

HOST_IP = "10.210.0.1"
"""The bridge address: pods reach the host here, and the API server listens here."""
NODE_NETWORK_BITS = 24
NODE_IP_BASE = 11
POD_CIDR = "10.224.0.0/12"
"""Room for 4096 nodes of 256 addresses each, so that KWOK nodes get a range too."""
SERVICE_CIDR = "10.212.0.0/16"
KUBERNETES_SERVICE_IP = "10.212.0.1"
DNS_SERVICE_IP = "10.212.0.10"
API_PORT = 6443
DNS_PORT = 10053
"""Not 53: another resolver on the host may own that port on every address."""

PAUSE_IMAGE = "localhost/skerry/pause:1"
MAX_NODES = 9


def mac_of(ip: str) -> str:
    """Derive a locally administered hardware address: `10.210.0.11` -> `02:5c:0a:d2:00:0b`."""
    return "02:5c:" + ":".join(f"{int(part):02x}" for part in ip.split("."))


@dataclass(frozen=True)
class NodeSpec:
    """One node as it should be."""

    name: str
    """Name of the Kubernetes node."""
    ip: str
    """Address on the bridge."""
    site: str
    """Value of the labels `skerry.dev/site` and `topology.kubernetes.io/zone`."""
    resource: str | None = None
    """Extended resource of its simulated accelerator; None for a plain CPU node."""

    @property
    def mac(self) -> str:
        """Hardware address: fixed, so that neighbours still find a node that came back."""
        return mac_of(self.ip)

    @property
    def netns(self) -> str:
        """Name of its network namespace."""
        return NETNS_PREFIX + self.name

    @property
    def veth(self) -> str:
        """Name of the host's end of its network cable."""
        return VETH_PREFIX + self.name

    @property
    def labels(self) -> dict[str, str]:
        """Labels that kubelet gives to the node."""
        return {"skerry.dev/site": self.site, "topology.kubernetes.io/zone": self.site}


_FIRST_THREE = (
    ("harbour", "simulated.skerry.dev/npu"),
    ("harbour", "simulated.skerry.dev/gpu"),
    ("factory", None),
)


def node_specs(count: int) -> list[NodeSpec]:
    """List the first nodes: an NPU, a GPU and a CPU node, then plain CPU nodes.

    Raises:
        ValueError: if `count` is not between 1 and `MAX_NODES`.
    """
    if not 1 <= count <= MAX_NODES:
        raise ValueError(f"the number of nodes must be 1 to {MAX_NODES}, not {count}")
    prefix = HOST_IP.rsplit(".", 1)[0]
    specs = []
    for index in range(count):
        site, resource = _FIRST_THREE[index] if index < len(_FIRST_THREE) else ("factory", None)
        ip = f"{prefix}.{NODE_IP_BASE + index}"
        specs.append(NodeSpec(f"node-{chr(ord('a') + index)}", ip, site, resource))
    return specs


@dataclass(frozen=True)
class Layout:
    """Where the cluster keeps its files."""

    root: Path
    """The state folder; `down` empties it."""
    cache: Path
    """Built tools and images; survives `down`."""

    @classmethod
    def from_environment(cls) -> "Layout":
        """Read `SKERRY_CLUSTER_DIR` and `SKERRY_CACHE_DIR`, or take the usual places."""
        root = os.environ.get("SKERRY_CLUSTER_DIR") or "/var/lib/skerry-cluster"
        cache = os.environ.get("SKERRY_CACHE_DIR") or Path.home() / ".cache/skerry"
        return cls(Path(root).resolve(), Path(cache).resolve())

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "admin.kubeconfig"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.root / "pki"

    @property
    def config(self) -> Path:
        """Rendered configuration files."""
        return self.root / "config"

    @property
    def logs(self) -> Path:
        """One log file per process; survives `down`."""
        return self.root / "logs"

    @property
    def pids(self) -> Path:
        """One file per process."""
        return self.root / "pids"

    @property
    def database(self) -> Path:
        """Folder of kine's SQLite file and socket."""
        return self.root / "db"

    @property
    def made(self) -> Path:
        """What was made on the host outside of these folders."""
        return self.root / "made.json"

    @property
    def sysctls(self) -> Path:
        """Kernel settings as they were before kubelet changed them."""
        return self.root / "sysctls.json"

    def node(self, name: str) -> Path:
        """Folder of one node."""
        return self.root / "nodes" / name

    def device_lost(self, name: str) -> Path:
        """Mark that the simulated device of this node is lost, while it exists."""
        return self.node(name) / "device-lost"


SOURCES = Path(__file__).resolve().parents[1]
"""The folder `hack/cluster`."""
REPOSITORY = SOURCES.parents[1]
