"""The Job that makes a build, and the order that its pod reads.

Its pod passes PodSecurity `restricted` and holds no Kubernetes credentials. The order comes by the
downward API: the Job alone is the whole of it, and no second object can be missing or another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skerry_operator.api.addresses import PVC
from skerry_operator.api.base import ObjectMeta
from skerry_operator.api.quantity import duration_s, quantity
from skerry_operator.api.v1alpha1.edgedeployment_pods import NO_EXTRAS, PodExtras
from skerry_operator.api.v1alpha1.edgemodel import EdgeModelSpec
from skerry_operator.api.v1alpha1.edgemodel_optimize import OptimizeSpec, OptimizeStep
from skerry_operator.api.v1alpha1.edgemodel_source import Source
from skerry_operator.constants import ANNOTATION_ORDER, LABEL_MANAGED_BY, MANAGED_BY
from skerry_operator.decide.builds.wanted import WantedBuild
from skerry_operator.decide.planned import Manifest
from skerry_operator.decide.supplies import CLAIM, SECRET
from skerry_operator.manifests import supplies
from skerry_operator.manifests.metadata import build_labels, build_name, manifest, ref
from skerry_operator.manifests.pod import USER_ID
from skerry_runtime.contract import (
    BUILD_ORDER_DIR,
    BUILD_ORDER_FILE,
    BUILD_WORK_DIR,
    BuildOrder,
    OrderedExam,
    OrderedFile,
    OrderedStore,
)

CONTAINER = "optimize"
TRIES = 3
"""Pods after the first that may fail; one that is drained or preempted does not count."""
KEPT_S = 3600
"""How long a Job that is over is kept, for its log."""
TMP_LIMIT = "1Gi"
USUAL_MEMORY, USUAL_LIMIT, USUAL_DISK = "512Mi", "2Gi", "4Gi"
STUDENT_FILE = "student.onnx"
_ARCH = "kubernetes.io/arch"


@dataclass(frozen=True)
class JobSettings:
    """What the operator's administrator gives all Jobs."""

    image: str
    fetch: Mapping[str, str] = field(default_factory=dict)
    """What pods are told about fetching, as environment variables."""
    pods: PodExtras = NO_EXTRAS
    node_selector: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildSite:
    """Where a model's builds are put, and by what Secret."""

    uri: str
    push_secret: str | None = None


def build_job(
    owner: ObjectMeta,
    spec: EdgeModelSpec,
    wanted: WantedBuild,
    site: BuildSite,
    settings: JobSettings,
) -> Manifest:
    """Return the Job of a build."""
    optimize = spec.optimize
    assert optimize is not None  # noqa: S101 (who wants a build has it)
    order = order_of(spec, wanted, site)
    labels = build_labels(owner.name, wanted.name)
    template = {
        "metadata": {
            "labels": {**settings.pods.labels, LABEL_MANAGED_BY: MANAGED_BY, **labels},
            "annotations": {
                **settings.pods.annotations,
                ANNOTATION_ORDER: order.model_dump_json(by_alias=True, exclude_none=True),
            },
        },
        "spec": _pod(optimize, _supplies(order), settings),
    }
    content = {
        "backoffLimit": TRIES,
        "activeDeadlineSeconds": int(duration_s(optimize.active_deadline)),
        "ttlSecondsAfterFinished": KEPT_S,
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                }
            ]
        },
        "template": template,
    }
    name = build_name(owner.name, wanted.name, wanted.key)
    return manifest(owner, ref("Job", name), {"spec": content}, labels, owner_kind="EdgeModel")


def order_of(spec: EdgeModelSpec, wanted: WantedBuild, site: BuildSite) -> BuildOrder:
    """Return what the Job is to do."""
    optimize, golden = spec.optimize, spec.golden
    data = optimize.data.source if optimize and optimize.data else None
    exam = (
        OrderedExam(**_file(golden.source).model_dump(), metric=golden.metric) if golden else None
    )
    return BuildOrder(
        job=wanted.name,
        key=wanted.inputs_key,
        origin=_file(wanted.origin.source),
        student=_file(wanted.student) if wanted.student else None,
        data=_file(data) if data else None,
        golden=exam,
        steps=tuple(_step(one) for one in wanted.job.steps),
        guards=optimize.guards.to_dict() if optimize else {},
        store=OrderedStore(uri=site.uri, secret=site.push_secret),
    )


def _file(source: Source) -> OrderedFile:
    secret = source.secret_ref.name if source.secret_ref else None
    return OrderedFile(uri=source.uri, sha256=source.sha256, secret=secret)


def _step(step: OptimizeStep) -> dict[str, Any]:
    """Return a step as a plan has it, with the defaults of today written out.

    The student is a file that the Job has fetched.
    """
    content = step.model_dump(mode="json", by_alias=True, exclude_none=True)
    if step.distil is not None:
        content["distil"] = {**content["distil"], "student": {"file": STUDENT_FILE}}
    return content


def _supplies(order: BuildOrder) -> tuple[str, ...]:
    files = [one for one in (order.origin, order.student, order.data, order.golden) if one]
    secrets = {one.secret for one in files} | {order.store.secret}
    claims = {one.uri.removeprefix(PVC).partition("/")[0] for one in files if PVC in one.uri[:6]}
    return tuple(
        sorted(
            [
                *(f"{SECRET}{name}" for name in secrets if name),
                *(f"{CLAIM}{name}" for name in claims),
            ]
        )
    )


def _pod(optimize: OptimizeSpec, mounted: Iterable[str], settings: JobSettings) -> dict[str, Any]:
    mounted = tuple(mounted)
    resources = optimize.resources
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,  # there is nothing to save
        # The converters that it holds are there for this one alone.
        "nodeSelector": {_ARCH: "amd64", **settings.node_selector, **optimize.node_selector},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(optimize, mounted, settings)],
        "volumes": [
            {
                "name": "order",
                "downwardAPI": {
                    "items": [
                        {
                            "path": BUILD_ORDER_FILE,
                            "fieldRef": {
                                "fieldPath": f"metadata.annotations['{ANNOTATION_ORDER}']"
                            },
                        }
                    ]
                },
            },
            {"name": "work", "emptyDir": {"sizeLimit": resources.disk_limit or USUAL_DISK}},
            {"name": "tmp", "emptyDir": {"sizeLimit": TMP_LIMIT}},
            *supplies.volumes(mounted),
        ],
    }
    secrets = [{"name": one.name} for one in settings.pods.image_pull_secrets]
    if secrets:
        spec["imagePullSecrets"] = secrets
    if settings.pods.priority_class_name:
        spec["priorityClassName"] = settings.pods.priority_class_name
    return spec


def _container(
    optimize: OptimizeSpec, mounted: Iterable[str], settings: JobSettings
) -> dict[str, Any]:
    resources = optimize.resources
    limits = {"memory": resources.memory_limit or USUAL_LIMIT}
    if resources.cpu_limit:
        limits["cpu"] = resources.cpu_limit
    requests = {
        "cpu": resources.cpu_request or resources.cpu_limit or "1",
        "memory": resources.memory_request or min(USUAL_MEMORY, limits["memory"], key=quantity),
    }
    told = {**settings.fetch, "HOME": BUILD_WORK_DIR}
    return {
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["job"],
        "env": [{"name": name, "value": value} for name, value in told.items()],
        "resources": {"requests": requests, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "order", "mountPath": BUILD_ORDER_DIR, "readOnly": True},
            {"name": "work", "mountPath": BUILD_WORK_DIR},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (a volume of the pod's own)
            *supplies.mounts(mounted),
        ],
    }
