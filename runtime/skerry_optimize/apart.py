"""Work in a process of its own: for libraries that may end theirs, or whose memory is measured."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from skerry_optimize.errors import StepRefused

Result = TypeVar("Result")


def apart(what: str, work: Callable[..., Result], *given: object) -> Result:
    """Return what a function of a module makes of its arguments, in a fresh process.

    Raises:
        StepRefused: the process ended by itself; and all that the function raises.
    """
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(work, *given).result()
    except BrokenProcessPool as err:
        raise StepRefused(f"{what}: its process ended by itself: too little memory?") from err


def silenced() -> None:
    """Keep what libraries say of themselves off the terminal; for processes of their own."""
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
