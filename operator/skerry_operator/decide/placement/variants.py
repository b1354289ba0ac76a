"""Which build of a model runs on a profile, and what is missing when none does."""

from __future__ import annotations

from collections.abc import Iterable

from skerry_operator.api.quantity import quantity
from skerry_operator.api.v1alpha1.edgemodel import Variant
from skerry_operator.catalogue.profiles import Profile
from skerry_operator.decide.placement.hardware import Hardware
from skerry_runtime.contract import Engine, Format

FORMATS = {
    Engine.ONNX_RUNTIME: (Format.ONNX, Format.ORT),
    Engine.LITE_RT: (Format.TFLITE,),
    Engine.TRITON: (Format.ONNX,),
}
"""What an engine reads."""


def suitable(
    profile: Profile, variants: Iterable[Variant], engine: Engine | None = None
) -> list[Variant]:
    """Return the variants that run on the profile, best first: the model's own order counts.

    Without an engine any that the format asks for will do.

    Hardware that wants fixed axes takes those first that say what to fix them to.
    """
    found = [variant for variant in variants if mismatch(profile, variant, engine) is None]
    if profile.static_shapes:
        return sorted(found, key=lambda variant: not variant.input_shapes)
    return found


def variant_of(
    hardware: Hardware, variants: Iterable[Variant], engine: Engine | None = None
) -> Variant | None:
    """Return the variant that a cell's units are given, or None."""
    found = suitable(hardware.profile, variants, engine)
    return found[hardware.choice] if hardware.choice < len(found) else None


def fitting_choice(found: list[Variant], memory_bytes: float | None) -> int | None:
    """Return the index of the first variant that fits the memory; one that names none is let in."""
    for index, variant in enumerate(found):
        if variant.memory is None or memory_bytes is None:
            return index
        if quantity(variant.memory) <= memory_bytes:
            return index
    return None


def mismatch(profile: Profile, variant: Variant, engine: Engine | None = None) -> str | None:
    """Return why a variant does not run on the profile by the engine; None: it does."""
    names = (profile.name, str(profile.accelerator_class))
    if variant.runs_on and not set(names) & set(variant.runs_on):
        return f"runsOn is {', '.join(variant.runs_on)}"
    if variant.format not in profile.formats or not _is_read(variant.format, engine):
        return f"format {variant.format}"
    if engine is Engine.TRITON and variant.input_shapes:
        return "inputShapes, and Triton fixes no axes"
    if profile.precisions and variant.precision not in profile.precisions:
        return f"precision {variant.precision}"
    return None


def _is_read(model_format: Format, engine: Engine | None) -> bool:
    return engine is None or model_format in FORMATS.get(engine, ())


def missing_variant(
    profile: Profile, variants: Iterable[Variant], engine: Engine | None = None
) -> str:
    """Return what the model lacks for the profile, variant by variant, and what would help."""
    formats = " or ".join(profile.formats)
    precisions = f" in {' or '.join(profile.precisions)}" if profile.precisions else ""
    names = " or ".join(dict.fromkeys((profile.name, str(profile.accelerator_class))))
    reasons = "; ".join(f"{one.name}: {mismatch(profile, one, engine)}" for one in variants)
    by_engine, other_engine = "", ""
    if engine is not None:
        taken = " or ".join(FORMATS.get(engine, ())) or "nothing that this operator knows"
        by_engine = f", with spec.runtime.engine {engine}, which takes {taken}"
        other_engine = ", or change spec.runtime.engine"
    return (
        f"the model has no variant for {profile.name}, which takes {formats}{precisions}"
        f"{by_engine} ({reasons}): add one, with {names} in runsOn{other_engine}"
    )
