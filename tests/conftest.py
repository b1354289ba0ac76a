"""What every test may use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("skerry", deadline=None)  # a loaded machine is slow, and not wrong
settings.load_profile("skerry")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the expected files anew from what the code does now; review the diff",
    )


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
