"""Parameters of a request that both transports know by the same names."""

from __future__ import annotations

from collections.abc import Mapping

from skerry_runtime.errors import InvalidRequest
from skerry_runtime.protocol.types import SequenceStep

MAX_SEQUENCE_ID = 256
"""Longest name of a sequence."""

_ID, _STARTS, _ENDS = "sequence_id", "sequence_start", "sequence_end"


def sequence_step(parameters: Mapping[str, object]) -> SequenceStep | None:
    """Return which step of which sequence a request is; None: it belongs to none.

    The names are Triton's: `sequence_id` is a number or a text, 0 and "" name no sequence.
    https://github.com/triton-inference-server/server, docs/protocol/extension_sequence.md

    Raises:
        InvalidRequest: a value is of another kind.
    """
    name = parameters.get(_ID)
    starts, ends = _flag(parameters, _STARTS), _flag(parameters, _ENDS)
    if name is None or (name in (0, "") and not isinstance(name, bool)):
        return None
    is_number = type(name) is int and 0 < name < 1 << 64
    is_text = isinstance(name, str) and len(name) <= MAX_SEQUENCE_ID
    if not is_number and not is_text:
        raise InvalidRequest(
            f"{_ID} must be a number from 0 to 2^64-1, or a text of at most {MAX_SEQUENCE_ID} "
            "characters"
        )
    assert isinstance(name, int | str)  # noqa: S101 seen above
    return SequenceStep(name, starts, ends)


def _flag(parameters: Mapping[str, object], name: str) -> bool:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false")
    return bool(value)
