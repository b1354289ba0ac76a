"""`skerry-optimize job`: what the pod of an EdgeModel's job runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from skerry_optimize.errors import BadPlan
from skerry_optimize.ordered import Workplace, carry_out
from skerry_optimize.progress import say
from skerry_optimize.verdicts import last_words
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Transient
from skerry_runtime.contract import (
    BUILD_ORDER_DIR,
    BUILD_ORDER_FILE,
    BUILD_TRANSIENT,
    BUILD_WORK_DIR,
    BuildOrder,
    clipped,
)

MAX_ORDER_BYTES = 256 * 1024
LAST_WORDS = Path("/dev/termination-log")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    doing = commands.add_parser("job", help="make one build as an order says (in a Job's pod)")
    order = Path(BUILD_ORDER_DIR, BUILD_ORDER_FILE)
    doing.add_argument("--order", type=Path, default=order, help="file with the order")
    doing.add_argument("--work", type=Path, default=Path(BUILD_WORK_DIR), help="folder to work in")
    doing.add_argument("--verdict", type=Path, default=LAST_WORDS, help="file for the verdict")


def do_job(options: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> int:
    """Carry an order out and write the verdict.

    Returns 0 when there is a verdict, whatever it says, and 75 when another try may come to one.

    Raises:
        BadPlan: there is no order, or none that can be read.
        OSError: the verdict cannot be written.
    """
    order = read_order(options.order)
    place = Workplace(options.work, Tuning.from_env(environ), say)
    say("begun", job=order.job, key=order.key)
    try:
        verdict = carry_out(order, place)
    except Transient as err:
        say("away", problem=str(err))
        options.verdict.write_text(clipped(str(err)))
        return BUILD_TRANSIENT
    say("verdict", phase=verdict.phase, message=verdict.message)
    options.verdict.write_text(last_words(verdict))
    return 0


def read_order(path: Path) -> BuildOrder:
    """Return the order in a file.

    Raises:
        BadPlan: it is none.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_ORDER_BYTES + 1)
        if len(content) > MAX_ORDER_BYTES:
            raise BadPlan(f"{path}: an order of more than {MAX_ORDER_BYTES} bytes")
        return BuildOrder.model_validate_json(content)
    except OSError as err:
        raise BadPlan(f"{path}: {err.strerror}") from err
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadPlan(f"{path}: {place}: {first['msg']}") from err
