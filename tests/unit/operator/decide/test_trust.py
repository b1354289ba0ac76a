"""Signatures, policies and keys of encrypted models, from the specs to what pods read and mount."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from builders import labelled, make_deployment, make_model, make_node, make_variant
from keypair import keypair
from skerry_operator.api.bounds import STRICT
from skerry_operator.api.trustpolicy import SigningPolicy
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel, Variant
from skerry_operator.plan.bound import plan_settings
from skerry_operator.settings import BadSettings, read_settings
from skerry_runtime.contract import (
    ASSIGNMENT_FILE,
    SCHEMA,
    SCHEMA_OF_TRUST,
    Assignment,
    TrustPolicy,
)
from world import SETTINGS, World

STEPS = {"steps": [{"units": "1", "soak": "10s"}, {"units": "100%", "soak": "10s"}]}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("keys")
    return [keypair(folder, name=str(n)).pem for n in range(9)]


def model(version: str, **variant: Any) -> EdgeModel:
    return make_model(version, make_variant(version=version) | variant)


def make_world(first: EdgeModel, policy: SigningPolicy | None = None) -> World:
    nodes = tuple(make_node(f"n{index}", labelled(site="harbour")) for index in range(3))
    world = World(make_deployment(placement={"siteLabel": "site"}, rollout=STEPS), first, nodes)
    if policy:
        world.settings = replace(SETTINGS, trust=policy)
    world.settle()
    return world


def files(world: World) -> list[Assignment]:
    found = [one for one in world.objects.values() if one.ref.kind == "ConfigMap"]
    return [Assignment.model_validate_json(one.body["data"][ASSIGNMENT_FILE]) for one in found]


def policy(*keys: str, namespace: str = "edge", revoked: tuple[str, ...] = ()) -> SigningPolicy:
    entry = {"namespaces": [namespace], "publicKeys": list(keys)}
    told = {"signatures": [entry] if keys else [], "revokedKeys": list(revoked)}
    return SigningPolicy.model_validate(told)


def test_what_a_model_says_of_its_signature_reaches_its_pods(keys: list[str]) -> None:
    signature = {"publicKeys": keys[:2], "uri": "https://models.example/a.sigstore.json"}
    (file,) = files(make_world(model("1.0.0", signature=signature)))
    (content,) = file.revisions.values()
    assert content.model.signature is not None
    assert list(content.model.signature.public_keys) == keys[:2]
    assert content.model.signature.uri == signature["uri"]
    assert file.schema_ == SCHEMA_OF_TRUST  # an older runtime would serve it unverified


def test_without_signature_and_policy_pods_read_what_they_always_read() -> None:
    (file,) = files(make_world(model("1.0.0")))
    assert (file.schema_, file.trust) == (SCHEMA, None)


def test_a_policy_reaches_the_pods_of_its_namespaces_and_no_others(keys: list[str]) -> None:
    (file,) = files(make_world(model("1.0.0"), policy(keys[0])))
    assert file.trust == TrustPolicy(public_keys=(keys[0].strip(),))
    assert file.schema_ == SCHEMA_OF_TRUST
    (file,) = files(make_world(model("1.0.0"), policy(keys[0], namespace="pier")))
    assert (file.schema_, file.trust) == (SCHEMA, None)


def test_revoked_keys_reach_every_namespace(keys: list[str]) -> None:
    (file,) = files(make_world(model("1.0.0"), policy(revoked=("a" * 64,))))
    assert file.trust == TrustPolicy(public_keys=None, revoked=("a" * 64,))


def test_another_policy_makes_no_revision_and_no_pod(keys: list[str]) -> None:
    world = make_world(model("1.0.0"), policy(keys[0]))
    pods, revision = set(world.pods), world.status.stable_revision
    world.settings = replace(SETTINGS, trust=policy(keys[1], revoked=("a" * 64,)))
    world.settle()
    assert (set(world.pods), world.status.stable_revision) == (pods, revision)
    (file,) = files(world)
    assert file.trust is not None
    assert file.trust.public_keys == (keys[1].strip(),)


def test_a_policy_that_changes_in_mid_rollout_breaks_nothing(keys: list[str]) -> None:
    world = make_world(model("1.0.0"), policy(keys[0]))
    pods = set(world.pods)
    world.model = model("2.0.0")
    for _ in range(4):
        world.turn()
    assert world.status.phase == "Progressing"
    world.settings = replace(SETTINGS, trust=policy(keys[0], keys[1]))
    world.settle()
    assert set(world.served().values()) == {"2.0.0"}
    assert (world.status.phase, set(world.pods)) == ("Stable", pods)


def test_other_keys_of_a_model_are_a_revision_that_is_swapped_in_place(keys: list[str]) -> None:
    world = make_world(model("1.0.0", signature={"publicKeys": [keys[0]]}))
    pods, revision = set(world.pods), world.status.stable_revision
    world.model = model("1.0.0", signature={"publicKeys": [keys[1]]})
    world.settle()
    assert set(world.pods) == pods
    assert world.status.stable_revision != revision


def test_the_key_of_an_encrypted_model_is_mounted_like_a_secret_of_its_source() -> None:
    world = make_world(model("1.0.0", encryption={"keyRef": {"name": "site-key"}}))
    found = {name for one in world.observed().templates for name in one.supplies}
    assert found == {"secret/site-key"}
    (file,) = files(world)
    (content,) = file.revisions.values()
    assert content.model.encryption is not None
    assert (content.model.encryption.secret, content.model.encryption.key) == (
        "site-key",
        "identity",
    )
    pods = set(world.pods)
    world.model = model("2.0.0", encryption={"keyRef": {"name": "site-key"}})
    world.settle()
    assert set(world.pods) == pods  # the next version behind the same key is swapped in place


def test_a_bundle_in_a_volume_has_the_volume_mounted(keys: list[str]) -> None:
    signature = {"publicKeys": keys[:1], "uri": "pvc://signatures/a.sig"}
    world = make_world(model("1.0.0", signature=signature))
    found = {name for one in world.observed().templates for name in one.supplies}
    assert found == {"claim/signatures"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"signature": {"publicKeys": []}}, "publicKeys"),
        ({"signature": {"publicKeys": ["key"]}}, "publicKeys.0"),
        ({"signature": {"publicKeys": ["-----BEGIN PUBLIC KEY-----"]}}, "publicKeys.0"),
        ({"encryption": {}}, "keyRef"),
        ({"encryption": {"keyRef": {"name": "A"}}}, "keyRef.name"),
        ({"encryption": {"keyRef": {"name": "a", "key": "../b"}}}, "keyRef.key"),
        ({"encryption": {"format": "gpg", "keyRef": {"name": "a"}}}, "format"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Variant.model_validate(make_variant() | fields, context=STRICT)
    places = [".".join(map(str, error["loc"])) for error in caught.value.errors()]
    assert any(place.endswith(says) for place in places), places


def test_more_keys_than_are_tried_are_refused(keys: list[str]) -> None:
    with pytest.raises(ValidationError, match="at most 8"):
        Variant.model_validate(make_variant() | {"signature": {"publicKeys": keys}}, context=STRICT)
    entries = [{"namespaces": ["edge"], "publicKeys": [key]} for key in keys]
    with pytest.raises(ValidationError, match="namespace edge has 9 keys: at most 8 may count"):
        SigningPolicy.model_validate({"signatures": entries})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "policy"),
        ("{", "write a JSON object"),
        ('{"signature": []}', "signature"),
        ('{"signatures": [{"namespaces": ["a"], "publicKeys": ["x"]}]}', "publicKeys.0"),
        ('{"signatures": [{"namespaces": [], "publicKeys": []}]}', "namespaces"),
        ('{"revokedKeys": ["x"]}', "revokedKeys.0"),
    ],
)
def test_a_policy_that_is_none_keeps_the_operator_from_starting(text: str, says: str) -> None:
    environment = {"SKERRY_RUNTIME_IMAGE": "i", "SKERRY_POLICY": text}
    with pytest.raises(BadSettings) as caught:
        plan_settings(read_settings(environment, {}))
    assert "SKERRY_POLICY" in str(caught.value)
    assert says in str(caught.value)


def test_a_policy_is_read_from_the_environment(keys: list[str], tmp_path: Path) -> None:
    told = {"signatures": [{"namespaces": ["edge"], "publicKeys": [keys[0]]}]}
    environment = {"SKERRY_RUNTIME_IMAGE": "i", "SKERRY_POLICY": json.dumps(told)}
    found = plan_settings(read_settings(environment, {})).trust.in_namespace("edge")
    assert found == TrustPolicy(public_keys=(keys[0].strip(),))
