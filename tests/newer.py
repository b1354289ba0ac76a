"""What a newer version may write: today's document with fields and words that nobody knows yet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

WORD = "OfTomorrow"

Path = tuple[str | int, ...]


def dumped(document: BaseModel) -> Any:
    """Return the document as it is written."""
    return json.loads(document.model_dump_json(by_alias=True))


def words(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield where the document holds a word of an enum."""
    if isinstance(value, StrEnum):
        yield path
    for key, part in _parts(value):
        yield from words(part, (*path, key))


def with_word(document: BaseModel, path: Path) -> Any:
    """Return the document as it is written, with a word of tomorrow in one place."""
    raw = dumped(document)
    _place(raw, path[:-1])[path[-1]] = WORD
    return raw


def with_fields(document: BaseModel) -> Any:
    """Return the document as it is written, with a field of tomorrow in every object of a type."""
    raw = dumped(document)
    for path in _objects(document):
        _place(raw, path)[WORD] = {"deep": [1, None, "x"]}
    return raw


def _objects(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, BaseModel):
        yield path
    for key, part in _parts(value):
        yield from _objects(part, (*path, key))


def _parts(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield field.alias or name, getattr(value, name)
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, tuple | list):
        yield from enumerate(value)


def _place(raw: Any, path: Path) -> Any:
    for key in path:
        raw = raw[key]
    return raw
