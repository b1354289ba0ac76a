"""Finds the programs that tests run: the real Helm, kubectl, API server and KWOK."""

from __future__ import annotations

import os
import shutil
from functools import cache

from skerry_cluster import tools
from skerry_cluster.settings import Layout


@cache
def find(program: str) -> str:
    """Return the program's path: $HELM for helm and so on, else PATH, else the cluster's cache.

    The cache is filled when it is empty, which takes minutes, once.
    """
    chosen = os.environ.get(program.upper().replace("-", "_")) or shutil.which(program)
    module = tools.KWOK if program in tools.KWOK.programs else tools.KUBERNETES
    return chosen or str(tools.ensure(Layout.from_environment(), module)[program])
