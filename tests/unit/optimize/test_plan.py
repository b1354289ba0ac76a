"""Plans: what may be asked for, and what is answered to the rest."""

from __future__ import annotations

import pytest

from skerry_optimize.errors import BadPlan
from skerry_optimize.plan import MAX_PLAN_BYTES, PruneMode, QuantizeMode, read_plan

GOOD = """
data: {file: inputs.npz}
golden: {file: golden.npz}
guards: {maxAccuracyDrop: "0.01", maxSizeRatio: "0.6"}
jobs:
- name: slim-int8
  steps:
  - prune: {mode: Structured, amount: 25%}
  - quantize: {mode: Static}
- name: fast
  steps:
  - fixShapes: {inputs: {x: [1, 64]}}
  - convert: {format: ORT}
"""


def test_a_plan_says_what_is_wanted() -> None:
    plan = read_plan(GOOD)
    first, second = plan.jobs
    assert first.steps[0].prune is not None
    assert (first.steps[0].prune.mode, first.steps[0].prune.share) == (PruneMode.STRUCTURED, 0.25)
    assert first.has(QuantizeMode.STATIC)
    assert second.steps[0].fix_shapes is not None
    assert second.steps[0].fix_shapes.inputs == {"x": (1, 64)}


def jobs(*steps: str, name: str = "a", data: bool = True) -> str:
    head = "data: {file: d.npz}\n" if data else ""
    return f"{head}jobs:\n- name: {name}\n  steps: [{', '.join(steps)}]\n"


STATIC, DYNAMIC = "quantize: {mode: Static}", "quantize: {mode: Dynamic}"
PRUNE = "prune: {mode: Magnitude, amount: 50%}"


def distil(student: str, more: str = "alpha: 1") -> str:
    return f"{{distil: {{student: {{{student}}}, epochs: 3, {more}}}}}"


def test_distilling_takes_numbers_as_numbers_and_as_texts() -> None:
    text = jobs(distil("file: s.onnx", 'temperature: 2.5, alpha: "0.3", teacher: fp32'))
    step = read_plan(text).jobs[0].steps[0].distil
    assert step is not None
    assert (step.temperature, step.alpha, step.teacher) == ("2.5", "0.3", "fp32")
    assert step.student.file == "s.onnx"


def test_a_tflite_build_may_be_quantised() -> None:
    steps = read_plan(jobs("{convert: {format: TFLite}}", f"{{{STATIC}}}")).jobs[0].steps
    assert [one.action for one in steps] == [steps[0].convert, steps[1].quantize]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "begins with `jobs:`"),
        ("jobs: [", "no YAML"),
        ("jobs: []", "jobs"),
        ("a" * (MAX_PLAN_BYTES + 1), "bytes"),
        (jobs("{quantise: {mode: Static}}"), "jobs.0.steps.0.quantise"),
        (jobs("{}"), "exactly one of: quantize, prune, fixShapes, convert, recover, distil"),
        (jobs(f"{{{STATIC}, {PRUNE}}}"), "exactly one"),
        (jobs("{quantize: {mode: int4}}"), "jobs.0.steps.0.quantize.mode"),
        (jobs("{prune: {mode: Structured, amount: 100%}}"), "amount"),
        (jobs("{prune: {mode: Structured, amount: 0%}}"), "between 1% and 99%"),
        (jobs("{prune: {mode: Structured, amount: 0.5}}"), "amount"),
        (jobs("{convert: {format: PTE}}"), "format"),
        (jobs("{convert: {format: TFLite}}", "{quantize: {mode: Float16}}"), "Dynamic or Static"),
        (jobs("{convert: {format: TFLite}}", f"{{{PRUNE}}}"), "after TFLite only quantize"),
        (jobs(f"{{{DYNAMIC}}}", "{convert: {format: TFLite}}"), "comes after convert to TFLite"),
        (jobs("{recover: {epochs: 3}}"), "nothing to recover from"),
        (jobs(f"{{{PRUNE}}}", "{recover: {epochs: 0}}"), "recover.epochs"),
        (jobs(f"{{{PRUNE}}}", "{recover: {epochs: 1001}}"), "recover.epochs"),
        (jobs(f"{{{PRUNE}}}", "{recover: {epochs: 3}}", data=False), "recover needs data"),
        (jobs(f"{{{PRUNE}}}", f"{{{DYNAMIC}}}", "{recover: {epochs: 3}}"), "comes before quantize"),
        (jobs(distil("file: s.onnx"), data=False), "distil needs data"),
        (jobs(f"{{{PRUNE}}}", distil("file: s.onnx")), "distil is the first step"),
        (jobs(distil("")), "either a file or a uri"),
        (jobs(distil("file: s.onnx, uri: 'https://x.example/s'")), "either a file or a uri"),
        (jobs(distil("uri: 'https://x.example/s'")), "needs sha256"),
        (jobs(distil("file: s.onnx", "temperature: 0")), "distil.temperature"),
        (jobs(distil("file: s.onnx", 'alpha: "1.5"')), "between 0 and 1"),
        (jobs(distil("file: s.onnx", "alpha: true")), "distil.alpha"),
        (jobs("{convert: {format: ORT}}", f"{{{DYNAMIC}}}"), "convert must be the last"),
        (jobs(f"{{{DYNAMIC}}}", f"{{{STATIC}}}"), "quantised once"),
        (jobs(f"{{{DYNAMIC}}}", f"{{{PRUNE}}}"), "prune comes before quantize"),
        (jobs(f"{{{STATIC}}}", data=False), "needs data"),
        (jobs(f"{{{DYNAMIC}}}", name="A b"), "jobs.0.name"),
        (jobs(f"{{{DYNAMIC}}}") + jobs(f"{{{DYNAMIC}}}", data=False)[6:], "named 'a'"),
        (jobs(f"{{{DYNAMIC}}}") + 'guards: {maxAccuracyDrop: "0.1"}', "needs golden"),
        (jobs(f"{{{DYNAMIC}}}") + 'guards: {maxSizeRatio: "small"}', "no decimal number"),
        (jobs(f"{{{DYNAMIC}}}") + 'guards: {maxSizeRatio: "-1"}', "not negative"),
        (jobs(f"{{{DYNAMIC}}}") + "golden: {file: d.npz}", "proves nothing"),
        (jobs("{fixShapes: {inputs: {x: [0]}}}"), "fixShapes.inputs.x.0"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(BadPlan) as raised:
        read_plan(text)
    assert told in str(raised.value)
