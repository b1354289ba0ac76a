"""Hypothesis strategies out of a CRD's own schema: every value that the schema lets in, and more.

The rules (CEL) are left out, so what is drawn is at least what the API server takes; objects that
an older CRD let in are among it.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from skerry_operator.api.base import KubeModel
from skerry_operator.crdgen.schema import Schema, schema_of

EDGES = (
    *("", "0", "0s", "99999999h", "99999999999999999999999999h", "0.000000001ms", "9" * 32),
    *("9" * 29 + "Ti", "0m", "1%", "100%", "999999", "-1", "NaN", "\x1b[31m", "\u202e", "é" * 60),
)
"""Texts that are at the end of some range, or beyond it."""


def specs(model: type[KubeModel]) -> st.SearchStrategy[Any]:
    """Return specs of the kind as the API server hands them over."""
    return values(schema_of(model)["properties"]["spec"])


def values(schema: Schema) -> st.SearchStrategy[Any]:  # noqa: PLR0911 (one for each type)
    """Return values that the schema lets in."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "object" if "properties" in schema:
            return _object(schema)
        case "object":
            keys = _text({"type": "string", **schema["propertyNames"]})
            return st.dictionaries(keys, values(schema["additionalProperties"]), max_size=2)
        case "array":
            least = schema.get("minItems", 0)
            return st.lists(values(schema["items"]), min_size=least, max_size=max(2, least))
        case "integer":
            low, high = schema.get("minimum", 0), schema.get("maximum", 2**63 - 1)
            return st.sampled_from((low, high)) | st.integers(low, high)
        case "boolean":
            return st.booleans()
        case _:
            return _text(schema)


def _object(schema: Schema) -> st.SearchStrategy[Any]:
    fields = {name: values(child) for name, child in schema["properties"].items()}
    required = schema.get("required", ())
    return st.fixed_dictionaries(
        {name: fields[name] for name in required},
        optional={name: one for name, one in fields.items() if name not in required},
    )


def _text(schema: Schema) -> st.SearchStrategy[str]:
    if "const" in schema:
        return st.just(schema["const"])
    least, most = schema.get("minLength", 0), schema.get("maxLength", 64)
    if "pattern" not in schema:
        edges = [text for text in EDGES if least <= len(text) <= most]
        free = st.text(st.characters(exclude_categories=("Cs",)), min_size=least, max_size=8)
        return st.sampled_from(edges) | free
    pattern = re.compile(schema["pattern"])
    edges = [text for text in EDGES if pattern.search(text) and least <= len(text) <= most]
    drawn = st.from_regex(pattern, fullmatch=True).map(lambda text: text.removesuffix("\n"))
    fitting = drawn.filter(lambda text: least <= len(text) <= most)
    return st.sampled_from(edges) | fitting if edges else fitting
