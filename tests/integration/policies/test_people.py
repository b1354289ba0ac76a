"""People who may only deploy models name the images and Secrets that they were given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bare_api import Kubectl
from crd_objects import HTTPS, deployment, model, optimized, source, variant
from integration.policies.asking import NAMESPACE, SYSTEM, As, Install, eventually
from skerry_operator.kube.client import KubeClient
from skerry_operator.kube.errors import Forbidden, Invalid
from skerry_operator.kube.paths import object_path

pytestmark = pytest.mark.integration

Raw = dict[str, Any]
VALUES = {
    "userPolicy": {
        "enabled": True,
        "allowedImages": ["mirror.example/edge/*", "mirror.example/other:1"],
        "allowedSecrets": ["tls-*", "tokens"],
        "allowedPriorityClasses": ["edge"],
        "allowedPodKeys": ["team", "example.com/*"],
        "exceptGroups": ["system:masters", "platform"],
    }
}
ROLE = f"{SYSTEM}-skerry-deployer"
OTHERS = "elsewhere"


@pytest.fixture(scope="module")
def deployer(kubectl: Kubectl, install: Install, acting_as: As) -> KubeClient:
    """Anna, who is bound to the narrow role in one namespace, once the policy is in force."""
    give(install, VALUES)
    for kind in ("edgedeployments", "edgemodels"):
        kubectl("wait", "--for=condition=Established", f"crd/{kind}.skerry.dev")
    inside = f"--namespace={NAMESPACE}"
    kubectl("create", "rolebinding", "anna", inside, f"--clusterrole={ROLE}", "--user=anna")
    kubectl("create", "namespace", OTHERS)
    anna = acting_as("anna")
    eventually(lambda: is_refused(anna, image("evil")), "the policy is in force")
    return anna


@pytest.fixture(autouse=True)
def nothing_left(kubectl: Kubectl) -> Iterator[None]:
    yield
    kubectl("delete", f"--namespace={NAMESPACE}", "ed,em", "--all")


def give(install: Install, values: Raw) -> None:
    flags = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]
    install("--reset-values", *flags)


def image(name: str) -> Raw:
    return deployment(runtime={"image": name})


def triton(name: str) -> Raw:
    return deployment(runtime={"engine": "Triton", "tritonImage": name})


def tls(name: str) -> Raw:
    return deployment(serving={"tls": {"secretName": name}})


def auth(name: str) -> Raw:
    return deployment(serving={"auth": {"tokenSecretName": name}})


def built_with(
    push: str = "tls-push", pull: str = "tls-pull", data: str = "tokens", student: str = "tls-s"
) -> Raw:
    """A model whose builds need Secrets."""
    store = {
        "uri": "s3://models/builds",
        "pushSecretRef": {"name": push},
        "pullSecretRef": {"name": pull},
    }
    distil = {"student": {**HTTPS, "secretRef": {"name": student}}}
    job = {"name": "s", "from": "fp32", "steps": [{"distil": distil}]}
    source = {**HTTPS, "secretRef": {"name": data}}
    return optimized(job, store=store, data={"source": source})


def behind(secret: str, exam: str = "") -> Raw:
    """A model whose file, and maybe exam, lies behind a Secret."""
    golden = {"source": {**HTTPS, "secretRef": {"name": exam}}, "threshold": "0.9"}
    found = source(secretRef={"name": secret})
    return {**found, "spec": {**found["spec"], **({"golden": golden} if exam else {})}}


def encrypted(secret: str) -> Raw:
    """A model whose key is in a Secret."""
    return variant(encryption={"keyRef": {"name": secret}})


def pods(**fields: Any) -> Raw:
    return deployment(pods=fields)


def put(client: KubeClient, body: Raw, namespace: str = NAMESPACE) -> Raw:
    path = object_path(body["kind"], namespace, body["metadata"]["name"])
    return client.apply(path, body, body["kind"])


def is_refused(client: KubeClient, body: Raw) -> bool:
    try:
        put(client, body)
    except Forbidden:
        return True
    client.delete(object_path("EdgeDeployment", NAMESPACE, "digits"), "EdgeDeployment")
    return False


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(model(), id="a model"),
        pytest.param(deployment(), id="the operator's own image, and no Secret"),
        pytest.param(image("mirror.example/edge/runtime:2"), id="an image below a beginning"),
        pytest.param(image("mirror.example/other:1"), id="an image by its whole name"),
        pytest.param(triton("mirror.example/edge/triton:1"), id="a server's image"),
        pytest.param(tls("tls-shop"), id="a certificate"),
        pytest.param(auth("tokens"), id="tokens"),
        pytest.param(pods(imagePullSecrets=[{"name": "tls-registry"}]), id="a pull secret"),
        pytest.param(pods(priorityClassName="edge"), id="a priority"),
        pytest.param(behind("tls-models", "tokens"), id="the secrets of sources"),
        pytest.param(built_with(), id="the secrets of builds"),
        pytest.param(encrypted("tls-key"), id="the key of an encrypted model"),
        pytest.param(pods(labels={"team": "a"}, annotations={"example.com/a": "b"}), id="keys"),
    ],
)
def test_what_is_allowed_may_be_named(deployer: KubeClient, body: Raw) -> None:
    assert put(deployer, body)["spec"] == body["spec"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (image("mirror.example/edg"), "spec.runtime.image: the image 'mirror.example/edg' is not"),
        (image("mirror.example/other:12"), "name one of mirror.example/edge/\\*, mirror.example/"),
        (image("docker.io/mirror.example/edge/a"), "spec.runtime.image"),
        (triton("evil"), "spec.runtime.tritonImage: the image 'evil' is not"),
        (tls("payments"), "spec.serving.tls.secretName: the Secret 'payments' is not"),
        (
            pods(imagePullSecrets=[{"name": "tls-a"}, {"name": "payments"}]),
            r"spec.pods.imagePullSecrets\[\].name: the Secrets 'tls-a, payments' are not all",
        ),
        (
            behind("payments"),
            r"spec.variants\[\].source.secretRef.name: the Secrets 'payments' are not all",
        ),
        (
            behind("tokens", "payments"),
            r"spec.golden.source.secretRef.name: the Secrets 'payments' are not all",
        ),
        (built_with(push="payments"), r"spec.optimize.store.pushSecretRef.name: the Secrets 'pay"),
        (built_with(pull="payments"), r"spec.optimize.store.pullSecretRef.name: the Secrets 'pay"),
        (built_with(data="payments"), r"spec.optimize.data.source.secretRef.name: the Secrets"),
        (built_with(student="payments"), r"distil.student.secretRef.name: the Secrets 'payments'"),
        (
            encrypted("payments"),
            r"spec.variants\[\].encryption.keyRef.name: the Secrets 'payments' are not all",
        ),
        (pods(priorityClassName="system"), "spec.pods.priorityClassName.*allowedPriorityClasses"),
        (pods(labels={"mesh": "inject"}), "spec.pods.labels: the keys 'mesh'.*allowedPodKeys"),
        (pods(annotations={"vault.example/role": "x"}), "spec.pods.annotations"),
        (auth("tokens-of-others"), "spec.serving.auth.tokenSecretName.*userPolicy.allowedSecrets"),
    ],
)
def test_anything_else_is_refused_with_field_value_and_remedy(
    deployer: KubeClient, body: Raw, told: str
) -> None:
    with pytest.raises(Forbidden, match=told):
        put(deployer, body)


def test_what_was_allowed_is_not_changed_into_what_is_not(deployer: KubeClient) -> None:
    put(deployer, image("mirror.example/edge/a"))
    with pytest.raises(Forbidden, match=r"spec\.runtime\.image"):
        put(deployer, image("evil"))


def test_what_somebody_else_named_stays_while_other_fields_change(
    deployer: KubeClient, acting_as: As
) -> None:
    platform = acting_as("admin", "system:masters")
    put(platform, image("special"))
    kept = image("special")
    kept["spec"]["rollout"] = {"retry": "again"}
    assert put(deployer, kept)["spec"]["rollout"] == {"retry": "again"}
    with pytest.raises(Forbidden, match=r"spec\.serving\.tls\.secretName"):
        put(deployer, {**kept, "spec": {**kept["spec"], **tls("payments")["spec"]}})


def test_the_narrow_role_ends_at_its_namespace_and_at_models(deployer: KubeClient) -> None:
    with pytest.raises(Forbidden, match="cannot patch resource"):
        put(deployer, deployment(), OTHERS)
    for kind in ("Pod", "ConfigMap", "Service"):
        with pytest.raises(Forbidden, match="cannot get resource"):
            deployer.get(object_path(kind, NAMESPACE, "any"))
    path = object_path("EdgeDeployment", NAMESPACE, "digits")
    with pytest.raises(Forbidden, match="cannot patch resource"):
        deployer.merge(f"{path}/status", {"status": {}}, "EdgeDeployment")


def test_a_group_that_is_excepted_names_what_it_likes(
    deployer: KubeClient, kubectl: Kubectl, acting_as: As
) -> None:
    inside = f"--namespace={NAMESPACE}"
    kubectl("create", "rolebinding", "berta", inside, f"--clusterrole={ROLE}", "--user=berta")
    with pytest.raises(Forbidden, match=r"spec\.runtime\.image"):
        put(acting_as("berta"), image("evil"))
    put(acting_as("berta", "platform"), image("evil"))


def test_the_definition_still_has_its_say(deployer: KubeClient) -> None:
    with pytest.raises(Invalid, match="tritonImage is of use with engine: Triton only"):
        put(deployer, deployment(runtime={"tritonImage": "mirror.example/edge/a"}))


def test_who_could_do_it_without_skerry_may_be_excepted(
    deployer: KubeClient, kubectl: Kubectl, install: Install, acting_as: As
) -> None:
    give(install, {"userPolicy": {**VALUES["userPolicy"], "exceptByRights": True}})
    inside = f"--namespace={NAMESPACE}"
    kubectl("create", "role", "pods", inside, "--verb=create", "--resource=pods")
    read = ("--verb=get", "--resource=secrets", "--resource-name=payments")
    kubectl("create", "role", "payments", inside, *read)
    roles = {"carla": "pods", "dora": "payments"}
    for user, role in roles.items():
        kubectl("create", "rolebinding", user, inside, f"--clusterrole={ROLE}", f"--user={user}")
        kubectl("create", "rolebinding", f"{user}-2", inside, f"--role={role}", f"--user={user}")
    carla, dora = acting_as("carla"), acting_as("dora")
    eventually(lambda: not is_refused(carla, image("evil")), "the new policy is in force")
    assert is_refused(carla, tls("payments"))
    assert not is_refused(dora, tls("payments"))
    assert is_refused(dora, tls("other"))
    assert is_refused(dora, image("evil"))
    assert is_refused(deployer, image("evil"))
