"""The model slot."""

from __future__ import annotations

import pytest

from serving.fakes import FakeModel, serving
from skerry_runtime.errors import NotReady
from skerry_runtime.registry import Registry


def test_an_empty_registry_is_not_ready() -> None:
    with pytest.raises(NotReady), Registry().acquire():
        pass


def test_a_request_keeps_its_model_open_while_new_ones_get_the_next() -> None:
    registry, old, new = Registry(), FakeModel(), FakeModel()
    registry.switch(serving(old, "r1"))
    with registry.acquire() as first:
        retired = registry.switch(serving(new, "r2"))
        assert retired is first
        assert not registry.close_when_drained(retired, 0)
        with registry.acquire() as second:
            assert second.model is new
        assert not old.is_closed
    assert registry.close_when_drained(retired, 0)
    assert old.is_closed
    assert not new.is_closed


def test_work_that_outlives_its_request_keeps_the_model_open() -> None:
    registry, model = Registry(), FakeModel()
    registry.switch(serving(model))
    with registry.acquire() as lent:
        lent.users.enter()
    retired = registry.switch(None)
    assert retired is not None
    assert not registry.close_when_drained(retired, 0)
    lent.users.leave()
    assert registry.close_when_drained(retired, 0)
