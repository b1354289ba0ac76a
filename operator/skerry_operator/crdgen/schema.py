"""Pydantic's JSON schema -> the structural schema of a custom resource.

Two pure steps. `inlined` resolves references and optional types and keeps everything else;
`structural` then says the same in the words that the API server accepts, and refuses what has
none there. A refusal names the field, so a wrong type fails the build and not a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema
from typing_extensions import override

from skerry_operator.api.base import KubeModel
from skerry_operator.api.bounds import RULES, SAYS_FORM

Schema = dict[str, Any]

MAP_KEYS: Mapping[str, tuple[str, ...]] = {"Condition": ("type",), "SourceFile": ("path",)}
"""Types whose lists are maps: no two entries have the same keys, and each writer owns entries by
them. All other lists are atomic, because their order means something or they have a single
writer."""

_SILENT = frozenset({"title", "default", SAYS_FORM})
"""Keywords that are left out: names of Python classes, and defaults, which live in code."""
_ALLOWED: Mapping[str, frozenset[str]] = {
    "object": frozenset(
        {"properties", "required", "additionalProperties", "propertyNames", "maxProperties", RULES}
    ),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "string": frozenset({"enum", "const", "pattern", "minLength", "maxLength", "format", RULES}),
    "integer": frozenset({"enum", "const", "minimum", "maximum"}),
    "boolean": frozenset(),
}
_INEXACT = 2**53
_KEPT = ("enum", "pattern", "minLength", "maxLength", "format", "minimum", "maximum")
_REMEDY: Mapping[str, str] = {
    "number": "write decimals as text (Decimal): the API holds no floats",
    "exclusiveMinimum": "write ge instead of gt",
    "exclusiveMaximum": "write le instead of lt",
    "uniqueItems": "write a tuple and a rule that forbids repeats",
    "prefixItems": "write a model with named fields",
    "oneOf": "write optional fields and a rule that wants exactly one",
    "allOf": "write one model",
    "minProperties": "write a rule",
}


class InexpressibleType(ValueError):  # noqa: N818 (it says what is wrong)
    """An API type says what a structural schema cannot; the text names the field."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'the object'}: {problem}")


class _RulesIncluded(GenerateJsonSchema):
    """Pydantic's generator, with each model's `cel` beside its properties."""

    @override
    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        described = super().model_schema(schema)
        rules = getattr(schema["cls"], "cel", ())
        if rules:
            described[RULES] = [{"rule": rule.rule, "message": rule.message} for rule in rules]
        return described


def schema_of(model: type[KubeModel]) -> Schema:
    """Return the model's schema, inlined, with rules and with the defaults that code applies."""
    return inlined(model.model_json_schema(by_alias=True, schema_generator=_RulesIncluded))


def inlined(schema: Schema) -> Schema:
    """Return the schema without references and without null types.

    Raises:
        InexpressibleType: a type contains itself, or a field has several types.
    """
    body = {key: value for key, value in schema.items() if key != "$defs"}
    return _inline(body, schema.get("$defs", {}), (), "")


def _inline(node: Schema, defs: Mapping[str, Schema], open_: tuple[str, ...], path: str) -> Schema:
    node = _without_null(node, path)
    if "$ref" in node:
        name = str(node["$ref"]).rsplit("/", 1)[-1]
        if name in open_:
            raise InexpressibleType(path, f"{name} contains itself: the depth must be fixed")
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _inline({**defs[name], **beside}, defs, (*open_, name), path)

    def inline(child: Schema, at: str) -> Schema:
        return _inline(child, defs, open_, at)

    return _with_children(_with_key_pattern(node), inline, path)


def _without_null(node: Schema, path: str) -> Schema:
    """Collapse `X or null` to X: an absent field is how the API says None."""
    if "anyOf" not in node:
        return node
    choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
    if len(choices) != 1:
        raise InexpressibleType(path, "a field has one type: write several optional fields")
    return {**choices[0], **{key: value for key, value in node.items() if key != "anyOf"}}


def _with_key_pattern(node: Schema) -> Schema:
    """Move the one pattern of a map's keys to the other limits of its keys."""
    if len(node.get("patternProperties", ())) != 1:
        return node
    ((pattern, values),) = node["patternProperties"].items()
    rest = {key: value for key, value in node.items() if key != "patternProperties"}
    names = {**node.get("propertyNames", {}), "pattern": pattern}
    return {**rest, "additionalProperties": values, "propertyNames": names}


def _with_children(node: Schema, change: Callable[[Schema, str], Schema], path: str) -> Schema:
    """Return the node with `change` applied to each schema directly inside it."""
    changed = dict(node)
    if "properties" in node:
        changed["properties"] = {
            name: change(child, f"{path}.{name}".lstrip("."))
            for name, child in node["properties"].items()
        }
    if isinstance(node.get("items"), dict):
        changed["items"] = change(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        changed["additionalProperties"] = change(node["additionalProperties"], f"{path}{{}}")
    return changed


def structural(node: Schema, path: str = "", *, tell_defaults: bool = True) -> Schema:
    """Return an inlined schema as a structural schema.

    Defaults are told in the description and never in `default`, which the API server would
    write into the stored object.

    Raises:
        InexpressibleType: the API server has no word for a type, or a bound is missing.
    """
    _refuse_unknown(node, path)
    kind = node["type"]
    result: Schema = {"type": kind, **_description(node, tell_defaults=tell_defaults)}
    result |= {key: node[key] for key in _KEPT if key in node}
    if "const" in node:
        result["enum"] = [node["const"]]
    if kind == "string":
        _refuse_unbounded_text(result, path)
        result |= {RULES: node[RULES]} if RULES in node else {}
        if SAYS_FORM in node:
            result.pop("pattern", None)
    elif kind == "array":
        result |= _list(node, path, tell_defaults=tell_defaults)
    elif kind == "object":
        result |= _object(node, path, tell_defaults=tell_defaults)
    return result


def _refuse_unknown(node: Schema, path: str) -> None:
    kind = node.get("type")
    if kind is None:
        words = [word for word in ("oneOf", "allOf") if word in node]
        remedy = _REMEDY[words[0]] if words else "say what it holds"
        raise InexpressibleType(path, f"has no single type: {remedy}")
    if kind not in _ALLOWED:
        raise InexpressibleType(path, f"type {kind}: {_REMEDY.get(kind, 'not supported')}")
    for word in sorted(node.keys() - _ALLOWED[kind] - _SILENT - {"type", "description"}):
        raise InexpressibleType(path, f"{word}: {_REMEDY.get(word, 'not supported')}")
    if any(abs(node.get(word, 0)) >= _INEXACT for word in ("minimum", "maximum")):
        raise InexpressibleType(path, "a limit beyond 2**53: the API server compares as floats")


def _refuse_unbounded_text(text: Schema, path: str) -> None:
    if text.get("format", "date-time") != "date-time":
        raise InexpressibleType(path, f"format {text['format']}: write a pattern")
    if not text.keys() & {"enum", "maxLength", "format"}:
        raise InexpressibleType(path, "text without max_length: rules over it have no known cost")


def _description(node: Schema, *, tell_defaults: bool) -> Schema:
    """Return the description on one line per paragraph, with the default where code has one."""
    paragraphs = str(node.get("description", "")).split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    default = default_text(node)
    if tell_defaults and default and "default" not in text.lower():
        text = f"{text} Default: {default}."
    return {"description": text.strip()} if text.strip() else {}


def default_text(node: Schema) -> str:
    """Return the default of a single value as people write it; empty when there is none."""
    default = node.get("default")
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if isinstance(default, str | int) else ""


def _list(node: Schema, path: str, *, tell_defaults: bool) -> Schema:
    if "maxItems" not in node:
        raise InexpressibleType(path, "list without max_length: rules over it have no known cost")
    result: Schema = {key: node[key] for key in ("minItems", "maxItems") if key in node}
    keys = MAP_KEYS.get(node["items"].get("title", ""))
    result["x-kubernetes-list-type"] = "map" if keys else "atomic"
    if keys:
        result["x-kubernetes-list-map-keys"] = list(keys)
    result["items"] = structural(node["items"], f"{path}[]", tell_defaults=tell_defaults)
    return result


def _object(node: Schema, path: str, *, tell_defaults: bool) -> Schema:
    values = node.get("additionalProperties", False)
    if "properties" not in node:
        return _map(node, path, tell_defaults=tell_defaults)
    if values is not False:
        raise InexpressibleType(path, "fields with free names beside fixed ones: write a map field")
    result: Schema = {}
    if node.get("required"):
        result["required"] = list(node["required"])
    result["properties"] = {
        name: structural(child, f"{path}.{name}".lstrip("."), tell_defaults=tell_defaults)
        for name, child in node["properties"].items()
    }
    return result | ({RULES: node[RULES]} if RULES in node else {})


def _map(node: Schema, path: str, *, tell_defaults: bool) -> Schema:
    values = node.get("additionalProperties")
    if not isinstance(values, dict):
        raise InexpressibleType(path, "an object without known fields: say what it holds")
    if "maxProperties" not in node:
        raise InexpressibleType(path, "map without max_length: rules over it have no known cost")
    result: Schema = {
        "maxProperties": node["maxProperties"],
        "additionalProperties": structural(values, f"{path}{{}}", tell_defaults=tell_defaults),
    }
    if "propertyNames" in node:
        names = node["propertyNames"]
        result[RULES] = [_key_rule(names, path), *map(_of_keys, names.get(RULES, ()))]
    return result


def _of_keys(rule: Mapping[str, str]) -> Schema:
    """Return a rule about a text as one about every key of a map."""
    about_key = re.sub(r"\bself\b", "k", rule["rule"])
    return {"rule": f"self.all(k, {about_key})", "message": f"keys {rule['message']}"}


def _key_rule(names: Schema, path: str) -> Schema:
    """Return the limits of a map's keys as a rule: a structural schema has no other way."""
    unknown = names.keys() - {"minLength", "maxLength", "pattern", "title", "type", RULES}
    if unknown or "maxLength" not in names:
        raise InexpressibleType(path, "keys need max_length, and may have min_length and a pattern")
    least, most = names.get("minLength", 0), names["maxLength"]
    rule = f"size(k) >= {least} && size(k) <= {most}"
    if "pattern" in names:
        literal = names["pattern"].replace("\\", "\\\\").replace("'", "\\'")
        rule += f" && k.matches('{literal}')"
    form = f" and match {names['pattern']}" if "pattern" in names else ""
    return {
        "rule": f"self.all(k, {rule})",
        "message": f"keys must have {least} to {most} characters{form}",
    }
