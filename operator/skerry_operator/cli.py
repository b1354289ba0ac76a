"""`skerry-operator`: run the operator, or print the custom resource definitions."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from skerry_operator.api.v1alpha1.edgedeployment_network import NetworkPeer
from skerry_operator.catalogue.profiles import (
    BadProfile,
    Profile,
    builtin_profiles,
    extended_profiles,
)
from skerry_operator.clock import SystemClock
from skerry_operator.crdgen.cli import as_yaml
from skerry_operator.crdgen.definitions import KINDS, definition
from skerry_operator.decide.observed import Observed
from skerry_operator.decide.placement.placed import PlacementResult
from skerry_operator.decide.planned import Plan
from skerry_operator.kube.client import connect
from skerry_operator.manifests.networkpolicy import NetworkDefaults
from skerry_operator.plan import PlanSettings, plan, plan_model
from skerry_operator.process.operator import Operator
from skerry_operator.reconcile import Planner
from skerry_operator.settings import BadSettings, LogFormat, Settings, read_settings, variable_of
from skerry_operator.telemetry import Telemetry, configure_logs

BAD_USAGE = 2
"""Exit status when a setting or a profile is wrong: starting again would not help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    options = vars(_parser().parse_args(arguments))
    if options.pop("command") == "crds":
        return print_definitions()
    try:
        settings = read_settings(os.environ, options)
        planner = build_planner(settings, read_profiles(settings.profiles))
    except (BadSettings, BadProfile, OSError) as error:
        print(f"skerry-operator: {error}", file=sys.stderr)
        return BAD_USAGE
    return run(settings, planner)


def run(settings: Settings, planner: Planner) -> int:
    """Run the operator until a signal; return the exit status."""
    configure_logs(settings.log_level, as_json=settings.log_format is LogFormat.JSON)
    return asyncio.run(_run(settings, planner))


async def _run(settings: Settings, planner: Planner) -> int:
    telemetry = Telemetry()
    operator = Operator(
        settings, planner, client=connect(telemetry), clock=SystemClock(), telemetry=telemetry
    )
    return await operator.run()


def build_planner(settings: Settings, profiles: tuple[Profile, ...]) -> Planner:
    """Return the decisions with profiles and settings bound.

    Raises:
        BadSettings: a peer of the admin ports is none.
    """
    bound = PlanSettings(
        default_image=settings.runtime_image,
        flavor_images=settings.runtime_images,
        triton_image=settings.triton_image or None,
        fetch_allow=",".join(map(str, settings.fetch_allow)),
        accelerator_grace_s=settings.accelerator_grace_seconds,
        network=NetworkDefaults(settings.network_policies, _admin_peers(settings)),
    )

    def decide(observed: Observed, earlier: Mapping[str, PlacementResult]) -> Plan:
        return plan(observed, profiles, bound, earlier)

    return Planner(decide, plan_model)


def _admin_peers(settings: Settings) -> tuple[NetworkPeer, ...]:
    variable = variable_of("admin_peers")
    try:
        peers = tuple(NetworkPeer.model_validate(peer) for peer in settings.admin_peers)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadSettings(f"{variable}: {place}: {first['msg']}") from error
    if not all(peer.to_dict() for peer in peers):
        names = "podSelector, namespaceSelector or ipBlock"
        raise BadSettings(f"{variable}: a peer has {names}, as in a NetworkPolicy")
    return peers


def read_profiles(path: Path | None) -> tuple[Profile, ...]:
    """Return the built-in profiles, changed and preceded by the file's rows.

    Raises:
        BadProfile: a row is wrong.
        OSError: the file cannot be read.
    """
    if path is None:
        return builtin_profiles()
    return extended_profiles(path.read_text("utf-8"), str(path))


def print_definitions() -> int:
    """Print the CRDs as one stream of YAML, for `kubectl apply --server-side -f -`."""
    print("\n---\n".join(as_yaml(definition(kind)).rstrip() for kind in KINDS))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry-operator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("crds", help="print the custom resource definitions")
    running = commands.add_parser("run", help="run the operator")
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        text = f"{(field.description or name).replace('%', '%%')} ({variable_of(name)})"
        if field.annotation is bool:
            running.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=None, help=text
            )
        else:
            running.add_argument(flag, metavar="VALUE", help=text)
    return parser
