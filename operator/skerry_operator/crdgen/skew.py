"""Whether a definition that a cluster serves is the one that this operator was built with. Pure.

Structure is compared, not text: what a field is called, what it takes, how much of it. A served
definition that lacks a field of ours drops what the operator writes there without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from skerry_operator.constants import GROUP, VERSION
from skerry_operator.crdgen.definitions import KINDS, CustomKind, definition
from skerry_operator.crdgen.schema import Schema

OPENAPI_PATH = f"/openapi/v3/apis/{GROUP}/{VERSION}"
"""Where the API server tells everybody who is known to it what it serves."""
NAMED = 5
"""Differences that a message names before it only counts them."""
_LIMITS = ("maxLength", "maxItems", "maxProperties", "maximum")
_REMEDY = "`skerry-operator crds | kubectl apply --server-side -f -` with the operator's image"


@dataclass(frozen=True)
class Skew:
    """How the served definition of a kind differs from the operator's own."""

    name: str
    """Of the definition."""
    lacking: tuple[str, ...] = ()
    """What it does not take, and the operator may write or people may want."""
    unknown: tuple[str, ...] = ()
    """Fields that it has and this operator does not know."""

    @override
    def __str__(self) -> str:
        """Return what differs and what to do, in one line."""
        parts = []
        if self.lacking:
            parts.append(f"it does not take {_some(self.lacking)}: apply this version's: {_REMEDY}")
        if self.unknown:
            parts.append(
                f"it has fields that this operator does not know, {_some(self.unknown)}: upgrade "
                "the operator"
            )
        return f"CRD {self.name} is not this operator's: {'; '.join(parts)}"


def skews(document: Mapping[str, Any]) -> tuple[Skew, ...]:
    """Return the kinds that differ in what the API server serves; `document` is its OpenAPI v3."""
    served = {_kind_of(schema): schema for schema in _schemas(document)}
    found = (_skew(kind, served[kind.name]) for kind in KINDS if kind.name in served)
    return tuple(skew for skew in found if skew.lacking or skew.unknown)


def _schemas(document: Mapping[str, Any]) -> Iterator[Schema]:
    yield from ((document.get("components") or {}).get("schemas") or {}).values()


def _kind_of(schema: Schema) -> str:
    kinds: list[Schema] = schema.get("x-kubernetes-group-version-kind") or [{}]
    return str(kinds[0].get("kind", ""))


def _skew(kind: CustomKind, served: Schema) -> Skew:
    own = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    lacking: list[str] = []
    unknown: list[str] = []
    for part in ("spec", "status"):
        theirs = (served.get("properties") or {}).get(part) or {}
        lacking += _beyond(own["properties"][part], theirs, part)
        unknown += _unknown(own["properties"][part], theirs, part)
    return Skew(f"{kind.plural}.{GROUP}", tuple(lacking), tuple(unknown))


def _beyond(own: Schema, served: Schema, path: str) -> Iterator[str]:
    """Yield what our schema takes and the served one does not."""
    known: list[str] = own.get("enum", [])
    words = set(known) - set(served.get("enum", known))
    yield from (f"{path} = {word}" for word in sorted(words))
    for limit in _LIMITS:
        if limit in own and served.get(limit, own[limit]) < own[limit]:
            yield f"{path} beyond {served[limit]}"
    for at, ours, theirs in _inner(own, served, path):
        if theirs is None:
            yield at
        else:
            yield from _beyond(ours, theirs, at)


def _unknown(own: Schema, served: Schema, path: str) -> Iterator[str]:
    """Yield the fields that only the served schema has."""
    if "properties" in own:
        news = (served.get("properties") or {}).keys() - own["properties"].keys()
        yield from (f"{path}.{name}" for name in sorted(news))
    for at, ours, theirs in _inner(own, served, path):
        if theirs is not None:
            yield from _unknown(ours, theirs, at)


def _inner(own: Schema, served: Schema, path: str) -> Iterator[tuple[str, Schema, Schema | None]]:
    """Yield the schemas directly inside ours, each with the served one; None: it has none."""
    for name, ours in own.get("properties", {}).items():
        yield f"{path}.{name}", ours, (served.get("properties") or {}).get(name)
    for word, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(own.get(word), dict):
            yield f"{path}{mark}", own[word], served.get(word)


def _some(names: tuple[str, ...]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
