"""What the command line reads from a cluster, and the few writes that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.api.v1alpha1.edgemodel import EdgeModelSpec
from skerry_operator.constants import LABEL_DEPLOYMENT, LABEL_MODEL
from skerry_operator.ctl.answer import Declined
from skerry_operator.ctl.documents import Raw
from skerry_operator.ctl.story import Event, Story, read_events
from skerry_operator.ctl.timeline import Happening, happenings
from skerry_operator.decide.builds.effective import effective_spec, hold_of
from skerry_operator.decide.names import bounded
from skerry_operator.decide.revision import Snapshot, revision_of
from skerry_operator.kube.access import Access
from skerry_operator.kube.children import read_child
from skerry_operator.kube.errors import Forbidden, NotFound
from skerry_operator.kube.paths import API_VERSIONS, CHILDREN, collection_path, object_path
from skerry_operator.kube.read import (
    BadResource,
    deployment_entry,
    model_entry,
    read_deployment,
    read_model,
)

INFER_TIMEOUT_S = 60.0
"""Longest wait for one answer of a model."""


@dataclass(frozen=True)
class Cluster:
    """One namespace of a cluster."""

    access: Access
    namespace: str

    def within(self, namespace: str) -> Cluster:
        """Return the same cluster, in another namespace."""
        return Cluster(self.access, namespace)

    def deployment(self, name: str) -> Raw:
        """Return an EdgeDeployment.

        Raises:
            Declined: there is none of that name.
        """
        found = self._get("EdgeDeployment", name)
        if found is None:
            raise Declined(
                f"EdgeDeployment {self.namespace}/{name} does not exist: check the name and the "
                "namespace (-n); `kubectl get ed -A` lists them"
            )
        return found

    def find_deployment(self, name: str) -> Raw | None:
        """Return an EdgeDeployment, or None."""
        return self._get("EdgeDeployment", name)

    def deployments(self) -> list[Raw]:
        """Return all EdgeDeployments of the namespace."""
        return self._list("EdgeDeployment")

    def model(self, name: str) -> Raw | None:
        """Return an EdgeModel, or None."""
        return self._get("EdgeModel", name)

    def config_map(self, name: str) -> Raw:
        """Return a ConfigMap.

        Raises:
            KubeError: it is not there, or may not be read.
        """
        return self.access.client.get(object_path("ConfigMap", self.namespace, name))

    def nodes(self) -> list[Raw]:
        """Return all nodes."""
        return self._list("Node", namespace="")

    def children(self, deployment: str) -> dict[str, list[Raw]]:
        """Return the generated objects of a deployment, by kind."""
        return {kind: self._list(kind, _owned_by(deployment)) for kind in CHILDREN}

    def pods(self, deployment: str) -> list[Raw]:
        """Return the pods of a deployment."""
        return self._list("Pod", _owned_by(deployment))

    def story(self, name: str) -> Story:
        """Return all that is told of a deployment.

        Raises:
            Declined: there is no such deployment, or it cannot be read.
        """
        raw = self.deployment(name)
        try:
            deployment = read_deployment(deployment_entry(raw)).deployment
            model = self.model(deployment.spec.model_ref.name)
            known = self._snapshots(name)
            wanted = _wanted(deployment, self.with_builds(model), known)
        except BadResource as error:
            raise Declined(f"{self.namespace}/{name}: {error}: is this CLI too old?") from error
        versions = {one.revision: one.model.version for one in known or ()}
        return Story(deployment, wanted, versions, self._events(name))

    def records(self, model: str) -> list[Raw]:
        """Return the records of what came of a model's builds; none without the right to."""
        try:
            return self._list("ControllerRevision", f"{LABEL_MODEL}={bounded(model)}")
        except Forbidden:
            return []

    def with_builds(self, model: Raw | None) -> EdgeModelSpec | None:
        """Return the spec that deployments of a model go by; None: they wait, or there is none.

        Raises:
            BadResource: it cannot be read.
        """
        if model is None:
            return None
        spec = read_model(model_entry(model)).spec
        if spec.optimize is None:
            return spec
        raws = self.records(model["metadata"]["name"])
        found = (read_child("ControllerRevision", raw).record for raw in raws)
        results = {one.key: one for one in found if one is not None}
        return None if hold_of(spec, results) else effective_spec(spec, results)

    def timeline(self, name: str) -> tuple[Happening, ...]:
        """Return the events of a deployment and of all that belongs to it, the oldest first.

        Raises:
            Declined: there is no such deployment.
            KubeError: events may not be read. Of pods one may not read, events are left out.
        """
        raw = self.deployment(name)
        objects = {("EdgeDeployment", name), ("EdgeModel", raw["spec"]["modelRef"]["name"])}
        for kind in ("DaemonSet", "ReplicaSet", "Pod"):
            try:
                found = self._list(kind, _owned_by(name))
            except Forbidden:
                continue
            objects |= {(kind, one["metadata"]["name"]) for one in found}
        answer = self.access.client.get(collection_path("Event", self.namespace))
        return happenings(answer.get("items") or (), objects)

    def patch(self, name: str, body: Mapping[str, Any]) -> None:
        """Merge-patch an EdgeDeployment."""
        path = object_path("EdgeDeployment", self.namespace, name)
        self.access.client.merge(path, body, "EdgeDeployment")

    def try_apply(self, body: Mapping[str, Any]) -> None:
        """Let the API server check an object, and keep nothing.

        Raises:
            KubeError: it refuses the object.
        """
        kind, name = body["kind"], body["metadata"]["name"]
        given = body["metadata"]
        metadata = {key: given[key] for key in ("labels", "annotations") if key in given}
        metadata |= {"name": name, "namespace": self.namespace}
        whole = {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": metadata}
        path = object_path(kind, self.namespace, name)
        self.access.client.try_apply(path, {**whole, "spec": body["spec"]}, kind)

    def ask_service(
        self, name: str, path: str, body: Mapping[str, Any], limit: int
    ) -> tuple[int, bytes]:
        """Post to the REST port of a Service, through the API server: no port-forward, no route.

        A name with `https:` in front asks over TLS; the API server checks no certificate there.
        """
        address = f"{object_path('Service', self.namespace, name)}:http/proxy/{path}"
        return self.access.client.ask(address, body, limit, INFER_TIMEOUT_S)

    def _get(self, kind: str, name: str) -> Raw | None:
        try:
            return self.access.client.get(object_path(kind, self.namespace, name))
        except NotFound as error:
            _refuse_unknown_kind(error)
            return None

    def _list(self, kind: str, selector: str = "", namespace: str | None = None) -> list[Raw]:
        query = {"labelSelector": selector} if selector else {}
        inside = self.namespace if namespace is None else namespace
        try:
            answer = self.access.client.get(collection_path(kind, inside), query)
        except NotFound as error:
            _refuse_unknown_kind(error)
            raise
        return list(answer.get("items") or ())

    def _snapshots(self, name: str) -> tuple[Snapshot, ...] | None:
        """Return the kept revisions; None without the right to read them."""
        try:
            raws = self._list("ControllerRevision", _owned_by(name))
        except Forbidden:
            return None
        found = (read_child("ControllerRevision", raw).snapshot for raw in raws)
        return tuple(one for one in found if isinstance(one, Snapshot))

    def _events(self, name: str) -> tuple[Event, ...]:
        """Return the newest events; nothing without the right to read them."""
        query = {"fieldSelector": f"involvedObject.kind=EdgeDeployment,involvedObject.name={name}"}
        try:
            answer = self.access.client.get(collection_path("Event", self.namespace), query)
        except Forbidden:
            return ()
        return read_events(answer.get("items") or ())


def _wanted(
    deployment: EdgeDeployment, spec: EdgeModelSpec | None, known: Sequence[Snapshot] | None
) -> str | None:
    """Return the revision that the two specs ask for; None: that cannot be told.

    In which images, the operator decides: of several that would do, the one under way counts.
    """
    if spec is None:
        return None
    status = deployment.status
    image_sets = {None, *(one.image_set for one in known or ())}
    fitting = {revision_of(spec, deployment.spec, one) for one in image_sets}
    failed = [entry.revision for entry in status.failed_revisions]
    told = (status.target_revision, status.stable_revision, *failed)
    plain = None if known is None else revision_of(spec, deployment.spec)
    return next((revision for revision in told if revision in fitting), plain)


def _refuse_unknown_kind(error: NotFound) -> None:
    """Tell a cluster without our definitions from one without the object."""
    if str(error).endswith((": HTTP 404", "could not find the requested resource")):
        raise Declined(
            "the cluster does not know Skerry's resources: install the chart, or choose another "
            "--context"
        ) from error


def _owned_by(deployment: str) -> str:
    return f"{LABEL_DEPLOYMENT}={bounded(deployment)}"
