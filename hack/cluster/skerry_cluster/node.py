"""A node: network namespace, mount namespace, cgroup root, containerd, kubelet, kube-proxy."""

import json
import shutil
from pathlib import Path

from skerry_cluster import certificates, cgroups, daemons, network, node_config
from skerry_cluster.certificates import Identity
from skerry_cluster.command import ClusterError, run, succeeds
from skerry_cluster.daemons import Daemon
from skerry_cluster.files import write_if_changed
from skerry_cluster.packages import CNI_BIN
from skerry_cluster.progress import say
from skerry_cluster.settings import PAUSE_IMAGE, Layout, NodeSpec
from skerry_cluster.waiting import wait_until

PROXY = Identity("kube-proxy", "system:kube-proxy")


class Node:
    """One node on this machine."""

    def __init__(self, layout: Layout, spec: NodeSpec) -> None:
        """Remember where its files are; nothing is started yet."""
        self.layout = layout
        self.spec = spec
        self.folder = layout.node(spec.name)

    def daemon_name(self, part: str) -> str:
        """Name one of its processes: `kubelet` -> `node-a-kubelet`."""
        return f"{self.spec.name}-{part}"

    def find(self, part: str) -> int | None:
        """Return the pid of one of its processes, None if it does not run."""
        return daemons.find(self.layout, self.daemon_name(part))

    def inside(self, *argv: str) -> list[str]:
        """Wrap a command so that it runs inside the node.

        Raises:
            ClusterError: if the node is not there.
        """
        holder = self.find("holder")
        if holder is None:
            raise ClusterError(f"{self.spec.name} is not running; run `up`")
        return ["nsenter", "-t", str(holder), "-m", "-n", "--", *argv]

    def start_part(self, part: str, *argv: str) -> None:
        """Start one of its processes inside the node, unless it runs."""
        if self.find(part) is None:
            name = self.daemon_name(part)
            say(f"{self.spec.name}: starting {part}")
            daemon = Daemon(name, self.inside(*argv), node=self.spec.name)
            daemons.start(self.layout, daemon)

    def ensure_space(self) -> None:
        """Make the node's namespaces, mounts and cgroups; a node without holder starts over."""
        if self.find("holder") is None:
            self.clear()
        network.ensure_cable(self.spec)
        cgroups.make_node_root(self.spec.name)
        netns = network.NETNS_FOLDER / self.spec.netns
        argv = ["nsenter", f"--net={netns}", "unshare", "--mount", "sleep", "infinity"]
        name = self.daemon_name("holder")
        holder = daemons.start(self.layout, Daemon(name, argv, self.spec.name))
        wait_until(f"{name} to be in its namespaces", lambda: _is_apart(holder), timeout_s=10)
        self._bind(holder)

    def _bind(self, holder: int) -> None:
        mounted = Path(f"/proc/{holder}/mountinfo").read_text()
        enter = ("nsenter", "-t", str(holder), "-m", "--")
        for source, target in node_config.BINDS.items():
            folder = self.folder / source
            if f" {folder} {target} " in mounted:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            run(*enter, "mount", "--bind", str(folder), target)
        # kubelet and containerd need mounts inside the node to reach its containers.
        run(*enter, "mount", "--make-rshared", "/")

    def clear(self) -> None:
        """End what is left of the node's processes and forget what only they knew."""
        left = cgroups.kill_all(self.spec.name)
        if left:
            raise ClusterError(f"{self.spec.name}: these processes do not end: {sorted(left)}")
        cgroups.remove(self.spec.name)
        network.remove_cable(self.spec)
        for name in node_config.VOLATILE:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def start_containerd(self, pause_archive: Path) -> None:
        """Start containerd and give it the pause image."""
        config = self.folder / "containerd.toml"
        cni_conf = self.folder / "cni"
        cni_conf.mkdir(parents=True, exist_ok=True)
        write_if_changed(config, node_config.containerd_config(CNI_BIN, cni_conf))
        self.start_part("containerd", shutil.which("containerd") or "containerd", "-c", str(config))
        wait_until(f"{self.spec.name}'s containerd", self._has_containerd)
        if not self.has_image(PAUSE_IMAGE):
            self.import_image(pause_archive)

    def _has_containerd(self) -> bool:
        daemons.require_alive(self.layout, self.daemon_name("containerd"))
        return succeeds(*self.inside("ctr", "version"))

    def ctr(self, *argv: str) -> str:
        """Ask the node's containerd, in the namespace that kubelet uses."""
        return run(*self.inside("ctr", "-n", "k8s.io", *argv))

    def has_image(self, reference: str) -> bool:
        """Say whether the node has an image."""
        return bool(self.ctr("images", "ls", "-q", f"name=={reference}").strip())

    def import_image(self, archive: Path) -> None:
        """Load an image archive into the node."""
        self.ctr("images", "import", str(archive))

    def start_kubelet(self, program: Path) -> None:
        """Start kubelet; it registers the node."""
        layout, name = self.layout, self.spec.name
        identity = Identity(name, f"system:node:{name}", "system:nodes", (name, self.spec.ip))
        kubeconfig = self.folder / "kubelet.kubeconfig"
        certificates.write_kubeconfig(kubeconfig, layout.pki, identity)
        resolver = self.folder / "resolv.conf"
        write_if_changed(resolver, network.resolver_file())
        root = cgroups.make_node_root(name)
        config = self.folder / "kubelet.json"
        rendered = node_config.kubelet_config(self.spec, root, layout.pki, resolver)
        write_if_changed(config, json.dumps(rendered, indent=1))
        args = node_config.kubelet_args(self.spec, config, kubeconfig)
        self.start_part("kubelet", str(program), *args)

    def start_proxy(self, program: Path) -> None:
        """Start kube-proxy."""
        kubeconfig = self.layout.config / "kube-proxy.kubeconfig"
        config = self.folder / "proxy.json"
        rendered = node_config.proxy_config(self.spec, kubeconfig)
        write_if_changed(config, json.dumps(rendered, indent=1))
        self.start_part("kube-proxy", str(program), f"--config={config}")

    def join_network(self, pod_cidr: str) -> None:
        """Tell containerd the node's pod range; one that registered anew may have another."""
        rendered = network.cni_config(pod_cidr, Path("/var/lib/cni/networks"))
        path = self.folder / "cni" / "10-skerry.conflist"
        text = json.dumps(rendered, indent=1)
        if path.exists() and path.read_text() != text:
            network.remove_pod_bridge(self.spec)
        write_if_changed(path, text)

    def stop_part(self, part: str) -> bool:
        """Stop one of its processes; say whether it was running."""
        return daemons.stop(self.layout, self.daemon_name(part))


def _is_apart(pid: int) -> bool:
    """Say whether a process has a mount namespace of its own and has become `sleep`."""
    own = Path("/proc/self/ns/mnt").readlink()
    theirs = Path(f"/proc/{pid}/ns/mnt").readlink()
    return own != theirs and Path(f"/proc/{pid}/comm").read_text().strip() == "sleep"
