"""Runs the cluster's command line, without the settings of whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

MAIN = Path(__file__).parents[1] / "hack/cluster/main.py"
_SETTINGS = ("IMAGE_REGISTRY", "IMAGE_REGISTRY_INSECURE", "KUBECONFIG", "SKERRY_HOST_ADDRESS")
Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]


def cluster_command(*words: str, **settings: str) -> Done:
    """Run one verb with these settings and no others from outside; wait for its end."""
    clean = {key: value for key, value in os.environ.items() if key not in _SETTINGS}
    argv = [sys.executable, str(MAIN), *words]
    return subprocess.run(argv, env=clean | settings, capture_output=True, text=True, check=False)
