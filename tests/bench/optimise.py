"""What builds are worth: accuracy, bytes, p50 and memory of every kind, for four models.

make bench-optimise ARGS="--only cnn"
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import yaml

from bench.form import Row, at_least, at_most, publish
from bench.optimise_models import SUBJECTS, Subject
from skerry_optimize.job import measured_origin, read_material, report_of, run_plan
from skerry_optimize.plan import OptimizePlan, read_plan
from skerry_optimize.report import BuiltArtifact, Report, table


def jobs_of(subject: Subject) -> dict[str, list[str]]:
    """Return job -> its steps, as they are written in a plan."""
    prune = f"prune: {{mode: {subject.prune}, amount: 50%}}"
    recover, lite = f"recover: {{epochs: {subject.epochs}}}", "convert: {format: TFLite}"
    static = "quantize: {mode: Static}"
    fixed = [f"fixShapes: {{inputs: {subject.fixed}}}"] if subject.fixed else []
    jobs = {
        "dynamic": ["quantize: {mode: Dynamic}"],
        "static": [static],
        "float16": ["quantize: {mode: Float16}"],
        "pruned": [prune],
        "recovered": [prune, recover],
        "tflite": [*fixed, lite],
        "tflite-int8": [*fixed, lite, static],
    }
    if subject.student:
        lesson = "distil: {student: {file: student.onnx}, temperature: 4, epochs: 150}"
        jobs["student"] = [lesson]
        jobs["recovered-static"] = [prune, recover, static]
        jobs["student-static"] = [lesson, static]
    return jobs


def plan_of(subject: Subject) -> OptimizePlan:
    """Return the plan: all kinds of builds, and no guard, for each is to be seen."""
    jobs = [
        {"name": name, "steps": [yaml.safe_load(step) for step in steps]}
        for name, steps in jobs_of(subject).items()
    ]
    golden = {"file": "golden.npz", "metric": str(subject.metric)}
    return read_plan(yaml.safe_dump({"data": {"file": "d.npz"}, "golden": golden, "jobs": jobs}))


def built(subject: Subject, folder: Path) -> Report:
    """Make all builds of a model."""
    model, student = folder / "model.onnx", folder / "student.onnx"
    model.write_bytes(subject.body)
    student.write_bytes(subject.student)
    plan = plan_of(subject)
    files = {"student.onnx": student} if subject.student else {}
    material = read_material(model, dict(subject.data), dict(subject.golden), files)
    origin = measured_origin(plan, material)
    jobs = []
    for job in run_plan(plan, material, origin, folder):
        print(f"{subject.name}: {job.name}: {job.phase}, {job.seconds:.1f} s {job.message}")
        jobs.append(job)
    return report_of(origin, tuple(jobs))


def goals(name: str, report: Report) -> list[Row]:
    """Return what was promised of the digits' models."""
    made: dict[str, Any] = {job.name: job.artifact for job in report.jobs}

    def of(job: str, field: str) -> float | None:
        artifact: BuiltArtifact | None = made.get(job)
        return None if artifact is None else getattr(artifact, field)

    def smaller(job: str) -> float | None:
        ratio = of(job, "size_ratio")
        return None if ratio is None else 1 / ratio

    rows = [
        at_least(f"{name}: static int8, times smaller", smaller("static"), 3),
        at_most(f"{name}: static int8, time at batch 1", of("static", "latency_ratio"), 1.1),
        at_most(f"{name}: static int8, accuracy lost", of("static", "accuracy_drop"), 0.01),
        at_most(f"{name}: 50 % pruned, recovered, lost", of("recovered", "accuracy_drop"), 0.01),
    ]
    if "student" in made:
        rows += [
            at_least(f"{name}: student, times smaller", smaller("student"), 8),
            at_most(f"{name}: student, accuracy lost", of("student", "accuracy_drop"), 0.01),
        ]
    return rows


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*SUBJECTS], action="append")
    chosen = parser.parse_args().only or [*SUBJECTS]
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    rows: list[Row] = []
    models: dict[str, Any] = {}
    for key in chosen:
        subject = SUBJECTS[key]()
        with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
            report = built(subject, Path(folder))
        models[subject.name] = report.model_dump(by_alias=True, mode="json")
        print(f"\n{subject.name}")
        for row in table(report):
            print("| " + " | ".join(row) + " |")
        rows += goals(subject.name, report) if key in ("mlp", "cnn") else []
    publish("optimise", rows, {"models": models})


if __name__ == "__main__":
    main()
