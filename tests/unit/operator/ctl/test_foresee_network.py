"""`skerry plan` and NetworkPolicies: the operator's own settings show in what it made."""

from __future__ import annotations

import copy
from typing import Any

from builders import NOW
from crd_objects import deployment, model
from ctl_objects import node
from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.v1alpha1.edgedeployment_network import NetworkAccess, NetworkPeer
from skerry_operator.catalogue.profiles import builtin_profiles
from skerry_operator.constants import FIELD_MANAGER
from skerry_operator.ctl.foresee import ForeseenNodes, Surroundings, foresee, manifest_of
from skerry_operator.manifests.networkpolicy import NetworkDefaults, build_network_policy

Object = dict[str, Any]
OPERATOR = NetworkPeer.model_validate({"namespaceSelector": {"matchLabels": {"a": "b"}}})
POLICY = "NetworkPolicy/digits-pods"


def held(**access: Any) -> Object:
    """Return the policy that an operator with settings of its own made."""
    owner = ObjectMeta(name="digits", namespace="edge", uid="uid-1")
    defaults = NetworkDefaults(enabled=True, admin_from=(OPERATOR,))
    made = build_network_policy(owner, NetworkAccess.model_validate(access), defaults)
    assert made is not None
    body: Object = copy.deepcopy(dict(made.body))
    ours = {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {}}}
    body["metadata"] |= {"uid": "uid-2", "resourceVersion": "7", "managedFields": [ours]}
    return body


def objects(policies: list[Object], **access: Any) -> dict[str, tuple[str, ...]]:
    body = deployment(serving={"networkPolicy": access})
    existing = manifest_of("EdgeDeployment", body, "edge")
    existing["metadata"]["uid"] = "uid-1"
    around = Surroundings(
        (node("node-a"),),
        manifest_of("EdgeModel", model(), "edge"),
        existing,
        {"NetworkPolicy": policies},
    )
    hardware = ForeseenNodes(builtin_profiles(), "runtime:1")
    applied = manifest_of("EdgeDeployment", body, "edge")
    return dict(foresee(applied, around, hardware, NOW).objects)


def test_a_policy_that_the_operator_made_by_itself_stays_as_it_is() -> None:
    assert POLICY in objects([held()])["unchanged"]


def test_other_clients_change_it() -> None:
    assert POLICY in objects([held()], **{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]})["changed"]


def test_a_spec_that_wants_none_removes_it() -> None:
    assert POLICY in objects([held()], enabled=False)["removed"]


def test_a_spec_that_wants_one_creates_it() -> None:
    assert POLICY in objects([], enabled=True)["created"]


def test_a_policy_that_somebody_edited_into_something_else_ends_no_plan() -> None:
    for spec in ({}, {"ingress": [{"from": [{"ipBlock": {"cidr": "all"}}]}]}, {"ingress": []}):
        assert POLICY in objects([held() | {"spec": spec}])["changed"]
