"""The NetworkPolicy of a deployment: who gets one, and whom it lets in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from builders import make_deployment, make_model, make_node
from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.v1alpha1.edgedeployment_network import NetworkAccess, NetworkPeer
from skerry_operator.cli import build_planner
from skerry_operator.decide.revision import revision_of
from skerry_operator.manifests.networkpolicy import NetworkDefaults, build_network_policy
from skerry_operator.settings import BadSettings, read_settings
from world import SETTINGS, World

OWNER = ObjectMeta(name="digits", namespace="shop", uid="1")
ADMIN = NetworkPeer.model_validate({"namespaceSelector": {"matchLabels": {"a": "b"}}})
ON = NetworkDefaults(enabled=True, admin_from=(ADMIN,))
OFF = NetworkDefaults(enabled=False, admin_from=(ADMIN,))


def access(**fields: Any) -> NetworkAccess:
    return NetworkAccess.model_validate(fields)


def spec_of(asked: NetworkAccess, defaults: NetworkDefaults = ON) -> dict[str, Any]:
    made = build_network_policy(OWNER, asked, defaults)
    assert made is not None
    return dict(made.body["spec"])


@pytest.mark.parametrize(
    ("said", "defaults", "has_one"),
    [(None, ON, True), (None, OFF, False), (True, OFF, True), (False, ON, False)],
)
def test_the_spec_decides_and_where_it_is_silent_the_operator(
    said: bool | None, defaults: NetworkDefaults, has_one: bool
) -> None:
    asked = NetworkAccess() if said is None else access(enabled=said)
    assert (build_network_policy(OWNER, asked, defaults) is not None) is has_one


def test_it_selects_the_pods_of_the_deployment_and_leaves_what_they_send_alone() -> None:
    spec = spec_of(access())
    assert spec["podSelector"] == {"matchLabels": {"skerry.dev/deployment": "digits"}}
    assert spec["policyTypes"] == ["Ingress"]


def test_pods_of_the_same_namespace_may_ask_unless_somebody_else_is_named() -> None:
    ports = [{"port": name, "protocol": "TCP"} for name in ("http", "grpc")]
    assert spec_of(access())["ingress"][0] == {"ports": ports, "from": [{"podSelector": {}}]}
    peers = [
        {
            "namespaceSelector": {"matchLabels": {"team": "till"}},
            "podSelector": {
                "matchExpressions": [{"key": "app", "operator": "In", "values": ["till"]}]
            },
        },
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
    ]
    assert spec_of(access(**{"from": peers}))["ingress"][0] == {"ports": ports, "from": peers}


def test_the_admin_port_is_for_those_whom_the_administrator_names() -> None:
    admin = {"ports": [{"port": "admin", "protocol": "TCP"}]}
    named = [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]
    assert spec_of(access())["ingress"][1] == admin | {"from": named}


def test_an_operator_that_was_told_nobody_does_not_shut_itself_out() -> None:
    admin = spec_of(access(), NetworkDefaults(enabled=True))["ingress"][1]
    assert admin == {"ports": [{"port": "admin", "protocol": "TCP"}]}


def test_the_policy_is_owned_by_the_deployment_and_named_after_it() -> None:
    made = build_network_policy(OWNER, access(), ON)
    assert made is not None
    assert (made.ref.api_version, made.ref.name) == ("networking.k8s.io/v1", "digits-pods")
    assert made.body["metadata"]["ownerReferences"][0]["uid"] == "1"


@pytest.mark.parametrize(
    "fields",
    [{"enabled": True}, {"enabled": False, "from": [{"podSelector": {}}]}, {}],
    ids=["on", "off with peers", "empty"],
)
def test_a_policy_is_no_part_of_the_revision(fields: dict[str, Any]) -> None:
    model = make_model().spec
    for serving in ({}, {"port": 9000}):
        without = revision_of(model, make_deployment(serving=serving).spec)
        having = make_deployment(serving={**serving, "networkPolicy": fields}).spec
        assert revision_of(model, having) == without


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "255.255.255.255/32", "2001:db8::/64", "::/0"])
def test_ranges_of_both_families_are_read(cidr: str) -> None:
    NetworkPeer.model_validate({"ipBlock": {"cidr": cidr}})


@pytest.mark.parametrize("cidr", ["10.0.0.0", "256.0.0.0/8", "10.0.0.0/33", "::/129", "a/8", ""])
def test_what_is_no_range_is_refused(cidr: str) -> None:
    with pytest.raises(ValidationError, match="cidr"):
        NetworkPeer.model_validate({"ipBlock": {"cidr": cidr}})


def make_world(**serving: Any) -> World:
    settings = replace(SETTINGS, network=OFF)
    world = World(
        make_deployment(serving=serving), make_model(), (make_node("n1"),), settings=settings
    )
    world.settle()
    return world


def test_the_policy_is_written_before_the_pods_that_it_guards() -> None:
    world = World(
        make_deployment(serving={"networkPolicy": {"enabled": True}}),
        make_model(),
        (make_node("n1"),),
    )
    kinds = [item.ref.kind for item in world.plan().objects]
    assert kinds.index("NetworkPolicy") < kinds.index("DaemonSet")


def test_a_policy_that_comes_changes_or_goes_rolls_nothing_out() -> None:
    world = make_world()
    before = (world.status.stable_revision, dict(world.pods))
    outside = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    for fields, expected in (
        ({"enabled": True}, [[{"podSelector": {}}]]),
        ({"enabled": True, "from": outside}, [outside]),
        ({}, []),
    ):
        world.change(serving={"networkPolicy": fields})
        world.settle()
        made = [
            one.body["spec"] for one in world.objects.values() if one.ref.kind == "NetworkPolicy"
        ]
        assert [spec["ingress"][0]["from"] for spec in made] == expected
        assert (world.status.stable_revision, world.pods) == before


def planner_of(peers: str) -> object:
    environment = {"SKERRY_RUNTIME_IMAGE": "a", "SKERRY_ADMIN_PEERS": peers}
    return build_planner(read_settings(environment, {}), ())


def test_the_operator_reads_whom_the_chart_names() -> None:
    planner_of('[{"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}}]')


@pytest.mark.parametrize(
    ("peers", "told"),
    [
        ("pods", "write a JSON list"),
        ("{}", "SKERRY_ADMIN_PEERS"),
        ('["a"]', "SKERRY_ADMIN_PEERS"),
        ('[{"podSelectr": {}}]', "a peer has podSelector"),
        ('[{"ipBlock": {"cidr": "all"}}]', "ipBlock.cidr"),
    ],
)
def test_a_peer_that_is_none_is_told_at_the_start(peers: str, told: str) -> None:
    with pytest.raises(BadSettings, match=told):
        planner_of(peers)
