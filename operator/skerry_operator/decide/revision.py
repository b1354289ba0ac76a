"""A revision: the content hash of everything that decides what runs, and its snapshot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from skerry_operator.api.base import KubeModel, ModelName
from skerry_operator.api.v1alpha1.edgedeployment import EdgeDeploymentSpec, Runtime, Serving
from skerry_operator.api.v1alpha1.edgemodel import EdgeModelSpec
from skerry_operator.constants import REVISION_SCHEME

HASH_LENGTH = 10
_BESIDE_THE_PODS = frozenset({"networkPolicy", "service"})
"""Fields of `serving` that make objects beside the pods, which follow the spec at once."""


class KeptModel(KubeModel):
    """One model of a revision."""

    name: ModelName
    """Name under which clients asked for it when the revision was made."""
    spec: EdgeModelSpec


class Snapshot(KubeModel):
    """All that is needed to run a revision again, kept in a ControllerRevision.

    `default_image` and `images` (profile -> image) are those that pods ran in when the revision
    was made, or the operator's of that day, so that an operator upgrade alone never changes a pod.
    """

    revision: str
    models: Annotated[tuple[KeptModel, ...], Field(min_length=1, max_length=8)]
    names: tuple[ModelName, ...] = Field(default=(), exclude=True)
    """Names under which clients ask for them today, in the same order; not in the data, which
    never changes. Empty: those of the day the revision was made."""
    runtime: Runtime
    serving: Serving
    default_image: str
    images: Mapping[str, str] = Field(default_factory=dict)
    triton_image: str | None = None
    """The operator's of that day, where the engine is Triton."""
    image_set: str | None = None
    """Key of the images, where they count in the revision: it was made to bring them, or follows
    one that was. None: those of the first day."""
    pods_of: str | None = None
    """The last revision before this one, or itself, that was made for new pods (`update:
    Recreate`): pods of another such revision are not taken over. None: there was none."""

    @property
    def model(self) -> EdgeModelSpec:
        """The only model there is today, or the first."""
        return self.models[0].spec

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names under which clients ask for the models."""
        return self.names or tuple(model.name for model in self.models)

    def named(self, names: Sequence[str]) -> Snapshot:
        """Return the snapshot with other names; as it is, unless there is one for each model."""
        fits = len(names) == len(self.models)
        return self.model_copy(update={"names": tuple(names)}) if fits else self


def canonical_json(value: object) -> str:
    """Return JSON text that is equal for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def content_hash(value: object, length: int = HASH_LENGTH) -> str:
    """Return the first `length` hex digits of the sha256 of the value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def revision_of(
    model: EdgeModelSpec, deployment: EdgeDeploymentSpec, image_set: str | None = None
) -> str:
    """Return the revision that the two specs ask for, for example `r1-0a1b2c3d4e`.

    `image_set` is the key of the operator's images, where they are what is rolled out.

    Equal specs give equal revisions for ever: whatever is added to the specs later counts only
    where the user sets it, so a new field with a default, or an operator upgrade, starts no
    rollout. Placement and rollout settings decide where and how, not what; neither do the model's
    name nor the Service decide what runs in a pod.
    """
    content = {
        "model": model.to_dict(),
        "runtime": deployment.runtime.to_dict(),
        "serving": _without(deployment.serving.to_dict(), _BESIDE_THE_PODS),
        **({"images": image_set} if image_set else {}),
    }
    return f"{REVISION_SCHEME}-{content_hash(content)}"


def kin_of(
    model: EdgeModelSpec, deployment: EdgeDeploymentSpec, known: Mapping[str, Snapshot]
) -> tuple[Snapshot, ...]:
    """Return the known snapshots of what the two specs ask for, whatever their images."""
    image_sets = {snapshot.image_set for snapshot in known.values()}
    revisions = (revision_of(model, deployment, one) for one in image_sets)
    return tuple(known[revision] for revision in sorted(revisions) if revision in known)


def _without(section: Mapping[str, object], fields: frozenset[str]) -> dict[str, object]:
    return {name: value for name, value in section.items() if name not in fields}
