"""The real API server's own account of our definitions, held against the operator's."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bare_api import kubectl_of
from skerry_operator.crdgen.definitions import KINDS, definition
from skerry_operator.crdgen.skew import OPENAPI_PATH, skews

pytestmark = pytest.mark.integration

DEADLINE_S = 60.0


def wait_for_text(read: Callable[[], str], is_it: Callable[[str], bool]) -> str:
    """Wait: the server publishes its account a moment after the definition."""
    until = time.monotonic() + DEADLINE_S
    while not is_it(text := read()):
        assert time.monotonic() < until, text
        time.sleep(0.2)
    return text


def test_the_served_definitions_are_the_operator_s_own_until_one_is_older(own_api: Path) -> None:
    kubectl = kubectl_of(own_api)

    def told() -> str:
        try:
            document = json.loads(kubectl("get", "--raw", OPENAPI_PATH))
        except AssertionError:  # not published yet
            return "no answer"
        return "; ".join(str(skew) for skew in skews(document))

    own = [definition(kind) for kind in KINDS]
    kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(own))
    wait_for_text(told, lambda text: text == "")
    older = copy.deepcopy(own)
    status = older[1]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    del status["properties"]["replacing"]
    kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(older))
    text = wait_for_text(told, bool)
    assert "CRD edgedeployments.skerry.dev" in text
    assert "status.replacing" in text
