"""`skerry-operator`: run the operator, or print the custom resource definitions."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from skerry_operator.api.v1alpha1.edgemodel import EdgeModel
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
from skerry_operator.decide.planned import ModelPlan, Plan
from skerry_operator.kube.client import connect
from skerry_operator.plan import plan, plan_model
from skerry_operator.plan.bound import plan_settings
from skerry_operator.plan.model import BuildsObserved
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
    _collect_seldom()
    return asyncio.run(_run(settings, planner))


def _collect_seldom() -> None:
    """Let the collector pass over what was imported, and look for cycles less often.

    Nearly all that the operator lets go of has no cycle, and ends with its last reference. Looking
    for cycles after every 700 objects, as CPython does, was an eighth of its CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def _run(settings: Settings, planner: Planner) -> int:
    telemetry = Telemetry()
    operator = Operator(
        settings, planner, client=connect(telemetry), clock=SystemClock(), telemetry=telemetry
    )
    return await operator.run()


def build_planner(settings: Settings, profiles: tuple[Profile, ...]) -> Planner:
    """Return the decisions with profiles and settings bound.

    Raises:
        BadSettings: a peer of the admin ports is none, or pods cannot have what they are given.
    """
    bound = plan_settings(settings)

    def decide(observed: Observed, earlier: Mapping[str, PlacementResult]) -> Plan:
        return plan(observed, profiles, bound, earlier)

    def decide_model(model: EdgeModel, now: datetime, builds: BuildsObserved) -> ModelPlan:
        return plan_model(model, now, builds, bound.optimize)

    return Planner(decide, decide_model)


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
