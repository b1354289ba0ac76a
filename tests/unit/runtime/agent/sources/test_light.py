"""What a scheme costs a pod that does not use it: nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from skerry_runtime.agent import sources

CODE = """
import sys
from skerry_runtime.agent.fetch import Fetcher
from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.sources import source_of
from skerry_runtime.agent.sources.base import Order
assert "aiohttp" not in sys.modules
source_of(Order({uri!r}, "0" * 64), Tuning())
print(*sorted(name.rpartition(".")[2] for name in sys.modules if name.startswith({package!r})))
"""
PACKAGE = f"{sources.__name__}."


@pytest.mark.parametrize(
    ("uri", "modules"),
    [
        ("https://models.example/x", "base client egress keyring web"),
        ("pvc://models/x", "base keyring pvc"),
        ("oci://models.example/x:1", "base client egress keyring oci ocilogin ocimanifest tarball"),
    ],
)
def test_a_scheme_is_imported_when_it_is_asked_for(uri: str, modules: str) -> None:
    code = CODE.format(uri=uri, package=PACKAGE)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == modules
