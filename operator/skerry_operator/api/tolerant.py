"""Documents that a newer operator may have written: what cannot be read is left out, alone.

A status holds what the engine goes on from beside what is only shown. Neither a word that only a
newer version knows nor a text that is longer than ours may cost more than itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from skerry_operator.api.base import KubeModel
from skerry_operator.api.bounds import STRICT

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for a time that nobody can read."""
_LATEST = datetime(2262, 1, 1, tzinfo=UTC)
_TOO_LONG = frozenset({"too_long", "string_too_long"})


def _in_our_time(value: Any) -> Any:
    """Return a time that can be reckoned with: with a zone, and with room on both sides."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
        return min(_LATEST, max(EPOCH, value))
    return value


Time = Annotated[datetime, BeforeValidator(_in_our_time)]
"""A time of a status. One that is before 1970 or after 2262 is taken as the nearest that is not."""


class TolerantModel(KubeModel):
    """Part of a status: a field, or an entry of a list, that cannot be read is left out.

    Texts and lists that are longer than the type says are cut. What is required and cannot be
    read leaves the whole object out, in whatever holds it.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _read(
        cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            if not isinstance(value, Mapping) or info.context == STRICT:
                raise
            return handler(_readable(value, error.errors(include_url=False)))


def _readable(value: Mapping[str, Any], details: Sequence[ErrorDetails]) -> dict[str, Any]:
    """Return the object without what cannot be read."""
    kept = dict(value)
    for name in {str(detail["loc"][0]) for detail in details if detail["loc"]}:
        own = [detail for detail in details if detail["loc"] and detail["loc"][0] == name]
        found = _field(kept.pop(name, None), own)
        if found is not None:
            kept[name] = found
    return kept


def _field(value: Any, details: Sequence[ErrorDetails]) -> Any:
    """Return what can be read of a field; None: nothing."""
    if any(len(detail["loc"]) == 1 for detail in details):
        return _cut(value, details[0]) if details[0]["type"] in _TOO_LONG else None
    if not isinstance(value, list | tuple):
        return None
    broken = {detail["loc"][1] for detail in details}
    return [one for index, one in enumerate(value) if index not in broken]


def _cut(value: Any, detail: ErrorDetails) -> Any:
    limit = int((detail.get("ctx") or {})["max_length"])
    return value[:limit]
