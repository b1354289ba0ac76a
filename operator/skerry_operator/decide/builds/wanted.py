"""Which builds a spec asks for, each under the key of all that decides it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from skerry_operator.api.v1alpha1.edgemodel import EdgeModelSpec, Precision, Variant
from skerry_operator.api.v1alpha1.edgemodel_optimize import (
    ConvertFormat,
    OptimizeJob,
    OptimizeSpec,
    Quantization,
)
from skerry_operator.api.v1alpha1.edgemodel_source import ModelSource, Source
from skerry_operator.decide.revision import canonical_json
from skerry_runtime.contract import Format, is_known

MAX_VARIANTS = 16
_PRECISIONS = {
    Quantization.STATIC: Precision.INT8,
    Quantization.DYNAMIC: Precision.INT8,
    Quantization.FLOAT16: Precision.FP16,
}
_FORMATS = {ConvertFormat.ORT: Format.ORT, ConvertFormat.TFLITE: Format.TFLITE}


@dataclass(frozen=True)
class WantedBuild:
    """One job of a spec, with what it refers to."""

    job: OptimizeJob
    origin: Variant
    inputs_key: str
    """Digest of what the build is made of and by: under it the store knows it."""
    key: str
    """The same with what it is judged by, and the store that the spec names."""

    @property
    def name(self) -> str:
        """Return the name of the job, and of its variant."""
        return self.job.name

    @property
    def student(self) -> Source | None:
        """Return the model that is trained by distillation."""
        return next((one.distil.student for one in self.job.steps if one.distil), None)

    @property
    def format(self) -> Format:
        """Return the format that the steps lead to."""
        found = [_FORMATS.get(one.convert.format) for one in self.job.steps if one.convert]
        return next((form for form in reversed(found) if form), Format.ONNX)

    @property
    def precision(self) -> Precision:
        """Return the precision that the steps lead to."""
        found = [_PRECISIONS.get(one.quantize.mode) for one in self.job.steps if one.quantize]
        usual = Precision.FP32 if self.student else self.origin.precision
        return next((one for one in reversed(found) if one), usual)

    def variant(self, source: ModelSource) -> Variant:
        """Return the build as a variant like any other."""
        given: dict[str, object] = {
            "name": self.name,
            "format": self.format,
            "precision": self.precision,
            "source": source,
        }
        if self.job.runs_on:
            given["runs_on"] = self.job.runs_on
        is_fixed = any(one.fix_shapes for one in self.job.steps)
        if self.origin.input_shapes and not is_fixed and self.format is not Format.TFLITE:
            given["input_shapes"] = self.origin.input_shapes
        return Variant.model_validate(given)


def wanted_builds(spec: EdgeModelSpec) -> tuple[WantedBuild, ...]:
    """Return the builds that a spec asks for; jobs without a variant to begin with are left out."""
    optimize = spec.optimize
    if optimize is None:
        return ()
    variants = {one.name: one for one in spec.variants}
    pairs = ((job, variants.get(job.from_)) for job in optimize.jobs)
    return tuple(
        WantedBuild(job, origin, *_keys(spec, optimize, job, origin))
        for job, origin in pairs
        if origin is not None
    )


def _keys(
    spec: EdgeModelSpec, optimize: OptimizeSpec, job: OptimizeJob, origin: Variant
) -> tuple[str, str]:
    """Return the key of the inputs, and that of the result.

    What is added to the API later counts only where it is set: equal specs give equal keys for
    ever. Where Jobs run, and with what resources, decides nothing.
    """
    golden = spec.golden
    inputs = {
        "origin": origin.source.sha256,
        "steps": [_step(step.to_dict()) for step in job.steps],
        "data": optimize.data.source.sha256 if optimize.data else None,
        "golden": [golden.source.sha256, str(golden.metric)] if golden else None,
        "retry": optimize.retry,
    }
    inputs_key = _digest(inputs)
    judged = {"inputs": inputs_key, "guards": optimize.guards.to_dict()}
    store = {"store": optimize.store.uri} if optimize.store else {}
    return inputs_key, _digest({**judged, **store})


def _step(step: dict[str, object]) -> dict[str, object]:
    """Return a step by what it is, not by where its file lies."""
    distil = step.get("distil")
    if not isinstance(distil, dict) or not isinstance(distil.get("student"), dict):
        return step
    return {"distil": {**distil, "student": distil["student"].get("sha256")}}


def _digest(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def optimize_problems(spec: EdgeModelSpec) -> Iterator[str]:
    """Return why the builds cannot be made, each with its field and its remedy.

    The CRD's rules say most of it already; an older one may have let the object in.
    """
    optimize = spec.optimize
    if optimize is None:
        return
    yield from _names(spec, optimize)
    for index, job in enumerate(optimize.jobs):
        yield from _job_problems(spec, job, f"spec.optimize.jobs[{index}]")
    yield from _file_problems(spec, optimize)


def _names(spec: EdgeModelSpec, optimize: OptimizeSpec) -> Iterator[str]:
    names = [*(one.name for one in spec.variants), *(one.name for one in optimize.jobs)]
    jobs = {one.name for one in optimize.jobs}
    for name in sorted({name for name in names if names.count(name) > 1} & jobs):
        yield f"spec.optimize.jobs: the name {name!r} is used twice: rename one"
    if len(names) > MAX_VARIANTS:
        yield (
            f"spec.optimize.jobs: with spec.variants that makes {len(names)} builds, and a model "
            f"has at most {MAX_VARIANTS}: drop some"
        )


def _job_problems(spec: EdgeModelSpec, job: OptimizeJob, path: str) -> Iterator[str]:
    origin = next((one for one in spec.variants if one.name == job.from_), None)
    if origin is None:
        names = ", ".join(one.name for one in spec.variants)
        yield f"{path}.from: there is no variant {job.from_!r}: name one of {names}"
    elif origin.format is not Format.ONNX:
        yield f"{path}.from: variant {job.from_!r} is {origin.format}: builds are made of ONNX"
    elif origin.encryption is not None:
        yield (
            f"{path}.from: variant {job.from_!r} is encrypted, and a Job opens no such file: name "
            "one that is not"
        )
    elif origin.source.files:
        yield (
            f"{path}.from: variant {job.from_!r} has more files than one: pack its weights into "
            "the model's own file"
        )
    for index, step in enumerate(job.steps):
        if unknown := next(iter(_unknown_words(step.to_dict())), ""):
            yield f"{path}.steps[{index}]: {unknown}"
        if step.distil and index:
            yield f"{path}.steps[{index}]: distil is the first step: it begins with another model"
    if not is_known(job.on_failure):
        yield f"{path}.onFailure: this operator does not know {job.on_failure!s}: upgrade it"


def _unknown_words(step: dict[str, object]) -> Iterator[str]:
    """Yield what this operator does not know of a step; one without a known field is unknown."""
    if not step:
        yield "a step that this operator does not know: upgrade it"
    words = {
        "quantize": ("mode", {"Static", "Dynamic", "Float16"}),
        "prune": ("mode", {"Magnitude", "Structured"}),
        "convert": ("format", {"ORT", "TFLite"}),
    }
    for name, (field, known) in words.items():
        content = step.get(name)
        word = content.get(field) if isinstance(content, dict) else None
        if word is not None and word not in known:
            yield f"{name}.{field} is {word}, which this operator does not know: upgrade it"


def _file_problems(spec: EdgeModelSpec, optimize: OptimizeSpec) -> Iterator[str]:
    golden, data = spec.golden, optimize.data
    if optimize.guards.max_accuracy_drop is not None and golden is None:
        yield ("spec.optimize.guards.maxAccuracyDrop needs spec.golden: nothing says what is right")
    if data is not None and golden is not None and data.source.sha256 == golden.source.sha256:
        yield (
            "spec.optimize.data and spec.golden are one file: an exam that was learnt proves "
            "nothing"
        )
    needing = [job.name for job in optimize.jobs if data is None and _needs_data(job)]
    if needing:
        yield (
            f"spec.optimize.data: job {needing[0]!r} needs it: an .npz of inputs, and not the "
            "golden file"
        )
    for path, source in _sources(optimize):
        if source.uri.startswith("s3://") and source.secret_ref is None:
            yield f"{path}.secretRef: an s3:// source needs it: the Secret says which endpoint"
    store = optimize.store
    if store is not None and store.uri.startswith("s3://"):
        given = {"pushSecretRef": store.push_secret_ref, "pullSecretRef": store.pull_secret_ref}
        for name in (name for name, secret in given.items() if secret is None):
            yield f"spec.optimize.store.{name}: an s3:// store needs it: it says which endpoint"


def _needs_data(job: OptimizeJob) -> bool:
    return any(
        one.recover or one.distil or (one.quantize and one.quantize.mode is Quantization.STATIC)
        for one in job.steps
    )


def _sources(optimize: OptimizeSpec) -> Iterable[tuple[str, Source]]:
    if optimize.data is not None:
        yield "spec.optimize.data.source", optimize.data.source
    for at, job in enumerate(optimize.jobs):
        for number, step in enumerate(job.steps):
            if step.distil is not None:
                path = f"spec.optimize.jobs[{at}].steps[{number}].distil.student"
                yield path, step.distil.student
