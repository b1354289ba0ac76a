"""The operator's rights are the least that do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helm_chart import Rendered
from skerry_operator.settings import read_settings

Render = Callable[..., Rendered]
Rule = dict[str, list[str]]
READ = {"list", "watch"}
MANAGE = READ | {"get", "create", "patch", "delete"}
EXPECTED = {
    ("skerry.dev", "edgemodels"): READ,
    ("skerry.dev", "edgedeployments"): READ,
    ("skerry.dev", "edgemodels/status"): {"patch"},
    ("skerry.dev", "edgedeployments/status"): {"patch"},
    ("", "nodes"): READ,
    ("", "pods"): READ | {"patch"},
    ("", "configmaps"): MANAGE,
    ("", "services"): MANAGE,
    ("apps", "daemonsets"): MANAGE,
    ("apps", "replicasets"): MANAGE,
    ("apps", "controllerrevisions"): MANAGE,
    ("networking.k8s.io", "networkpolicies"): MANAGE,
    ("", "events"): {"create", "patch", "list"},
    ("coordination.k8s.io", "leases"): {"get", "create", "update", "delete"},
    ("apps", "deployments"): {"get"},
}
OF_THE_LEASE = {("coordination.k8s.io", "leases"), ("apps", "deployments")}
SETTINGS = [
    pytest.param({}, id="all namespaces"),
    pytest.param({"watchNamespaces": ["a", "b"]}, id="two namespaces"),
    pytest.param({"statusAccess": "Proxy"}, id="through the API server"),
]


def rules(manifests: list[dict[str, Any]]) -> Iterator[Rule]:
    for manifest in manifests:
        yield from manifest["rules"]


def rights(manifests: list[dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    granted: dict[tuple[str, str], set[str]] = {}
    for rule in rules(manifests):
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                granted.setdefault((group, resource), set()).update(rule["verbs"])
    return granted


def operators(rendered: Rendered) -> list[dict[str, Any]]:
    """Return the roles that are bound to the operator."""
    bindings = rendered.all("ClusterRoleBinding") + rendered.all("RoleBinding")
    bound = {(item["roleRef"]["kind"], item["roleRef"]["name"]) for item in bindings}
    roles = rendered.all("ClusterRole") + rendered.all("Role")
    return [item for item in roles if (item["kind"], item["metadata"]["name"]) in bound]


@pytest.mark.parametrize("values", SETTINGS)
def test_nothing_is_granted_that_could_widen_or_leak(
    render: Render, values: dict[str, Any]
) -> None:
    rendered = render(values)
    for rule in rules(rendered.all("ClusterRole") + rendered.all("Role")):
        words = rule["apiGroups"] + rule["resources"] + rule["verbs"]
        assert not [word for word in words if "*" in word]
        assert not {"secrets", "serviceaccounts", "pods/exec", "nodes/proxy"} & {*rule["resources"]}
        assert not {"escalate", "bind", "impersonate"} & {*rule["verbs"]}
        assert "rbac.authorization.k8s.io" not in rule["apiGroups"]


def test_the_operator_may_do_this_and_nothing_else(render: Render) -> None:
    assert rights(operators(render())) == EXPECTED


def test_the_proxy_is_granted_only_when_it_is_used(render: Render) -> None:
    proxied = rights(operators(render({"statusAccess": "Proxy"})))
    assert proxied == EXPECTED | {("", "pods/proxy"): {"get"}}


def test_with_a_list_of_namespaces_only_nodes_are_read_everywhere(render: Render) -> None:
    rendered = render({"watchNamespaces": ["a", "b", "a"]})
    everywhere = [item for item in operators(rendered) if item["kind"] == "ClusterRole"]
    assert rights(everywhere) == {("", "nodes"): READ}
    for namespace in ("a", "b"):
        roles = [i for i in rendered.all("Role") if i["metadata"]["namespace"] == namespace]
        assert rights(roles) == {
            key: verbs
            for key, verbs in EXPECTED.items()
            if key not in {("", "nodes"), *OF_THE_LEASE}
        }


def test_only_the_own_lease_and_its_owner_are_granted(render: Render) -> None:
    role = render({"lease": {"name": "tide"}}).one("Role", "skerry-lease")
    assert role["metadata"]["namespace"] == "skerry-system"
    named = [rule for rule in role["rules"] if rule["verbs"] != ["create"]]
    assert [rule["resourceNames"] for rule in named] == [["tide"], ["skerry"]]


def test_two_releases_of_one_name_share_no_cluster_role(render: Render) -> None:
    here = {item["metadata"]["name"] for item in render().all("ClusterRole")}
    there = {item["metadata"]["name"] for item in render({}, "-n", "other").all("ClusterRole")}
    assert not here & there


def test_people_get_the_kinds_through_the_clusters_own_roles(render: Render) -> None:
    rendered = render()
    edit = rendered.one("ClusterRole", "skerry-system-skerry-edit")
    view = rendered.one("ClusterRole", "skerry-system-skerry-view")
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert {f"{prefix}admin", f"{prefix}edit"} <= edit["metadata"]["labels"].keys()
    assert f"{prefix}view" in view["metadata"]["labels"]
    assert f"{prefix}view" not in edit["metadata"]["labels"]
    assert set(view["rules"][0]["verbs"]) == READ | {"get"}
    assert "edgedeployments/status" not in edit["rules"][0]["resources"]


def test_who_may_only_deploy_models_touches_nothing_else(render: Render) -> None:
    role = render().one("ClusterRole", "skerry-system-skerry-deployer")
    assert not [label for label in role["metadata"]["labels"] if "aggregate-to" in label]
    change = {"create", "delete", "patch", "update"}
    assert rights([role]) == {
        ("skerry.dev", "edgemodels"): READ | {"get"} | change,
        ("skerry.dev", "edgedeployments"): READ | {"get"} | change,
        ("skerry.dev", "edgemodels/status"): {"get"},
        ("skerry.dev", "edgedeployments/status"): {"get"},
        ("skerry.dev", "edgedeployments/scale"): {"get", "patch", "update"},
        ("", "events"): READ | {"get"},
    }


def test_rights_can_be_left_to_someone_else(render: Render) -> None:
    rbac = {"create": False, "aggregate": False, "deployerRole": False}
    rendered = render({"rbac": rbac})
    kinds = {item["kind"] for item in rendered.manifests}
    assert not {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} & kinds


def test_site_caches_may_be_made_in_the_own_namespace_and_their_keys_never_read(
    render: Render,
) -> None:
    rendered = render({"siteCache": {"enabled": True}})
    role = rendered.one("Role", "skerry-site-caches")
    assert role["metadata"]["namespace"] == "skerry-system"
    change = {"list", "create", "patch", "delete"}
    assert rights([role]) == {
        ("apps", "statefulsets"): change,
        ("", "services"): change,
        ("networking.k8s.io", "networkpolicies"): change,
        ("", "secrets"): {"create"},
        ("", "configmaps"): {"get"},
    }
    pod = rendered.one("Deployment", "skerry")["spec"]["template"]["spec"]
    volume = next(one for one in pod["volumes"] if one["name"] == "site-cache")
    assert volume["secret"]["optional"] is True
    told = {one["name"]: one["value"] for one in pod["containers"][0]["env"] if "value" in one}
    settings = read_settings({"SKERRY_RUNTIME_IMAGE": "x", **told}, {})
    assert settings.site_cache is not None
    assert settings.site_cache.secret == volume["secret"]["secretName"]


def test_site_caches_go_with_an_object_that_is_there_while_they_are_wanted(render: Render) -> None:
    rendered = render({"siteCache": {"enabled": True}})
    named = [
        rule
        for rule in rendered.one("Role", "skerry-site-caches")["rules"]
        if "resourceNames" in rule
    ]
    told = {one["name"]: one.get("value", "") for one in rendered.pod["containers"][0]["env"]}
    settings = read_settings({"SKERRY_RUNTIME_IMAGE": "x", **told}, {})
    assert settings.site_cache is not None
    owner = rendered.one("ConfigMap", str(settings.site_cache.owner))
    assert owner["metadata"]["namespace"] == settings.lease_namespace
    assert [rule["resourceNames"] for rule in named] == [[settings.site_cache.owner]]
    for switched_off in (render({}), render({"siteCache": {"enabled": False}})):
        assert not [
            one
            for one in switched_off.manifests
            if one["metadata"]["name"] == settings.site_cache.owner
        ]


def test_jobs_may_be_made_only_where_builds_are(render: Render) -> None:
    key = ("batch", "jobs")
    assert key not in rights(operators(render({})))
    values = {
        "optimize": {
            "enabled": True,
            "store": {"uri": "oci://registry.example/models", "pullSecretName": "pull"},
            "jobsPerNamespace": 3,
            "nodeSelector": {"tier": "cloud"},
        }
    }
    rendered = render(values)
    assert rights(operators(rendered))[key] == MANAGE
    settings = read_settings({**rendered.env}, {})
    assert settings.optimize is not None
    assert settings.optimize.image.startswith("localhost/skerry/optimize:")
    assert settings.optimize.store == "oci://registry.example/models"
    assert (settings.optimize.pull_secret, settings.optimize.push_secret) == ("pull", "")
    assert settings.optimize.jobs_per_namespace == 3
    assert settings.optimize.node_selector == {"tier": "cloud"}
    assert "SKERRY_OPTIMIZE" not in render({}).env
