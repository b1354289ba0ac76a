"""Fixtures of the tests of sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fetching import Fetching
from skerry_runtime.agent.worker import Worker


@pytest.fixture
def fetching(tmp_path: Path) -> Iterator[Fetching]:
    """A place to fetch to."""
    worker = Worker("test")
    yield Fetching(tmp_path, worker)
    worker.close()
