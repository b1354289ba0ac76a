"""The engine of NetworkPolicy: its rights, its arguments, and what it is built from."""

import re
from pathlib import Path

from skerry_cluster import netpol, settings, status, tools

_REQUIRED = re.compile(r"^\s*(?:require )?([\w./-]+) (v\S+)", re.MULTILINE)
_REPLACED = re.compile(r"([\w./-]+) => \S+ (v\S+)")


def versions(module: str) -> dict[str, str]:
    """Return the modules that a go.mod asks for, by name; replacements go before requirements."""
    text = (settings.SOURCES / module / "go.mod").read_text()
    return dict(_REQUIRED.findall(text)) | dict(_REPLACED.findall(text))


def test_it_reads_pods_namespaces_policies_and_its_node_and_writes_nothing() -> None:
    (role,) = (item for item in netpol.objects().values() if item["kind"] == "ClusterRole")
    read = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert read == {"pods", "namespaces", "nodes", "networkpolicies"}
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} <= {"get", "list", "watch"}


def test_it_is_told_its_node_and_the_range_of_services() -> None:
    assert netpol.arguments("node-a", Path("/k")) == [
        "--kubeconfig=/k",
        "--node=node-a",
        f"--service-cidr={settings.SERVICE_CIDR}",
    ]


def test_it_is_among_the_processes_that_status_shows() -> None:
    assert netpol.PART in status._NODE_PARTS


def test_it_shares_what_go_compiled_for_kubernetes() -> None:
    # Another version of one of them, or another way of building, compiles client-go again.
    kubernetes, own = versions("tools"), versions("netpol")
    shared = own.keys() & kubernetes.keys()
    assert "k8s.io/client-go" in shared
    assert {name: own[name] for name in shared} == {name: kubernetes[name] for name in shared}
    assert tools.NETPOL.cgo == tools.KUBERNETES.cgo
