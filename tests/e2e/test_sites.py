"""Sites with a gateway: a model comes over the line once, and without the line pods come back."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from age import age, age_key
from digits_demo import cluster
from digits_demo.cluster import Access
from e2e.conftest import HELM_WAITS, RELEASE, SYSTEM
from e2e.counted_server import CountedServer
from e2e.lab import NODES, Lab, PodView
from e2e.test_offline import WITH_DEVICE, away, reboot, uids, wait_replaced
from e2e.test_sources import PARENT, run_on_nodes, secret
from fetching import sha256_of
from keypair import keypair
from local_registry import running_registry
from model_signing import sign
from sources.oras import Oras

FOLDER, CLASS, SITE = "skerry-e2e-site", "skerry-e2e-site", "skerry.dev/e2e-site"
GATEWAY, BOX = NODES[1], NODES[2]
"""Of the site of all boxes; of a box that is a site of its own later."""
pytestmark = pytest.mark.usefixtures("settings_come_back")


@pytest.fixture(scope="module")
def line(access: Access, files: Path) -> Iterator[CountedServer]:
    with CountedServer(files, access.host_address) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def caches(
    settings_come_back: None, lab: Lab, images: dict[str, str], helm: list[str]
) -> Iterator[None]:
    """Volumes on the nodes, and the operator told to make caches of them."""
    del settings_come_back
    folders = [f"{FOLDER}/{node}" for node in (GATEWAY, BOX)]
    make = "\n".join(
        f"import os; os.makedirs({one!r}, exist_ok=True); os.chown({one!r}, 65532, 65532)"
        for one in folders
    )
    run_on_nodes(lab, images["runtime"], make)
    lab.apply(storage_class(), *(volume(node) for node in (GATEWAY, BOX)))
    values = {"enabled": True, "siteLabel": SITE, "size": "1Gi", "storageClass": CLASS}
    command = [*helm, "upgrade", RELEASE, str(cluster.CHART), "--reuse-values", *HELM_WAITS]
    subprocess.run([*command, f"--set-json=siteCache={json.dumps(values)}"], check=True)
    lab.kubectl("label", "node", GATEWAY, "skerry.dev/gateway=true")
    try:
        wait_cache(lab, "skerry-site-default")
        yield
    finally:
        for node in NODES:
            lab.kubectl("label", "node", node, "skerry.dev/gateway-", f"{SITE}-")
        gone = lambda: not lab.items("statefulsets", "-n", SYSTEM)  # noqa: E731
        lab.wait(gone, "the operator removes the caches")
        lab.kubectl("delete", "-n", SYSTEM, "pvc", "--all")
        lab.kubectl("delete", "pv", *(f"{FOLDER}-{node}" for node in (GATEWAY, BOX)))
        lab.kubectl("delete", "storageclass", CLASS)
        clean = f"import shutil; shutil.rmtree({FOLDER!r}, ignore_errors=True)"
        run_on_nodes(lab, images["runtime"], clean)


def storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def volume(node: str) -> dict[str, Any]:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    terms = [{"matchExpressions": [here]}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{FOLDER}-{node}"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CLASS,
            "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"{PARENT}/{FOLDER}/{node}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    }


def wait_cache(lab: Lab, name: str) -> None:
    def is_ready() -> bool:
        found = lab.items("statefulsets", "-n", SYSTEM)
        return any(
            one["metadata"]["name"] == name and one["status"].get("readyReplicas") for one in found
        )

    lab.wait(is_ready, f"{name} is ready")


def model(lab: Lab, line: CountedServer, key: str, version: str = "") -> dict[str, Any]:
    """Return an EdgeModel whose files lie beyond the line."""
    text = json.dumps(lab.model(key, version))
    found: dict[str, Any] = json.loads(text.replace(lab.server.url, line.url))
    return found


def told_of_caches(lab: Lab) -> list[dict[str, Any]]:
    """Return what each cell's assignment says of caches."""
    found = lab.items("configmaps", "-l", "skerry.dev/cell")
    return [json.loads(item["data"]["assignment.json"]).get("cache") or {} for item in found]


def has_caches(lab: Lab, count: int = 1) -> bool:
    """Tell whether all pods have been told of their caches."""
    told = told_of_caches(lab)
    urls = {url for one in told for url in one.get("sites", {}).values()}
    return bool(told) and all(told) and len(urls) == count


@pytest.fixture
def served(lab: Lab, line: CountedServer) -> dict[str, PodView]:
    """V1 is stable everywhere, and the site has it."""
    lab.apply(model(lab, line, "v1"), lab.deployment())
    lab.wait_stable(lab.index.model("v1").version)
    lab.wait(lambda: has_caches(lab, len(gateways(lab))), "pods are told of their caches")
    lab.wait(lambda: len(kept_files(lab)) >= len(gateways(lab)), "the sites have the model")
    return lab.pods()


LISTED = ("python3", "-c", "import os; print(*os.listdir('/var/lib/skerry-cache/whole'))")


def gateways(lab: Lab) -> list[str]:
    nodes = lab.items("nodes", "-l", "skerry.dev/gateway=true")
    return [node["metadata"]["name"] for node in nodes]


def listed(lab: Lab) -> dict[str, set[str]]:
    """Return what each cache that answers has, by sha256."""
    pods = lab.items("pods", "-n", SYSTEM, "-l", "skerry.dev/site-cache")
    names = [pod["metadata"]["name"] for pod in pods]
    ask = lambda name: lab.kubectl("exec", "-n", SYSTEM, name, "--", *LISTED, check=False)  # noqa: E731
    return {name: set(ask(name).split()) for name in names}


def kept_files(lab: Lab) -> list[str]:
    """Return which caches say that they have files."""
    return [name for name, files in listed(lab).items() if len(files) >= 2]  # model and exam


def cached(lab: Lab) -> set[str]:
    """Return what all caches have."""
    found = listed(lab).values()
    return set.intersection(*found) if found else set()


@contextmanager
def cut(line: CountedServer) -> Iterator[None]:
    line.is_cut = True
    try:
        yield
    finally:
        line.is_cut = False


@contextmanager
def timed(capsys: pytest.CaptureFixture[str], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    with capsys.disabled():
        print(f"\n  {what}: {time.monotonic() - began:.1f} s")  # noqa: T201 (for people)


def test_three_boxes_of_one_site_take_a_model_over_the_line_once(
    lab: Lab, line: CountedServer, files: Path, served: dict[str, PodView]
) -> None:
    assert len(served) == len(NODES)
    before = line.sent.copy()
    new = lab.index.model("v2")
    lab.apply(model(lab, line, "v2"))
    lab.wait_stable(new.version)
    upstream = (line.sent - before)[new.file.name]
    assert upstream == (files / new.file.name).stat().st_size


def delete(lab: Lab, pod: PodView) -> None:
    lab.kubectl("delete", "pod", pod.name, "--wait=false")


def evict(lab: Lab, pod: PodView) -> None:
    """Take the pod away as a drain does (Kubernetes, API-initiated eviction)."""
    where = {"name": pod.name, "namespace": lab.namespace}
    wanted = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": where}
    path = f"/api/v1/namespaces/{lab.namespace}/pods/{pod.name}/eviction"
    lab.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(wanted))


@pytest.mark.parametrize("taken", [delete, pytest.param(evict, marks=pytest.mark.long)])
def test_a_pod_that_is_taken_away_while_the_line_is_cut_serves_again(
    lab: Lab,
    line: CountedServer,
    served: dict[str, PodView],
    capsys: pytest.CaptureFixture[str],
    taken: Callable[[Lab, PodView], None],
) -> None:
    node, version = NODES[0], lab.index.model("v1").version
    with cut(line), timed(capsys, f"a pod serves again from its site ({taken.__name__}) after"):
        taken(lab, served[node])
        wait_replaced(lab, served[node])
        report = lab.wait_serves(node, version)
    assert report.last_swap is not None
    assert report.last_swap.fetched


@dataclass(frozen=True)
class Kept:
    """A model that the site has to keep."""

    model: dict[str, Any]
    files: tuple[str, ...]
    """Their sha256."""


@dataclass(frozen=True)
class Beyond:
    """What lies beyond the line, and can be cut off with it."""

    lab: Lab
    files: Path
    line: CountedServer
    folder: Path
    registry: Oras
    switch_off: Callable[[], None]
    """Ends the registry."""

    def body(self) -> bytes:
        return (self.files / self.lab.index.model("v1").file.name).read_bytes()

    def put(self, name: str, body: bytes) -> dict[str, str]:
        (self.files / name).write_bytes(body)
        return {"uri": f"{self.line.url}/{name}", "sha256": sha256_of(body)}

    def kept(self, version: str, *others: str, **variant: Any) -> Kept:
        exam = self.lab.index.golden
        found = model(self.lab, self.line, "v1", version)
        found["spec"]["variants"][0] |= variant
        digest = found["spec"]["variants"][0]["source"]["sha256"]
        return Kept(found, (digest, exam.sha256, *others))

    def of_a_registry(self) -> Kept:
        self.lab.apply(secret("open", hosts=f"http://{self.registry.registry.address}"))
        body = self.body() + b"\x1a\x04oci1"  # producer_version: a file that no disk has
        digest = self.registry.push("models/digits:1", {"model.onnx": body})
        uri = f"oci://{self.registry.registry.address}/models/digits@{digest}"
        source = {"uri": uri, "sha256": sha256_of(body), "secretRef": {"name": "open"}}
        return self.kept("1.0.0-oci", source=source)

    def signed(self) -> Kept:
        body, pair = self.body() + b"\x1a\x04sig1", keypair(self.folder)
        source = self.put("signed.onnx", body)
        bundle = sign(self.files / "signed.onnx", pair.private, self.folder / "bundle.sig")
        kept = self.put("signed.onnx.sig", bundle)
        signature = {**kept, "publicKeys": [pair.pem]}
        return self.kept("1.0.0-signed", kept["sha256"], source=source, signature=signature)

    def sealed(self) -> Kept:
        key = age_key()
        self.lab.apply(secret("age", identity=key.identity))
        source = self.put("sealed.onnx.age", age(self.body(), key.recipient))
        encryption = {"keyRef": {"name": "age"}}
        return self.kept("1.0.0-sealed", source=source, encryption=encryption)


@pytest.fixture
def beyond(lab: Lab, files: Path, line: CountedServer, tmp_path: Path) -> Iterator[Beyond]:
    with ExitStack() as running:
        registry = running.enter_context(running_registry(tmp_path, host=lab.access.host_address))
        oras = Oras(registry, tmp_path / "pushed")
        yield Beyond(lab, files, line, tmp_path, oras, running.close)


@pytest.mark.long
@pytest.mark.parametrize("what", [Beyond.of_a_registry, Beyond.signed, Beyond.sealed])
def test_what_comes_from_a_registry_is_signed_or_encrypted_is_kept_by_the_site_as_well(
    lab: Lab,
    line: CountedServer,
    beyond: Beyond,
    capsys: pytest.CaptureFixture[str],
    what: Callable[[Beyond], Kept],
) -> None:
    kept = what(beyond)
    version, node = kept.model["spec"]["version"], NODES[0]
    lab.apply(kept.model, lab.deployment())
    lab.wait_stable(version)
    lab.wait(lambda: has_caches(lab, len(gateways(lab))), "pods are told of their caches")
    lab.wait(lambda: set(kept.files) <= cached(lab), "the site has all of it")
    before = lab.pods()[node]
    beyond.switch_off()
    with cut(line), timed(capsys, f"a deleted pod serves {version} again after"):
        lab.kubectl("delete", "pod", before.name, "--wait=false")
        wait_replaced(lab, before)
        report = lab.wait_serves(node, version)
    assert report.last_swap is not None
    assert report.last_swap.fetched
    assert report.serving is not None
    [served] = report.serving.models.values()
    assert bool(served.signed_by) == ("signature" in kept.model["spec"]["variants"][0])


@pytest.mark.long
def test_pods_that_a_changed_resource_replaces_while_the_line_is_cut_serve_again(
    lab: Lab, line: CountedServer, served: dict[str, PodView], capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = {"threads": 1, "resources": {"memoryRequest": "97Mi"}}
    with cut(line), timed(capsys, "pods with other resources are stable after"):
        lab.apply(lab.deployment(runtime=runtime))
        replaced = lambda: not {*uids(served).values()} & {*uids(lab.pods()).values()}  # noqa: E731
        lab.wait(replaced, "every pod was replaced")
        lab.wait_stable(lab.index.model("v1").version)
    assert set(lab.versions().values()) == {lab.index.model("v1").version}


@pytest.mark.long
def test_a_node_that_reboots_with_its_device_plugin_late_serves_again_without_the_line(
    lab: Lab,
    line: CountedServer,
    cluster_command: list[str],
    served: dict[str, PodView],
    capsys: pytest.CaptureFixture[str],
) -> None:
    node, version = WITH_DEVICE, lab.index.model("v1").version
    with cut(line), timed(capsys, "a node that rebooted without its device serves again after"):
        with away(cluster_command, node, "stop-plugin", "start-plugin", what="device"):
            reboot(cluster_command, node)
            is_refused = lambda: node not in lab.pods() or uids(lab.pods()) != uids(served)  # noqa: E731
            lab.wait(is_refused, "the kubelet refuses the pod")
        wait_replaced(lab, served[node])
        report = lab.wait_serves(node, version)
    assert report.last_swap is not None
    assert report.last_swap.fetched


def test_a_box_that_is_a_site_of_its_own_is_brought_what_it_serves_and_lives_on_it(
    lab: Lab, line: CountedServer, served: dict[str, PodView], capsys: pytest.CaptureFixture[str]
) -> None:
    lab.kubectl("label", "node", BOX, f"{SITE}=box", "skerry.dev/gateway=true")
    wait_cache(lab, "skerry-site-box")
    lab.wait(lambda: has_caches(lab, 2), "pods are told of both caches")
    before = line.sent.total()
    lab.wait(lambda: len(kept_files(lab)) == 2, "the box's cache was brought the model")
    assert line.sent.total() == before
    version = lab.index.model("v1").version
    with cut(line), timed(capsys, "a deleted pod of a box serves again from the box after"):
        lab.kubectl("delete", "pod", served[BOX].name, "--wait=false")
        wait_replaced(lab, served[BOX])
        lab.wait_serves(BOX, version)


@pytest.mark.long
def test_switched_off_the_caches_go_with_the_gateway_still_labelled_and_come_back_with_their_files(
    lab: Lab, line: CountedServer, served: dict[str, PodView], helm: list[str]
) -> None:
    switch = [*helm, "upgrade", RELEASE, str(cluster.CHART), "--reuse-values", *HELM_WAITS]
    subprocess.run([*switch, "--set=siteCache.enabled=false"], check=True)
    made = "statefulsets,services,networkpolicies"
    gone = lambda: not lab.items(made, "-n", SYSTEM, "-l", "skerry.dev/site-cache")  # noqa: E731
    lab.wait(gone, "the objects of the caches have gone")
    lab.wait(lambda: not any(told_of_caches(lab)), "pods are told that there is no cache")
    assert gateways(lab)
    assert uids(lab.pods()) == uids(served)
    subprocess.run([*switch, "--set=siteCache.enabled=true"], check=True)
    wait_cache(lab, "skerry-site-default")
    lab.wait(lambda: len(kept_files(lab)) == len(gateways(lab)), "the files are still there")
    lab.wait(lambda: has_caches(lab, len(gateways(lab))), "pods are told of the caches again")


def spoilt(lab: Lab, image: str) -> None:
    code = (
        "import pathlib\n"
        f"for one in pathlib.Path({FOLDER!r}).glob('*/whole/*'):\n"
        "    one.write_bytes(b'x' * one.stat().st_size)"
    )
    run_on_nodes(lab, image, code)


def dead(lab: Lab) -> Callable[[], bool]:
    lab.kubectl("scale", "-n", SYSTEM, "statefulset", "--all", "--replicas=0")
    return lambda: not lab.items("pods", "-n", SYSTEM, "-l", "skerry.dev/site-cache")


def test_a_cache_that_lies_or_is_dead_costs_no_rollout_and_no_pod(
    lab: Lab, line: CountedServer, images: dict[str, str], served: dict[str, PodView]
) -> None:
    spoilt(lab, images["runtime"])
    node, version = NODES[0], lab.index.model("v1").version
    lab.kubectl("delete", "pod", served[node].name, "--wait=false")
    wait_replaced(lab, served[node])
    lab.wait_serves(node, version)
    lab.wait(dead(lab), "the caches have ended")
    lab.apply(model(lab, line, "v2"))
    lab.wait_stable(lab.index.model("v2").version)
