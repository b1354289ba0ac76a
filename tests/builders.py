"""Builders of test values: only what a test names differs from an ordinary small fleet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from documents import make_served
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
from skerry_operator.catalogue.profiles import AcceleratorClass, Profile
from skerry_operator.decide.observed import Pod
from skerry_operator.decide.placement.nodes import Node, Taint
from skerry_operator.decide.reported import UnitReport
from skerry_operator.reports.base import Question
from skerry_operator.reports.door import let_in
from skerry_runtime.contract import (
    Acceleration,
    Failure,
    FailureReason,
    Progress,
    StatusReport,
    SwapPhase,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

CPU = Profile(name="cpu", accelerator_class=AcceleratorClass.CPU, labels=({},))
HAILO = Profile(
    name="hailo-8",
    accelerator_class=AcceleratorClass.NPU,
    resource_names=("hailo.ai/h8", "squat.ai/hailo"),
    labels=({"hailo.ai/device": "present"},),
    architectures=("arm64",),
    providers=("HailoExecutionProvider", "CPUExecutionProvider"),
)
NVIDIA = Profile(
    name="nvidia-gpu",
    accelerator_class=AcceleratorClass.GPU,
    resource_names=("nvidia.com/gpu",),
    providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
    image="registry.example/runtime-cuda:1",
    runtime_class_name="nvidia",
    supplemental_groups=(44,),
)
VULKAN = Profile(
    name="vulkan-gpu",
    accelerator_class=AcceleratorClass.GPU,
    labels=({"gpu": "mali"}, {"gpu": "adreno"}),
)
PROFILES = (HAILO, NVIDIA, VULKAN, CPU)

T = TypeVar("T")
Option = Callable[[T], T]


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- nodes ---


def make_node(name: str, *options: Option[Node], arch: str = "amd64") -> Node:
    """A node that is reachable, has 4 GiB of memory and nothing special."""
    node = Node(
        name=name,
        arch=arch,
        labels={"kubernetes.io/hostname": name, "kubernetes.io/arch": arch},
        allocatable={"cpu": 4.0, "memory": 4 * 2.0**30},
    )
    for option in options:
        node = option(node)
    return node


def having(resource: str, count: float = 1) -> Option[Node]:
    return lambda node: replace(node, allocatable={**node.allocatable, resource: count})


def labelled(**labels: str) -> Option[Node]:
    """Labels; `__` stands for `/` and `_` for `.`: hailo_ai__device="present"."""
    spelled = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
    return lambda node: replace(node, labels={**node.labels, **spelled})


def tainted(key: str, effect: str = "NoSchedule", value: str = "") -> Option[Node]:
    return lambda node: replace(node, taints=(*node.taints, Taint(key, effect, value)))


def offline(node: Node) -> Node:
    return replace(node, reachable=False)


def cordoned(node: Node) -> Node:
    return replace(node, unschedulable=True)


# --- resources ---


def make_variant(name: str = "fp32", **fields: Any) -> dict[str, Any]:
    """A variant as a manifest has it; the file is named after it and `version`."""
    version = fields.pop("version", "1")
    return {
        "name": name,
        "format": "ONNX",
        "source": {
            "uri": f"https://models.example/digits-{version}-{name}.onnx",
            "sha256": sha256_of(f"{version}-{name}"),
        },
        **fields,
    }


def make_model(version: str = "1.0.0", *variants: Mapping[str, Any], **spec: Any) -> EdgeModel:
    """An EdgeModel `digits`; without variants it has one that runs anywhere."""
    return EdgeModel.model_validate(
        {
            "metadata": {"name": "digits", "uid": "model-uid", "generation": 1},
            "spec": {
                "version": version,
                "variants": list(variants) or [make_variant(version=version)],
                **spec,
            },
        }
    )


def make_deployment(status: Mapping[str, Any] | None = None, **spec: Any) -> EdgeDeployment:
    """An EdgeDeployment `digits` of the model `digits`, with the given parts of its spec."""
    return EdgeDeployment.model_validate(
        {
            "metadata": {"name": "digits", "namespace": "edge", "uid": "uid-1", "generation": 1},
            "spec": {"modelRef": {"name": "digits"}, **spec},
            "status": dict(status or {}),
        }
    )


# --- what pods say ---


def make_report(unit: str, *options: Option[StatusReport], **fields: Any) -> StatusReport:
    """A pod that has just started and serves nothing."""
    report = StatusReport(
        unit=unit,
        runtime_version="0.1.0",
        boot_id=f"boot-{unit}",
        started_at=NOW.timestamp() - 60,
        now=NOW.timestamp(),
        **fields,
    )
    for option in options:
        report = option(report)
    return report


def reduced(report: StatusReport, now: datetime = NOW) -> UnitReport:
    """What the operator keeps of a pod's report that came at `now`."""
    body = report.model_dump_json(by_alias=True).encode()
    namespace, name = (report.deployment or "edge/digits").split("/")
    question = Question((namespace, name), Pod(f"pod-{report.unit}", report.unit, "cell", "t"))
    return let_in(body, question, now.timestamp(), with_counters=True)


def all_reduced(
    reports: Mapping[str, StatusReport | UnitReport], now: datetime = NOW
) -> dict[str, UnitReport]:
    return {
        unit: report if isinstance(report, UnitReport) else reduced(report, now)
        for unit, report in reports.items()
    }


def serving(revision: str, version: str = "1.0.0", percent: float = 100) -> Option[StatusReport]:
    served = make_served(
        revision,
        version,
        NOW.timestamp() - 30,
        sha256=sha256_of(revision),
        acceleration=Acceleration(
            requested=("CPUExecutionProvider",),
            effective="CPUExecutionProvider",
            delegated_percent=percent,
        ),
    )
    return lambda report: report.model_copy(update={"serving": served})


def busy(revision: str, phase: SwapPhase, message: str = "") -> Option[StatusReport]:
    progress = Progress(revision=revision, phase=phase, message=message)
    return lambda report: report.model_copy(update={"progress": progress, "assigned": revision})


def refusing(
    revision: str,
    reason: FailureReason = FailureReason.EXAM_FAILED,
    message: str = "Accuracy 0.21 < 0.95",
    age_s: float = 5,
    retry: str | None = None,
) -> Option[StatusReport]:
    """A pod that refuses the revision, beside what it refused before; None: of an old runtime."""
    told = {"revision": revision, "reason": reason, "message": message, "retry": retry}
    failure = Failure(at=NOW.timestamp() - age_s, **told)
    progress = Progress(phase=SwapPhase.FAILED, **told)
    return lambda report: report.model_copy(
        update={
            "failures": (failure, *report.failures),
            "progress": progress,
            "assigned": revision,
        }
    )
