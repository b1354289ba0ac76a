"""hf://ORG/REPO/PATH@COMMIT: a file of a Hugging Face repository, at one commit for ever."""

from __future__ import annotations

import re
from urllib.parse import quote

from skerry_runtime.agent.ports import Tuning
from skerry_runtime.agent.refusal import Refused
from skerry_runtime.agent.sources.base import Order
from skerry_runtime.agent.sources.web import WebSource
from skerry_runtime.contract import FailureReason

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_FORM = re.compile(rf"hf://({_NAME})/({_NAME})/([^@?#\s]+)@([0-9a-f]{{40}})")


def source(order: Order, tuning: Tuning) -> WebSource:
    """Return the source of a file.

    Raises:
        Refused: FetchFailed: the address does not name org, repository, path and commit.
    """
    found = _FORM.fullmatch(order.uri)
    if not found or any(part in ("", ".", "..") for part in found[3].split("/")):
        text = (
            f"{order.uri}: write hf://ORG/REPO/PATH@COMMIT with the 40 digits of a commit: a "
            "branch or a tag may hold something else tomorrow"
        )
        raise Refused(FailureReason.FETCH_FAILED, text)
    org, repo, path, commit = found.groups()
    place = f"{tuning.hf_endpoint.rstrip('/')}/{org}/{repo}/resolve/{commit}/{quote(path)}"
    return WebSource(order.uri, place, order, tuning)
