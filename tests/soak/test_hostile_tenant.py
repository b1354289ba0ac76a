"""The short form of the soak: what must hold at any speed. `make soak-hostile` has the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from soak.attack import Size
from soak.hostile import soak

pytestmark = pytest.mark.integration
SHORT = Size(maps=40, loud=8, silent=200)
HEADROOM = 0.75
"""Share of the limit that the operator may have at most: what a longer attack could add to."""


async def test_no_tenant_can_stop_the_operator_or_hold_up_the_rollback_of_another(
    tmp_path: Path,
) -> None:
    outcome = await soak(tmp_path, SHORT, seconds=1.0)
    assert outcome.pods == SHORT.loud + SHORT.silent
    assert outcome.exits == ()
    assert outcome.attacked.missing == []
    assert outcome.attacked.rollbacks
    assert outcome.peak_mib * 2**20 < HEADROOM * outcome.limit.limit_bytes
