"""Network policies on a network that enforces them: who gets through, and who does not."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml

from digits_demo.cluster import CHART, REPOSITORY
from e2e.lab import NODES, Lab

OTHER = "e2e-network-policy-other"
ELSEWHERE = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": OTHER}}}
NODE = NODES[2]
PLACEMENT = {"nodeSelector": {"kubernetes.io/hostname": NODE}}
DATA, ADMIN, METRICS = (8080, 8081), 8082, 8080
SYSTEM, OPERATOR = "skerry-system", "app.kubernetes.io/component=operator"
DNS_PORT = 10053
"""The cluster's DNS runs on the host, beside the models, and is no pod."""
CLIENTS = ("friend", "neighbour", "stranger")
SENDING = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "friend-sends"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "friend"}},
        "policyTypes": ["Egress"],
        "egress": [{}],
    },
}
_TRY = """
import socket, sys
for port in map(int, sys.argv[2:]):
    try:
        socket.create_connection((sys.argv[1], port), timeout=3).close()
        print(port)
    except OSError:
        pass
"""


@dataclass(frozen=True)
class Client:
    """A pod that asks others."""

    lab: Lab
    name: str

    def reaches(self, host: str, *ports: int) -> set[int]:
        """Return the ports of a host to which a connection came about."""
        command = ("python3", "-c", _TRY, host, *map(str, ports))
        return set(map(int, self.lab.kubectl("exec", self.name, "--", *command).split()))


Clients = dict[str, Client]
Reached = dict[str, set[int]]


def only(*names: str, ports: Sequence[int] = DATA) -> Reached:
    """Return what is reached when these clients are let in, and no others."""
    return {name: {*ports} if name in names else set() for name in CLIENTS}


def client_pod(name: str, image: str, node: str) -> dict[str, Any]:
    container = {
        "name": "client",
        "image": image,
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {
        "nodeName": node,
        "containers": [container],
        "securityContext": security,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
    }
    labels = {"app": name}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def clients(lab: Lab, images: dict[str, str]) -> Iterator[Clients]:
    """A pod in the model's namespace, and two in another: on the model's node and on another."""
    other = Lab(lab.access, OTHER, lab.server, lab.index)
    other.create_namespace()
    found = {
        "friend": Client(lab, "friend"),
        "neighbour": Client(other, "neighbour"),
        "stranger": Client(other, "stranger"),
    }
    try:
        for name, one in found.items():
            one.lab.apply(
                client_pod(name, images["runtime"], NODES[0 if name == "stranger" else 2])
            )
        for name, one in found.items():
            one.lab.kubectl("wait", "--for=condition=Ready", "--timeout=90s", f"pod/{name}")
        yield found
    finally:
        for name, one in found.items():
            one.lab.kubectl("delete", "pod", name, "--ignore-not-found", "--now")
        other.leave_namespace()


@pytest.fixture(scope="module")
def model(lab: Lab) -> None:
    """V1 is stable on one node, without a policy."""
    lab.start_stable(placement=PLACEMENT)


def policy(lab: Lab, **fields: Any) -> None:
    """Say who may ask, or nothing of that; nothing else of the spec changes."""
    serving = {"serving": {"networkPolicy": fields}} if fields else {}
    lab.apply(lab.deployment(placement=PLACEMENT, **serving))


def wait_reached(lab: Lab, clients: Clients, expected: Reached) -> None:
    """Wait until each client reaches these of the model's ports, and no others."""
    address = lab.pods()[NODE].ip

    def look() -> bool:
        found = {name: one.reaches(address, *DATA, ADMIN) for name, one in clients.items()}
        return found == expected

    lab.wait(look, f"{expected} is what each client reaches")


def container_of(lab: Lab) -> dict[str, Any]:
    """Return the state of the model's container."""
    (pod,) = lab.items("pods", "-l", "skerry.dev/deployment=digits")
    (container,) = pod["status"].get("containerStatuses", [{}])
    return dict(container)


def is_ready(lab: Lab) -> bool:
    return bool(container_of(lab).get("ready"))


@dataclass(frozen=True)
class Untouched:
    """A pod that nothing happened to: the same, ready, never restarted, of the same revision."""

    uid: str
    restarts: int
    revision: str | None
    ready: bool

    @classmethod
    def now(cls, lab: Lab) -> Untouched:
        pod, revision = lab.pods()[NODE], lab.status().stable_revision
        return cls(pod.uid, pod.restarts, revision, is_ready(lab))


@dataclass(frozen=True)
class ModelSource:
    """Where the pods fetch the models from."""

    host: str
    port: int

    @classmethod
    def of(cls, lab: Lab) -> ModelSource:
        host, _, port = lab.server.url.removeprefix("http://").partition(":")
        return cls(host, int(port))

    def allowed(self) -> dict[str, Any]:
        """Return the documented policy with the addresses of this machine in it."""
        found = documented("skerry-fetch")
        dns, models = found["spec"]["egress"]
        there = [{"ipBlock": {"cidr": f"{self.host}/32"}}]
        for rule, port in ((dns, DNS_PORT), (models, self.port)):
            rule["to"] = there
            rule["ports"] = [{**one, "port": port} for one in rule["ports"]]
        return found


def documented(name: str) -> dict[str, Any]:
    """Return a NetworkPolicy of docs/security.md."""
    text = (REPOSITORY / "docs/security.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    policies = [block for block in blocks if block.get("kind") == "NetworkPolicy"]
    (found,) = (one for one in policies if one["metadata"]["name"] == name)
    return dict(found)


@pytest.mark.usefixtures("model")
def test_without_a_policy_every_pod_reaches_every_port(lab: Lab, clients: Clients) -> None:
    wait_reached(lab, clients, only(*CLIENTS, ports=(*DATA, ADMIN)))


@pytest.mark.usefixtures("model")
def test_a_policy_lets_in_whom_it_names_and_disturbs_nothing(lab: Lab, clients: Clients) -> None:
    before = Untouched.now(lab)
    one_pod = {**ELSEWHERE, "podSelector": {"matchLabels": {"app": "stranger"}}}
    for peers, let_in in (
        ([], ["friend"]),
        ([one_pod], ["stranger"]),
        ([ELSEWHERE], ["stranger", "neighbour"]),
    ):
        policy(lab, enabled=True, **({"from": peers} if peers else {}))
        wait_reached(lab, clients, only(*let_in))
    assert Untouched.now(lab) == before


@pytest.mark.usefixtures("model")
def test_behind_a_policy_the_operator_rolls_out_and_probes_pass(lab: Lab, clients: Clients) -> None:
    policy(lab, enabled=True)
    wait_reached(lab, clients, only("friend"))
    before = Untouched.now(lab)
    lab.apply(lab.model("v2"))
    status = lab.wait_stable(lab.index.model("v2").version)
    assert Untouched.now(lab) == replace(before, revision=status.stable_revision)


@pytest.mark.usefixtures("model")
def test_the_policy_holds_for_who_comes_through_the_service(lab: Lab, clients: Clients) -> None:
    policy(lab, enabled=True)
    wait_reached(lab, clients, only("friend"))
    address = lab.get("service")["spec"]["clusterIP"]
    # The pod's own node, where the others are: elsewhere the Service has no pod for them.
    near = {name: clients[name].reaches(address, *DATA) for name in ("friend", "neighbour")}
    assert near == {"friend": {*DATA}, "neighbour": set()}


@pytest.mark.usefixtures("model")
def test_a_policy_that_goes_lets_everybody_in_again(lab: Lab, clients: Clients) -> None:
    policy(lab, enabled=True)
    wait_reached(lab, clients, only("friend"))
    policy(lab)
    wait_reached(lab, clients, only(*CLIENTS, ports=(*DATA, ADMIN)))
    assert lab.items("networkpolicies") == []


@pytest.fixture
def denied(lab: Lab) -> Iterator[None]:
    """The namespace lets nothing in and nothing out."""
    lab.apply(documented("deny"))
    yield
    lab.kubectl("delete", "networkpolicy", "--all")


@pytest.mark.usefixtures("denied", "model")
@pytest.mark.parametrize("serves", ["by the spec", "by hand"])
def test_the_documented_manifests_are_what_a_namespace_that_denies_needs(
    lab: Lab, clients: Clients, serves: str
) -> None:
    friend, source = clients["friend"], ModelSource.of(lab)
    wait_reached(lab, clients, only())
    lab.wait(lambda: not friend.reaches(source.host, source.port), "nothing leaves the namespace")
    lab.apply(source.allowed())
    if serves == "by the spec":
        policy(lab, enabled=True)
    else:
        policy(lab, enabled=False)
        lab.apply(documented("skerry-serve"))
    # A new pod has to fetch the model; a new revision in it has to be reported to the operator.
    lab.kubectl("delete", "pod", "-l", "skerry.dev/deployment=digits", "--wait=true")
    lab.wait(lambda: is_ready(lab), "the new pod has its model")
    version = f"behind a policy {serves}"
    lab.apply(lab.model("v1", version=version))
    lab.wait_stable(version)
    assert not friend.reaches(source.host, source.port)
    lab.apply(SENDING)
    wait_reached(lab, clients, only("friend"))


@pytest.fixture
def guarded(helm: list[str], lab: Lab) -> Iterator[str]:
    """The chart's own policy, for readers in the other namespace; yields the operator's address."""
    upgrade = [*helm, "upgrade", "skerry", str(CHART), "--reuse-values", "--wait"]
    values = {"enabled": True, "metricsFrom": [ELSEWHERE]}
    (pod,) = lab.items("pods", f"--namespace={SYSTEM}", "-l", OPERATOR)
    try:
        subprocess.run([*upgrade, f"--set-json=networkPolicy={json.dumps(values)}"], check=True)
        yield pod["status"]["podIP"]
    finally:
        subprocess.run([*upgrade, "--set=networkPolicy.enabled=false"], check=True)


@pytest.mark.usefixtures("model")
def test_the_chart_s_policy_lets_readers_of_metrics_in_and_nobody_else(
    lab: Lab, clients: Clients, guarded: str
) -> None:
    def reached() -> Reached:
        return {name: one.reaches(guarded, METRICS) for name, one in clients.items()}

    expected = only("stranger", "neighbour", ports=(METRICS,))
    lab.wait(lambda: reached() == expected, "only the other namespace reads the operator's metrics")
    version = "while the operator is guarded"
    lab.apply(lab.model("v1", version=version))
    lab.wait_stable(version)
    (pod,) = lab.items("pods", f"--namespace={SYSTEM}", "-l", OPERATOR)
    (container,) = pod["status"]["containerStatuses"]
    assert (container["ready"], container["restartCount"]) == (True, 0)
