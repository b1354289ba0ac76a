"""The kinds of the API group, and their custom resource definitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skerry_operator.api.base import KubeModel
from skerry_operator.api.bounds import RULES
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.constants import GROUP, VERSION
from skerry_operator.crdgen.schema import Schema, schema_of, structural

CATEGORY = "skerry"
"""`kubectl get skerry` lists all kinds."""

_WIDE = 1
"""Priority of the columns that only `-o wide` shows."""


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`.

    The API server prints the first value only where the path finds several, so a path must
    never lead through every item of a list.
    """

    name: str
    path: str
    description: str
    type: str = "string"
    priority: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the column as the definition holds it."""
        column: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.priority:
            column["priority"] = self.priority
        return column | {"description": self.description}


@dataclass(frozen=True)
class CustomKind:
    """A kind of the group: its type, its names and what `kubectl get` prints."""

    model: type[KubeModel]
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    scale: tuple[str, str, str] | None = None
    """Paths of the wanted replicas, the present ones and the pods' selector; None: no scale."""

    @property
    def name(self) -> str:
        """The kind as manifests write it."""
        return self.model.__name__

    @property
    def file_name(self) -> str:
        """Name of the file with the definition."""
        return f"{GROUP}_{self.plural}.yaml"


def _of_ready(field: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{field}'


_READY = Column("Ready", _of_ready("status"), "Whether the spec as written is what runs.")
_REASON = Column("Reason", _of_ready("reason"), "Why it is ready or not.", priority=_WIDE)
_AGE = Column("Age", ".metadata.creationTimestamp", "Time since it was created.", type="date")

KINDS: tuple[CustomKind, ...] = (
    CustomKind(
        model=EdgeModel,
        plural="edgemodels",
        short_name="em",
        columns=(
            Column("Version", ".spec.version", "Version for people."),
            Column("Ready", _of_ready("status"), "Whether EdgeDeployments can use it."),
            Column("Reason", _of_ready("reason"), "Why it is ready or not."),
            Column("Exam", ".spec.golden.metric", "Golden exam.", priority=_WIDE),
            _AGE,
        ),
    ),
    CustomKind(
        model=EdgeDeployment,
        plural="edgedeployments",
        short_name="ed",
        columns=(
            Column("Phase", ".status.phase", "One word for the state."),
            Column("Step", ".status.step", "Step of the rollout."),
            Column("Model", ".status.modelVersion", "Version of the wanted model."),
            Column("Stable", ".status.stableRevision", "Revision that is known good."),
            Column("Target", ".status.targetRevision", "Revision that is being rolled out."),
            Column("Units", ".status.unitsText", "Serving units of all eligible ones."),
            _READY,
            _REASON,
            Column("Failed", ".status.units.failed", "Units that refuse the target.", "integer", 1),
            Column("Offline", ".status.units.offline", "Units out of reach.", "integer", 1),
            Column(
                "Upgrade",
                ".status.upgrade.policy",
                "What becomes of runtime images of the operator that pods do not run in.",
                priority=_WIDE,
            ),
            Column("Service", ".status.service", "Service that clients ask.", priority=_WIDE),
            _AGE,
        ),
        scale=(".spec.placement.replicas", ".status.replicas", ".status.selector"),
    ),
)

_TYPE_META: Schema = {
    "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
    "kind": {"type": "string", "description": "Kind of the object."},
    "metadata": {"type": "object"},
}


def definition(kind: CustomKind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of the kind.

    Raises:
        InexpressibleType: the kind's type holds what a structural schema cannot say.
    """
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": _names(kind),
            "scope": "Namespaced",
            "versions": [_version(kind)],
        },
    }


def _names(kind: CustomKind) -> dict[str, Any]:
    return {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "shortNames": [kind.short_name],
        "categories": [CATEGORY],
    }


def _version(kind: CustomKind) -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}, **_scale(kind)},
        "additionalPrinterColumns": [column.to_dict() for column in kind.columns],
        "schema": {"openAPIV3Schema": _root(schema_of(kind.model))},
    }


def _scale(kind: CustomKind) -> dict[str, Any]:
    if kind.scale is None:
        return {}
    names = ("specReplicasPath", "statusReplicasPath", "labelSelectorPath")
    return {"scale": dict(zip(names, kind.scale, strict=True))}


def _root(schema: Schema) -> Schema:
    """Return the schema of the whole object: the server's own fields are its own to check."""
    fields = schema["properties"]
    root: Schema = {"type": "object", "description": schema["description"], "required": ["spec"]}
    root["properties"] = _TYPE_META | {
        "spec": structural(fields["spec"], "spec"),
        "status": structural(fields["status"], "status", tell_defaults=False),
    }
    return root | ({RULES: schema[RULES]} if RULES in schema else {})
