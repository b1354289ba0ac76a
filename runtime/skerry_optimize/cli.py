"""`skerry-optimize run PLAN MODEL` makes the builds of a plan, and `plot REPORT` draws them."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from skerry_optimize.errors import BadPlan, StepRefused
from skerry_optimize.job import measured_origin, read_material, report_of, run_plan
from skerry_optimize.jobcommand import add_parser, do_job
from skerry_optimize.plan import DataFile, OptimizePlan, read_plan
from skerry_optimize.plot import picture
from skerry_optimize.report import Report, table
from skerry_runtime.agent.npz import Arrays, BadArchive, read_npz

BAD_USAGE = 2
REFUSED = 1
REPORT_FILE = "report.json"
MAX_REPORT_BYTES = 16 * 1024**2


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    Returns 0 when every build was made, 1 when one was refused, 2 when the plan, the model or the
    data cannot be used.
    """
    options = _parser().parse_args(arguments)
    _tell_progress()
    try:
        if options.command == "job":
            return do_job(options)
        if options.command == "plot":
            return plot(options.report, options.out)
        return run(options.plan, options.model, options.out)
    except (BadPlan, StepRefused, OSError) as err:
        print(f"skerry-optimize: {err}", file=sys.stderr)
        return BAD_USAGE


def run(plan_path: Path, model: Path, folder: Path) -> int:
    """Make the builds, and write them and the report into the folder.

    Raises:
        BadPlan: the plan, the data or the golden file cannot be used.
        StepRefused: the model cannot be used.
        OSError: a file cannot be read or written.
    """
    plan = read_plan(_text(plan_path))
    folder.mkdir(parents=True, exist_ok=True)
    data, golden = (_arrays(plan_path, one) for one in (plan.data, plan.golden))
    material = read_material(model, data, golden, _students(plan_path, plan))
    origin = measured_origin(plan, material)
    jobs = []
    for job in run_plan(plan, material, origin, folder):
        print(f"{job.name}: {job.phase} after {job.seconds:.1f} s", file=sys.stderr)
        jobs.append(job)
    report = report_of(origin, tuple(jobs))
    (folder / REPORT_FILE).write_text(report.model_dump_json(by_alias=True, indent=2) + "\n")
    _show(table(report))
    print(f"times are of {report.cpu}, one thread, one sample a run")
    return 0 if report.is_good else REFUSED


def plot(report: Path, target: Path | None) -> int:
    """Draw a report beside it, or where it is asked for.

    Raises:
        BadPlan: it is no report, or one without accuracies.
        OSError: a file cannot be read or written.
    """
    if report.stat().st_size > MAX_REPORT_BYTES:
        raise BadPlan(f"{report} is no report: it has more than {MAX_REPORT_BYTES} bytes")
    try:
        read = Report.model_validate_json(report.read_bytes())
    except ValidationError as err:
        raise BadPlan(f"{report} is no report of `skerry-optimize run`") from err
    drawn = target or report.with_suffix(".svg")
    drawn.write_text(picture(read), "utf-8")
    print(drawn)
    return 0


def _tell_progress() -> None:
    """Let training say a line of JSON an epoch where logs are read."""
    logger = logging.getLogger("skerry_optimize.progress")
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as err:
        raise BadPlan(f"{path} is no UTF-8 text") from err


def _arrays(plan: Path, wanted: DataFile | None) -> Arrays | None:
    """Return the arrays of a file that the plan names; a relative name begins where the plan is."""
    if wanted is None:
        return None
    path = plan.parent / wanted.file
    try:
        return read_npz(path)
    except BadArchive as err:
        raise BadPlan(f"{path}: {err}") from err


def _students(path: Path, plan: OptimizePlan) -> dict[str, Path]:
    """Return where the students lie that the plan names as files."""
    steps = (step.distil for job in plan.jobs for step in job.steps)
    names = (step.student.file for step in steps if step is not None)
    return {name: path.parent / name for name in names if name is not None}


def _show(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry-optimize", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="make the builds of a plan")
    running.add_argument("plan", type=Path, help="YAML: jobs, data, golden, guards")
    running.add_argument("model", type=Path, help="the ONNX file")
    running.add_argument("--out", type=Path, default=Path("builds"), help="folder for the builds")
    add_parser(commands)
    drawing = commands.add_parser("plot", help="draw a report: accuracy against bytes and time")
    drawing.add_argument("report", type=Path, help="report.json of a run")
    drawing.add_argument("--out", type=Path, help="the SVG; without it, beside the report")
    return parser
