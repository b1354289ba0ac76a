"""Runs other programs and turns their failures into sentences."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from digits_demo.errors import DemoError

TAIL_LINES = 15


def run(
    command: Sequence[str],
    *,
    remedy: str,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 300,
) -> str:
    """Return the standard output.

    Raises:
        DemoError: the program is missing, failed, or took too long.
    """
    try:
        done = subprocess.run(
            command,
            input=stdin,
            env=env,
            timeout=timeout_s,
            text=True,
            capture_output=True,
            check=True,
        )
    except FileNotFoundError as error:
        raise DemoError(f"{command[0]} is not installed", remedy) from error
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"{_name(command)} took longer than {timeout_s:.0f} s", remedy) from error
    except subprocess.CalledProcessError as error:
        raise DemoError(f"{_name(command)} failed:\n{_tail(error.stderr)}", remedy) from error
    return done.stdout


def show(command: Sequence[str], *, remedy: str) -> None:
    """Run a program whose own output is for the person at the terminal.

    Raises:
        DemoError: it is missing or failed.
    """
    try:
        status = subprocess.run(command, check=False).returncode
    except FileNotFoundError as error:
        raise DemoError(f"{command[0]} is not installed", remedy) from error
    if status:
        raise DemoError(f"{_name(command)} ended with status {status}", remedy)


def _name(command: Sequence[str]) -> str:
    return " ".join(command[:4])


def _tail(text: str | None) -> str:
    lines = (text or "").strip().splitlines()[-TAIL_LINES:]
    return "\n".join(f"    {line}" for line in lines)
