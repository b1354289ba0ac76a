"""The digits demo: `make demo`.

Places a model on three nodes of a real Kubernetes, changes it by canary under live traffic, and
lets Skerry take two bad versions back. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import fcntl
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from digits_demo import cluster, install, manifests, report, timeline, train, view
from digits_demo.driver import Run, Stage, perform
from digits_demo.errors import DemoError
from digits_demo.kube import connect

OUTPUT = cluster.REPOSITORY / "build/demo"


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0 only if everything that was promised happened."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave the namespace `digits`")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of the results")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    try:
        with one_at_a_time():
            stage = prepare(console, args.output)
            return play(console, stage, keep=args.keep)
    except DemoError as error:
        console.print(f"demo: {error}", style="bold red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("demo: interrupted")
        return 130


def prepare(console: Console, output: Path) -> Stage:
    """Bring everything up that the story needs; what is there already is kept."""
    with timed(console, "cluster"):
        cluster.up()
    with timed(console, "images"):
        images = cluster.build_images()
    with timed(console, "models"):
        artifacts, index = train.ensure()
    access = cluster.access()
    kube = connect(access, manifests.NAMESPACE)
    with timed(console, "operator, installed with Helm"):
        install.install(access, images)
    with timed(console, "a fresh namespace"):
        install.remove_namespace(kube)
    return Stage(access, kube, artifacts, index, output)


def play(console: Console, stage: Stage, *, keep: bool) -> int:
    """Tell the story, write the results and tidy up; return the exit status."""
    try:
        run = perform(stage, view.open_view(console))
        return conclude(console, run)
    finally:
        if not keep:
            with timed(console, "removing the demo's namespace; the cluster stays up"):
                install.remove_namespace(stage.kube)


def conclude(console: Console, run: Run) -> int:
    """Write report and picture and print the summary."""
    result = run.result()
    paths = [
        report.write(result, run.stage.output),
        timeline.draw(run.picture(), run.stage.output),
    ]
    console.print(view.summary(result))
    for path in paths:
        console.print(f"written: {path}", highlight=False, soft_wrap=True)
    return 0 if result.met else 1


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the lock of this machine's demo: two would take each other's namespace away.

    Raises:
        DemoError: another demo holds it.
    """
    path = train.cache_root() / "demo.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoError("another demo is running", "wait until it has ended") from error
        yield


@contextmanager
def timed(console: Console, what: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    console.print(f"• {what} ...", highlight=False)
    begin = time.monotonic()
    yield
    console.print(f"  {what}: {time.monotonic() - begin:.1f} s", highlight=False, style="dim")


if __name__ == "__main__":
    sys.exit(main())
