"""What a model is for its deployments: its variants, and what was built of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from skerry_operator.api.v1alpha1.edgemodel import EdgeModelSpec, Variant
from skerry_operator.api.v1alpha1.edgemodel_optimize import Built, OnBuildFailure
from skerry_operator.api.v1alpha1.edgemodel_source import ModelSource, SourceSecret
from skerry_operator.constants import Reason
from skerry_operator.decide.builds.wanted import WantedBuild, optimize_problems, wanted_builds
from skerry_operator.decide.observed import ModelHold
from skerry_runtime.contract import BuildPhase

Results = Mapping[str, Built]
"""Key of a wanted build -> its result."""


def is_usable(result: Built) -> bool:
    """Tell whether a result can be gone by: a record that somebody damaged cannot."""
    if result.phase is not BuildPhase.SUCCEEDED:
        return result.phase in (BuildPhase.REFUSED, BuildPhase.FAILED)
    return None not in (result.uri, result.sha256, result.format)


def result_of(wanted: WantedBuild, results: Results) -> Built | None:
    """Return the result that stands for a build; None: it is still to be made."""
    found = results.get(wanted.key)
    return found if found is not None and is_usable(found) else None


def built_variant(
    wanted: WantedBuild, result: Built, pull_secret: SourceSecret | None
) -> Variant | None:
    """Return the variant that a result is; None: it is none."""
    if result.phase is not BuildPhase.SUCCEEDED or result.uri is None or result.sha256 is None:
        return None
    source: dict[str, object] = {"uri": result.uri, "sha256": result.sha256}
    secret = pull_secret or result.pull_secret
    return wanted.variant(
        ModelSource.model_validate(source | ({"secret_ref": secret} if secret else {}))
    )


def effective_spec(spec: EdgeModelSpec, results: Results) -> EdgeModelSpec:
    """Return the spec with its builds as variants, before those that they were made of.

    Without `optimize` itself: how a build was made and judged is no part of a revision. Where no
    build is there it is the spec as if nobody had asked for any.
    """
    if spec.optimize is None:
        return spec
    store = spec.optimize.store
    secret = store.pull_secret_ref if store else None
    found = ((one, result_of(one, results)) for one in wanted_builds(spec))
    made = (built_variant(one, result, secret) for one, result in found if result is not None)
    variants = (*(one for one in made if one is not None), *spec.variants)
    return spec.model_copy(update={"variants": variants, "optimize": None})


def hold_of(spec: EdgeModelSpec, results: Results) -> ModelHold | None:
    """Return why deployments keep what they have; None: the model is what it is to be."""
    if spec.optimize is None:
        return None
    if problems := tuple(optimize_problems(spec)):
        return ModelHold(Reason.MODEL_INVALID, "; ".join(problems))
    found = [(one, result_of(one, results)) for one in wanted_builds(spec)]
    if missing := [one.name for one, result in found if result is None]:
        message = f"builds are being made: {', '.join(missing)}. What runs goes on."
        return ModelHold(Reason.OPTIMIZING, message)
    blocked = [
        f"job {one.name} is {result.phase}: {result.message}"
        for one, result in found
        if result is not None
        and result.phase is not BuildPhase.SUCCEEDED
        and one.job.on_failure is OnBuildFailure.BLOCK
    ]
    if not blocked:
        return None
    remedy = "change the job or its guards, or set another optimize.retry. What runs goes on."
    return ModelHold(Reason.OPTIMIZATION_FAILED, f"{'; '.join(blocked)}: {remedy}")
