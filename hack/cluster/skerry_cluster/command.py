"""Run system programs by argument list, never through a shell."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class ClusterError(Exception):
    """Something the cluster needs did not work; the message says what."""


class CommandError(ClusterError):
    """A system program failed."""

    def __init__(self, argv: Sequence[str], code: int, output: str) -> None:
        """Keep the command and the end of what it printed."""
        super().__init__(f"{' '.join(argv)}: exit status {code}\n{output[-4000:].strip()}")
        self.code = code


def run(
    *argv: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    Raises:
        ClusterError: if it is not installed.
        CommandError: if it exits with anything but 0.
    """
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=env,
            input=stdin or "",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{argv[0]} cannot be run: {error}") from error
    if done.returncode:
        raise CommandError(argv, done.returncode, done.stdout + done.stderr)
    return done.stdout


def succeeds(*argv: str) -> bool:
    """Say whether a program is there and exits with 0."""
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
