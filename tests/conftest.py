"""What every test may use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from typing_extensions import override
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("skerry", deadline=None)  # a loaded machine is slow, and not wrong
settings.load_profile("skerry")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the expected files anew from what the code does now; review the diff",
    )


ALONE = {
    "tests/cluster": "cluster",
    "tests/e2e": "cluster",
    "tests/hostile": "hostile",
    "tests/integration/cluster": "cluster",
    "tests/integration/images": "cluster",
    "tests/integration": "servers",
}
"""Folder -> what its tests have together: the one cluster, the ports of servers that a test starts,
or the pods that all hostile files go through. Those of one kind run one after the other."""


class Beside(LoadScopeScheduling):
    """Gives one process all that needs the cluster, and lets each file of the rest be free."""

    @override
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        kinds = (ALONE.get(str(folder)) for folder in Path(file).parents)  # the deepest first
        return next(filter(None, kinds), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Beside | None:
    """Return who shares out the tests of `make test`, which asks for loadscope."""
    return Beside(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[None]:
    """The real cluster: the one that runs, else one that is started here and stopped at the end."""
    command = [sys.executable, str(REPOSITORY / "hack/cluster/main.py")]
    was_up = subprocess.run([*command, "verify-clean"], check=False, capture_output=True).returncode
    try:
        subprocess.run([*command, "up"], check=True)
        yield
    finally:
        if not was_up:
            subprocess.run([*command, "down"], check=True)
