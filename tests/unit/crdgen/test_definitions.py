"""The definitions as a whole: what the API server and its users rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry_operator.crdgen.cli import as_yaml, main
from skerry_operator.crdgen.definitions import KINDS, CustomKind, definition
from skerry_operator.crdgen.schema import RULES

ROOT = Path(__file__).parents[3]
FORBIDDEN = {
    "$ref", "$defs", "definitions", "anyOf", "oneOf", "allOf", "not", "default", "title", "const",
    "nullable", "uniqueItems", "prefixItems", "patternProperties", "propertyNames", "examples",
    "exclusiveMinimum", "exclusiveMaximum", "discriminator", "additionalItems", "dependencies",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource",
}  # fmt: skip


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema in the schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def version_of(kind: CustomKind) -> dict[str, Any]:
    # Through YAML, so that what is tested is what a cluster reads.
    return yaml.safe_load(as_yaml(definition(kind)))["spec"]["versions"][0]


def schema_of(kind: CustomKind) -> dict[str, Any]:
    return version_of(kind)["schema"]["openAPIV3Schema"]


def own_nodes(kind: CustomKind) -> list[tuple[str, dict[str, Any]]]:
    """Return every schema but those of the API server's own fields."""
    return [pair for pair in nodes(schema_of(kind)) if pair[0].startswith(("spec", "status"))]


each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
EDGE_MODEL, EDGE_DEPLOYMENT = KINDS


@each_kind
def test_no_schema_holds_a_forbidden_keyword(kind: CustomKind) -> None:
    found = {path: FORBIDDEN & node.keys() for path, node in nodes(schema_of(kind))}
    assert {path: words for path, words in found.items() if words} == {}


@each_kind
def test_everything_is_bounded(kind: CustomKind) -> None:
    assert [path for path, node in own_nodes(kind) if not is_bounded(node)] == []


def is_bounded(node: dict[str, Any]) -> bool:
    match node["type"]:
        case "array":
            return "maxItems" in node
        case "string":
            return bool(node.keys() & {"enum", "maxLength"}) or node["format"] == "date-time"
        case "object":
            return "properties" in node or "maxProperties" in node
        case _:
            return True


@each_kind
def test_every_limit_of_a_number_is_one_that_the_server_keeps_exactly(kind: CustomKind) -> None:
    # it keeps limits as floats: 2**63 - 1 becomes 2**63, which is below zero for an integer
    found = {
        path: node[word]
        for path, node in own_nodes(kind)
        for word in ("minimum", "maximum")
        if abs(node.get(word, 0)) > 2**53
    }
    assert found == {}


@each_kind
def test_every_list_says_how_writers_share_it(kind: CustomKind) -> None:
    lists = {path: node for path, node in own_nodes(kind) if node["type"] == "array"}
    types = {path: node["x-kubernetes-list-type"] for path, node in lists.items()}
    keyed = {path.rpartition(".")[2] for path, shared in types.items() if shared == "map"}
    assert keyed - {"files"} == {"conditions"}
    assert set(types.values()) == {"atomic", "map"}


@each_kind
def test_every_field_is_described(kind: CustomKind) -> None:
    # Generators lose descriptions silently, and then `kubectl explain` is empty.
    fields = [
        (path, node)
        for path, node in own_nodes(kind)
        if node["type"] == "object" or not path.endswith(("[]", "{}"))
    ]
    assert [path for path, node in fields if not node.get("description", "").endswith(".")] == []


@each_kind
def test_a_kind_is_namespaced_with_status_and_short_name(kind: CustomKind) -> None:
    spec = definition(kind)["spec"]
    assert spec["scope"] == "Namespaced"
    assert spec["names"]["categories"] == ["skerry"]
    assert version_of(kind)["subresources"]["status"] == {}
    assert schema_of(kind)["required"] == ["spec"]


def columns(kind: CustomKind, priority: int) -> list[str]:
    return [column.name.upper() for column in kind.columns if column.priority == priority]


def test_the_columns_tell_the_story() -> None:
    expected = ["PHASE", "STEP", "MODEL", "STABLE", "TARGET", "UNITS", "READY", "AGE"]
    assert columns(EDGE_DEPLOYMENT, 0) == expected
    assert columns(EDGE_DEPLOYMENT, 1) == ["REASON", "FAILED", "OFFLINE", "UPGRADE", "SERVICE"]
    assert columns(EDGE_MODEL, 0) == ["VERSION", "READY", "REASON", "AGE"]


@each_kind
def test_every_column_leads_to_one_field_that_exists(kind: CustomKind) -> None:
    fields = dict(nodes(schema_of(kind)))
    for column in kind.columns:
        path = column.path.lstrip(".").replace('[?(@.type=="Ready")]', "[]")
        assert path == "metadata.creationTimestamp" or path in fields
        assert "*" not in path  # the API server would print the first value only


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        (EDGE_MODEL, "spec", "variants must have different names"),
        (EDGE_DEPLOYMENT, "spec.placement", "accelerators must not repeat an entry"),
        (EDGE_DEPLOYMENT, "spec.serving", "port and grpcPort must differ"),
        (EDGE_DEPLOYMENT, "spec.rollout", "the last step must have units"),
        (EDGE_DEPLOYMENT, "spec.rollout.steps[]", "a step has either units or pause: true"),
        (EDGE_DEPLOYMENT, "spec.rollout.analysis.metrics[]", "a metric needs either max or min"),
    ],
)
def test_a_rule_stands_at_the_object_it_is_about(kind: CustomKind, path: str, message: str) -> None:
    messages = [rule["message"] for rule in dict(nodes(schema_of(kind)))[path][RULES]]
    assert any(text.startswith(message) for text in messages)


def test_the_escapes_of_a_rule_survive_yaml() -> None:
    metric = dict(nodes(schema_of(EDGE_DEPLOYMENT)))["spec.rollout.analysis.metrics[]"]
    latency = next(rule["rule"] for rule in metric[RULES] if "startsWith('Latency" in rule["rule"])
    assert r"matches('^([0-9]{1,10}(\\.[0-9]{1,9})?ms|" in latency


def test_conditions_can_be_written_one_by_one() -> None:
    for kind in KINDS:
        conditions = dict(nodes(schema_of(kind)))["status.conditions"]
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_a_definition_fits_into_an_annotation() -> None:
    # Client-side `kubectl apply` stores the whole object in one, 262144 bytes at most.
    for kind in KINDS:
        assert len(as_yaml(definition(kind))) < 200_000


def test_the_files_in_the_tree_are_what_the_types_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_replicas_can_be_scaled_and_a_model_cannot() -> None:
    scales = {kind.name: version_of(kind)["subresources"].get("scale") for kind in KINDS}
    assert scales == {
        "EdgeModel": None,
        "EdgeDeployment": {
            "specReplicasPath": ".spec.placement.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
