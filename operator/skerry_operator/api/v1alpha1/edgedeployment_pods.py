"""What people want of the model pods that changes no model: access, priority, labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from skerry_operator.api.base import Cel, KubeModel, LabelKey, LabelValue, SecretName
from skerry_operator.api.bounds import PLAIN_LINES
from skerry_operator.constants import GROUP, LABEL_MANAGED_BY

_OURS = f"^([-a-z0-9.]+[.])?{GROUP.replace('.', '[.]')}/"
_REMEDY = f"keys of {GROUP} and {LABEL_MANAGED_BY} are Skerry's own: choose other keys"
AnnotationValue = Annotated[str, StringConstraints(max_length=2048), PLAIN_LINES]
PriorityClassName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253),
]


def _free(field: str) -> Cel:
    rule = f"k != '{LABEL_MANAGED_BY}' && !k.matches('{_OURS}')"
    return Cel(f"!has(self.{field}) || self.{field}.all(k, {rule})", f"{field}: {_REMEDY}")


def is_ours(key: str) -> bool:
    """Tell whether a label or annotation is Skerry's own, which nobody may set.

    >>> is_ours("skerry.dev/unit"), is_ours("a.skerry.dev/x"), is_ours("notskerry.dev/x")
    (True, True, False)
    """
    domain = key.partition("/")[0] if "/" in key else ""
    return key == LABEL_MANAGED_BY or domain == GROUP or domain.endswith(f".{GROUP}")


class PullSecret(KubeModel):
    """Names a Secret to pull images with. The kubelet reads it; the operator never does."""

    name: SecretName
    """Name of the Secret, in the namespace of the EdgeDeployment."""


class PodExtras(KubeModel):
    """What the pods have besides.

    A change rolls nothing out: pods that run keep what they have, those that never started are
    made anew.
    """

    cel: ClassVar[tuple[Cel, ...]] = (_free("labels"), _free("annotations"))

    image_pull_secrets: Annotated[tuple[PullSecret, ...], Field(max_length=8)] = ()
    """Secrets to pull images with, beside those of the chart value `modelPods`."""
    priority_class_name: PriorityClassName | None = None
    """PriorityClass of the pods; default: that of the chart value `modelPods`, else the
    cluster's."""
    labels: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """More labels of the pods; they win over those of the chart value `modelPods`, and never over
    Skerry's own."""
    annotations: Annotated[Mapping[LabelKey, AnnotationValue], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """More annotations of the pods; they win over those of the chart value `modelPods`."""

    def over(self, usual: PodExtras) -> PodExtras:
        """Return these on top of what the administrator gives all pods."""
        secrets = (*self.image_pull_secrets, *usual.image_pull_secrets)
        return PodExtras(
            image_pull_secrets=tuple(dict.fromkeys(secrets)),
            priority_class_name=self.priority_class_name or usual.priority_class_name,
            labels=_kept({**usual.labels, **self.labels}),
            annotations=_kept({**usual.annotations, **self.annotations}),
        )


NO_EXTRAS = PodExtras()


def _kept(given: Mapping[str, str]) -> dict[str, str]:
    """Return what is not ours to be set: an older CRD may have let it in."""
    return {key: value for key, value in sorted(given.items()) if not is_ours(key)}
