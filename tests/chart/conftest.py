"""Fixtures of the chart tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from helm_chart import Rendered, try_to_render


@pytest.fixture
def render(tmp_path: Path) -> Callable[..., Rendered]:
    """Return a function: values -> the rendered manifests."""

    def do(values: Mapping[str, Any] | None = None, *extra: str) -> Rendered:
        answer = try_to_render(values or {}, tmp_path, extra)
        assert answer.returncode == 0, answer.stderr
        return Rendered(answer.stdout)

    return do
