"""What the development cluster renders and decides, without touching the system."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from skerry_cluster import (
    certificates,
    cluster,
    control_plane,
    dns,
    network,
    node_config,
    oci,
    settings,
    tools,
)
from skerry_cluster.command import ClusterError

LAYOUT = settings.Layout(Path("/state"), Path("/cache"))


def test_the_first_three_nodes_are_an_npu_a_gpu_and_a_plain_cpu() -> None:
    specs = settings.node_specs(3)
    assert [(spec.name, spec.site, spec.resource) for spec in specs] == [
        ("node-a", "harbour", "simulated.skerry.dev/npu"),
        ("node-b", "harbour", "simulated.skerry.dev/gpu"),
        ("node-c", "factory", None),
    ]
    assert len({spec.ip for spec in specs} | {spec.mac for spec in specs}) == 6


@pytest.mark.parametrize("count", [0, -1, settings.MAX_NODES + 1])
def test_an_impossible_number_of_nodes_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="number of nodes"):
        settings.node_specs(count)


def test_names_of_links_fit_the_kernel() -> None:
    names = [settings.BRIDGE, *(spec.veth for spec in settings.node_specs(settings.MAX_NODES))]
    assert all(len(name) <= 15 for name in names)


def test_the_cache_key_ignores_order_but_no_content() -> None:
    key = tools.cache_key({"go.mod": b"a", "go.sum": b"b"}, "go1.26", "-s")
    assert key == tools.cache_key({"go.sum": b"b", "go.mod": b"a"}, "go1.26", "-s")
    others = {
        tools.cache_key({"go.mod": b"a", "go.sum": b"c"}, "go1.26", "-s"),
        tools.cache_key({"go.mod": b"ab", "go.sum": b""}, "go1.26", "-s"),
        tools.cache_key({"go.mod": b"a", "go.sum": b"b"}, "go1.27", "-s"),
        tools.cache_key({"go.mod": b"a", "go.sum": b"b"}, "go1.26", "-w"),
    }
    assert len(others) == 4
    assert key not in others


def test_the_version_of_go_is_read_as_numbers() -> None:
    assert tools.go_version_of("go version go1.26.8 linux/amd64") == (1, 26)
    assert tools.go_version_of("go version go1.9 linux/arm64") < tools.GO_AT_LEAST
    with pytest.raises(ClusterError, match="cannot read the version of Go from 'command"):
        tools.go_version_of("command not found")


def test_kubelet_neither_evicts_nor_collects_and_lives_in_its_own_cgroup() -> None:
    node = settings.node_specs(1)[0]
    config = node_config.kubelet_config(node, "/skerry/node-a", LAYOUT.pki, Path("/r"))
    assert config["cgroupRoot"] == "/skerry/node-a"
    assert config["imageGCHighThresholdPercent"] == 100
    assert set(config["evictionHard"].values()) == {"0%"}
    assert config["authentication"]["anonymous"] == {"enabled": False}
    args = node_config.kubelet_args(node, Path("/c"), Path("/k"))
    expected = "--node-labels=skerry.dev/site=harbour,topology.kubernetes.io/zone=harbour"
    assert expected in args


def test_audit_is_on_only_when_asked_for() -> None:
    quiet = control_plane.api_server_args(LAYOUT, audit=False)
    audited = control_plane.api_server_args(LAYOUT, audit=True)
    assert not [arg for arg in quiet if arg.startswith("--audit")]
    assert "--audit-log-path=/state/logs/audit.log" in audited
    assert "--authorization-mode=Node,RBAC" in quiet


def test_a_node_gives_addresses_from_its_own_range() -> None:
    config = network.cni_config("10.224.3.0/24", Path("/data"))
    assert config["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.224.3.0/24"}]]


def test_dns_is_served_where_the_service_points() -> None:
    objects = list(dns.objects().values())
    by_kind = {item["kind"]: item for item in objects}
    assert by_kind["Service"]["spec"]["clusterIP"] == settings.DNS_SERVICE_IP
    assert by_kind["EndpointSlice"]["endpoints"][0]["addresses"] == [settings.HOST_IP]
    served = {port["port"] for port in by_kind["EndpointSlice"]["ports"]}
    wanted = {port["targetPort"] for port in by_kind["Service"]["spec"]["ports"]}
    assert served == wanted == {settings.DNS_PORT}
    assert f".:{settings.DNS_PORT} {{" in dns.corefile(Path("/k"))


def test_certificates_tell_names_from_addresses() -> None:
    assert certificates.alternative_names(("node-a", "10.0.0.1")) == "DNS:node-a,IP:10.0.0.1"


def test_the_pause_archive_is_reproducible_and_refers_to_what_it_holds() -> None:
    archive = oci.single_program_archive(b"program", "localhost/x:1", "amd64")
    assert archive == oci.single_program_archive(b"program", "localhost/x:1", "amd64")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = set(tar.getnames())
        index = json.loads(tar.extractfile("index.json").read())  # type: ignore[union-attr]
    manifest = index["manifests"][0]
    assert manifest["annotations"] == {"org.opencontainers.image.ref.name": "localhost/x:1"}
    assert "blobs/" + manifest["digest"].replace(":", "/") in names


def _node(status: str, heartbeat: str, allocatable: dict[str, str]) -> dict[str, object]:
    ready = {"type": "Ready", "status": status, "lastHeartbeatTime": heartbeat}
    return {"status": {"conditions": [ready], "allocatable": allocatable}}


def test_a_node_that_was_ready_before_its_restart_is_not_ready_yet() -> None:
    found = _node("True", "1970-01-01T00:01:40Z", {})
    assert cluster.is_ready_since(found, 100.9)
    assert not cluster.is_ready_since(found, 101)
    assert not cluster.is_ready_since(_node("False", "1970-01-01T00:01:40Z", {}), 0)


def test_a_lost_device_is_not_on_offer() -> None:
    resource = "simulated.skerry.dev/npu"
    assert cluster.offers(_node("True", "", {resource: "1"}), resource)
    assert not cluster.offers(_node("True", "", {resource: "0"}), resource)
    assert not cluster.offers(_node("True", "", {}), resource)
    assert cluster.offers(_node("True", "", {}), None)


def test_a_cut_keeps_the_node_from_the_api_server_and_leaves_all_that_is_forwarded_alone() -> None:
    rules = network.cut_ruleset()
    assert "hook output" in rules
    assert "hook forward" not in rules
    assert f"ip daddr {settings.HOST_IP} tcp dport {settings.API_PORT} drop" in rules
