"""What holds people, the operator and strangers back: policies of admission and of the network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm_chart import KUBE_VERSION, Rendered
from skerry_operator.cli import build_planner
from skerry_operator.constants import (
    ANNOTATION_NUDGE,
    LABEL_DEPLOYMENT,
    LABEL_MANAGED_BY,
    LABEL_REVISION,
    MANAGED_BY,
)
from skerry_operator.decide.planned import Nudge
from skerry_operator.kube.apply import nudge
from skerry_operator.kube.children import WORKLOADS
from skerry_operator.settings import read_settings

Render = Callable[..., Rendered]
CRDS = Path(__file__).parents[2] / "crds"
POLICY = "ValidatingAdmissionPolicy"
PODS = "skerry-system-skerry-pods"


def names(rendered: Rendered) -> list[str]:
    return [item["metadata"]["name"] for item in rendered.all(POLICY)]


@pytest.mark.parametrize(
    ("enabled", "options", "expected"),
    [
        ("auto", (), [PODS]),
        ("auto", ("--kube-version", "1.30.0"), [PODS]),
        ("auto", ("--kube-version", "1.29.9"), []),
        (True, ("--kube-version", "1.29.9"), [PODS]),
        (False, (), []),
        ("auto", ("--api-versions", "v1/Pod"), []),
        (
            "auto",
            ("--api-versions", f"v1/Pod,admissionregistration.k8s.io/v1/{POLICY}"),
            [PODS],
        ),
    ],
    ids=[
        "a new server",
        "the first that has it",
        "an old server",
        "asked for",
        "refused",
        "a server that has it switched off",
        "a server that says it has it",
    ],
)
def test_the_operator_is_held_to_its_pods_where_the_server_can(
    render: Render, enabled: object, options: tuple[str, ...], expected: list[str]
) -> None:
    rendered = render({"podPolicy": {"enabled": enabled}}, *options)
    assert names(rendered) == expected
    bindings = rendered.all(f"{POLICY}Binding")
    assert [item["spec"]["policyName"] for item in bindings] == expected
    assert all(item["spec"]["validationActions"] == ["Deny"] for item in bindings)


def test_the_policy_speaks_of_what_the_operator_patches_and_of_its_own_account(
    render: Render,
) -> None:
    policy = render({"serviceAccount": {"name": "given"}}).one(POLICY)["spec"]
    assert (
        "'system:serviceaccount:skerry-system:given'" in policy["matchConditions"][0]["expression"]
    )
    text = json.dumps(policy)
    for word in (ANNOTATION_NUDGE, LABEL_REVISION, LABEL_MANAGED_BY, MANAGED_BY, LABEL_DEPLOYMENT):
        assert f"'{word}'" in text
    assert all(f"'{kind}'" in text for kind in WORKLOADS)


class Recorder:
    """A client that sends nothing and remembers what would have gone out."""

    def __init__(self) -> None:
        self.body: dict[str, Any] = {}

    def merge(self, path: str, body: dict[str, Any], kind: str) -> dict[str, Any]:
        del path, kind
        self.body = body
        return {}


def test_a_nudge_is_made_of_what_the_policy_lets_through(render: Render) -> None:
    client = Recorder()
    nudge(client, "shop", Nudge("pod", "v1-first", "d.1"))  # type: ignore[arg-type]
    assert client.body.keys() == {"metadata"}
    assert client.body["metadata"].keys() == {"labels", "annotations"}
    rules = [item["expression"] for item in render().one(POLICY)["spec"]["validations"]]
    for field in ("labels", "annotations"):
        (rule,) = (text for text in rules if text.startswith(f"variables.{field}.all"))
        for key in client.body["metadata"][field]:
            assert f"k == '{key}' ||" in rule


def paths(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield from paths(child, f"{path}.{name}".lstrip("."))
        yield from paths(child.get("items", {}), f"{path}.{name}[]".lstrip("."))
        if child["type"] == "string":
            yield f"{path}.{name}".lstrip(".")


def spec_fields(kind: str) -> list[str]:
    definition = yaml.safe_load((CRDS / f"skerry.dev_{kind}.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return list(paths(schema["properties"]["spec"], "spec"))


NAMING = ("image", "secret", "keyref.name")
"""What such a field is called, in small letters."""


def test_every_field_that_names_an_image_or_a_secret_is_held_by_the_policy_for_people(
    render: Render,
) -> None:
    # A new one has to be added in templates/admission/deployers.yaml, and in docs/security.md.
    told = [
        field
        for kind in ("edgedeployments", "edgemodels")
        for field in spec_fields(kind)
        if any(word in ".".join(field.split(".")[-2:]).lower() for word in NAMING)
    ]
    policy = render({"userPolicy": {"enabled": True}, "podPolicy": {"enabled": False}}).one(POLICY)
    held = [
        item["messageExpression"].split(":")[0].strip('"') for item in policy["spec"]["validations"]
    ]
    others = {"spec.pods.priorityClassName", "spec.pods.labels", "spec.pods.annotations"}
    assert sorted(held) == sorted({*told, *others})


def test_without_exceptions_the_policy_for_people_holds_everybody(render: Render) -> None:
    values = {"enabled": True, "exceptGroups": []}
    policy = render({"userPolicy": values, "podPolicy": {"enabled": False}}).one(POLICY)["spec"]
    assert "matchConditions" not in policy
    assert "authorizer" not in json.dumps(policy)


def test_the_operator_knows_its_own_pods_as_those_who_reach_the_admin_port(render: Render) -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    rendered = render({"modelNetworkPolicies": {"adminFrom": [monitoring]}})
    own, other = json.loads(rendered.env["SKERRY_ADMIN_PEERS"])
    deployment = rendered.one("Deployment")
    assert own["podSelector"] == deployment["spec"]["selector"]
    namespace = {"kubernetes.io/metadata.name": deployment["metadata"]["namespace"]}
    assert own["namespaceSelector"] == {"matchLabels": namespace}
    assert other == monitoring
    build_planner(read_settings(rendered.env, {}), ())


def test_kubernetes_versions_of_these_tests_are_newer_than_the_kind() -> None:
    assert tuple(map(int, KUBE_VERSION.split("."))) >= (1, 30)
