"""Strict checks of a manifest without a cluster: every fault with field, value and remedy. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import override

from skerry_operator.api.addresses import FORMS
from skerry_operator.api.base import KubeModel, ModelName, SecretName
from skerry_operator.api.bounds import STRICT
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeployment, EdgeDeploymentSpec
from skerry_operator.api.v1alpha1.edgedeployment_analysis import MetricName
from skerry_operator.api.v1alpha1.edgemodel import EdgeModel, EdgeModelSpec
from skerry_operator.constants import API_VERSION
from skerry_operator.crdgen.definitions import KINDS, definition
from skerry_operator.decide.told.validate import model_problems
from skerry_operator.decide.windows import rollout_problems

Path = tuple[str | int, ...]

SPECS: Mapping[str, type[KubeModel]] = {
    EdgeModel.__name__: EdgeModelSpec,
    EdgeDeployment.__name__: EdgeDeploymentSpec,
}
"""Kind -> the type of its spec."""

_TOP = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_NAMES: Mapping[str, TypeAdapter[str]] = {
    EdgeModel.__name__: TypeAdapter(ModelName),
    EdgeDeployment.__name__: TypeAdapter(SecretName),  # what Kubernetes takes
}
_VALUE_LIMIT = 80

_REMEDIES = (
    ("https?://", FORMS),
    ("(ms|s|m|h)", "write a duration, for example 90s, 1h30m or 2d"),
    ("(m|k|Ki|M", "write a quantity, for example 200Mi or 500m"),
    ("[0-5][0-9]$", 'write hours and minutes, for example "02:30"'),
    ("[A-Za-z0-9_+-]+){0,2}$", "write a name of the IANA database, for example Europe/Berlin"),
    ("[0-9a-f]{64}", "write the 64 lower-case hex digits that `sha256sum FILE` prints"),
    ("%)$", 'write a count such as "1" or a percentage such as "25%"'),
    ("^-?[0-9]+(", 'write a decimal as text, for example "0.95"'),
    ("[-a-z0-9.]*", "write lower-case letters, digits, '-' and '.'"),
    ("^[a-z0-9](", "write lower-case letters, digits and '-'"),
    ("", "write what the pattern {pattern} allows"),
)
"""Part of a pattern -> what to write, the first that fits."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a manifest."""

    path: str
    problem: str
    remedy: str

    @override
    def __str__(self) -> str:
        return f"{self.path}: {self.problem}: {self.remedy}"


def faults(body: Mapping[str, Any]) -> tuple[Fault, ...]:
    """Return all that is wrong with an object of ours; the rules of the CRD are not asked."""
    kind = str(body.get("kind"))
    found = (*_of_frame(body), *_of_spec(kind, body.get("spec")))
    return found or tuple(_of_content(kind, body["spec"]))


def spec_of(body: Mapping[str, Any]) -> KubeModel:
    """Return the spec of an object of ours, read strictly.

    Raises:
        ValidationError: a field is unknown or wrong.
    """
    text = json.dumps(body.get("spec"), default=str)
    return SPECS[str(body["kind"])].model_validate_json(
        text, strict=True, extra="forbid", by_alias=True, by_name=False, context=STRICT
    )


def dotted(path: Sequence[str | int]) -> str:
    """Return the path of a field as people write it.

    >>> dotted(("spec", "variants", 0, "name"))
    'spec.variants[0].name'
    """
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).lstrip(".")


def _of_frame(body: Mapping[str, Any]) -> Iterator[Fault]:
    """Find what is wrong around the spec."""
    if body.get("apiVersion") != API_VERSION:
        got = _short(body.get("apiVersion"))
        yield Fault("apiVersion", f"{got} is not known", f"write {API_VERSION}")
    for field in sorted(set(body) - _TOP):
        yield Fault(field, "unknown field", _known_instead(field, sorted(_TOP)))
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    try:
        _NAMES[body["kind"]].validate_python(name, strict=True)
    except ValidationError:
        most = 63 if body["kind"] == EdgeModel.__name__ else 253
        remedy = f"write at most {most} lower-case letters, digits, '-' and '.'"
        yield Fault("metadata.name", f"{_short(name)} is no name", remedy)


def _of_spec(kind: str, spec: object) -> Iterator[Fault]:
    if not isinstance(spec, Mapping):
        yield Fault("spec", f"{_short(spec)} is no object", "write the spec, docs/api.md has it")
        return
    try:
        spec_of({"kind": kind, "spec": spec})
    except ValidationError as error:
        yield from (_fault(kind, detail) for detail in _deepest(error.errors()))


def _of_content(kind: str, spec: Mapping[str, Any]) -> Iterator[Fault]:
    """Find what no single field shows; asked only when every field is right by itself."""
    if kind != EdgeModel.__name__:
        deployment = EdgeDeploymentSpec.model_validate(spec)
        yield from _of_metrics(deployment)
        problems = rollout_problems(deployment.rollout)
    else:
        problems = model_problems(EdgeModelSpec.model_validate(spec))
    for problem in problems:
        path, problem_text, *remedy = problem.split(": ", 2)
        yield Fault(path, problem_text, remedy[0] if remedy else "correct it")


def _of_metrics(spec: EdgeDeploymentSpec) -> Iterator[Fault]:
    """Find metrics of a name that nothing is measured under."""
    known = ", ".join(MetricName)
    for index, metric in enumerate(spec.rollout.analysis.metrics):
        if metric.kind is None and metric.prometheus is None:
            path = dotted(("spec", "rollout", "analysis", "metrics", index, "name"))
            remedy = f"write one of {known}, or add prometheus.query"
            yield Fault(path, f"{_short(metric.name)} is not measured", remedy)


def _deepest(details: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Leave out what is wrong only because something inside it is wrong."""
    paths = [detail["loc"] for detail in details]
    for detail in details:
        here = detail["loc"]
        if not any(len(path) > len(here) and path[: len(here)] == here for path in paths):
            yield detail


def _fault(kind: str, detail: ErrorDetails) -> Fault:
    path = ("spec", *(part for part in detail["loc"] if part != "[key]"))
    if detail["type"] == "missing":
        return Fault(dotted(path), "is missing", "add it")
    if detail["type"] == "extra_forbidden":
        known = _known_fields(kind, path[:-1])
        return Fault(dotted(path), "unknown field", _known_instead(str(path[-1]), known))
    return Fault(dotted(path), f"{_short(detail['input'])} is wrong", _remedy(detail))


def _remedy(detail: ErrorDetails) -> str:
    context = detail.get("ctx") or {}
    if detail["type"] == "enum":
        return f"write {context['expected']}"
    if detail["type"] == "string_type":
        return "write text, in quotes where it looks like a number"
    if detail["type"] == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        found = next(remedy for part, remedy in _REMEDIES if part in pattern)
        return found.replace("{pattern}", pattern)
    message = detail["msg"].replace("Tuple", "It").replace("Input", "It")
    return f"{message[0].lower()}{message[1:]}"


def _known_fields(kind: str, path: Path) -> list[str]:
    """Return the names of the fields that the object at the path has."""
    (found,) = (one for one in KINDS if one.name == kind)
    node = definition(found)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in path:
        node = node["items"] if isinstance(part, int) else node["properties"][part]
    return sorted(node["properties"])


def _known_instead(name: str, known: Sequence[str]) -> str:
    likely = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"did you mean {likely[0]}?" if likely else f"remove it; known are {', '.join(known)}"


def _short(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _VALUE_LIMIT else f"{text[: _VALUE_LIMIT - 3]}..."
