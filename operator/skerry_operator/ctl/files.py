"""The commands on manifest files: validate and plan."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from skerry_operator.catalogue.profiles import (
    BadProfile,
    Profile,
    builtin_profiles,
    extended_profiles,
)
from skerry_operator.ctl.answer import Answer, Declined, Exit
from skerry_operator.ctl.cluster import Cluster
from skerry_operator.ctl.documents import Raw, Written, node_bodies, parse_documents
from skerry_operator.ctl.foresee import (
    ForeseenNodes,
    Foresight,
    Surroundings,
    foresee,
    manifest_of,
)
from skerry_operator.ctl.known import (
    USUAL_PLACE,
    OperatorKnowledge,
    differences,
    out_of_reach,
    read_knowledge,
    unread,
)
from skerry_operator.ctl.plan_view import exit_of, plan_json, plan_text
from skerry_operator.ctl.strict import SPECS, faults
from skerry_operator.ctl.table import as_json
from skerry_operator.kube.errors import Forbidden, KubeError, NotFound, Unavailable
from skerry_operator.kube.read import BadResource

NOT_ASKED = (
    "Not checked offline: the rules that span several fields (CEL) and what the cluster's own "
    "policies say. `--server` asks the API server."
)


@dataclass(frozen=True)
class PlanWish:
    """What a plan is made of besides manifests."""

    nodes: str | None
    profiles: str | None
    image: str | None
    operator: str | None
    """Namespace and name of the ConfigMap with the operator's settings; None: the usual one."""
    namespace: str | None
    """Of manifests that name none; None: that of the cluster's context."""


def validate(names: Sequence[str], cluster: Cluster | None, *, json: bool = False) -> Answer:
    """Check manifests strictly; with a cluster, let its API server check them too."""
    checked = [(one, _problems(one, cluster)) for one in read_documents(names)]
    code = Exit.REFUSED if any(problems for _, problems in checked) else Exit.OK
    if json:
        return Answer(as_json([_checked_json(*one) for one in checked]), code)
    lines = [line for one in checked for line in _told(*one)]
    lines += [] if cluster else ["", NOT_ASKED]
    return Answer("\n".join(lines), code)


_WORST_FIRST = (Exit.REFUSED, Exit.NO_NODE, Exit.NOT_READY)
"""Exit statuses of plans: of several, the first of these counts."""


def plan(
    names: Sequence[str],
    wish: PlanWish,
    cluster: Cluster | None,
    now: datetime,
    *,
    json: bool = False,
) -> Answer:
    """Tell what the operator would make of manifests."""
    documents = tuple(one for one in read_documents(names) if one.kind in SPECS)
    checked = [(one, _problems(one, None)) for one in documents]
    if wrong := [one for one in checked if one[1]]:
        lines = [line for one in wrong for line in _told(*one)]
        text = as_json([_checked_json(*one) for one in wrong]) if json else "\n".join(lines)
        return Answer(text, Exit.REFUSED)
    foresights = _Planner(documents, wish, cluster, now).foresights()
    codes = [exit_of(one) for one in foresights]
    worst = next((code for code in _WORST_FIRST if code in codes), Exit.OK)
    if json:
        return Answer(as_json([plan_json(one) for one in foresights]), worst)
    return Answer("\n\n".join(plan_text(one) for one in foresights), worst)


def read_documents(names: Iterable[str]) -> tuple[Written, ...]:
    """Return the objects in the files; `-` is the standard input.

    Raises:
        Declined: a file cannot be read, or there is no object in them.
    """
    found = tuple(one for name in names for one in parse_documents(name, read_text(name)))
    if not found:
        raise Declined(f"no object in {', '.join(names)}: name a file with manifests")
    return found


def read_text(name: str) -> str:
    """Return a file's text; `-` is the standard input.

    Raises:
        Declined: it cannot be read.
    """
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is no text"
        raise Declined(f"{name}: {why}: name a file with manifests") from error


class _Planner:
    """Gathers what each plan is made in: from files, and from the cluster where there is one."""

    def __init__(
        self,
        documents: Sequence[Written],
        wish: PlanWish,
        cluster: Cluster | None,
        now: datetime,
    ) -> None:
        self._cluster = cluster
        self._now = now
        self._known = _knowledge(wish, cluster)
        default = wish.namespace or (cluster.namespace if cluster else "default")
        self._ours = {
            kind: [_manifest(one, default) for one in documents if one.kind == kind]
            for kind in SPECS
        }
        self._nodes = _nodes(wish.nodes, cluster)

    def foresights(self) -> list[Foresight]:
        """Return a plan for every deployment in the files, and for those that use their models.

        Raises:
            Declined: there is no deployment to plan.
        """
        deployments = [*self._ours["EdgeDeployment"], *self._users_of_models()]
        if not deployments:
            raise Declined("no EdgeDeployment to plan: name a file that holds one with -f")
        return [self._foresee(one) for one in deployments]

    def _users_of_models(self) -> list[Raw]:
        """Return the deployments of the cluster that the models in the files would change."""
        models = {_key(one) for one in self._ours["EdgeModel"]}
        known = {_key(one) for one in self._ours["EdgeDeployment"]}
        if self._cluster is None:
            return []
        return [
            one
            for namespace in sorted({namespace for namespace, _ in models})
            for one in self._cluster.within(namespace).deployments()
            if _key(one) not in known and (namespace, _model_name(one)) in models
        ]

    def _foresee(self, deployment: Raw) -> Foresight:
        try:
            known = self._known.within(deployment["metadata"]["namespace"])
            return foresee(deployment, self._around(deployment), known, self._now)
        except BadResource as error:
            raise Declined(f"{'/'.join(_key(deployment))}: {error}: correct it") from error

    def _around(self, deployment: Raw) -> Surroundings:
        namespace, name = _key(deployment)
        wanted = (namespace, _model_name(deployment))
        model = next((one for one in self._ours["EdgeModel"] if _key(one) == wanted), None)
        if self._cluster is None:
            return Surroundings(self._nodes, model)
        inside = self._cluster.within(namespace)
        existing = inside.find_deployment(name)
        model = model or inside.model(wanted[1])
        return Surroundings(
            nodes=self._nodes,
            model=model,
            existing=existing,
            children=_with_builds(inside, model, inside.children(name) if existing else {}),
            pods=inside.pods(name) if existing else (),
        )


def _with_builds(
    cluster: Cluster, model: Raw | None, children: Mapping[str, Sequence[Raw]]
) -> Mapping[str, Sequence[Raw]]:
    """Return the objects, and with them what is recorded of the builds of a model.

    A manifest has no uid to be their owner's, so they count as its by their label.
    """
    if model is None or "optimize" not in model["spec"]:
        return children
    kind = "ControllerRevision"
    bare = [
        {**raw, "metadata": {**raw["metadata"], "ownerReferences": []}}
        for raw in cluster.records(model["metadata"]["name"])
    ]
    return {**children, kind: [*children.get(kind, ()), *bare]} if bare else children


def _problems(document: Written, cluster: Cluster | None) -> list[str]:
    """Return what is wrong with an object of ours; of others nothing is known."""
    if document.kind not in SPECS:
        return []
    found = [str(fault) for fault in faults(document.body)]
    return found or ([] if cluster is None else _server_problems(document, cluster))


def _server_problems(document: Written, cluster: Cluster) -> list[str]:
    namespace = document.metadata.get("namespace") or cluster.namespace
    try:
        cluster.within(namespace).try_apply(document.body)
    except (Forbidden, Unavailable):
        raise
    except KubeError as error:
        return [f"the API server refuses it: {error}"]
    return []


def _told(document: Written, problems: Sequence[str]) -> list[str]:
    """Return the lines about an object."""
    where = f"{document.origin}: {document.label}"
    if problems:
        return [f"{where}: {problem}" for problem in problems]
    word = "valid" if document.kind in SPECS else "left out, it is none of Skerry's kinds"
    return [f"{where}: {word}"]


def _checked_json(document: Written, problems: Sequence[str]) -> dict[str, Any]:
    """Return what was found out about an object, for scripts; fields are only ever added."""
    return {
        "origin": document.origin,
        "kind": document.kind,
        "name": document.metadata.get("name"),
        "checked": document.kind in SPECS,
        "valid": not problems,
        "problems": list(problems),
    }


def _manifest(document: Written, default: str) -> Raw:
    namespace = document.metadata.get("namespace") or default
    return manifest_of(document.kind, document.body, namespace)


def _nodes(name: str | None, cluster: Cluster | None) -> Sequence[Raw]:
    if name is not None:
        return node_bodies(parse_documents(name, read_text(name)))
    if cluster is None:
        raise Declined("neither a cluster nor --nodes: name a file of `kubectl get nodes -o yaml`")
    return cluster.nodes()


@dataclass(frozen=True)
class _Knowledge:
    """What is known of the operator, and what was asked for in its place."""

    usual: ForeseenNodes
    operator: OperatorKnowledge | None = None

    def within(self, namespace: str) -> ForeseenNodes:
        """Return what a plan in a namespace is made of."""
        if self.operator is None:
            return self.usual
        notes = (*self.usual.notes, *out_of_reach(self.operator, namespace))
        return replace(self.usual, notes=notes)


def _knowledge(wish: PlanWish, cluster: Cluster | None) -> _Knowledge:
    """Return the operator's profiles, images and settings, where it can be asked for them."""
    given = None if wish.profiles is None else _profiles(wish.profiles)
    plain = ForeseenNodes(given or builtin_profiles(), wish.image)
    if cluster is None:
        return _Knowledge(plain)
    place = wish.operator or USUAL_PLACE
    namespace, _, name = place.partition("/")
    if not name:
        raise Declined(f"--operator {place}: write NAMESPACE/NAME of the chart's ConfigMap")
    try:
        found = read_knowledge(place, cluster.within(namespace).config_map(name))
    except (NotFound, Forbidden) as error:
        if wish.operator:
            raise Declined(f"--operator {place}: {error}") from error
        return _Knowledge(replace(plain, notes=(unread(place, type(error).__name__),)))
    notes = differences(found, given, wish.image)
    profiles = given or found.profiles
    return _Knowledge(ForeseenNodes(profiles, wish.image, found.settings, notes), found)


def _profiles(name: str) -> tuple[Profile, ...]:
    try:
        return extended_profiles(read_text(name), name)
    except BadProfile as error:
        raise Declined(str(error)) from error


def _key(raw: Raw) -> tuple[str, str]:
    return str(raw["metadata"]["namespace"]), str(raw["metadata"]["name"])


def _model_name(deployment: Raw) -> Any:
    return deployment["spec"]["modelRef"]["name"]
