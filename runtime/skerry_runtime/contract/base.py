"""What every document of the contract is made of: tolerant of news, bounded on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import accumulate
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    ValidationInfo,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

MAX_COUNT = 2**63 - 1
"""Largest counter: what a signed 64-bit integer holds."""

MAX_WORD = 64
"""Most characters of an enum's word, known or not."""

MAX_TEXT_BYTES = 1024
"""Largest text for people, as JSON has it."""

KNOWN_WORDS_ONLY: Mapping[str, bool] = {"known_words_only": True}
"""Validation context in which a word that this code does not know is refused after all."""

W = TypeVar("W", bound=StrEnum)


class _NewsTolerated:
    """Lets an enum field take a word of a newer version."""

    def __get_pydantic_core_schema__(
        self, source: type[StrEnum], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        def read(value: Any, known: Any, info: ValidationInfo) -> Any:
            is_strict = bool((info.context or {}).get("known_words_only"))
            is_news = isinstance(value, str) and value not in source.__members__.values()
            if is_strict or not is_news or not 0 < len(value) <= MAX_WORD:
                return known(value)
            return unknown_word(source, value)

        return core_schema.with_info_wrap_validator_function(read, handler(source))


Open = Annotated[W, _NewsTolerated()]
"""`Open[Phase]`: an enum field that also takes words this code does not know.

Such a word is an instance of the enum that equals none of its members and keeps its text, so that
it can be shown and written again. Compare with `is`, give every `match` and every lookup a case
for the rest, and ask `is_known` where it matters.
"""


def unknown_word(enum: type[W], text: str) -> W:
    """Return a word that the enum does not have."""
    word = str.__new__(enum, text)
    word._name_, word._value_ = "UNKNOWN", text
    return word


def is_known(word: StrEnum) -> bool:
    """Tell whether the word is one of its enum's members."""
    return word.name in type(word).__members__


_UNITS = ("KiB", "MiB", "GiB", "TiB")


def size_unit(count: float) -> tuple[float, str]:
    """Return the unit that people read a number of bytes in, and how many bytes it has."""
    factor, name = 1.0, "bytes"
    for larger in _UNITS:
        if count < factor * 1024:
            break
        factor, name = factor * 1024, larger
    return factor, name


def size_text(count: float, digits: int = 1) -> str:
    """Return a number of bytes for people.

    >>> size_text(300), size_text(1536), size_text(4 * 2**30), size_text(200 * 2**20, digits=0)
    ('300 bytes', '1.5 KiB', '4.0 GiB', '200 MiB')
    """
    factor, name = size_unit(count)
    return f"{count / factor:.{digits if factor > 1 else 0}f} {name}"


def clipped(text: str, limit: int = MAX_TEXT_BYTES) -> str:
    """Return the text in one line that is safe to print, at most `limit` bytes long in JSON.

    Control characters, line ends and marks that change the direction of writing become spaces.
    """
    line = "".join(c if c.isprintable() else " " for c in text[:limit]).strip()
    if len(text) <= limit and sum(map(_written_bytes, line)) <= limit:
        return line
    room = limit - _written_bytes("…")
    sizes = accumulate(map(_written_bytes, line))
    return line[: sum(size <= room for size in sizes)] + "…"


def _written_bytes(character: str) -> int:
    """Return what a printable character takes in JSON."""
    return 2 if character in '"\\' else len(character.encode("utf-8", "replace"))


def _clip(value: object, limit: int = MAX_TEXT_BYTES) -> object:
    return clipped(value, limit) if isinstance(value, str) else value


def _plain(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters and marks of direction are not allowed")
    return text


Text = Annotated[str, BeforeValidator(_clip)]
"""For people: cut and cleaned rather than refused."""
Line = Annotated[str, BeforeValidator(lambda value: _clip(value, 256))]
"""A short text that a user wrote, such as a version: cut and cleaned as well."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=253), AfterValidator(_plain)]
"""Of an object, a unit, a provider, an input or a version."""
RevisionName = Annotated[
    str, StringConstraints(min_length=1, max_length=80), AfterValidator(_plain)
]
RetryText = Annotated[str, StringConstraints(max_length=256)]
"""Opaque: only told apart from other such texts."""
ToldRetry = Annotated[
    str, BeforeValidator(lambda value: value[:64] if isinstance(value, str) else value)
]
"""The same in a report, which has no room for more than the API lets in."""
Uri = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Span = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
"""A time in seconds or milliseconds, a moment in Unix seconds, or a sum of times."""
Number = Annotated[float, Field(allow_inf_nan=False)]
"""Any finite number."""


class ContractModel(BaseModel):
    """Base of every document: camelCase on the wire, frozen in memory.

    Fields and words that the reader does not know are taken and do no harm.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )
