"""The plan: which builds are wanted, from what, and what they must keep.

data: {file: inputs.npz}                       # what a model sees; for calibration
golden: {file: golden.npz, metric: Accuracy}   # what it must answer; never the data
guards: {maxAccuracyDrop: "0.01", maxSizeRatio: "0.6"}
jobs:
- name: slim-int8
  steps:
  - prune: {mode: Structured, amount: 50%}
  - recover: {epochs: 15}
  - quantize: {mode: Static}
- name: student
  steps:
  - distil: {student: {file: student.onnx}, temperature: 4, epochs: 60}
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from skerry_optimize.errors import BadPlan
from skerry_runtime.contract import GoldenMetric

MAX_PLAN_BYTES = 256 * 1024
MAX_JOBS = 32
MAX_STEPS = 8
MAX_EPOCHS = 1000

JobName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
]


class _PlanModel(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class QuantizeMode(StrEnum):
    """How numbers are made smaller."""

    DYNAMIC = "Dynamic"
    STATIC = "Static"
    FLOAT16 = "Float16"


class PruneMode(StrEnum):
    """What is taken out."""

    MAGNITUDE = "Magnitude"
    STRUCTURED = "Structured"


def _share(text: str) -> str:
    if not 0 < int(text[:-1]) < 100:
        raise ValueError(f"{text!r} must be between 1% and 99%")
    return text


def _decimal(text: str) -> str:
    try:
        value = Decimal(text)
    except InvalidOperation as err:
        raise ValueError(f'{text!r} is no decimal number: write for example "0.01"') from err
    if not value.is_finite() or value < 0:
        raise ValueError(f"{text!r} must be a number that is not negative")
    return text


Share = Annotated[
    str, StringConstraints(pattern=r"^[0-9]{1,2}%$", max_length=3), AfterValidator(_share)
]
"""For example 50%."""
DecimalText = Annotated[str, StringConstraints(max_length=32), AfterValidator(_decimal)]
Epochs = Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
"""How often training goes over the data."""


def _positive(text: str) -> str:
    if not Decimal(text) > 0:
        raise ValueError(f"{text!r} must be above 0")
    return text


def _share_of_one(text: str) -> str:
    if Decimal(text) > 1:
        raise ValueError(f"{text!r} must be between 0 and 1")
    return text


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Number = Annotated[DecimalText, BeforeValidator(_as_text)]
"""A decimal number, written as a number or as text."""
Axis = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Quantize(_PlanModel):
    """8-bit or 16-bit numbers for 32-bit ones."""

    mode: QuantizeMode


class Prune(_PlanModel):
    """Takes weights out: single ones, or whole channels with all that belongs to them."""

    mode: PruneMode
    amount: Share

    @property
    def share(self) -> float:
        """Return the amount, between 0 and 1."""
        return int(self.amount[:-1]) / 100


class FixShapes(_PlanModel):
    """Gives dynamic axes a size, as accelerators want it."""

    inputs: Annotated[
        dict[str, Annotated[tuple[Axis, ...], Field(min_length=1, max_length=8)]],
        Field(min_length=1, max_length=64),
    ]


class Convert(_PlanModel):
    """Writes the model in another format."""

    format: Literal["ORT", "TFLite"]


class Recover(_PlanModel):
    """Trains what was pruned to say what its origin says; data needs no labels."""

    epochs: Epochs


class Student(_PlanModel):
    """The graph that is to be trained; its weights are where training begins."""

    file: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    uri: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _one(self) -> Student:
        if (self.file is None) == (self.uri is None):
            raise ValueError("student is either a file or a uri")
        if self.uri is not None and self.sha256 is None:
            raise ValueError("student.uri needs sha256: what is fetched is checked")
        return self


class Distil(_PlanModel):
    """Trains a smaller model to say what a larger one says (Hinton et al. 2015)."""

    teacher: JobName | None = None
    """A variant; absent: what the job begins with."""
    student: Student
    temperature: Annotated[Number, AfterValidator(_positive)] = "4"
    """Divides logits before they become shares: the higher, the softer."""
    alpha: Annotated[Number, AfterValidator(_share_of_one)] = "1"
    """Share of the teacher's word in the loss; the rest is the labels'."""
    epochs: Epochs


Action = Quantize | Prune | FixShapes | Convert | Recover | Distil


class BuildStep(_PlanModel):
    """One step: exactly one of them is set."""

    quantize: Quantize | None = None
    prune: Prune | None = None
    fix_shapes: FixShapes | None = None
    convert: Convert | None = None
    recover: Recover | None = None
    distil: Distil | None = None

    @model_validator(mode="after")
    def _one(self) -> BuildStep:
        given = self.model_fields_set
        if len(given) != 1:
            names = ", ".join(one.alias or name for name, one in BuildStep.model_fields.items())
            raise ValueError(f"a step is exactly one of: {names}")
        return self

    @property
    def action(self) -> Action:
        """Return what is to be done."""
        given = (getattr(self, name) for name in BuildStep.model_fields)
        found: Action = next(one for one in given if one is not None)
        return found


class Job(_PlanModel):
    """One build that is wanted."""

    name: JobName
    steps: Annotated[tuple[BuildStep, ...], Field(min_length=1, max_length=MAX_STEPS)]

    @model_validator(mode="after")
    def _in_order(self) -> Job:
        problem = _out_of_order([step.action for step in self.steps])
        if problem:
            raise ValueError(f"job {self.name!r}: {problem}")
        return self

    @property
    def needs_data(self) -> str:
        """Return the step that cannot be done without data; none: an empty text."""
        if self.has(QuantizeMode.STATIC):
            return "static quantisation"
        return next(
            (n for n in ("recover", "distil") if any(getattr(s, n) for s in self.steps)), ""
        )

    def has(self, mode: QuantizeMode) -> bool:
        """Tell whether the job quantises in this mode."""
        return any(one.quantize and one.quantize.mode is mode for one in self.steps)


def _out_of_order(actions: list[Action]) -> str:
    """Return what is wrong with the order of steps; nothing: an empty text."""
    before: list[Action] = []
    for one in actions:
        problem = _after(one, before)
        if problem:
            return problem
        before.append(one)
    return ""


def _after(one: Action, before: list[Action]) -> str:
    """Return why a step cannot come after others; nothing: it can."""
    last = before[-1] if before else None
    converted = isinstance(last, Convert)
    quantized = any(isinstance(other, Quantize) for other in before)
    pruned = any(isinstance(other, Prune) for other in before)
    trains = isinstance(one, Prune | Recover | Distil)
    problems = {
        "convert must be the last step; after TFLite only quantize may come": (
            isinstance(last, Convert)
            and not (last.format == "TFLite" and isinstance(one, Quantize))
        ),
        "a model is quantised once: drop a step": quantized and isinstance(one, Quantize),
        "a TFLite model is quantised Dynamic or Static": (
            converted and isinstance(one, Quantize) and one.mode is QuantizeMode.FLOAT16
        ),
        "quantize comes after convert to TFLite": (
            quantized and isinstance(one, Convert) and one.format == "TFLite"
        ),
        f"{type(one).__name__.lower()} comes before quantize": quantized and trains,
        "recover comes after prune: there is nothing to recover from": (
            isinstance(one, Recover) and not pruned
        ),
        "distil is the first step: it begins with the student": (
            isinstance(one, Distil) and bool(before)
        ),
    }
    return next((text for text, holds in problems.items() if holds), "")


class DataFile(_PlanModel):
    """An .npz with one array for each input, a row for each sample."""

    file: Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class GoldenFile(DataFile):
    """A golden file, as EdgeModel's `golden` has it."""

    metric: GoldenMetric = GoldenMetric.ACCURACY


class Guards(_PlanModel):
    """Limits against what the build was made from; what is absent is measured and not judged."""

    max_accuracy_drop: DecimalText | None = None
    """How much worse it may be in the exam: of Accuracy 0.01 is one per cent of the samples."""
    max_size_ratio: DecimalText | None = None
    max_latency_ratio: DecimalText | None = None
    """On this computer's CPU alone; refused when it is above the limit in every round."""


class OptimizePlan(_PlanModel):
    """All that is wanted of one model."""

    jobs: Annotated[tuple[Job, ...], Field(min_length=1, max_length=MAX_JOBS)]
    data: DataFile | None = None
    golden: GoldenFile | None = None
    guards: Guards = Guards()

    @model_validator(mode="after")
    def _complete(self) -> OptimizePlan:
        names = [job.name for job in self.jobs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two jobs are named {twice[0]!r}: names must differ")
        if self.guards.max_accuracy_drop is not None and self.golden is None:
            raise ValueError("guards.maxAccuracyDrop needs golden: nothing says what is right")
        for job in self.jobs:
            if job.needs_data and self.data is None:
                raise ValueError(
                    f"job {job.name!r}: {job.needs_data} needs data: an .npz of inputs, and not "
                    "the golden file"
                )
        if self.data and self.golden and self.data.file == self.golden.file:
            raise ValueError("data and golden are one file: an exam that was learnt proves nothing")
        return self


def read_plan(text: str) -> OptimizePlan:
    """Return the plan that a YAML text holds.

    Raises:
        BadPlan: it holds none; the message names the field.
    """
    if len(text.encode()) > MAX_PLAN_BYTES:
        raise BadPlan(f"the plan has more than {MAX_PLAN_BYTES} bytes")
    try:
        found: Any = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise BadPlan(f"the plan is no YAML: {err}") from err
    if not isinstance(found, dict):
        raise BadPlan("the plan is no mapping: it begins with `jobs:`")
    try:
        return OptimizePlan.model_validate(found)
    except ValidationError as err:
        raise BadPlan("; ".join(_problem(one) for one in err.errors(include_url=False))) from err


def _problem(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "plan"
    shown = f" (is {error['input']!r:.60})" if not isinstance(error["input"], dict) else ""
    return f"{place}: {error['msg'].removeprefix('Value error, ')}{shown}"
