"""Caches of sites: where they are made, what pods are told of them, and what that changes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from builders import make_deployment, make_model, make_node, make_variant
from crd_objects import KEY
from skerry_operator.constants import LABEL_GATEWAY
from skerry_operator.decide.sites import NO_SITE, SiteCaches, site_of, sites_with_gateway
from skerry_operator.manifests.sitecache import CachePlace, cache_name, site_manifests
from skerry_operator.settings import BadSettings, SiteCacheSettings, read_settings
from skerry_operator.sitekeys import make_keys, read_signer
from skerry_runtime.cache.settings import CacheSettings
from skerry_runtime.contract import Assignment
from skerry_runtime.tickets import Ticket
from world import World

ZONE = "topology.kubernetes.io/zone"
SIGNER = read_signer(make_keys())
CACHES = SiteCaches(ZONE, "CA", {"harbour": "https://10.96.0.9:8443"}, SIGNER.ticket)


def at(name: str, site: str = "", gateway: str = "") -> Any:
    labels = {ZONE: site} if site else {}
    labels |= {LABEL_GATEWAY: gateway} if gateway else {}
    return make_node(name, lambda node: replace(node, labels={**node.labels, **labels}))


def world(*nodes: Any, **spec: Any) -> World:
    found = World(make_deployment(**spec), make_model(), nodes)
    found.settle()
    return found


def assignment(found: World) -> Assignment:
    text = next(
        one.body["data"]["assignment.json"]
        for one in found.objects.values()
        if one.ref.kind == "ConfigMap"
    )
    return Assignment.model_validate_json(text)


def test_a_site_is_the_nodes_of_one_label_and_those_without_it_are_one_together() -> None:
    nodes = [at("a", "harbour", "true"), at("b", "harbour"), at("c"), at("d", "", "true")]
    assert [site_of(node, ZONE) for node in nodes] == ["harbour", "harbour", NO_SITE, NO_SITE]
    assert sites_with_gateway(nodes, ZONE) == {"default": ("d",), "harbour": ("a",)}
    assert sites_with_gateway([at("a", "x", "yes"), at("b", "x", "false")], ZONE) == {}


def test_pods_are_told_of_their_own_site_with_a_ticket_for_each_of_their_files() -> None:
    found = world(at("n1", "harbour"), at("n2", "harbour"), at("n3", "factory"))
    before = dict(found.objects)
    found.caches = CACHES
    found.settle()
    told = assignment(found).cache
    assert told is not None
    assert (told.ca, told.site) == ("CA", "harbour")
    assert {unit: told.url_of(unit) for unit in ("n1", "n3")} == {
        "n1": "https://10.96.0.9:8443",
        "n3": None,
    }
    files = {
        file.sha256
        for content in assignment(found).revisions.values()
        for model in content.models.values()
        for file in (*model.files, *([model.golden] if model.golden else ()))
    }
    assert set(told.tickets) == files
    home = found.deployment.metadata.namespace
    assert all(Ticket.parse(one).namespace == home for one in told.tickets.values())
    changed = {key for key, one in found.objects.items() if before.get(key) and before[key] != one}
    assert {key.partition("/")[0] for key in changed} == {"ConfigMap"}  # no pod is made anew


def test_a_signature_bundle_of_known_sha256_has_a_ticket_as_the_files_have() -> None:
    signature = {"publicKeys": [KEY], "sha256": "c" * 64}
    signed = make_model("1.0.0", make_variant() | {"signature": signature})
    found = World(make_deployment(), signed, (at("n1", "harbour"),), caches=CACHES)
    found.settle()
    told = assignment(found).cache
    assert told is not None
    assert signature["sha256"] in told.tickets


def test_a_cache_makes_no_new_revision_and_no_rollout() -> None:
    found = world(at("n1", "harbour"))
    stable = found.status.stable_revision
    found.caches = CACHES
    found.settle()
    assert found.status.stable_revision == stable
    assert found.status.rollout.stage == "Idle"


def test_without_a_gateway_or_a_word_yet_nothing_is_written() -> None:
    found = world(at("n1", "harbour"))
    before = assignment(found)
    assert before.cache is None
    found.caches = SiteCaches(ZONE, "", {}, lambda *_: "")
    assert found.plan().objects == ()


def test_while_nobody_knows_the_caches_pods_keep_what_they_were_told() -> None:
    found = world(at("n1", "harbour"))
    found.caches = CACHES
    found.settle()
    found.caches = None  # an operator that has just begun
    assert found.plan().objects == ()
    found.caches = replace(CACHES, urls={})
    found.settle()
    assert assignment(found).cache is None


def test_replicas_ask_the_cache_of_the_node_that_they_run_on() -> None:
    placement = {"mode": "Replicas", "replicas": 2}
    found = world(at("n1", "harbour"), at("n2", "factory"), placement=placement)
    found.caches = CACHES
    found.settle()
    told = assignment(found).cache
    nodes = {pod.unit: pod.node for pod in found.pods.values()}
    for unit, node in nodes.items():
        url = "https://10.96.0.9:8443" if node == "n1" else None
        assert (told.url_of(unit) if told else None) == url


PLACE = CachePlace(
    "skerry-system",
    "registry.example/skerry/runtime:1",
    SiteCacheSettings(storage_class="local-path", size="2Gi", quota="1Gi", pull_secrets=("pull",)),
    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "skerry", "uid": "u"},
)


def made(site: str = "harbour") -> dict[str, Any]:
    return {one.ref.kind: one.body for one in site_manifests(PLACE, site)}


def test_a_site_s_pod_is_restricted_runs_on_the_gateway_and_holds_no_token() -> None:
    pod = made()["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    container = pod["containers"][0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    wanted = {
        (one["key"], tuple(one["values"]))
        for one in terms["nodeSelectorTerms"][0]["matchExpressions"]
    }
    assert wanted == {(LABEL_GATEWAY, ("true",)), (ZONE, ("harbour",))}
    assert pod["imagePullSecrets"] == [{"name": "pull"}]


def test_the_key_that_signs_tickets_stays_with_the_operator() -> None:
    text = json.dumps(made())
    assert "ticket.pub" in text
    assert "ticket.key" not in text


def test_what_the_cache_is_told_it_can_read() -> None:
    container = made()["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]
    told = {one["name"]: one["value"] for one in container["env"]}
    settings = CacheSettings.from_env(told)
    assert settings.limits.capacity_bytes == 2 * 2**30
    assert settings.limits.quota_bytes == 2**30
    assert [str(settings.data_dir), str(settings.keys_dir)] == [
        mount["mountPath"] for mount in container["volumeMounts"]
    ]


def test_the_cache_reaches_nobody_and_only_model_pods_reach_it() -> None:
    spec = made()["NetworkPolicy"]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == []
    peer = spec["ingress"][0]["from"][0]
    assert peer["podSelector"]["matchExpressions"][0]["key"] == "skerry.dev/deployment"


def test_the_objects_go_with_the_operator_and_the_volume_stays() -> None:
    bodies = made()
    assert all(one["metadata"]["ownerReferences"][0]["uid"] == "u" for one in bodies.values())
    assert "persistentVolumeClaimRetentionPolicy" not in bodies["StatefulSet"]["spec"]


@pytest.mark.parametrize("site", ["a", "A_b.c", "x" * 63, "1-2"])
def test_every_site_has_a_name_that_objects_and_labels_may_have(site: str) -> None:
    name = cache_name(site)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 52


@pytest.mark.parametrize(
    "text", ['{"size": "10"}', '{"claims": 0}', '{"quota": "x"}', '{"siteLabel": "x"}', "[", "[]"]
)
def test_settings_that_are_none_are_told(text: str) -> None:
    with pytest.raises(BadSettings, match="SKERRY_SITE_CACHE"):
        read_settings({"SKERRY_RUNTIME_IMAGE": "x", "SKERRY_SITE_CACHE": text}, {})
    with pytest.raises(ValidationError):
        SiteCacheSettings.model_validate({"size": "lots"})
