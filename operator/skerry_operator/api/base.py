"""Base types of the custom resources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from skerry_operator.api.bounds import COUNT_OR_PERCENT, PLAIN


@dataclass(frozen=True)
class Cel:
    """A validation rule of the CRD: `rule` must hold on the object it is attached to."""

    rule: str
    message: str


class KubeModel(BaseModel):
    """Base of every API type: camelCase outside, frozen inside.

    Unknown fields are ignored, so that an operator that was rolled back can still read what a
    newer one accepted; the CLI and the API server are the strict ones. `cel` holds the rules
    that the CRD generator attaches to the object.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )
    cel: ClassVar[tuple[Cel, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object with only the fields that were set and are not None."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)
]
ModelName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=63),
]
"""Name of an EdgeModel, under which clients ask for it: what Kubernetes takes, but shorter."""
SecretName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253),
]
"""Name of a secret in the same namespace."""
ShortText = Annotated[str, StringConstraints(max_length=256)]
PlainText = Annotated[ShortText, PLAIN]
"""Text that people write: it is printed as it is."""
LongText = Annotated[str, StringConstraints(max_length=1024)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", max_length=64)]
Duration = Annotated[
    str,
    StringConstraints(pattern=r"^([0-9]{1,9}d|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$", max_length=32),
]
"""Go duration made of ms, s, m and h, or whole days: for example 90s, 1h30m or 2d."""
Quantity = Annotated[
    str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", max_length=32)
]
"""Kubernetes quantity, for example 200Mi or 500m."""
Decimal = Annotated[str, StringConstraints(pattern=r"^-?[0-9]+(\.[0-9]+)?$", max_length=32)]
"""Decimal number as text, for example "0.98": the API holds no floats."""
CountOrPercent = Annotated[
    str,
    StringConstraints(pattern=r"^([1-9][0-9]{0,5}|([1-9][0-9]?|100)%)$", max_length=7),
    COUNT_OR_PERCENT,
]
"""A count such as "1", or a percentage such as "25%"."""
LabelKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        min_length=1,
        max_length=317,
    ),
]
LabelValue = Annotated[
    str,
    StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63),
]
Revision = Annotated[str, StringConstraints(max_length=32)]
Port = Annotated[int, Field(ge=1, le=65535)]


class ConditionStatus(StrEnum):
    """The three truth values of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(KubeModel):
    """A condition in the form of metav1.Condition."""

    type: ShortText
    """Type of the condition."""
    status: ConditionStatus
    """Whether it holds."""
    reason: ShortText
    """Machine-readable cause, CamelCase."""
    message: Annotated[str, StringConstraints(max_length=4096)] = ""
    """What a person should know."""
    last_transition_time: datetime
    """When the status last changed."""
    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of the spec that the condition speaks of."""


class ObjectMeta(KubeModel):
    """The part of the metadata that Skerry reads."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)
    deletion_timestamp: datetime | None = None
