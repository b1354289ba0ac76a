"""KWOK: fake nodes on the same control plane, for tests at scale."""

from pathlib import Path

from skerry_cluster import certificates, daemons, tools
from skerry_cluster.certificates import Identity
from skerry_cluster.daemons import Daemon
from skerry_cluster.progress import say
from skerry_cluster.settings import Layout

IDENTITY = Identity("kwok", "skerry:kwok", "system:masters")
SELECTOR = "kwok.x-k8s.io/node=fake"


def start(layout: Layout, stages: Path | None) -> None:
    """Play the nodes that carry the annotation; `stages` replaces KWOK's own stages."""
    program = tools.ensure(layout, tools.KWOK)["kwok"]
    kubeconfig = layout.config / "kwok.kubeconfig"
    certificates.write_kubeconfig(kubeconfig, layout.pki, IDENTITY)
    args = [
        f"--kubeconfig={kubeconfig}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={SELECTOR}",
        "--node-lease-duration-seconds=40",
    ]
    if stages is not None:
        args.append(f"--config={stages.resolve()}")
    daemons.start(layout, Daemon("kwok", [str(program), *args]))
    say(f"kwok plays the nodes annotated {SELECTOR}")


def stop(layout: Layout) -> None:
    """Stop KWOK; its nodes stay as objects."""
    daemons.stop(layout, "kwok")
