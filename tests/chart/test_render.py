"""What the chart makes of its values."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm_chart import CHART, EVERYTHING, Rendered, helm
from skerry_operator.api.v1alpha1.edgedeployment import RuntimeUpgrade
from skerry_operator.catalogue.profiles import builtin_profiles, extended_profiles
from skerry_operator.ctl.known import read_knowledge
from skerry_operator.plan.bound import plan_settings
from skerry_operator.settings import BadSettings, read_settings
from skerry_runtime.agent.ports import Tuning

Render = Callable[..., Rendered]
GOLDEN = Path(__file__).parents[1] / "golden" / "chart" / "defaults.yaml"
DIGEST = "sha256:" + "a" * 64


def profiles_of(rendered: Rendered) -> str:
    """Return the file with the accelerator profiles."""
    (found,) = [
        one for one in rendered.all("ConfigMap") if one["metadata"]["name"].endswith("-profiles")
    ]
    return str(found["data"]["profiles.yaml"])


def everything() -> dict[str, Any]:
    return yaml.safe_load(EVERYTHING.read_text())


@pytest.mark.parametrize("values", [None, EVERYTHING], ids=["defaults", "everything set"])
def test_helm_finds_nothing_wrong(values: Path | None) -> None:
    answer = helm("lint", str(CHART), "--strict", *(["-f", str(values)] if values else []))
    assert answer.returncode == 0, answer.stdout


def test_the_defaults_render_as_reviewed(render: Render, *, update_golden: bool) -> None:
    text = render({"crds": {"enabled": False}}).text
    if update_golden:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "review the difference, then run with --update-golden"


def test_every_template_renders_with_every_value_set(render: Render) -> None:
    kinds = {item["kind"] for item in render(everything()).manifests}
    assert {"ServiceMonitor", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap"} <= kinds
    assert "ServiceAccount" not in kinds


def test_what_costs_or_needs_others_is_off_by_default(render: Render) -> None:
    kinds = {item["kind"] for item in render().manifests}
    assert not {"Service", "ServiceMonitor", "NetworkPolicy", "PodDisruptionBudget"} & kinds


def test_one_operator_runs_at_a_time(render: Render) -> None:
    spec = render().one("Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_operator_passes_pod_security_restricted(render: Render) -> None:
    rendered = render()
    assert rendered.pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert rendered.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {tuple(volume) for volume in rendered.pod["volumes"]} == {("name", "emptyDir")}


def test_the_platform_may_choose_the_user(render: Render) -> None:
    context = render({"runAsUser": None}).pod["securityContext"]
    assert "runAsUser" not in context
    assert context["runAsNonRoot"] is True


@pytest.mark.parametrize("values", [{}, everything()], ids=["defaults", "everything set"])
def test_the_operator_understands_its_environment(
    render: Render, tmp_path: Path, values: dict[str, Any]
) -> None:
    rendered = render(values)
    environment = dict(rendered.env)
    if "SKERRY_PROFILES" in environment:
        environment["SKERRY_PROFILES"] = str(tmp_path / "profiles.yaml")
        (tmp_path / "profiles.yaml").write_text(profiles_of(rendered))
    for variable in {"SKERRY_PROMETHEUS_TOKEN_FILE", "SKERRY_PROMETHEUS_CA_FILE"} & set(
        environment
    ):
        environment[variable] = str(tmp_path / "mounted")
        (tmp_path / "mounted").touch()
    settings = read_settings(environment, {})
    known = {f"SKERRY_{field.upper()}" for field in type(settings).model_fields}
    assert environment.keys() <= known  # a name that it does not know would be ignored silently
    assert settings.lease_namespace == "skerry-system"
    assert settings.metrics_port == rendered.container["ports"][0]["containerPort"]


def test_everything_set_reaches_the_operator(render: Render) -> None:
    rendered = render(everything())
    assert rendered.env == {
        "SKERRY_RUNTIME_IMAGE": "mirror.example/edge/runtime@sha256:" + "1" * 64,
        "SKERRY_RUNTIME_IMAGES": "openvino=mirror.example/edge/runtime-openvino@sha256:" + "2" * 64,
        "SKERRY_RUNTIME_UPGRADE": "Rollout",
        "SKERRY_TRITON_IMAGE": "mirror.example/tritonserver:1",
        "SKERRY_MODEL_PODS": json.dumps(everything()["modelPods"], sort_keys=True).replace(" ", ""),
        "SKERRY_FETCH_ALLOW": "169.254.20.0/24,fe80::/10",
        "SKERRY_HF_ENDPOINT": "https://hub.example",
        "SKERRY_POLICY": json.dumps(everything()["policy"], sort_keys=True, separators=(",", ":")),
        "SKERRY_HTTPS_PROXY": "http://proxy.example:3128",
        "SKERRY_NO_PROXY": "models.example,10.0.0.0/8",
        "SKERRY_CA_BUNDLE": everything()["fetch"]["caBundle"],
        "SKERRY_STATUS_ACCESS": "Proxy",
        "SKERRY_ACCELERATOR_GRACE_SECONDS": "0",
        "SKERRY_NETWORK_POLICIES": "true",
        "SKERRY_ADMIN_PEERS": rendered.env["SKERRY_ADMIN_PEERS"],  # test_network_and_admission.py
        "SKERRY_PROMETHEUS_URL": "https://prometheus.example:9090/proxy",
        "SKERRY_PROMETHEUS_TIMEOUT_SECONDS": "2.5",
        "SKERRY_PROMETHEUS_TOKEN_FILE": "/etc/skerry-prometheus/token/token",
        "SKERRY_PROMETHEUS_CA_FILE": "/etc/skerry-prometheus/ca/ca.crt",
        "SKERRY_METRICS_PORT": "9090",
        "SKERRY_LOG_LEVEL": "debug",
        "SKERRY_LOG_FORMAT": "text",
        "SKERRY_LEASE_NAMESPACE": "skerry-system",
        "SKERRY_LEASE_NAME": "tide",
        "SKERRY_LEASE_OWNER": "reef-main",
        "SKERRY_SITE_CACHE": json.dumps(
            {
                "claims": 2,
                "memory": "128Mi",
                "owner": "reef-main-site-caches",
                "priority_class": "site",
                "pull_secrets": ["mirror"],
                "quota": "5Gi",
                "secret": "caches",
                "site_label": "example.com/site",
                "size": "20Gi",
                "storage_class": "local-path",
                "tolerations": [{"key": "gateway", "operator": "Exists"}],
            },
            separators=(",", ":"),
        ),
        "SKERRY_OPTIMIZE": json.dumps(
            {
                "image": "mirror.example/edge/optimize@sha256:" + "3" * 64,
                "jobs": 8,
                "jobs_per_namespace": 3,
                "node_selector": {"tier": "cloud"},
                "pull_secret": "pull",
                "push_secret": "push",
                "store": "oci://registry.example/models",
            },
            separators=(",", ":"),
        ),
        "SKERRY_NAMESPACES": "harbour,pier",
        "SKERRY_PROFILES": "/etc/skerry/profiles.yaml",
        "SKERRY_WORKERS": "2",
    }
    assert rendered.pod["serviceAccountName"] == "given"
    assert rendered.pod["priorityClassName"] == "system-cluster-critical"
    assert rendered.pod["imagePullSecrets"] == [{"name": "mirror"}]


def test_token_and_certificates_of_prometheus_are_mounted_where_the_operator_looks(
    render: Render,
) -> None:
    rendered = render(everything())
    volumes = {volume["name"]: volume for volume in rendered.pod["volumes"]}
    token, authority = volumes["prometheus-token"], volumes["prometheus-ca"]
    assert token["secret"]["items"] == [{"key": "bearer", "path": "token"}]
    assert authority["configMap"]["items"] == [{"key": "bundle.pem", "path": "ca.crt"}]
    paths = {mount["name"]: mount["mountPath"] for mount in rendered.container["volumeMounts"]}
    assert rendered.env["SKERRY_PROMETHEUS_TOKEN_FILE"] == paths["prometheus-token"] + "/token"
    assert rendered.env["SKERRY_PROMETHEUS_CA_FILE"] == paths["prometheus-ca"] + "/ca.crt"


def test_a_service_of_the_release_cannot_set_the_operators_variables(render: Render) -> None:
    # SKERRY_METRICS_PORT=tcp://... is what the kubelet derives from a Service `skerry-metrics`.
    assert render().pod["enableServiceLinks"] is False


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param({}, "localhost/skerry/operator:0.1.0", id="on the nodes, the chart's version"),
        pytest.param(
            {"repository": "ghcr.io/edge/skerry"},
            "ghcr.io/edge/skerry:0.1.0",
            id="a repository that names its host",
        ),
        pytest.param(
            {"repository": "edge/skerry"},
            "localhost/edge/skerry:0.1.0",
            id="a repository that names none",
        ),
        pytest.param({"registry": ""}, "skerry/operator:0.1.0", id="no registry at all"),
        pytest.param(
            {"registry": "mirror.example", "repository": "ghcr.io/edge/skerry"},
            "mirror.example/ghcr.io/edge/skerry:0.1.0",
            id="a mirror that keeps the host in its path",
        ),
        pytest.param({"tag": "9"}, "localhost/skerry/operator:9", id="a tag before the version"),
        pytest.param(
            {"tag": "9", "digest": DIGEST},
            f"localhost/skerry/operator@{DIGEST}",
            id="a digest before a tag",
        ),
        pytest.param(
            {"registry": "mirror.example:5000"},
            "mirror.example:5000/skerry/operator:0.1.0",
            id="a registry stands in front",
        ),
    ],
)
def test_the_image_is(render: Render, image: dict[str, str], expected: str) -> None:
    assert render({"image": image}).container["image"] == expected
    runtime = render({"runtimeImage": image}).env["SKERRY_RUNTIME_IMAGE"]
    assert runtime == expected.replace("operator", "runtime")


def test_the_images_of_other_flavors_reach_the_operator(render: Render) -> None:
    values = {"runtimeImages": {"cuda": {"repository": "edge/cuda", "digest": DIGEST}}}
    rendered = render(values).env
    settings = read_settings({name: text for name, text in rendered.items() if text}, {})
    assert settings.runtime_images == {
        "cuda": f"edge/cuda@{DIGEST}",
        "openvino": "localhost/skerry/runtime-openvino:0.1.0",
    }


def test_without_other_flavors_nothing_is_said_of_them(render: Render) -> None:
    assert "SKERRY_RUNTIME_IMAGES" not in render({"runtimeImages": {"openvino": None}}).env


def test_networks_to_fetch_from_reach_the_operator(render: Render) -> None:
    assert "SKERRY_FETCH_ALLOW" not in render({}).env
    rendered = render({"fetch": {"allowCIDRs": ["127.0.0.0/8", "127.0.0.0/8", "fe80::/10"]}}).env
    settings = read_settings({name: text for name, text in rendered.items() if text}, {})
    assert [str(network) for network in settings.fetch_allow] == ["127.0.0.0/8", "fe80::/10"]


def test_what_answers_for_hugging_face_reaches_the_operator_and_its_pods(render: Render) -> None:
    assert "SKERRY_HF_ENDPOINT" not in render({}).env
    rendered = render({"fetch": {"hfEndpoint": "https://hub.example"}}).env
    settings = read_settings({name: text for name, text in rendered.items() if text}, {})
    told = plan_settings(settings).fetch
    assert Tuning.from_env(told).hf_endpoint == "https://hub.example"


def test_whose_word_counts_for_models_reaches_the_operator_key_for_key(render: Render) -> None:
    assert "SKERRY_POLICY" not in render({}).env
    policy = everything()["policy"]
    rendered = render({"policy": policy}).env
    settings = read_settings({name: text for name, text in rendered.items() if text}, {})
    told = plan_settings(settings).trust.in_namespace("harbour")
    assert told is not None
    assert told.public_keys == (policy["signatures"][0]["publicKeys"][0].strip(),)
    assert list(told.revoked) == policy["revokedKeys"]
    elsewhere = plan_settings(settings).trust.in_namespace("pier")
    assert elsewhere is not None
    assert elsewhere.public_keys is None


def test_a_proxy_and_own_authorities_reach_the_operator_and_its_pods(
    render: Render, tmp_path: Path
) -> None:
    assert not {"SKERRY_HTTPS_PROXY", "SKERRY_CA_BUNDLE"} & set(render({}).env)
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=own"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "ca")]
    subprocess.run([*made, *files], check=True, capture_output=True)
    pem = (tmp_path / "ca").read_text()
    asked = {"httpsProxy": "http://proxy.example:3128", "noProxy": [".example", "10.0.0.0/8"]}
    rendered = render({"fetch": {**asked, "caBundle": pem}}).env
    settings = read_settings({name: text for name, text in rendered.items() if text}, {})
    tuning = Tuning.from_env(plan_settings(settings).fetch)
    assert tuning.https_proxy == "http://proxy.example:3128"
    assert tuning.no_proxy == ".example,10.0.0.0/8"
    assert tuning.ca_bundle == pem
    broken = settings.model_copy(update={"ca_bundle": "-----BEGIN CERTIFICATE-----\nx"})
    with pytest.raises(BadSettings, match="SKERRY_CA_BUNDLE"):
        plan_settings(broken)


def test_the_image_of_the_triton_server_reaches_the_operator(render: Render) -> None:
    assert "SKERRY_TRITON_IMAGE" not in render({}).env
    rendered = render({"tritonImage": f"mirror.example:5000/triton@{DIGEST}"}).env
    settings = read_settings({name: text for name, text in rendered.items() if text}, {})
    assert settings.triton_image == f"mirror.example:5000/triton@{DIGEST}"


@pytest.mark.parametrize(
    ("values", "account"),
    [
        pytest.param({}, "skerry", id="the release's name"),
        pytest.param({"create": False}, "default", id="not created: the namespace's own"),
        pytest.param({"create": False, "name": "mine"}, "mine", id="given and not created"),
        pytest.param({"name": "mine"}, "mine", id="given and created"),
    ],
)
def test_the_service_account_is(render: Render, values: dict[str, Any], account: str) -> None:
    rendered = render({"serviceAccount": values})
    assert rendered.pod["serviceAccountName"] == account
    assert len(rendered.all("ServiceAccount")) == values.get("create", True)
    for binding in rendered.all("ClusterRoleBinding") + rendered.all("RoleBinding"):
        subject = binding["subjects"][0]
        assert subject["kind"] == "Group" or subject["name"] == account


@pytest.mark.parametrize(
    ("values", "name"),
    [
        pytest.param({}, "skerry", id="the release's name holds the chart's"),
        pytest.param({"nameOverride": "reef"}, "skerry-reef", id="another name is added"),
        pytest.param({"fullnameOverride": "reef"}, "reef", id="a full name is the whole name"),
        pytest.param(
            {"nameOverride": "a", "fullnameOverride": "reef"}, "reef", id="the full name wins"
        ),
    ],
)
def test_objects_are_named(render: Render, values: dict[str, Any], name: str) -> None:
    rendered = render(values)
    assert rendered.one("Deployment")["metadata"]["name"] == name
    assert rendered.env["SKERRY_LEASE_NAME"] == name


def test_zero_is_not_taken_for_unset(render: Render) -> None:
    values = {
        "acceleratorGraceSeconds": 0,
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": 0},
    }
    rendered = render(values)
    assert rendered.env["SKERRY_ACCELERATOR_GRACE_SECONDS"] == "0"
    assert rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 0


def test_a_service_monitor_brings_its_service(render: Render) -> None:
    rendered = render({"metrics": {"serviceMonitor": {"enabled": True}}})
    selector = rendered.one("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert selector.items() <= rendered.one("Service")["metadata"]["labels"].items()


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget", "NetworkPolicy"])
def test_selectors_find_the_operators_pod(render: Render, kind: str) -> None:
    rendered = render(everything())
    spec = rendered.one(kind)["spec"]
    selector = spec.get("podSelector", spec.get("selector"))
    labels = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert selector.get("matchLabels", selector).items() <= labels.items()


def test_the_profiles_can_be_read_by_the_operator(render: Render) -> None:
    rendered = render(everything())
    rows = extended_profiles(profiles_of(rendered), "chart")
    own = {row.name: row for row in rows if row not in builtin_profiles()}
    assert list(own) == ["reef", "hailo-8"]
    assert own["reef"].model_fields_set == type(own["reef"]).model_fields.keys() - {"flavor"}
    assert own["hailo-8"].resource_names == ("hailo.ai/h8", "squat.ai/hailo-8")
    volumes = {one["name"]: one for one in rendered.pod["volumes"]}
    assert volumes["profiles"]["configMap"]["name"] == "reef-main-profiles"


def test_a_value_can_be_taken_away_from_a_built_in_profile(render: Render) -> None:
    rendered = render({"accelerators": [{"name": "nvidia-gpu", "runtimeClassName": None}]})
    rows = extended_profiles(profiles_of(rendered), "chart")
    (card,) = (row for row in rows if row.name == "nvidia-gpu")
    assert card.runtime_class_name is None
    assert card.resource_names[0] == "nvidia.com/gpu"


def test_changed_profiles_restart_the_operator(render: Render) -> None:
    def checksum(rows: list[dict[str, Any]]) -> str:
        template = render({"accelerators": rows}).one("Deployment")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/profiles"]

    row = {"name": "a", "class": "npu", "labels": [{"a": "b"}]}
    assert checksum([row]) == checksum([row]) != checksum([row | {"class": "gpu"}])


@pytest.mark.parametrize(
    ("crds", "count", "policy"),
    [
        pytest.param({}, 2, "keep", id="installed and kept"),
        pytest.param({"keep": False}, 2, None, id="installed and removed with the release"),
        pytest.param({"enabled": False}, 0, None, id="not installed"),
    ],
)
def test_the_definitions_are(
    render: Render, crds: dict[str, bool], count: int, policy: str | None
) -> None:
    found = render({"crds": crds}).all("CustomResourceDefinition")
    assert len(found) == count
    for item in found:
        annotations = item["metadata"].get("annotations", {})
        assert annotations.get("helm.sh/resource-policy") == policy


def test_the_definitions_are_the_generated_ones(render: Render) -> None:
    rendered = {item["metadata"]["name"]: item for item in render().manifests}
    for file in (CHART.parents[1] / "crds").glob("*.yaml"):
        generated = yaml.safe_load(file.read_text())
        assert rendered[generated["metadata"]["name"]]["spec"] == generated["spec"]


def test_every_object_is_labelled(render: Render) -> None:
    for item in render(everything()).manifests:
        assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == "skerry"


def test_what_the_operator_plans_with_is_written_down_for_the_command_line(render: Render) -> None:
    values = everything() | {"extraEnv": [{"name": "SKERRY_RUNTIME_IMAGE", "value": "mine:1"}]}
    raw = render(values).one("ConfigMap", "reef-main-settings")
    found = read_knowledge("here", raw)
    assert found.settings.default_image == "mine:1"  # the later variable wins in a container too
    assert found.settings.upgrade is RuntimeUpgrade.ROLLOUT
    assert found.settings.pods.priority_class_name == "edge"
    assert found.namespaces == ("harbour", "pier")
    assert "reef" in {profile.name for profile in found.profiles}


def test_everybody_may_read_what_the_operator_plans_with_unless_it_is_not_wanted(
    render: Render,
) -> None:
    role = render().one("Role", "skerry-settings")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["skerry-settings"],
         "verbs": ["get"]}
    ]  # fmt: skip
    assert render().one("RoleBinding", "skerry-settings")["subjects"][0]["kind"] == "Group"
    without = render({"rbac": {"readableSettings": False}})
    assert "skerry-settings" not in {one["metadata"]["name"] for one in without.all("Role")}
