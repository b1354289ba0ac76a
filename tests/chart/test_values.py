"""The values: complete in the schema, commented, and refused when they are wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from helm_chart import CHART, EVERYTHING, try_to_render
from profile_schema import row_schema
from skerry_operator.api.v1alpha1.edgedeployment import RuntimeUpgrade
from skerry_operator.catalogue.profiles import MAX_ROWS
from skerry_operator.settings import LogFormat, LogLevel, StatusAccess

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES_TEXT = (CHART / "values.yaml").read_text()
VALUES: dict[str, Any] = yaml.safe_load(VALUES_TEXT)


def objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if "properties" in schema:
        yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from objects(child, f"{path}.{name}".lstrip("."))
    if "items" in schema:
        yield from objects(schema["items"], f"{path}[]")


def keys(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the path of each value, down to where the schema names no more fields."""
    for name, value in values.items():
        child = schema["properties"][name]
        yield f"{path}.{name}".lstrip(".")
        if "properties" in child:
            yield from keys(value, child, f"{path}.{name}".lstrip("."))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_nothing_unknown_is_taken_anywhere() -> None:
    open_ = [path for path, node in objects(SCHEMA) if node["additionalProperties"] is not False]
    assert open_ == []


def schema_paths() -> set[str]:
    return (
        {
            f"{path}.{name}".lstrip(".")
            for path, node in objects(SCHEMA)
            if "[]" not in path and path != "affinity"
            for name in node["properties"]
        }
        - {"global"}
        - {"affinity.nodeAffinity", "affinity.podAffinity", "affinity.podAntiAffinity"}
    )


def test_schema_and_values_name_the_same() -> None:
    assert set(keys(VALUES, SCHEMA)) == schema_paths()


def test_the_file_with_everything_sets_everything() -> None:
    everything = yaml.safe_load(EVERYTHING.read_text())
    found = {path for path in keys(everything, SCHEMA) if not path.startswith("affinity.")}
    assert found == schema_paths()


def test_every_value_has_a_comment_before_it() -> None:
    lines = VALUES_TEXT.splitlines()
    bare = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if re.match(r" *[a-zA-Z]+:", line) and not before.lstrip().startswith("#")
    ]
    assert bare == []


def test_every_value_is_used_by_a_template() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*.*"))
    unused = [name for name in VALUES if f".Values.{name}" not in templates]
    assert unused == []


def test_the_schema_knows_what_the_operator_knows() -> None:
    properties = SCHEMA["properties"]
    assert properties["statusAccess"]["enum"] == [item.value for item in StatusAccess]
    assert properties["runtimeUpgrade"]["enum"] == [item.value for item in RuntimeUpgrade]
    assert properties["logging"]["properties"]["level"]["enum"] == [i.value for i in LogLevel]
    assert properties["logging"]["properties"]["format"]["enum"] == [i.value for i in LogFormat]


def test_the_schema_takes_the_profiles_that_the_operator_takes(*, update_golden: bool) -> None:
    expected = {"type": "array", "maxItems": MAX_ROWS, "items": row_schema()}
    if update_golden:
        SCHEMA["properties"]["accelerators"] = expected
        (CHART / "values.schema.json").write_text(json.dumps(SCHEMA, indent=2) + "\n")
    assert SCHEMA["properties"]["accelerators"] == expected, "run with --update-golden"


@pytest.mark.parametrize(
    ("values", "place"),
    [
        pytest.param({"replicas": 2}, "replicas", id="a value that does not exist"),
        pytest.param({"image": {"tga": "1"}}, "tga", id="a misspelt field"),
        pytest.param({"image": {"tag": 1.2}}, "tag", id="a tag that YAML read as a number"),
        pytest.param({"image": {"tag": "a b"}}, "tag", id="a tag with a space"),
        pytest.param({"image": {"digest": "abc"}}, "digest", id="a digest without its scheme"),
        pytest.param(
            {"image": {"registry": "https://mirror.example"}}, "registry", id="a registry as URL"
        ),
        pytest.param({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy", id="a pull policy"),
        pytest.param({"runtimeImage": {"repository": ""}}, "repository", id="no repository"),
        pytest.param({"runtimeImage": {"pullPolicy": "Never"}}, "pullPolicy", id="not for pods"),
        pytest.param(
            {"runtimeImages": {"openvino": {"tga": "1"}}}, "tga", id="a misspelt field of a flavor"
        ),
        pytest.param(
            {"runtimeImages": {"Open VINO": {"repository": "a"}}}, "Open VINO", id="a bad flavor"
        ),
        pytest.param({"runtimeImages": {"cpu": {"repository": "a"}}}, "cpu", id="the flavor cpu"),
        pytest.param({"tritonImage": {"tag": "1"}}, "tritonImage", id="fields for one text"),
        pytest.param({"fetch": {"allowCIDRs": ["localhost"]}}, "allowCIDRs", id="a name, no CIDR"),
        pytest.param({"fetch": {"hfEndpoint": "hub.example"}}, "hfEndpoint", id="a bare host"),
        pytest.param({"fetch": {"httpsProxy": "proxy:3128"}}, "httpsProxy", id="a bare proxy"),
        pytest.param(
            {"fetch": {"httpsProxy": "http://me:pw@proxy"}}, "httpsProxy", id="a proxy's password"
        ),
        pytest.param({"fetch": {"noProxy": ["a,b"]}}, "noProxy", id="two names in one"),
        pytest.param({"fetch": {"caBundle": "MIIB"}}, "caBundle", id="no certificates"),
        pytest.param({"fetch": {"allowCIDRs": ["::1/128,"]}}, "allowCIDRs", id="two CIDRs in one"),
        pytest.param({"tritonImage": "a b"}, "tritonImage", id="a server image with a space"),
        pytest.param({"watchNamespaces": "default"}, "watchNamespaces", id="text for a list"),
        pytest.param({"watchNamespaces": ["De fault"]}, "watchNamespaces", id="a bad namespace"),
        pytest.param({"statusAccess": "proxy"}, "statusAccess", id="an enum in lower case"),
        pytest.param({"accelerators": [{"class": "npu"}]}, "name", id="a profile without name"),
        pytest.param(
            {"accelerators": [{"name": "a", "resourceNames": ["hailo"]}]},
            "resourceNames",
            id="a resource without domain",
        ),
        pytest.param(
            {"accelerators": [{"name": "a", "labels": [{"a": True}]}]}, "labels", id="a bare true"
        ),
        pytest.param(
            {"accelerators": [{"name": "a", "labels": [{"a b": "c"}]}]}, "labels", id="a label key"
        ),
        pytest.param(
            {"accelerators": [{"name": "a", "labels": {"a": "b"}}]}, "labels", id="one label"
        ),
        pytest.param(
            {"accelerators": [{"name": "a", "providers": ["cuda"]}]}, "providers", id="a provider"
        ),
        pytest.param(
            {"accelerators": [{"name": "a", "providerOptions": {"cuda": {"a": "b"}}}]},
            "providerOptions",
            id="options for no provider",
        ),
        pytest.param(
            {"accelerators": [{"name": "a", "supplementalGroups": [0]}]},
            "supplementalGroups",
            id="the group of root",
        ),
        pytest.param(
            {"accelerators": [{"name": "a", "support": "supported"}]}, "support", id="support"
        ),
        pytest.param({"accelerators": [{"name": "a", "watts": 5}]}, "watts", id="watts as number"),
        pytest.param({"nodeFeatureRules": {"enabled": "yes"}}, "enabled", id="text for a rule"),
        pytest.param(
            {"accelerators": [{"name": "a", "class": "tpu"}]}, "class", id="an unknown class"
        ),
        pytest.param(
            {"accelerators": [{"name": "a", "class": "npu", "privileged": True}]},
            "privileged",
            id="a profile that wants privileges",
        ),
        pytest.param({"logging": {"level": "trace"}}, "level", id="an unknown log level"),
        pytest.param({"crds": {"keep": "yes"}}, "keep", id="text for a switch"),
        pytest.param({"runAsUser": 0}, "runAsUser", id="root"),
        pytest.param({"metrics": {"port": 80}}, "port", id="a port that needs privileges"),
        pytest.param({"metrics": {"port": "8080"}}, "port", id="a port as text"),
        pytest.param({"resources": {"limits": {"memory": "1 GB"}}}, "memory", id="no quantity"),
        pytest.param({"extraEnv": [{"value": "a"}]}, "name", id="a variable without name"),
        pytest.param(
            {"podDisruptionBudget": {"enabled": True, "minAvailable": 1}},
            "minAvailable",
            id="a budget that would block drains",
        ),
        pytest.param({"prometheus": {"url": "prometheus:9090"}}, "url", id="no scheme"),
        pytest.param({"prometheus": {"url": "https://u:p@a"}}, "url", id="a password in a URL"),
        pytest.param({"prometheus": {"timeoutSeconds": 0}}, "timeoutSeconds", id="no time"),
        pytest.param({"podPolicy": {"enabled": "yes"}}, "enabled", id="a switch that is no word"),
        pytest.param(
            {"userPolicy": {"allowedImages": ["a*b"]}}, "allowedImages", id="a * in the middle"
        ),
        pytest.param(
            {"userPolicy": {"allowedImages": ["a' || 'a"]}}, "allowedImages", id="code in an image"
        ),
        pytest.param(
            {"userPolicy": {"allowedSecrets": ["Tls"]}}, "allowedSecrets", id="no secret's name"
        ),
        pytest.param(
            {"userPolicy": {"exceptGroups": ["a'"]}}, "exceptGroups", id="code in a group"
        ),
        pytest.param({"acceleratorGraceSeconds": "5m"}, "acceleratorGraceSeconds", id="a text"),
    ],
)
def test_helm_refuses(tmp_path: Path, values: dict[str, Any], place: str) -> None:
    answer = try_to_render(values, tmp_path)
    assert answer.returncode != 0
    assert "values don't meet the specifications of the schema" in answer.stderr
    assert place in answer.stderr


def test_a_chart_that_includes_this_one_can_pass_globals(tmp_path: Path) -> None:
    assert try_to_render({"global": {"anything": 1}}, tmp_path).returncode == 0
