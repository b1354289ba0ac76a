"""Accelerator profiles: one row of data per family of hardware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from importlib import resources
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from skerry_operator.api.base import Duration, LabelValue
from skerry_operator.api.quantity import duration_s
from skerry_operator.api.v1alpha1.edgemodel import Precision
from skerry_runtime.contract import MAX_LOAD_TIMEOUT_S, Format


class AcceleratorClass(StrEnum):
    """Kinds of hardware that users name in `accelerators`."""

    NPU = "npu"
    GPU = "gpu"
    CPU = "cpu"


class Support(StrEnum):
    """Whether a deployment can use the hardware."""

    SUPPORTED = "Supported"  # one of Skerry's own runtime images serves on it
    BRING_YOUR_OWN_IMAGE = "BringYourOwnImage"  # the vendor's libraries may not be passed on
    UNSUPPORTED = "Unsupported"  # nothing current serves on it


class Tier(StrEnum):
    """Rough size of the hardware, by power."""

    MICRO = "micro"  # below 1 W
    LOW = "low"
    MID = "mid"
    HIGH = "high"
    SERVER = "server"  # beyond 60 W


DEFAULT_FLAVOR = "cpu"
"""The runtime image with ONNX Runtime's own CPU provider."""

SHIPPED_FLAVORS = (DEFAULT_FLAVOR, "openvino")
"""Runtime images that Skerry builds itself."""

DEFAULT_PREFERENCE = (AcceleratorClass.NPU, AcceleratorClass.GPU, AcceleratorClass.CPU)
"""Order when a deployment names none."""

MAX_ROWS = 128
"""Profiles that an operator takes: each is tried on each node."""


def _not_kubernetes_own(name: str) -> str:
    domain = name.partition("/")[0]
    if domain == "kubernetes.io" or domain.endswith(".kubernetes.io"):
        raise ValueError("Kubernetes keeps this domain for itself")
    return name


def _a_time_to_load(text: str) -> str:
    if not 1 <= duration_s(text) <= MAX_LOAD_TIMEOUT_S:
        raise ValueError("write 1s to 24h")
    return text


LoadTime = Annotated[Duration, AfterValidator(_a_time_to_load)]
_NUMBER = r"[0-9]+(\.[0-9]+)?"
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DOMAIN = rf"{_DNS_LABEL}(\.{_DNS_LABEL})*"
_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
RowName = Annotated[str, StringConstraints(pattern=rf"^{_DNS_LABEL}$", max_length=40)]
ResourceName = Annotated[
    str,
    StringConstraints(pattern=rf"^{_DOMAIN}/{_NAME}$", max_length=253),
    AfterValidator(_not_kubernetes_own),
]
"""Name of an extended resource."""
Provider = Annotated[
    str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]*ExecutionProvider$", max_length=64)
]
Architecture = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+$", max_length=16)]
LabelKey = Annotated[str, StringConstraints(pattern=rf"^({_DOMAIN}/)?{_NAME}$", max_length=317)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=8)]
Option = Annotated[str, StringConstraints(max_length=256)]
ImageName = Annotated[str, StringConstraints(pattern=r"^[^\s]+$", max_length=512)]
SubdomainName = Annotated[str, StringConstraints(pattern=rf"^{_DOMAIN}$", max_length=253)]


class Profile(BaseModel):
    """One accelerator family."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    name: RowName
    """What `accelerators` and `runsOn` may name."""
    accelerator_class: Annotated[AcceleratorClass, Field(alias="class")]
    """npu, gpu or cpu: names all profiles of the class, best first."""
    only_by_name: bool = False
    """Found where a deployment names the profile itself, never by its class."""
    resource_names: Annotated[tuple[ResourceName, ...], Field(max_length=24)] = ()
    """Extended resources, best first; in status.allocatable they prove that a pod can get one."""
    labels: Annotated[tuple[Labels, ...], Field(max_length=32)] = ()
    """Label alternatives, of which one whole must match. They place a profile that has no resource;
    of one that has, they only tell why a device is expected: a label is no capacity."""
    excluded_by: Annotated[tuple[Labels, ...], Field(max_length=32)] = ()
    """Label alternatives of another family with the same resource: one that matches rules the
    profile out, whatever is allocatable."""
    architectures: Annotated[tuple[Architecture, ...], Field(min_length=1, max_length=8)] = (
        "amd64",
        "arm64",
    )
    """CPU architectures that the runtime image is built for."""
    providers: Annotated[tuple[Provider, ...], Field(min_length=1, max_length=8)] = (
        "CPUExecutionProvider",
    )
    """Execution providers, best first."""
    provider_options: Annotated[
        dict[Provider, Annotated[dict[Option, Option], Field(max_length=16)]], Field(max_length=8)
    ] = Field(default_factory=dict)
    """Provider -> its options: `{"OpenVINOExecutionProvider": {"device_type": "NPU"}}`."""
    formats: Annotated[tuple[Format, ...], Field(min_length=1, max_length=4)] = (
        Format.ONNX,
        Format.ORT,
    )
    """Model formats that the profile's runtime can load."""
    precisions: Annotated[tuple[Precision, ...], Field(max_length=4)] = ()
    """Precisions that the hardware computes; empty: all."""
    static_shapes: bool = False
    """The hardware wants every axis fixed: `inputShapes` of a variant must fix the dynamic ones."""
    load_timeout: LoadTime | None = None
    """How long a pod may take to open a model on it, for example `30m` where TensorRT builds an
    engine; `runtime.loadTimeout` of a deployment goes before. Default: 5m, and 60s in the trial."""
    exclusive: bool = True
    """One unit holds a device alone; for a profile without a resource: one unit per node."""
    image: ImageName | None = None
    """Runtime image; without it that of the `flavor`."""
    flavor: RowName = DEFAULT_FLAVOR
    """Kind of runtime image that serves on it; `runtimeImages` says which image that is."""
    runtime_class_name: SubdomainName | None = None
    """RuntimeClass of the pods."""
    supplemental_groups: Annotated[
        tuple[Annotated[int, Field(ge=1, le=2**31 - 1)], ...], Field(max_length=8)
    ] = ()
    """Groups of the pods' process, by number: those that own the device files on the nodes."""
    vendor: Annotated[str, StringConstraints(max_length=64)] = ""
    """Who makes it."""
    tier: Tier | None = None
    """Rough size by power: micro, low, mid, high or server."""
    watts: Annotated[
        str,
        StringConstraints(pattern=rf"^({_NUMBER}(-{_NUMBER})?)?$", max_length=16),
    ] = ""
    """Power of the part or board, for people, for example `7-25`."""
    tops_int8: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Peak int8 operations per second, in units of 10^12, as the vendor says."""
    support: Support = Support.SUPPORTED
    """Whether a deployment can use it."""
    unsupported_reason: Annotated[str, StringConstraints(max_length=512)] = ""
    """Why nothing serves on it, and what to do instead."""
    description: Annotated[str, StringConstraints(max_length=1024)] = ""
    """What the hardware is, and what its image must hold."""

    def answers_to(self, entry: str) -> bool:
        """Tell whether an entry of `accelerators` names this profile, or its class."""
        return entry == self.name or (entry == self.accelerator_class and not self.only_by_name)

    def is_ruled_out(self, node_labels: Mapping[str, str]) -> bool:
        """Tell whether the node's labels say that its resource is another family's."""
        return any(alternative.items() <= node_labels.items() for alternative in self.excluded_by)


class BadProfile(ValueError):  # noqa: N818 (it says what is bad)
    """A profile row is wrong; the text names the row, the field and the remedy."""


def builtin_profiles() -> tuple[Profile, ...]:
    """Return the profiles that ship with the operator, best first within a class."""
    return _profiles(_builtin_rows(), _BUILTIN)


def extended_profiles(text: str, origin: str) -> tuple[Profile, ...]:
    """Return the built-in profiles, changed and preceded by the rows of a YAML list.

    A row with the name of a built-in one changes only the fields that it gives (null: the
    field's default). Rows with new names come before all others: a user's own row is the more
    specific one.

    Args:
        text: the chart's value `accelerators`.
        origin: what error messages call the text, for example its file name.

    Raises:
        BadProfile: the text is no list, a row is wrong, or two rows share a name.
    """
    return _profiles(_merged(_builtin_rows(), _rows(text, origin)), origin)


_BUILTIN = "built-in profiles"

_Rows = dict[str, dict[str, Any]]
"""Name -> the row as it was written."""


def _builtin_rows() -> _Rows:
    text = resources.files(__package__).joinpath("profiles.yaml").read_text("utf-8")
    return _rows(text, _BUILTIN)


def _rows(text: str, origin: str) -> _Rows:
    try:
        items = yaml.safe_load(text) or []
    except yaml.YAMLError as error:
        raise BadProfile(f"{origin}: not YAML: {error}") from error
    if not isinstance(items, list):
        raise BadProfile(f"{origin}: must be a list of profiles, each starting with `- name:`")
    if len(items) > MAX_ROWS:
        raise BadProfile(f"{origin}: {len(items)} profiles, at most {MAX_ROWS} are taken")
    rows: _Rows = {}
    for number, item in enumerate(items, start=1):
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            raise BadProfile(f"{origin}: profile number {number}: name: missing: give it a name")
        if name in rows:
            raise BadProfile(f"{origin}: profile {name}: name: used twice: rename one row")
        rows[name] = item
    return rows


def _merged(base: _Rows, own: _Rows) -> _Rows:
    changed = {name: _changed(row, own.get(name, {})) for name, row in base.items()}
    return {name: row for name, row in own.items() if name not in base} | changed


_ONE_QUESTION = (("image", "flavor"), ("support", "unsupportedReason"))
"""Fields that answer one question together: who gives one of them gives the whole answer."""


def _changed(row: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    stale = {
        field
        for fields in _ONE_QUESTION
        if any(change.get(field) is not None for field in fields)
        for field in fields
    }
    kept = {field: value for field, value in row.items() if field not in stale}
    return {field: value for field, value in (kept | change).items() if value is not None}


def _profiles(rows: _Rows, origin: str) -> tuple[Profile, ...]:
    return tuple(_profile(row, origin) for row in rows.values())


def _profile(row: dict[str, Any], origin: str) -> Profile:
    try:
        profile = Profile.model_validate(row, by_alias=True, by_name=False)
    except ValidationError as error:
        raise BadProfile(f"{origin}: profile {row['name']}: {_explain(error)}") from error
    for is_wrong, message in _rules(profile):
        if is_wrong:
            raise BadProfile(f"{origin}: profile {profile.name}: {message}")
    return profile


def _rules(profile: Profile) -> Iterator[tuple[bool, str]]:
    """Yield what a row may not say although each of its fields is well formed."""
    is_unsupported = profile.support is Support.UNSUPPORTED
    strange = sorted(profile.provider_options.keys() - set(profile.providers))
    yield (
        profile.name in {AcceleratorClass.NPU, AcceleratorClass.GPU},
        f"name: {profile.name!r} is a class: name the hardware, for example my-{profile.name}",
    )
    yield (
        profile.name == AcceleratorClass.CPU != profile.accelerator_class,
        "class: `cpu` is the row that fits every node: leave its class cpu",
    )
    yield (
        not profile.resource_names and not profile.labels,
        "resourceNames: no resource and no labels, so no node can match: give one of the two",
    )
    yield (
        profile.image is not None and "flavor" in profile.model_fields_set,
        "image: flavor is given too, and only one image can run: remove one of the two",
    )
    yield (
        is_unsupported and not profile.unsupported_reason,
        "unsupportedReason: say why nothing serves on it, and what to do instead",
    )
    yield (
        bool(profile.unsupported_reason) and not is_unsupported,
        f"unsupportedReason: support is {profile.support}: remove the reason, or set "
        "support: Unsupported",
    )
    yield (
        Format.CUSTOM in profile.formats
        and profile.image is None
        and profile.flavor in SHIPPED_FLAVORS,
        f"formats: the image of the flavor {profile.flavor} reads no Custom: give an image, or "
        "the flavor of your own",
    )
    yield (
        bool(strange),
        f"providerOptions: {', '.join(strange)} is not among the providers: add it there",
    )


_REMEDIES = {
    "name": "write small letters, digits and hyphens, at most 40",
    "class": "write npu, gpu or cpu; or, to change a built-in row, the exact name of that row",
    "resourceNames": "write domain/name, for example hailo.ai/h8",
    "labels": 'write Kubernetes labels with quoted values, for example {example.com/npu: "true"}',
    "excludedBy": 'write Kubernetes labels with quoted values, for example {example.com/a: "true"}',
    "providers": "write names as ONNX Runtime has them, for example OpenVINOExecutionProvider",
    "providerOptions": 'write provider: {option: "value"}',
    "supplementalGroups": "write numbers of groups from 1 on",
    "flavor": "write a key of the chart value runtimeImages, such as openvino",
    "image": "write the address of an image, without spaces",
    "runtimeClassName": "write the name of a RuntimeClass, such as nvidia",
    "architectures": "write names as in the node label kubernetes.io/arch, such as arm64",
    "watts": "write a number or a range, for example 7-25",
}
"""What to write, where the refusal alone does not say it."""


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "no such field; there are " + ", ".join(_field_names())
    if first["type"] == "string_pattern_mismatch":
        message = "not of the right form"  # the pattern itself helps nobody
    field = ".".join(str(part) for part in first["loc"])
    remedy = _REMEDIES.get(str(first["loc"][0]))
    return f"{field}: {message} (got {_short(first)})" + (f": {remedy}" if remedy else "")


def _short(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "missing":
        return "nothing"
    text = repr(problem["input"])
    return text if len(text) <= 100 else text[:97] + "..."


def _field_names() -> list[str]:
    return [field.alias or name for name, field in Profile.model_fields.items()]
