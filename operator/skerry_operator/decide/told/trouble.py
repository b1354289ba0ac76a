"""What stands in the way of a plan: an impossible spec, a model or an engine that is no use."""

from __future__ import annotations

from skerry_operator.api.v1alpha1.edgedeployment import Runtime
from skerry_operator.catalogue.profiles import Profile
from skerry_operator.constants import Reason
from skerry_operator.decide.observed import Observed
from skerry_operator.decide.placement.place import accelerator_problem, replicas_problem
from skerry_operator.decide.revision import kin_of
from skerry_operator.decide.rollout.state import EngineState
from skerry_operator.decide.told.conditions import Hindrance
from skerry_operator.decide.told.validate import model_problems
from skerry_operator.decide.windows import rollout_problems
from skerry_runtime.contract import Engine, is_known


def find_hindrance(observed: Observed, profiles: tuple[Profile, ...]) -> Hindrance | None:
    """Return why nobody can be placed, most basic cause first; None: units can be."""
    if not observed.nodes:  # a cluster has nodes: who sees none must not clear anything away
        return Hindrance(Reason.NO_ELIGIBLE_NODES, "the operator sees no node at all")
    placement = observed.deployment.spec.placement
    problem = accelerator_problem(placement, profiles) or replicas_problem(placement)
    return Hindrance(Reason.INVALID_SPEC, problem) if problem else None


def _window_trouble(observed: Observed) -> Hindrance | None:
    rollout = observed.deployment.spec.rollout
    problems = rollout_problems(rollout)
    return Hindrance(Reason.INVALID_SPEC, "; ".join(problems)) if problems else None


def find_trouble(observed: Observed, triton_image: str | None) -> Hindrance | None:
    """Return why the spec names nothing that could be rolled out; None: it does.

    `triton_image` is the operator's image of the server.
    """
    return (
        _model_trouble(observed)
        or _engine_trouble(observed, triton_image)
        or _window_trouble(observed)
    )


def _model_trouble(observed: Observed) -> Hindrance | None:
    name = observed.deployment.spec.model_ref.name
    if observed.model_problem:
        return Hindrance(Reason.MODEL_INVALID, f"EdgeModel {name!r}: {observed.model_problem}")
    if observed.model is None:
        namespace = observed.deployment.metadata.namespace
        return Hindrance(
            Reason.MODEL_NOT_FOUND,
            f"EdgeModel {name!r} does not exist in namespace {namespace!r}: create it, or correct "
            "spec.modelRef.name. Pods that run go on serving.",
        )
    if observed.model_hold is not None:
        hold = observed.model_hold
        return Hindrance(hold.reason, f"EdgeModel {name!r}: {hold.message}")
    problems = model_problems(observed.model.spec)
    if problems:
        return Hindrance(Reason.MODEL_INVALID, f"EdgeModel {name!r}: {'; '.join(problems)}")
    return None


def _engine_trouble(observed: Observed, triton_image: str | None) -> Hindrance | None:
    assert observed.model is not None  # noqa: S101 (a missing model is trouble enough)
    spec = observed.deployment.spec
    state = EngineState.from_status(observed.deployment.status)
    former = observed.snapshots.get(state.base or "")
    if former is not None and former.triton_image:
        triton_image = former.triton_image  # what runs in it stays in it
    elif kin_of(observed.model.spec, spec, observed.snapshots):
        return None  # with the image of its day
    problem = engine_problem(spec.runtime, triton_image)
    return Hindrance(Reason.INVALID_SPEC, problem) if problem else None


def engine_problem(runtime: Runtime, triton_image: str | None) -> str | None:
    """Return what the engine lacks; `triton_image` is the operator's."""
    if runtime.engine is not None and not is_known(runtime.engine):
        return (
            f"spec.runtime.engine is {runtime.engine}, which this operator does not know: upgrade "
            "it, or name another. Pods that run go on serving."
        )
    if runtime.engine is not Engine.TRITON or runtime.triton_image or triton_image:
        return None
    return (
        "spec.runtime.engine is Triton, and there is no image of the server: name one in "
        "spec.runtime.tritonImage, or for all deployments with the chart value tritonImage, for "
        "example one of NVIDIA's. Pods that run go on serving."
    )
