"""PodSecurity `restricted`, field by field, for every pod that Skerry generates."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from pydantic import ValidationError

from builders import CPU, HAILO, NVIDIA, make_deployment, make_model
from skerry_operator.api.v1alpha1.edgedeployment import Toleration
from skerry_operator.catalogue.profiles import Profile, builtin_profiles
from skerry_operator.decide.fleet.podtemplate import (
    HASH_LENGTH,
    TEMPLATE_VERSION,
    PodTemplate,
    template_of,
)
from skerry_operator.decide.fleet.row import Berth
from skerry_operator.decide.placement.hardware import Hardware
from skerry_operator.decide.revision import KeptModel, Snapshot, content_hash
from skerry_operator.manifests.daemonset import CellPods, build_daemonset
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.backends.tritonserver import Place
from skerry_runtime.contract import (
    ADMIN_PORT,
    ASSIGNMENT_DIR,
    ENV_FETCH_ALLOW,
    SLOTS_DIR,
    Engine,
)
from skerry_runtime.settings import settings_from

PROFILES = [*builtin_profiles(), HAILO, NVIDIA]
ANY = Hardware("cell", PROFILES[0], "amd64", None)


def make_template(profile: Profile = CPU, **spec: Any) -> PodTemplate:
    deployment = make_deployment(**spec).spec
    snapshot = Snapshot(
        revision="r1-0123456789",
        models=(KeptModel(name="digits", spec=make_model().spec),),
        runtime=deployment.runtime,
        serving=deployment.serving,
        default_image="registry.example/runtime:1",
    )
    resource = profile.resource_names[0] if profile.resource_names else None
    hardware = Hardware("cell", profile, "amd64", resource)
    return template_of(snapshot, hardware, deployment.placement)


def pod_of(template: PodTemplate, *tolerations: Toleration) -> dict[str, Any]:
    pods = CellPods(Berth("cell", template.hash), template, ANY, ("n2", "n1"), tolerations)
    spec: dict[str, Any] = daemonset_spec(pods)["template"]["spec"]
    return spec


def daemonset_spec(pods: CellPods) -> dict[str, Any]:
    spec: dict[str, Any] = build_daemonset(make_deployment().metadata, pods).body["spec"]
    return spec


@pytest.fixture(params=PROFILES, ids=lambda profile: profile.name)
def pod(request: pytest.FixtureRequest) -> dict[str, Any]:
    return pod_of(make_template(request.param))


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    assert len(pod["containers"]) == 1
    assert "initContainers" not in pod
    return dict(pod["containers"][0])


def test_nothing_of_the_host_is_shared(pod: dict[str, Any]) -> None:
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod)
    assert all("hostPort" not in port for port in pod["containers"][0]["ports"])


def test_volumes_are_of_the_allowed_types(pod: dict[str, Any]) -> None:
    types = {key for volume in pod["volumes"] for key in volume if key != "name"}
    assert types == {"configMap", "emptyDir"}


def test_nobody_is_root(pod: dict[str, Any]) -> None:
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == 65532


def test_seccomp_is_on(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"sysctls", "seLinuxOptions", "windowsOptions"} & set(pod["securityContext"])


def test_the_container_has_no_privilege(container: dict[str, Any]) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_pod_knows_nothing_of_the_cluster(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


def test_the_assignment_is_mounted_as_a_folder_so_that_it_is_refreshed(
    container: dict[str, Any],
) -> None:
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts[ASSIGNMENT_DIR] == {
        "name": "assignment",
        "mountPath": ASSIGNMENT_DIR,
        "readOnly": True,
    }
    assert set(mounts) == {ASSIGNMENT_DIR, SLOTS_DIR, "/tmp"}  # noqa: S108 (a path in a pod)


def test_the_probes_ask_the_admin_port(container: dict[str, Any]) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    paths = {
        name: (container[name]["httpGet"]["path"], ports[container[name]["httpGet"]["port"]])
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": ("/healthz", ADMIN_PORT),
        "livenessProbe": ("/healthz", ADMIN_PORT),
        "readinessProbe": ("/readyz", ADMIN_PORT),
    }


def test_pods_are_replaced_by_the_operator_alone() -> None:
    template = make_template()
    spec = daemonset_spec(CellPods(Berth("cell", template.hash), template, ANY, ("n1",)))
    assert spec["updateStrategy"] == {"type": "OnDelete"}
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()


def test_a_node_that_is_out_of_reach_keeps_its_pod() -> None:
    user = Toleration.model_validate({"key": "edge", "operator": "Exists"})
    tolerations = pod_of(make_template(), user)["tolerations"]
    assert [(t["key"], t.get("effect")) for t in tolerations] == [
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("edge", None),
    ]
    assert all("tolerationSeconds" not in toleration for toleration in tolerations)


def test_the_operator_names_the_nodes_in_a_stable_order() -> None:
    affinity = pod_of(make_template())["affinity"]["nodeAffinity"]
    term = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == [
        {
            "matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1", "n2"]}
            ]
        }
    ]


def test_the_hardware_decides_about_devices_runtime_class_and_groups() -> None:
    pod = pod_of(make_template(NVIDIA))
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["securityContext"]["supplementalGroups"] == [44]
    assert pod["containers"][0]["image"] == NVIDIA.image


def test_only_nvidias_hardware_asks_for_a_runtime_class() -> None:
    asking = {
        profile.name: pod_of(make_template(profile)).get("runtimeClassName")
        for profile in builtin_profiles()
    }
    assert {name for name in asking if asking[name]} == {
        "nvidia-jetson",
        "nvidia-gpu",
        "nvidia-mig",
    }
    assert set(asking.values()) == {None, "nvidia"}


def test_a_cpu_pod_asks_for_nothing_special() -> None:
    pod = pod_of(make_template())
    assert "runtimeClassName" not in pod
    assert pod["containers"][0]["resources"] == {"requests": {"cpu": "50m", "memory": "128Mi"}}


def test_limits_are_the_users_and_no_request_exceeds_them() -> None:
    resources = {"memoryLimit": "64Mi", "cpuLimit": "2", "diskLimit": "1Gi"}
    pod = pod_of(make_template(runtime={"resources": resources}))
    assert pod["containers"][0]["resources"] == {
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"cpu": "2", "memory": "64Mi"},
    }
    assert {"name": "slots", "emptyDir": {"sizeLimit": "1Gi"}} in pod["volumes"]


@pytest.mark.parametrize(
    ("spec", "is_new"),
    [
        pytest.param({"runtime": {"image": "other:1"}}, True, id="an image needs a new pod"),
        pytest.param({"runtime": {"resources": {"cpuLimit": "1"}}}, True, id="so does a limit"),
        pytest.param({"serving": {"port": 9000}}, True, id="so does a port"),
        pytest.param({"runtime": {"threads": 2}}, False, id="threads change in place"),
        pytest.param({"runtime": {"swap": "Overlap"}}, False, id="so does the way of swapping"),
        pytest.param(
            {"serving": {"service": {"internalTrafficPolicy": "Cluster"}}},
            False,
            id="the Service is none of the pod's business",
        ),
    ],
)
def test_a_template_changes_only_with_what_needs_a_new_pod(
    spec: dict[str, Any], is_new: bool
) -> None:
    assert (make_template(**spec).hash != make_template().hash) is is_new


SECRETS = {
    "serving": {"tls": {"secretName": "shop-tls"}, "auth": {"tokenSecretName": "shop.tokens"}}
}


def test_secrets_are_mounted_by_the_kubelet_for_the_group_of_the_container_alone() -> None:
    pod = pod_of(make_template(**SECRETS))
    found = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    assert found == {
        "tls": {"secretName": "shop-tls", "defaultMode": 0o440},
        "tokens": {"secretName": "shop.tokens", "defaultMode": 0o440},
    }
    container = pod["containers"][0]
    mounted = {m["name"]: m["mountPath"] for m in container["volumeMounts"] if m.get("readOnly")}
    settings = settings_from({e["name"]: e.get("value", "u") for e in container["env"]}, {})
    assert str(settings.tls_dir) == mounted["tls"]
    assert str(settings.token_dir) == mounted["tokens"]


def test_secrets_make_new_pods_and_their_absence_makes_none() -> None:
    plain = make_template()
    assert make_template(**SECRETS).hash != plain.hash
    inputs = {k: v for k, v in asdict(plain).items() if v is not None}
    assert not {"tls_secret", "token_secret"} & inputs.keys()
    assert plain.hash == content_hash({"version": TEMPLATE_VERSION, **inputs}, HASH_LENGTH)


def test_where_pods_may_fetch_from_is_told_and_names_no_template() -> None:
    """So that a change of the operator's setting replaces no pod, and counts for new ones."""
    template = make_template()
    berth = Berth("cell", template.hash)
    plain = CellPods(berth, template, ANY, ("n1",))
    allowing = replace(plain, fetch={ENV_FETCH_ALLOW: "127.0.0.0/8,fe80::/10"})
    environment = environment_of(daemonset_spec(allowing)["template"]["spec"])
    assert environment["SKERRY_FETCH_ALLOW"] == "127.0.0.0/8,fe80::/10"
    assert len(Tuning.from_env(environment).fetch_allow) == 2
    assert "SKERRY_FETCH_ALLOW" not in environment_of(pod_of(template))
    names = [build_daemonset(make_deployment().metadata, pods).ref for pods in (plain, allowing)]
    assert names[0] == names[1]
    assert daemonset_spec(allowing)["updateStrategy"] == {"type": "OnDelete"}


def environment_of(pod: dict[str, Any]) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for e in pod["containers"][0]["env"]}


TRITON = {"runtime": {"engine": "Triton", "tritonImage": "triton:1"}}


def with_server(profile: Profile = CPU, **more: Any) -> dict[str, Any]:
    return pod_of(make_template(profile, **{**TRITON, **more}))


def test_the_triton_server_is_a_sidecar_as_restricted_as_the_runtime() -> None:
    pod = with_server()
    (server,) = pod["initContainers"]
    (runtime,) = pod["containers"]
    assert server["restartPolicy"] == "Always"  # else the runtime would wait for its end
    assert (server["image"], runtime["image"]) == ("triton:1", "registry.example/runtime:1")
    assert server["securityContext"] == runtime["securityContext"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in server["volumeMounts"]} <= set(volumes)
    assert {key for volume in volumes.values() for key in volume} == {
        "name",
        "configMap",
        "emptyDir",
    }


def test_the_server_has_the_device_and_the_resources_of_the_spec() -> None:
    resources = {"memoryLimit": "4Gi", "memoryRequest": "2Gi"}
    pod = with_server(NVIDIA, runtime={**TRITON["runtime"], "resources": resources})
    assert pod["initContainers"][0]["resources"] == {
        "requests": {"cpu": "50m", "memory": "2Gi"},
        "limits": {"memory": "4Gi", "nvidia.com/gpu": "1"},
    }
    assert pod["containers"][0]["resources"] == {"requests": {"cpu": "50m", "memory": "128Mi"}}
    assert pod["containers"][0]["image"] == "registry.example/runtime:1"  # with no engine of a GPU
    assert pod["runtimeClassName"] == "nvidia"


def test_the_server_listens_where_the_runtime_asks_and_nowhere_else() -> None:
    pod = with_server(serving={"port": 8083, "grpcPort": 8084})
    flags = dict(flag.split("=", 1) for flag in pod["initContainers"][0]["args"][1:])
    environment = {e["name"]: e.get("value", "u") for e in pod["containers"][0]["env"]}
    place = Place.from_env(environment)
    assert place.url == f"{flags['--grpc-address']}:{flags['--grpc-port']}" == "127.0.0.1:8085"
    assert flags["--model-control-mode"] == "explicit"
    assert (flags["--allow-http"], flags["--allow-metrics"]) == ("false", "false")
    assert flags["--grpc-restricted-protocol"].startswith("shared-memory,")
    assert "ports" not in pod["initContainers"][0]
    assert settings_from(environment, {}).engine is Engine.TRITON


def test_both_see_the_files_and_the_repository_at_one_path_and_the_server_only_reads() -> None:
    pod = with_server()
    mounts = {m["mountPath"]: m for m in pod["initContainers"][0]["volumeMounts"]}
    assert mounts[SLOTS_DIR] == {"name": "slots", "mountPath": SLOTS_DIR, "readOnly": True}
    repository = str(Place.from_env({}).repository)
    assert mounts[repository]["readOnly"]
    assert f"{SLOTS_DIR}/{mounts[repository]['subPath']}" == repository
    assert {"name": "slots", "mountPath": SLOTS_DIR} in pod["containers"][0]["volumeMounts"]


def test_another_engine_needs_new_pods_only_where_the_server_comes_or_goes() -> None:
    plain = make_template()
    assert make_template(runtime={"engine": "ONNXRuntime"}).hash == plain.hash
    assert make_template(**TRITON).hash != plain.hash
    other = {"runtime": {"engine": "Triton", "tritonImage": "triton:2"}}
    assert make_template(**TRITON).hash != make_template(**other).hash


@pytest.mark.parametrize("name", ["Upper", "../x", "a/b", "", "x" * 254])
def test_a_name_that_no_secret_can_have_is_invalid(name: str) -> None:
    with pytest.raises(ValidationError):
        make_deployment(serving={"tls": {"secretName": name}})
