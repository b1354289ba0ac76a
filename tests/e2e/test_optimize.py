"""Builds made by Jobs in the cluster: kept, rolled out by canary, refused, never made twice."""

from __future__ import annotations

import io
import json
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits_demo import cluster
from digits_demo.manifests import CHART_VALUES
from e2e.conftest import HELM_WAITS, HOME, RELEASE
from e2e.lab import ANSWER_S, NODES, Lab
from fetching import sha256_of
from local_registry import Registry, running_registry
from optimize_models import cnn, data_of, golden_of

SECRET = "builds"  # noqa: S105 (its name)
BUILD = "skerry.dev/build"


@pytest.fixture(scope="module", autouse=True)
def jobs_are_made(
    settings_come_back: None, images: dict[str, str], helm: list[str], cluster_command: list[str]
) -> None:
    """Let the operator make builds, in the image that is built for it."""
    del settings_come_back
    subprocess.run([*cluster_command, "images", "--only", "optimize"], check=True)
    ask = [*cluster_command, "images", "--only", "optimize", "--print"]
    told = subprocess.run(ask, check=True, text=True, capture_output=True).stdout
    image = cluster.parse_image(json.loads(told)["optimize"])
    values = ["--values", str(CHART_VALUES), *cluster.image_values(images)]
    ours = [*image.settings("optimize.image"), "--set", "optimize.enabled=true"]
    command = [*helm, "upgrade", RELEASE, str(cluster.CHART), *values, HOME, *ours, *HELM_WAITS]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def registry(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("builds")
    with running_registry(folder, host=lab.access.host_address) as found:
        lab.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": SECRET},
                "stringData": {"hosts": f"http://{found.address}\n{lab.server.url}"},
            }
        )
        yield found


def archive(arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


@pytest.fixture(scope="module")
def sources(lab: Lab, files: Path) -> dict[str, dict[str, Any]]:
    """A CNN, its exam and data to calibrate with, behind the model server."""
    content = {
        "cnn.onnx": cnn(),
        "cnn-golden.npz": archive(golden_of("cnn")),
        "cnn-data.npz": archive(data_of("cnn")),
    }
    for name, body in content.items():
        (files / name).write_bytes(body)
    found: dict[str, dict[str, Any]] = {
        name: {"uri": f"{lab.server.url}/{name}", "sha256": sha256_of(body)}
        for name, body in content.items()
    }
    # The same Secret as that of the builds: pods that have it mounted are not replaced.
    found["cnn.onnx"]["secretRef"] = {"name": SECRET}
    return found


INT8 = {"name": "int8", "from": "fp32", "steps": [{"quantize": {"mode": "Static"}}]}
THIN = {
    "name": "thin",
    "from": "fp32",
    "steps": [{"prune": {"mode": "Magnitude", "amount": "95%"}}],
}


def model(
    sources: dict[str, dict[str, Any]], registry: Registry | None = None, *jobs: Any, **more: Any
) -> dict[str, Any]:
    """Return an EdgeModel with the CNN, and with jobs where there are some."""
    spec: dict[str, Any] = {
        "version": "1.0.0",
        "variants": [{"name": "fp32", "format": "ONNX", "source": sources["cnn.onnx"]}],
        "golden": {"source": sources["cnn-golden.npz"], "threshold": "0.9"},
    }
    if registry is not None:
        secret = {"name": SECRET}
        spec["optimize"] = {
            "store": {
                "uri": f"oci://{registry.address}/builds",
                "pushSecretRef": secret,
                "pullSecretRef": secret,
            },
            "data": {"source": sources["cnn-data.npz"]},
            "guards": {"maxAccuracyDrop": "0.02"},
            "resources": {"cpuRequest": "100m", "memoryRequest": "128Mi"},
            "jobs": list(jobs),
            **more,
        }
    return {
        "apiVersion": "skerry.dev/v1alpha1",
        "kind": "EdgeModel",
        "metadata": {"name": "digits"},
        "spec": spec,
    }


def jobs_of(lab: Lab) -> dict[str, dict[str, Any]]:
    """Return what the status says of the jobs, by name."""
    found = lab.get("edgemodel").get("status", {}).get("jobs", [])
    return {one["name"]: one for one in found}


def built(lab: Lab) -> dict[str, str]:
    """Return the sha256 of every build that the model has, by variant."""
    found = lab.get("edgemodel").get("status", {}).get("artifacts", [])
    return {one["variant"]: one["sha256"] for one in found if one.get("origin") == "Optimized"}


def wait_for_jobs(lab: Lab, **phases: str) -> None:
    lab.wait(
        lambda: {name: one["phase"] for name, one in jobs_of(lab).items()} == phases,
        f"the jobs are {phases}",
    )


def served(lab: Lab) -> dict[str, str]:
    """Return the sha256 of what each node serves."""
    return {
        node: model.sha256
        for node, report in lab.reports().items()
        if report.serving
        for model in report.serving.models.values()
    }


def made_jobs(lab: Lab) -> set[str]:
    """Return the Jobs that there are, each by its uid."""
    return {job["metadata"]["uid"] for job in lab.items("jobs")}


def records(lab: Lab) -> set[str]:
    """Return the records of what came of jobs, each by its uid."""
    return {one["metadata"]["uid"] for one in lab.items("controllerrevisions", "-l", BUILD)}


class Asking:
    """Asks every node without pause, and counts what is not answered."""

    def __init__(self, addresses: list[str]) -> None:
        x = data_of("cnn")["x"][:1]
        tensor = {
            "name": "x",
            "shape": list(x.shape),
            "datatype": "FP32",
            "data": x.ravel().tolist(),
        }
        self._body = json.dumps({"inputs": [tensor]}).encode()
        self._over = threading.Event()
        self.answered: Counter[str] = Counter()
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(one,)) for one in addresses]

    def _ask(self, address: str) -> None:
        url = f"http://{address}:8080/v2/models/digits/infer"
        while not self._over.wait(0.02):
            try:
                with urllib.request.urlopen(url, self._body, timeout=ANSWER_S) as answer:
                    found = json.load(answer)
                self.answered[f"{address} {found['parameters']['revision']}"] += 1
            except (OSError, HTTPException, KeyError, ValueError) as error:
                self.failures.append(f"{address}: {error!r}")

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_a_build_goes_out_by_canary_under_traffic_and_a_refused_one_goes_nowhere(
    lab: Lab, registry: Registry, sources: dict[str, dict[str, Any]]
) -> None:
    lab.apply(model(sources), lab.deployment())
    stable = lab.wait_stable("1.0.0").stable_revision
    before = lab.pods()
    origin = sources["cnn.onnx"]["sha256"]
    assert served(lab) == dict.fromkeys(NODES, origin)
    with Asking([pod.ip for pod in before.values()]) as asking:
        lab.apply(model(sources, registry, INT8, THIN))
        held = lambda: lab.condition("Reconciling")[1] == "Optimizing"  # noqa: E731
        lab.wait(held, "the deployment waits for the builds")
        assert lab.condition("Ready", "edgemodel")[:2] == ("False", "Optimizing")
        assert set(served(lab).values()) == {origin}
        wait_for_jobs(lab, int8="Succeeded", thin="Refused")
        sha256 = built(lab)["int8"]
        lab.wait(lambda: served(lab) == dict.fromkeys(NODES, sha256), "all nodes serve the build")
        lab.wait(lambda: lab.condition("Ready")[0] == "True", "the build is stable")
    assert not asking.failures
    after = lab.status().stable_revision
    assert stable != after
    for pod in before.values():
        assert asking.answered[f"{pod.ip} {stable}"]
        assert asking.answered[f"{pod.ip} {after}"]
    assert lab.pods() == before, "the build was swapped in, in the same pods"
    assert "maxAccuracyDrop is 0.02" in jobs_of(lab)["thin"]["message"]
    assert "maxAccuracyDrop is 0.02" in lab.wait_event("BuildRefused")
    assert set(built(lab)) == {"int8"}
    repository = f"builds/{lab.namespace}/digits"
    tags = registry.pull(f"{repository}/tags/list").json()["tags"]
    assert sorted(tag.partition("-")[0] for tag in tags) == ["build", "build", "file"]


def test_a_wiped_status_and_a_model_made_anew_make_no_build_again_and_roll_nothing_out(
    lab: Lab, registry: Registry, sources: dict[str, dict[str, Any]]
) -> None:
    wanted = model(sources, registry, INT8, THIN)
    revision, pods, jobs, known = (
        lab.status().stable_revision,
        lab.pods(),
        made_jobs(lab),
        built(lab),
    )
    wiped = ("--type=merge", "-p", '{"status": {"artifacts": null, "jobs": null}}')
    lab.kubectl("patch", "em", "digits", "--subresource=status", *wiped)
    wait_for_jobs(lab, int8="Succeeded", thin="Refused")
    assert built(lab) == known
    assert made_jobs(lab) == jobs
    old = records(lab)
    lab.kubectl("delete", "em", "digits", "--cascade=orphan")
    lab.apply(wanted)
    wait_for_jobs(lab, int8="Succeeded", thin="Refused")
    assert records(lab) == old, "what nobody owned was taken over"
    assert made_jobs(lab) == jobs
    lab.kubectl("delete", "em", "digits")
    lab.wait(lambda: not records(lab), "Kubernetes has collected the records")
    lab.kubectl("delete", "jobs", "--all")  # nobody owned them, and their pods could still tell
    lab.apply(wanted)
    wait_for_jobs(lab, int8="Succeeded", thin="Refused")
    assert "it was in the store" in jobs_of(lab)["int8"]["message"]
    assert built(lab) == known
    lab.wait(lambda: lab.condition("Ready")[0] == "True", "the deployment is ready again")
    assert lab.status().stable_revision == revision
    assert lab.pods() == pods
    assert set(served(lab).values()) == {known["int8"]}


def test_a_pod_that_is_killed_is_tried_again_and_the_same_build_rolls_nothing_out(
    lab: Lab, registry: Registry, sources: dict[str, dict[str, Any]]
) -> None:
    revision, known = lab.status().stable_revision, built(lab)
    before = made_jobs(lab)
    lab.apply(model(sources, registry, INT8, retry="once more"))
    new = lambda: [job for job in lab.items("jobs") if job["metadata"]["uid"] not in before]  # noqa: E731
    job = lab.wait(new, "a Job is made")[0]["metadata"]["name"]
    pod = lab.wait(lambda: lab.items("pods", "-l", f"job-name={job}"), "it has a pod")[0]
    lab.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
    wait_for_jobs(lab, int8="Succeeded")
    assert "it was in the store" not in jobs_of(lab)["int8"]["message"]
    tries = [one["metadata"]["uid"] for one in lab.items("pods", "-l", f"job-name={job}")]
    assert tries
    assert pod["metadata"]["uid"] not in tries
    assert built(lab) == known, "the same bytes on the same CPU"
    lab.wait(lambda: lab.condition("Ready")[0] == "True", "the deployment is ready again")
    assert lab.status().stable_revision == revision
    assert set(served(lab).values()) == {known["int8"]}


@pytest.mark.long
def test_a_job_that_has_to_succeed_holds_the_model_back(
    lab: Lab, registry: Registry, sources: dict[str, dict[str, Any]]
) -> None:
    revision = lab.status().stable_revision
    lab.apply(model(sources, registry, INT8, {**THIN, "onFailure": "Block"}))
    wait_for_jobs(lab, int8="Succeeded", thin="Refused")
    held = lambda: lab.condition("Stalled")[1] == "OptimizationFailed"  # noqa: E731
    lab.wait(held, "the deployment is held")
    assert "maxAccuracyDrop is 0.02" in lab.condition("Ready")[2]
    assert lab.condition("Stalled", "edgemodel")[1] == "OptimizationFailed"
    assert lab.status().stable_revision == revision


@pytest.mark.long
def test_a_store_that_nobody_may_write_to_fails_the_job_with_the_reason(
    lab: Lab, registry: Registry, sources: dict[str, dict[str, Any]]
) -> None:
    wanted = model(sources, registry, INT8, retry="elsewhere")
    wanted["spec"]["optimize"]["store"]["pushSecretRef"] = {"name": "absent"}
    lab.apply(wanted)
    wait_for_jobs(lab, int8="Failed")
    assert "Secret absent: it is not there, or empty" in jobs_of(lab)["int8"]["message"]
