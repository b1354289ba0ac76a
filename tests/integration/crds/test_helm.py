"""Installing, upgrading and removing the chart on a real API server of our own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from binaries import find
from helm_chart import CHART, EVERYTHING, try_to_render
from skerry_operator.constants import FIELD_MANAGER
from typed import indented

pytestmark = pytest.mark.integration

NAMESPACE = "skerry-system"
CRDS = ("edgemodels.skerry.dev", "edgedeployments.skerry.dev")
MODEL = """
apiVersion: skerry.dev/v1alpha1
kind: EdgeModel
metadata: {name: digits, namespace: default}
spec:
  version: "1.0.0"
  variants:
  - name: fp32
    format: ONNX
    source: {uri: "https://models.example/a.onnx", sha256: "SHA"}
""".replace("SHA", "a" * 64)

GONE_WITHIN_S = 180.0

Run = Callable[..., str]


@pytest.fixture
def run(own_api: Path) -> Run:
    """Return a function that runs helm or kubectl against our own API server."""

    def do(program: str, *arguments: str, stdin: str = "", fails: bool = False) -> str:
        argv = [find(program), f"--kubeconfig={own_api}", *arguments]
        answer = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        assert (answer.returncode != 0) is fails, f"{arguments}: {answer.stdout}{answer.stderr}"
        return answer.stdout + answer.stderr

    return do


@pytest.fixture
def clean(run: Run) -> Iterator[None]:
    """Give a cluster without our kinds, and leave one."""
    remove(run)
    yield
    remove(run)


def remove(run: Run) -> None:
    run("helm", "uninstall", "skerry", f"--namespace={NAMESPACE}", "--ignore-not-found")
    run("kubectl", "delete", "crd", *CRDS, "--ignore-not-found", "--wait=false")
    deadline = time.monotonic() + GONE_WITHIN_S
    while left := [name for name in run("kubectl", "get", "crd", "-o", "name").split() if name]:
        assert time.monotonic() < deadline, f"not removed: {left}"
        # A kind that is removed as soon as it is there cannot list its objects yet, and the API
        # server's next try comes late, unless the object changes.
        mark = f"test/removed={time.monotonic_ns()}"
        for name in left:
            with suppress(AssertionError):  # gone by now
                run("kubectl", "annotate", "--overwrite", name, mark)


def install(run: Run, *options: str, fails: bool = False) -> str:
    flags = (f"--namespace={NAMESPACE}", "--create-namespace", *options)
    return run("helm", "upgrade", "--install", "skerry", str(CHART), *flags, fails=fails)


@pytest.mark.usefixtures("clean")
def test_the_notes_say_what_comes_next(run: Run) -> None:
    notes = install(run)
    assert "watches all namespaces" in notes
    assert "kubectl get ed --watch" in notes


@pytest.mark.usefixtures("clean")
def test_the_first_command_has_the_names_of_the_release(run: Run, own_api: Path) -> None:
    notes = install(run, "--set=fullnameOverride=reef,watchNamespaces={default}")
    first, wait, *_ = indented(notes, "A first model", "It goes again")
    known = {"PATH": f"{Path(find('kubectl')).parent}:{os.environ['PATH']}"}
    env = os.environ | known | {"KUBECONFIG": str(own_api)}
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", first], env=env, check=True)
    assert wait.startswith("kubectl -n default wait")
    made = run("kubectl", "get", "em,ed,svc,deploy", "-n", "default", "-o", "name").split()
    assert "edgedeployment.skerry.dev/double" in made
    undo = first.replace("kubectl apply", "kubectl delete --ignore-not-found")
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", undo], env=env, check=True)


@pytest.mark.usefixtures("clean")
def test_an_upgrade_keeps_the_objects_and_brings_new_definitions(run: Run) -> None:
    install(run)
    run("kubectl", "apply", "-f", "-", stdin=MODEL)
    uid = run("kubectl", "get", "em", "digits", "-o", "jsonpath={.metadata.uid}")
    # An older definition, as if an earlier chart had installed it.
    old = '[{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}]'
    run("kubectl", "patch", "crd", CRDS[0], "--type=json", "-p", old)
    install(run, "--set=logging.level=debug")
    assert run("kubectl", "get", "em", "digits", "-o", "jsonpath={.metadata.uid}") == uid
    columns = "jsonpath={.spec.versions[0].additionalPrinterColumns[0].name}"
    assert run("kubectl", "get", "crd", CRDS[0], "-o", columns) == "Version"


@pytest.mark.usefixtures("clean")
def test_an_uninstall_keeps_definitions_and_objects_and_nothing_else(run: Run) -> None:
    install(run)
    run("kubectl", "apply", "-f", "-", stdin=MODEL)
    run("helm", "uninstall", "skerry", f"--namespace={NAMESPACE}")
    assert "digits" in run("kubectl", "get", "em", "-A")
    ours = "app.kubernetes.io/instance=skerry"
    left = run("kubectl", "get", "deploy,sa,role,rolebinding,cm", "-n", NAMESPACE, "-l", ours)
    assert "No resources found" in left
    left = run("kubectl", "get", "clusterrole,clusterrolebinding", "-l", ours)
    assert "No resources found" in left


@pytest.mark.usefixtures("clean")
def test_a_release_takes_over_what_an_uninstall_left(run: Run) -> None:
    install(run)
    run("kubectl", "apply", "-f", "-", stdin=MODEL)
    run("helm", "uninstall", "skerry", f"--namespace={NAMESPACE}")
    install(run)
    assert "digits" in run("kubectl", "get", "em", "-A")


@pytest.mark.usefixtures("clean")
def test_without_keep_an_uninstall_removes_the_definitions(run: Run) -> None:
    install(run, "--set=crds.keep=false")
    run("helm", "uninstall", "skerry", f"--namespace={NAMESPACE}", "--wait")
    assert "skerry.dev" not in run("kubectl", "get", "crd")


@pytest.mark.usefixtures("clean")
def test_a_second_release_for_other_namespaces_leaves_the_definitions_alone(run: Run) -> None:
    install(run)
    flags = ("--namespace=other", "--create-namespace", "--set=watchNamespaces={default}")
    second = ("helm", "install", "skerry", str(CHART), *flags)
    assert "cannot be imported" in run(*second, fails=True)
    run(*second, "--set=crds.enabled=false,rbac.aggregate=false")
    run("helm", "uninstall", "skerry", "--namespace=other")


FOREIGN = {"ServiceMonitor", "NodeFeatureRule"}
"""Kinds of the Prometheus operator and of Node Feature Discovery, which are not installed here."""


@pytest.mark.parametrize("values", [{}, yaml.safe_load(EVERYTHING.read_text())], ids=["few", "all"])
@pytest.mark.usefixtures("clean")
def test_the_api_server_takes_every_manifest(
    run: Run, tmp_path: Path, values: Mapping[str, object]
) -> None:
    answer = try_to_render(values, tmp_path)
    manifests = [item for item in yaml.safe_load_all(answer.stdout) if item]
    known = [item for item in manifests if item["kind"] not in FOREIGN]
    for name in (NAMESPACE, *values.get("watchNamespaces", ())):  # type: ignore[attr-defined]
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        run("kubectl", "apply", "-f", "-", stdin=yaml.safe_dump(namespace))
    text = yaml.safe_dump_all(known)
    taken = run("kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert len(taken.splitlines()) == len(known)
    assert "Warning" not in taken  # what Pod Security would refuse, among others


OPERATOR = f"{NAMESPACE}:skerry"
QUESTIONS = [
    (OPERATOR, "default", "patch edgedeployments.skerry.dev --subresource=status", "yes"),
    (OPERATOR, "default", "patch edgedeployments.skerry.dev", "no"),
    (OPERATOR, "default", "create daemonsets.apps", "yes"),
    (OPERATOR, "default", "list nodes", "yes"),
    (OPERATOR, "default", "patch nodes", "no"),
    (OPERATOR, "default", "get pods --subresource=proxy", "no"),
    (OPERATOR, "default", "get secrets", "no"),
    (OPERATOR, NAMESPACE, "get secrets", "no"),
    (OPERATOR, NAMESPACE, "create leases.coordination.k8s.io", "yes"),
    (OPERATOR, NAMESPACE, "update leases.coordination.k8s.io/skerry", "yes"),
    (OPERATOR, NAMESPACE, "update leases.coordination.k8s.io/other", "no"),
    (OPERATOR, NAMESPACE, "get deployments.apps/skerry", "yes"),
    (OPERATOR, NAMESPACE, "get deployments.apps/other", "no"),
    (OPERATOR, "default", "create leases.coordination.k8s.io", "no"),
    (f"{NAMESPACE}:default", "default", "list nodes", "no"),
]


@pytest.mark.usefixtures("clean")
def test_the_api_server_grants_what_the_roles_promise(run: Run) -> None:
    install(run)

    def answer(account: str, namespace: str, question: str, expected: str) -> str:
        who = (f"--as=system:serviceaccount:{account}", f"--namespace={namespace}")
        words = ("auth", "can-i", *question.split(), *who)
        lines = run("kubectl", *words, fails=expected == "no").splitlines()
        return "yes" if "yes" in lines else "no"

    assert [(*ask[:3], answer(*ask)) for ask in QUESTIONS] == QUESTIONS


@pytest.mark.usefixtures("clean")
def test_the_field_manager_of_helm_is_not_the_operators(run: Run) -> None:
    # Else each would undo the other's fields.
    install(run)
    managers = run("kubectl", "get", "crd", CRDS[0], "-o=yaml", "--show-managed-fields")
    assert f"manager: {FIELD_MANAGER}" not in managers
