"""What an end-to-end test does to the cluster, and how it waits for what follows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, TypeVar

from digits_demo.artifacts import Index
from digits_demo.cluster import Access
from digits_demo.model_server import ModelServer
from skerry_operator.api.v1alpha1.edgedeployment_status import EdgeDeploymentStatus
from skerry_runtime.contract import ADMIN_PORT, StatusReport

T = TypeVar("T")
NODES = ("node-a", "node-b", "node-c")
QUICK_STEPS = ({"units": "1", "soak": "1s"}, {"units": "100%", "soak": "1s"})
WITHIN_S = 180.0
"""How long anything may take: a loaded machine is slow, and not wrong. Nothing is measured here."""
ANSWER_S = 10.0
"""The same for one answer of one pod."""
SELECTOR = "skerry.dev/deployment"
LABEL = "skerry.dev/tests"
"""Of every namespace that a test made."""


@dataclass(frozen=True)
class PodView:
    """A pod as kubectl shows it."""

    name: str
    uid: str
    node: str
    ip: str
    restarts: int


class Lab:
    """One namespace with one EdgeModel and one EdgeDeployment, both called digits."""

    def __init__(self, access: Access, namespace: str, server: ModelServer, index: Index) -> None:
        self.access = access
        self.namespace = namespace
        self.server = server
        self.index = index

    # what a person does

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in the lab's namespace; return its output."""
        config = f"--kubeconfig={self.access.kubeconfig}"
        command = [self.access.kubectl, config, f"--namespace={self.namespace}", *words]
        done = subprocess.run(
            command, input=stdin, text=True, capture_output=True, check=False, timeout=WITHIN_S
        )
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def skerry(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line of the user."""
        where = ["--kubeconfig", str(self.access.kubeconfig), "--namespace", self.namespace]
        command = [sys.executable, "-m", "skerry_operator.ctl", *where, *words]
        return subprocess.run(
            command, text=True, capture_output=True, check=False, timeout=WITHIN_S
        )

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects as a Git tool would: server-side, with a field manager of its own."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "--server-side", "--field-manager=git", "-f", "-", stdin=text)

    def create_namespace(self) -> None:
        """Make the namespace, one that admits only restricted pods; one that is left over goes."""
        self.kubectl("delete", "namespace", self.namespace, "--wait=false", check=False)
        gone = ("--for=delete", f"namespace/{self.namespace}", f"--timeout={WITHIN_S:.0f}s")
        self.kubectl("wait", *gone)
        labels = {"pod-security.kubernetes.io/enforce": "restricted", LABEL: "e2e"}
        metadata = {"name": self.namespace, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def leave_namespace(self) -> None:
        """End all that runs, so that its devices are free, and let the namespace go by itself.

        Kubernetes begins with a deleted namespace after 5 s, and anew after 5 s while pods are left
        in it; then it asks for the objects of every kind. Nobody has to wait for that.
        """
        try:
            self.kubectl("delete", "ed,em,pods", "--all", "--wait=false")
            self.wait(lambda: not self.items("pods"), "every pod has ended")
        finally:
            self.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def delete_deployment(self, name: str = "digits") -> None:
        """Delete an EdgeDeployment, and wait until its devices are free."""
        self.kubectl("delete", "ed", name, "--ignore-not-found")
        ended = lambda: not self.items("pods", "-l", f"{SELECTOR}={name}")  # noqa: E731
        self.wait(ended, f"the pods of {name} have ended")

    def model(self, key: str, version: str = "", **variant: Any) -> dict[str, Any]:
        """Return an EdgeModel with the trained model `key`.

        `version` makes a revision of its own of the same files; `variant` overrides fields.
        """
        trained = self.index.model(key)
        source = {"uri": f"{self.server.url}/{trained.file.name}", "sha256": trained.file.sha256}
        fields = {"name": "fp32", "format": "ONNX", "source": source, **variant}
        golden = self.index.golden
        exam = {"uri": f"{self.server.url}/{golden.name}", "sha256": golden.sha256}
        return {
            "apiVersion": "skerry.dev/v1alpha1",
            "kind": "EdgeModel",
            "metadata": {"name": "digits"},
            "spec": {
                "version": version or trained.version,
                "variants": [fields],
                "golden": {"source": exam, "threshold": "0.93"},
            },
        }

    def deployment(self, rollout: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
        """Return an EdgeDeployment with short steps; `spec` adds or replaces sections."""
        quick = {"steps": list(QUICK_STEPS), "analysis": {"interval": "1s"}}
        return {
            "apiVersion": "skerry.dev/v1alpha1",
            "kind": "EdgeDeployment",
            "metadata": {"name": "digits"},
            "spec": {
                "modelRef": {"name": "digits"},
                "runtime": {"threads": 1},
                "rollout": quick | (rollout or {}),
                **spec,
            },
        }

    # what a person sees

    def get(self, kind: str, name: str = "digits") -> dict[str, Any]:
        """Return one object."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def items(self, kind: str, *words: str) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, *words, "-o", "json"))[
            "items"
        ]
        return found

    def status(self) -> EdgeDeploymentStatus:
        """Return the EdgeDeployment's status; an outdated one counts as empty."""
        found = self.get("edgedeployment")
        status = EdgeDeploymentStatus.model_validate(found.get("status", {}))
        is_current = status.observed_generation == found["metadata"]["generation"]
        return status if is_current else EdgeDeploymentStatus()

    def condition(self, kind: str, of: str = "edgedeployment") -> tuple[str, str, str]:
        """Return status, reason and message of a condition; empty texts when there is none."""
        for found in self.get(of).get("status", {}).get("conditions", []):
            if found["type"] == kind:
                return found["status"], found["reason"], found["message"]
        return "", "", ""

    def events(self, reason: str) -> list[str]:
        """Return the messages of events with a reason; they follow what they tell of."""
        return [event["message"] for event in self.items("events") if event["reason"] == reason]

    def living(self, deployment: str = "digits") -> list[dict[str, Any]]:
        """Return the model pods that are neither ending nor over, the newest last."""
        found = self.items("pods", "-l", f"{SELECTOR}={deployment}")
        return sorted(
            (
                pod
                for pod in found
                if "deletionTimestamp" not in pod["metadata"]
                and pod["status"].get("phase") not in ("Succeeded", "Failed")
            ),
            key=lambda pod: str(pod["metadata"]["creationTimestamp"]),
        )

    def only_pod(self, *words: str) -> dict[str, Any]:
        """Wait until there is one pod, and none that is still ending: the model's, or any other."""

        def look() -> dict[str, Any] | None:
            found = self.items("pods", *(words or ("-l", f"{SELECTOR}=digits")))
            return found[0] if len(found) == 1 else None

        return self.wait(look, "there is one pod")

    def pods(self) -> dict[str, PodView]:
        """Return the model pods by node, the newest of each."""
        return {view.node: view for view in map(view_of, self.living())}

    def cells(self) -> dict[str, str]:
        """Node -> cell of the newest pod there."""
        return {
            pod["spec"].get("nodeName", ""): pod["metadata"]["labels"]["skerry.dev/cell"]
            for pod in self.living()
        }

    def report(self, node: str) -> StatusReport | None:
        """Return what the node's pod says of itself; None while it does not answer."""
        pod = self.pods().get(node)
        if pod is None or not pod.ip:
            return None
        try:
            address = f"http://{pod.ip}:{ADMIN_PORT}/status"
            with urllib.request.urlopen(address, timeout=ANSWER_S) as answer:
                return StatusReport.model_validate_json(answer.read())
        except (OSError, HTTPException):
            return None

    def reports(self) -> dict[str, StatusReport]:
        """Wait until every pod answers; return what they say, by node."""

        def look() -> dict[str, StatusReport] | None:
            found = {node: self.report(node) for node in self.pods()}
            told = {node: report for node, report in found.items() if report}
            return told if len(told) == len(found) else None

        return self.wait(look, "every pod answers")

    def versions(self) -> dict[str, str | None]:
        """Return the model version that each node serves."""
        reports = {node: self.report(node) for node in self.pods()}
        return {node: report and served_by(report) for node, report in reports.items()}

    def story(self) -> str:
        """Return what a person would look at when something went wrong."""
        words = ("get", "em,ed,pods,events", "-o", "wide")
        reports = [self.report(node) for node in self.pods()]
        texts = [report.model_dump_json(exclude={"counters"}) for report in reports if report]
        return "\n".join([self.kubectl(*words, check=False), *texts])

    # how a test waits

    def wait(self, look: Callable[[], T | None], what: str) -> T:
        """Return the first truthy answer.

        Raises:
            AssertionError: none came in time; the text tells the story.
        """
        deadline = time.monotonic() + WITHIN_S
        while not (answer := look()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {WITHIN_S} s: {what}\n{self.story()}")
            time.sleep(0.2)
        return answer

    def wait_serves(self, node: str, version: str) -> StatusReport:
        """Wait until a node serves a version; return its report."""

        def look() -> StatusReport | None:
            report = self.report(node)
            return report if report and served_by(report) == version else None

        return self.wait(look, f"{node} serves {version}")

    def wait_event(self, reason: str, text: str = "") -> str:
        """Wait for an event with a reason whose message holds a text; return the message."""
        found = lambda: next((m for m in self.events(reason) if text in m), None)  # noqa: E731
        return self.wait(found, f"an event {reason} about {text!r}")

    def wait_stable(self, version: str) -> EdgeDeploymentStatus:
        """Wait until the version is stable and the object says that it is ready."""

        def look() -> EdgeDeploymentStatus | None:
            status = self.status()
            ready = {c.type: c.status for c in status.conditions}.get("Ready")
            is_it = status.model_version == version and ready == "True"
            return status if is_it else None

        return self.wait(look, f"{version} is stable")

    def wait_rolled_back(self, version: str, text: str) -> EdgeDeploymentStatus:
        """Wait until this version was taken back, and no earlier one, for a reason with `text`."""

        def look() -> EdgeDeploymentStatus | None:
            status = self.status()
            stalled = [c for c in status.conditions if c.type == "Stalled" and c.status == "True"]
            is_it = any(c.reason == "RolledBack" and text in c.message for c in stalled)
            return status if is_it and status.model_version == version else None

        return self.wait(look, f"{version} rolled back because of {text!r}")

    def start_stable(self, key: str = "v1", **spec: Any) -> EdgeDeploymentStatus:
        """Deploy a good model and wait until it is stable."""
        self.apply(self.model(key), self.deployment(**spec))
        return self.wait_stable(self.index.model(key).version)


def served_by(report: StatusReport) -> str | None:
    """Return the version that a pod says it serves."""
    return report.serving.version if report.serving else None


def view_of(pod: dict[str, Any]) -> PodView:
    """Read a pod."""
    containers = pod["status"].get("containerStatuses", [])
    return PodView(
        name=pod["metadata"]["name"],
        uid=pod["metadata"]["uid"],
        node=pod["spec"].get("nodeName", ""),
        ip=pod["status"].get("podIP", ""),
        restarts=sum(one["restartCount"] for one in containers),
    )
