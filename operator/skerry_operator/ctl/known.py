"""What the operator of a cluster plans with: from the ConfigMap that its chart writes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skerry_operator.api.base import Name
from skerry_operator.catalogue.profiles import (
    BadProfile,
    Profile,
    builtin_profiles,
    extended_profiles,
)
from skerry_operator.ctl.answer import Declined
from skerry_operator.ctl.documents import Raw
from skerry_operator.plan import PlanSettings
from skerry_operator.plan.bound import plan_settings
from skerry_operator.settings import BadSettings, read_settings
from skerry_runtime import __version__

USUAL_PLACE = "skerry-system/skerry-settings"
"""Namespace and name of the ConfigMap after the installation that the README shows."""
_PROFILES, _VERSION = "profiles.yaml", "version"


@dataclass(frozen=True)
class OperatorKnowledge:
    """Profiles, images and settings of a running operator."""

    place: str
    """Namespace and name of what it was read from."""
    version: str
    profiles: tuple[Profile, ...]
    settings: PlanSettings
    namespaces: tuple[Name, ...] = ()
    """Those that it serves; empty: all."""


def read_knowledge(place: str, raw: Raw) -> OperatorKnowledge:
    """Return what a ConfigMap of the chart says.

    Raises:
        Declined: a newer or older operator wrote it in a way that this program cannot read.
    """
    data: Mapping[str, str] = raw.get("data") or {}
    variables = {key: text for key, text in data.items() if key.startswith("SKERRY_")}
    try:
        settings = read_settings(variables, {})
        rows = data.get(_PROFILES)
        profiles = extended_profiles(rows, f"ConfigMap {place}") if rows else builtin_profiles()
        bound = plan_settings(settings)
    except (BadSettings, BadProfile) as error:
        raise Declined(
            f"ConfigMap {place}: {error}: is this program as new as the operator, "
            f"{data.get(_VERSION, 'of an unknown version')}?"
        ) from error
    return OperatorKnowledge(place, data.get(_VERSION, ""), profiles, bound, settings.namespaces)


def unread(place: str, why: str) -> str:
    """Return what people are told when the operator's settings are out of reach."""
    return (
        f"the operator's settings were not read ({why}), so the built-in profiles and the image "
        f"of the newest revision are taken: --operator NAMESPACE/NAME names another ConfigMap "
        f"than {place}"
    )


def differences(
    known: OperatorKnowledge, profiles: tuple[Profile, ...] | None, image: str | None
) -> tuple[str, ...]:
    """Return where the plan is not the operator's: what was asked for, or another version."""
    found = []
    if profiles is not None and profiles != known.profiles:
        ours, theirs = ({one.name: one for one in rows} for rows in (profiles, known.profiles))
        names = sorted({*ours, *theirs})
        other = [name for name in names if ours.get(name) != theirs.get(name)] or ["the order"]
        found.append(f"--profiles differs from what the operator has in {', '.join(other[:8])}")
    usual = known.settings.default_image
    if image is not None and image != usual:
        found.append(f"--runtime-image is {image}, the operator's is {usual}")
    if known.version not in {"", __version__}:
        found.append(
            f"the operator is {known.version} and this program {__version__}: it may plan otherwise"
        )
    return tuple(found)


def out_of_reach(known: OperatorKnowledge, namespace: str) -> tuple[str, ...]:
    """Return that the operator does not serve a namespace, if so."""
    if not known.namespaces or namespace in known.namespaces:
        return ()
    return (f"the operator does not serve namespace {namespace}: add it to `watchNamespaces`",)
