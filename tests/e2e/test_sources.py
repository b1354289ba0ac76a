"""Models from where people keep them: a bucket and a registry, each behind a login."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.lab import NODES, WITHIN_S, Lab
from local_registry import running_registry
from local_s3 import S3Server, running_s3
from sources.oras import Oras

USER, PASSWORD = "edge", "U*U"
# The password, as the test vectors of bcrypt have it.
HTPASSWD = f"{USER}:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
SECRET = "models"  # noqa: S105 (its name)


@contextmanager
def registry(folder: Path, host: str, users: str = "") -> Iterator[Oras]:
    """Run a registry with a login for those users; without any it lets everybody in."""
    folder.mkdir()
    (folder / "users").write_text(users)
    auth = f"auth: {{htpasswd: {{realm: models, path: {folder}/users}}}}" if users else ""
    login = ("--username", USER, "--password", PASSWORD) if users else ()
    with running_registry(folder, auth, host) as running:
        yield Oras(running, folder / "files", login)


class Stores:
    """A bucket and a registry with the models, until they are switched off."""

    def __init__(self, lab: Lab, files: Path, folder: Path) -> None:
        self._lab = lab
        self._files = files
        self._running = ExitStack()
        self.s3 = self._bucket(folder / "s3")
        host = lab.access.host_address
        closed, everybodys = (
            registry(folder / "closed", host, HTPASSWD),
            registry(folder / "open", host),
        )
        self.closed = self._running.enter_context(closed)
        self.open = self._running.enter_context(everybodys)

    def _bucket(self, folder: Path) -> S3Server:
        folder.mkdir()
        return self._running.enter_context(running_s3(folder, self._lab.access.host_address))

    def switch_off(self) -> None:
        self._running.close()

    @property
    def secret(self) -> dict[str, Any]:
        """All that both want to see."""
        hosts = [f"http://{one.registry.address}" for one in (self.closed, self.open)]
        user = {"hosts": "\n".join(hosts), "username": USER, "password": PASSWORD}
        return secret(SECRET, **user, **self.s3.keys)

    def in_bucket(self, key: str, version: str, name: str = SECRET) -> dict[str, Any]:
        """Return a trained model, which lies in the bucket."""
        uri = self.s3.put("models", f"digits/{version}.onnx", self._bytes(key))
        return self._model(key, version, uri, name)

    def in_registry(self, oras: Oras, key: str, version: str, form: str) -> dict[str, Any]:
        """Return a trained model, which was pushed to a registry."""
        digest = oras.push(f"models/digits:{version}", {"model.onnx": self._bytes(key)})
        place = form.format(digest=digest, version=version)
        return self._model(key, version, f"oci://{oras.registry.address}/models/digits{place}")

    def _bytes(self, key: str) -> bytes:
        return (self._files / self._lab.index.model(key).file.name).read_bytes()

    def _model(self, key: str, version: str, uri: str, name: str = SECRET) -> dict[str, Any]:
        source = {"uri": uri, "sha256": self._lab.index.model(key).file.sha256}
        return self._lab.model(key, version, source={**source, "secretRef": {"name": name}})


def secret(name: str, **values: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


@pytest.fixture(scope="module")
def stores(lab: Lab, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    found = Stores(lab, files, tmp_path_factory.mktemp("stores"))
    yield found
    found.switch_off()


PARENT, FOLDER = "/var/lib", "skerry-e2e-models"
"""A folder on every node that stands for one volume which many may read."""


def run_on_nodes(lab: Lab, image: str, code: str) -> None:
    """Run Python as root on every node, in the folder in which the volume is."""
    names = [f"e2e-volume-{node}" for node in NODES]
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": node,
                "restartPolicy": "Never",
                "volumes": [{"name": "parent", "hostPath": {"path": PARENT}}],
                "containers": [
                    {
                        "name": "python",
                        "image": image,
                        "command": ["python3", "-c", code],
                        "workingDir": PARENT,
                        "securityContext": {"runAsUser": 0},
                        "volumeMounts": [{"name": "parent", "mountPath": PARENT}],
                    }
                ],
            },
        }
        for name, node in zip(names, NODES, strict=True)
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
    try:
        lab.kubectl("apply", "-n", "default", "-f", "-", stdin=text)
        for name in names:
            done = "--for=jsonpath={.status.phase}=Succeeded"
            lab.kubectl("wait", "-n", "default", done, f"pod/{name}", f"--timeout={WITHIN_S:.0f}s")
    finally:
        lab.kubectl("delete", "-n", "default", "--ignore-not-found", "pods", *names)


@pytest.fixture
def claim(lab: Lab, images: dict[str, str]) -> Iterator[str]:
    """A claim whose volume has the first two models, at every node."""
    found = [lab.index.model(key).file.name for key in ("v1", "v2")]
    get = "import os, urllib.request as r; os.umask(0o022); "
    get += f"os.makedirs('{FOLDER}', exist_ok=True); "
    get += f"[r.urlretrieve('{lab.server.url}/' + n, '{FOLDER}/' + n) for n in {found}]"
    run_on_nodes(lab, images["runtime"], get)
    both = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "e2e-models"},
        "spec": {
            **both,
            "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"{PARENT}/{FOLDER}"},
            "claimRef": {"namespace": lab.namespace, "name": "models"},
        },
    }
    wanted = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models"},
        "spec": {
            **both,
            "volumeName": "e2e-models",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    lab.apply(volume, wanted)
    yield "models"
    lab.delete_deployment()
    lab.kubectl("delete", "pvc", "models")
    lab.kubectl("delete", "pv", "e2e-models")
    clean = f"import shutil; shutil.rmtree('{FOLDER}', ignore_errors=True)"
    run_on_nodes(lab, images["runtime"], clean)


def uids(lab: Lab) -> dict[str, str]:
    return {node: pod.uid for node, pod in lab.pods().items()}


@pytest.mark.long
def test_a_secret_that_is_missing_is_a_reason_and_no_pod_that_does_not_start(
    lab: Lab, stores: Stores
) -> None:
    lab.start_stable("v1")
    lab.apply(stores.in_bucket("v2", "2.0.0-early", "not-there"), lab.deployment())
    lab.wait_rolled_back("2.0.0-early", "Secret not-there: it is not there, or empty")
    assert lab.versions() == dict.fromkeys(NODES, "1.0.0")
    lab.apply(secret("not-there", **stores.s3.keys), lab.deployment({"retry": "it is there"}))
    lab.wait_stable("2.0.0-early")
    before = uids(lab)
    lab.apply(lab.model("v1", version="1.0.1"), lab.deployment())
    lab.wait_stable("1.0.1")
    assert uids(lab) == before
    lab.delete_deployment()


@pytest.mark.long
def test_a_registry_that_is_open_needs_no_user_and_a_tag_will_do(lab: Lab, stores: Stores) -> None:
    hosts = f"http://{stores.open.registry.address}"
    lab.apply(secret(SECRET, hosts=hosts))
    lab.apply(stores.in_registry(stores.open, "v1", "1.0.0-open", ":{version}"), lab.deployment())
    lab.wait_stable("1.0.0-open")
    assert lab.versions() == dict.fromkeys(NODES, "1.0.0-open")
    lab.delete_deployment()


@pytest.mark.long
def test_models_come_from_a_volume_and_go_back_to_the_web_in_the_same_pods(
    lab: Lab, claim: str
) -> None:
    lab.start_stable("v1")
    source = {"sha256": lab.index.model("v2").file.sha256}
    source["uri"] = f"pvc://{claim}/{lab.index.model('v2').file.name}"
    lab.apply(lab.model("v2", version="2.0.0-volume", source=source))
    lab.wait_stable("2.0.0-volume")
    assert lab.versions() == dict.fromkeys(NODES, "2.0.0-volume")
    before = uids(lab)
    lab.apply(lab.model("v1"))
    lab.wait_stable("1.0.0")
    assert uids(lab) == before
    # another file than any that is on a disk: one of a known sha256 is not fetched at all
    source = {"uri": f"pvc://{claim}/absent.onnx", "sha256": "f" * 64}
    lab.apply(lab.model("v2", version="3.0.0-absent", source=source))
    lab.wait_rolled_back("3.0.0-absent", "there is no such file in the volume")


def test_models_come_from_a_bucket_and_a_registry_and_go_back_with_both_switched_off(
    lab: Lab, stores: Stores
) -> None:
    lab.apply(stores.secret)
    at_once = {"steps": [{"units": "100%", "soak": "1s"}]}
    lab.apply(stores.in_bucket("v1", "1.0.0-s3"), lab.deployment(at_once))
    lab.wait_stable("1.0.0-s3")
    before = uids(lab)
    new = stores.in_registry(stores.closed, "v2", "2.0.0-oci", "@{digest}")
    lab.apply(new)
    lab.wait_stable("2.0.0-oci")
    assert uids(lab) == before, "the same Secret: swapped in place"
    old = stores.in_bucket("v1", "1.0.0-s3")
    stores.switch_off()
    lab.apply(old)
    lab.wait_stable("1.0.0-s3")
    assert lab.versions() == dict.fromkeys(NODES, "1.0.0-s3")
    assert uids(lab) == before
    assert PASSWORD not in lab.story()
