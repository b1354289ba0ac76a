"""What the operator takes as a profile row, as a schema of the chart's values says it."""

from __future__ import annotations

from typing import Any

from skerry_operator.catalogue.profiles import Profile

Schema = dict[str, Any]

_TALK = {"title", "description", "default"}


def row_schema() -> Schema:
    """Return the schema of one row: only `name` is required, as a row may change a built-in one,
    and every other field may be null, which takes the built-in row's value away."""
    whole = Profile.model_json_schema(by_alias=True)
    fields = {
        name: _plain(field, whole.get("$defs", {})) for name, field in whole["properties"].items()
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            name: field if name == "name" else _or_null(field) for name, field in fields.items()
        },
    }


def _plain(schema: Any, definitions: Schema) -> Any:
    """Return the schema without references, titles and alternatives with null."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in schema:
        return _plain(
            next(one for one in schema["anyOf"] if one.get("type") != "null"), definitions
        )
    if "enum" in schema:
        return {"enum": schema["enum"]}
    plain = {word: _plain(it, definitions) for word, it in schema.items() if word not in _TALK}
    # Pydantic refuses a key that matches no pattern; a schema must be told to.
    return plain | ({"additionalProperties": False} if "patternProperties" in plain else {})


def _or_null(schema: Schema) -> Schema:
    if "enum" in schema:
        return {"enum": [*schema["enum"], None]}
    return schema | {"type": [schema["type"], "null"]}
