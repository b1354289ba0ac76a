"""Who may reach the pods of an EdgeDeployment, in the words of a Kubernetes NetworkPolicy."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from skerry_operator.api.base import Cel, KubeModel, LabelKey, LabelValue

_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"({_OCTET}\.){{3}}{_OCTET}/(3[0-2]|[12]?[0-9])"
_IPV6 = r"[0-9a-fA-F:]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])"
Cidr = Annotated[str, StringConstraints(pattern=rf"^({_IPV4}|{_IPV6})$", max_length=49)]
"""Range of addresses, for example 10.0.0.0/8 or 2001:db8::/64."""


class SelectorOperator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class LabelRequirement(KubeModel):
    """One condition on a label."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "values belong to the operators In and NotIn, which need at least one",
        ),
    )

    key: LabelKey
    """Label."""
    operator: SelectorOperator
    """In, NotIn, Exists or DoesNotExist."""
    values: Annotated[tuple[LabelValue, ...], Field(max_length=16)] = ()
    """What it is compared with, for In and NotIn."""


class LabelSelector(KubeModel):
    """Selects by labels; empty: all."""

    match_labels: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """Labels that must have these values."""
    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=16)] = ()
    """Conditions that must all hold."""


class IpBlock(KubeModel):
    """A range of addresses."""

    cidr: Cidr
    """The range."""
    except_: Annotated[tuple[Cidr, ...], Field(max_length=16)] = Field(default=(), alias="except")
    """Ranges inside it that are left out."""


class NetworkPeer(KubeModel):
    """Who may connect: pods, by their labels and those of their namespace, or addresses."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))",
            "a peer has either ipBlock, or podSelector and namespaceSelector or one of the two",
        ),
    )

    pod_selector: LabelSelector | None = None
    """Pods, in the namespaces of namespaceSelector; without that, in the same namespace."""
    namespace_selector: LabelSelector | None = None
    """Namespaces; without podSelector, all their pods."""
    ip_block: IpBlock | None = None
    """Addresses outside the cluster."""


class NetworkAccess(KubeModel):
    """A NetworkPolicy for the pods. It needs a network that enforces policies, as K3s has one."""

    enabled: bool | None = None
    """True: only `from` reaches the REST and gRPC ports, and only the operator and whom the
    operator's administrator names the admin port. Default: the operator's setting."""
    from_: Annotated[tuple[NetworkPeer, ...], Field(max_length=16)] = Field(
        default=(), alias="from"
    )
    """Who may ask. Default: all pods of the same namespace."""
