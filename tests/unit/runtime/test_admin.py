"""What the kubelet is told of the process."""

from __future__ import annotations

import pytest

from skerry_runtime.contract import StatusReport
from skerry_runtime.rest.admin import AdminApp
from skerry_runtime.rest.http import Request


def status() -> StatusReport:
    return StatusReport(unit="u", runtime_version="0", boot_id="b", started_at=0.0, now=1.0)


@pytest.mark.parametrize(("is_alive", "code"), [(True, 200), (False, 503)])
@pytest.mark.parametrize("is_ready", [True, False])
def test_healthz_follows_the_agent_and_not_the_readiness(
    is_alive: bool, is_ready: bool, code: int
) -> None:
    app = AdminApp(status, lambda: b"", lambda: is_ready, lambda: is_alive)
    request = Request("GET", b"/healthz", {})
    assert app.open(request)(b"").status == code
