"""Accelerator profiles: one row of data per family of hardware."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from importlib import resources
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from skerry_operator.api.v1alpha1.edgemodel import Precision
from skerry_runtime.contract import Format


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


class Profile(BaseModel):
    """One accelerator family."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid"
    )

    name: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)
    ]
    accelerator_class: Annotated[AcceleratorClass, Field(alias="class")]
    resource_names: tuple[str, ...] = ()
    """Extended resources, best first; in status.allocatable they prove that a pod can get one."""
    labels: tuple[dict[str, str], ...] = ()
    """Label alternatives, of which one whole must match. They place a profile that has no resource;
    of one that has, they only tell why a device is expected: a label is no capacity."""
    architectures: tuple[str, ...] = ("amd64", "arm64")
    """CPU architectures that the runtime image is built for."""
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """ONNX Runtime execution providers, best first."""
    provider_options: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Provider -> its options: `{"OpenVINOExecutionProvider": {"device_type": "NPU"}}`."""
    formats: tuple[Format, ...] = (Format.ONNX, Format.ORT)
    """Model formats that the profile's runtime can load."""
    precisions: tuple[Precision, ...] = ()
    """Precisions that the hardware computes; empty: all."""
    static_shapes: bool = False
    """The hardware wants every axis fixed: `inputShapes` of a variant must fix the dynamic ones."""
    exclusive: bool = True
    """One unit holds a device alone; for a profile without a resource: one unit per node."""
    image: str | None = None
    """Runtime image; None: Skerry's own of the `flavor`."""
    flavor: str = DEFAULT_FLAVOR
    """Which of Skerry's own runtime images serves on it, a name of the setting `runtimeImages`."""
    runtime_class_name: str | None = None
    supplemental_groups: tuple[int, ...] = ()
    vendor: str = ""
    tier: Tier | None = None
    watts: str = ""
    """Power of the part or board, for people, for example `7-25`."""
    tops_int8: float | None = None
    """Peak int8 operations per second, in units of 10^12, as the vendor says."""
    support: Support = Support.SUPPORTED
    unsupported_reason: str = ""
    """Why nothing serves on it, and what to do instead."""
    description: str = ""


class BadProfile(ValueError):  # noqa: N818 (it says what is bad)
    """A profile row is wrong; the text names the row, the field and the remedy."""


def parse_profiles(text: str, origin: str) -> tuple[Profile, ...]:
    """Read profile rows from YAML text: a list, best first within a class.

    Raises:
        BadProfile: a row is wrong, or two rows share a name.
    """
    try:
        rows = yaml.safe_load(text) or []
    except yaml.YAMLError as error:
        raise BadProfile(f"{origin}: not YAML: {error}") from error
    if not isinstance(rows, list):
        raise BadProfile(f"{origin}: must be a list of profiles")
    profiles = tuple(_parse_row(row, index, origin) for index, row in enumerate(rows))
    names = [profile.name for profile in profiles]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise BadProfile(f"{origin}: name {sorted(repeated)[0]!r} is used twice: rename one row")
    return profiles


def _parse_row(row: object, index: int, origin: str) -> Profile:
    name = row.get("name", f"number {index + 1}") if isinstance(row, Mapping) else index + 1
    try:
        return Profile.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "row"
        raise BadProfile(
            f"{origin}: profile {name}: {field}: {first['msg']} (got {first['input']!r})"
        ) from error


def builtin_profiles() -> tuple[Profile, ...]:
    """Return the profiles that ship with the operator."""
    text = resources.files(__package__).joinpath("profiles.yaml").read_text("utf-8")
    return parse_profiles(text, "built-in profiles")


def merge_profiles(base: Iterable[Profile], extra: Iterable[Profile]) -> tuple[Profile, ...]:
    """Return `base` with rows of the same name replaced, and new rows put before all others.

    A user's own row is the more specific one, so it is looked at first.
    """
    own = {profile.name: profile for profile in extra}
    kept = tuple(own.pop(profile.name, profile) for profile in base)
    return tuple(own.values()) + kept
