"""Carries a plan out: every job by itself, from the same origin."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from skerry_optimize.errors import StepRefused
from skerry_optimize.graphs import read_graph
from skerry_optimize.guards import BuildFigures, broken
from skerry_optimize.measure import (
    compare_speed,
    cpu_name,
    examined,
    peak_bytes,
    question,
)
from skerry_optimize.plan import Job, OptimizePlan
from skerry_optimize.report import BuiltArtifact, JobPhase, JobReport, Origin, Report
from skerry_optimize.steps import Made, Supplies, stepped
from skerry_runtime.agent.npz import Arrays
from skerry_runtime.contract import Format, GoldenMetric


@dataclass(frozen=True)
class Material:
    """What all jobs begin with."""

    path: Path
    model: onnx.ModelProto
    """Tidied."""
    data: Arrays | None = None
    golden: Arrays | None = None
    metric: GoldenMetric | None = None
    """Of the exam."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """File, address or variant that the plan names -> where it lies; others lie beside `path`."""


@dataclass(frozen=True)
class Build:
    """A result before it is judged."""

    model: onnx.ModelProto
    content: bytes
    format: Format

    @property
    def ending(self) -> str:
        """Return what its file's name ends with."""
        return {Format.ORT: ".ort", Format.TFLITE: ".tflite"}.get(self.format, ".onnx")


def read_material(
    path: Path,
    data: Arrays | None,
    golden: Arrays | None,
    files: Mapping[str, Path] | None = None,
) -> Material:
    """Return the model, what it is measured with, and where the files lie that a plan names.

    Raises:
        OSError: the file cannot be read.
        StepRefused: it is no model that steps can work on.
    """
    return Material(path, read_graph(path.read_bytes()), data, golden, files=files or {})


def measured_origin(plan: OptimizePlan, material: Material) -> Origin:
    """Return what the model is worth that all builds are made from.

    Raises:
        BadPlan: the golden file does not fit it.
    """
    content = material.path.read_bytes()
    return Origin(
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        accuracy=_accuracy(plan, material.path, Format.ONNX, material),
    )


def run_plan(
    plan: OptimizePlan, material: Material, origin: Origin, folder: Path
) -> Iterator[JobReport]:
    """Make the builds one after another; those that are good enough lie in the folder then.

    Raises:
        BadPlan: data or golden file do not fit the model.
    """
    material = replace(material, metric=plan.golden.metric if plan.golden else None)
    for job in plan.jobs:
        yield _run_job(job, plan, material, origin, folder)


def report_of(origin: Origin, jobs: tuple[JobReport, ...]) -> Report:
    """Return the report of a plan that was carried out."""
    return Report(cpu=cpu_name(), origin=origin, jobs=jobs)


def _run_job(
    job: Job, plan: OptimizePlan, material: Material, origin: Origin, folder: Path
) -> JobReport:
    began = time.monotonic()
    try:
        build = make(job, material)
        report = _judged(job, build, plan, material, origin, folder)
    except StepRefused as err:
        report = JobReport(name=job.name, phase=JobPhase.REFUSED, message=str(err))
    return report.model_copy(update={"seconds": time.monotonic() - began})


def make(job: Job, material: Material) -> Build:
    """Return what the steps make of the model.

    Raises:
        StepRefused: a step cannot be done with it.
        BadPlan: the data does not fit it.
    """
    given = Supplies(
        material.model,
        material.path.parent,
        material.data or {},
        material.metric,
        material.files,
    )
    made = Made(material.model)
    for step in job.steps:
        made = stepped(made, step.action, given)
    return Build(made.model, made.content, made.format)


def _judged(
    job: Job,
    build: Build,
    plan: OptimizePlan,
    material: Material,
    origin: Origin,
    folder: Path,
) -> JobReport:
    """Measure a build, and keep its file if it is good enough."""
    target = folder / f"{job.name}{build.ending}"
    with tempfile.TemporaryDirectory(prefix=".skerry-optimize-", dir=folder) as work:
        path = Path(work, target.name)
        path.write_bytes(build.content)
        feed = question(build.model)
        figures = BuildFigures(
            size_bytes=len(build.content),
            origin_bytes=origin.size_bytes,
            speed=compare_speed(material.path, path, feed),
            metric=plan.golden.metric if plan.golden else None,
            accuracy=_accuracy(plan, path, build.format, material),
            origin_accuracy=origin.accuracy,
        )
        made = BuiltArtifact.of(
            target.name,
            hashlib.sha256(build.content).hexdigest(),
            figures,
            peak_bytes(path, feed),
        )
        problems = broken(plan.guards, figures)
        if not problems:
            path.replace(target)
    phase = JobPhase.REFUSED if problems else JobPhase.SUCCEEDED
    return JobReport(name=job.name, phase=phase, message="; ".join(problems), artifact=made)


def _accuracy(plan: OptimizePlan, path: Path, form: Format, material: Material) -> float | None:
    if plan.golden is None or material.golden is None:
        return None
    return examined(path, form, material.golden, plan.golden.metric)
