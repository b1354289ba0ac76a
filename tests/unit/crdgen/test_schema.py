"""From types to structural schemas: what is said, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field, StringConstraints

from skerry_operator.api.base import Cel, Condition, KubeModel
from skerry_operator.crdgen.schema import RULES, InexpressibleType, schema_of, structural

Text = Annotated[str, StringConstraints(max_length=8)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=5)]


class Colour(StrEnum):
    RED = "Red"
    BLUE = "Blue"


class Leaf(KubeModel):
    """A leaf."""

    cel: ClassVar[tuple[Cel, ...]] = (Cel("self.size > 1", "too small"),)

    size: Annotated[int, Field(ge=0, le=9)] = 3
    """How large it is."""


class Tree(KubeModel):
    """A tree."""

    cel: ClassVar[tuple[Cel, ...]] = (Cel("has(self.name)", "a tree needs a name"),)

    name: Annotated[str, StringConstraints(pattern=r"^a\.b$", min_length=1, max_length=8)]
    """Its name,
    over two lines.

    And a second paragraph."""
    leaf: Leaf = Leaf()
    """The best leaf."""
    leaves: Annotated[tuple[Leaf, ...], Field(min_length=1, max_length=4)] = ()
    """All of them."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=2)] = ()
    """How it does."""
    labels: Annotated[Mapping[Key, Text], Field(max_length=3)] = Field(default_factory=dict)
    """Words on it."""
    colour: Colour | None = None
    """Its colour."""
    kind: Literal["Oak"] = "Oak"
    """Its kind."""
    planted: datetime | None = None
    """When it was planted."""
    big: bool = False
    """Whether it is big."""
    note: Text | None = None
    """Default: nothing to say."""


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    return structural(schema_of(Tree))


def of(annotation: Any, default: Any = ...) -> dict[str, Any]:
    """Return the structural schema of a model with one field `value` of this type."""
    model = type(
        "Model",
        (KubeModel,),
        {"__annotations__": {"value": annotation}, "__module__": __name__}
        | ({} if default is ... else {"value": default}),
    )
    return structural(schema_of(model))


def test_an_optional_field_is_its_type_and_not_required(tree: dict[str, Any]) -> None:
    assert tree["required"] == ["name"]
    assert tree["properties"]["colour"] == {
        "type": "string",
        "description": "Its colour.",
        "enum": ["Red", "Blue"],
    }


def test_the_name_outside_is_camel_case() -> None:
    class Model(KubeModel):
        """A model."""

        big_number: Annotated[int, Field(ge=0)] = 0

    assert list(structural(schema_of(Model))["properties"]) == ["bigNumber"]


def test_a_reference_is_replaced_and_its_own_description_wins(tree: dict[str, Any]) -> None:
    assert tree["properties"]["leaf"]["description"] == "The best leaf."
    assert tree["properties"]["leaf"]["properties"]["size"]["maximum"] == 9


def test_rules_stand_at_the_object_wherever_the_type_is_used(tree: dict[str, Any]) -> None:
    leaf_rule = [{"rule": "self.size > 1", "message": "too small"}]
    assert tree[RULES] == [{"rule": "has(self.name)", "message": "a tree needs a name"}]
    assert tree["properties"]["leaf"][RULES] == leaf_rule
    assert tree["properties"]["leaves"]["items"][RULES] == leaf_rule
    assert RULES not in tree["properties"]["leaves"]


def test_a_list_is_atomic_and_bounded(tree: dict[str, Any]) -> None:
    leaves = {key: value for key, value in tree["properties"]["leaves"].items() if key != "items"}
    assert leaves == {
        "type": "array",
        "description": "All of them.",
        "minItems": 1,
        "maxItems": 4,
        "x-kubernetes-list-type": "atomic",
    }


def test_a_list_of_conditions_is_a_map_by_type(tree: dict[str, Any]) -> None:
    conditions = tree["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_limits_of_map_keys_become_a_rule(tree: dict[str, Any]) -> None:
    assert tree["properties"]["labels"] == {
        "type": "object",
        "description": "Words on it.",
        "maxProperties": 3,
        "additionalProperties": {"type": "string", "maxLength": 8},
        RULES: [
            {
                "rule": "self.all(k, size(k) >= 1 && size(k) <= 5)",
                "message": "keys must have 1 to 5 characters",
            }
        ],
    }


def test_a_pattern_of_map_keys_survives_the_quoting_of_rules() -> None:
    key = Annotated[str, StringConstraints(max_length=5, pattern=r"^\w'$")]
    values = of(Annotated[Mapping[key, Text], Field(max_length=3)])["properties"]["value"]
    assert values[RULES][0]["rule"] == r"self.all(k, size(k) >= 0 && size(k) <= 5" + (
        r" && k.matches('^\\w\'$'))"
    )
    assert values["additionalProperties"] == {"type": "string", "maxLength": 8}


def test_a_single_value_is_an_enum_of_one(tree: dict[str, Any]) -> None:
    assert tree["properties"]["kind"]["enum"] == ["Oak"]


def test_a_time_needs_no_other_bound(tree: dict[str, Any]) -> None:
    assert tree["properties"]["planted"]["format"] == "date-time"


def test_a_description_is_one_line_per_paragraph(tree: dict[str, Any]) -> None:
    expected = "Its name, over two lines.\n\nAnd a second paragraph."
    assert tree["properties"]["name"]["description"] == expected


@pytest.mark.parametrize(
    ("field", "description"),
    [
        pytest.param("big", "Whether it is big. Default: false.", id="a switch"),
        pytest.param("kind", "Its kind. Default: Oak.", id="a word"),
        pytest.param("note", "Default: nothing to say.", id="told by its author already"),
        pytest.param("leaves", "All of them.", id="a list has no default worth a word"),
    ],
)
def test_a_default_is_told_in_the_description(
    tree: dict[str, Any], field: str, description: str
) -> None:
    assert tree["properties"][field]["description"] == description


def test_defaults_are_not_told_of_what_only_the_operator_writes() -> None:
    silent = structural(schema_of(Tree), tell_defaults=False)
    assert silent["properties"]["big"]["description"] == "Whether it is big."
    assert "Default" not in silent["properties"]["leaf"]["properties"]["size"]["description"]


class Endless(KubeModel):
    """Contains itself."""

    again: Endless | None = None


BOUNDED_LIST = Field(max_length=3)


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        pytest.param(str, "text without max_length", id="unbounded text"),
        pytest.param(tuple[Text, ...], "list without max_length", id="unbounded list"),
        pytest.param(Mapping[str, Text], "map without max_length", id="unbounded map"),
        pytest.param(
            Annotated[tuple[str, ...], BOUNDED_LIST], "text without max_length", id="list of any"
        ),
        pytest.param(
            Annotated[Mapping[str, str], BOUNDED_LIST], "text without max_length", id="map of any"
        ),
        pytest.param(float, "number: write decimals as text", id="float"),
        pytest.param(
            Annotated[int, Field(gt=0)], "exclusiveMinimum: write ge", id="exclusive bound"
        ),
        pytest.param(
            Annotated[int, Field(lt=9)], "exclusiveMaximum: write le", id="exclusive bound above"
        ),
        pytest.param(
            Annotated[int, Field(le=2**63 - 1)], "a limit beyond 2", id="a bound that is no float"
        ),
        pytest.param(
            Annotated[int, Field(multiple_of=2)], "multipleOf: not supported", id="multiple"
        ),
        pytest.param(
            Annotated[frozenset[Text], BOUNDED_LIST], "uniqueItems: write a tuple", id="set"
        ),
        pytest.param(tuple[Text, Text], "prefixItems: write a model", id="pair"),
        pytest.param(int | Text, "a field has one type", id="two types"),
        pytest.param(Any, "has no single type", id="anything"),
        pytest.param(
            Annotated[dict[Text, Any], BOUNDED_LIST], "without known fields", id="free object"
        ),
        pytest.param(timedelta, "format duration: write a pattern", id="ISO duration"),
        pytest.param(Endless, "Endless contains itself", id="recursion"),
        pytest.param(
            Annotated[Mapping[Colour, Text], BOUNDED_LIST],
            "keys need max_length",
            id="keys with other limits",
        ),
    ],
)
def test_what_has_no_word_is_refused_with_its_path(annotation: Any, problem: str) -> None:
    with pytest.raises(InexpressibleType, match=problem) as refusal:
        of(annotation)
    assert str(refusal.value).startswith("value")


def test_the_path_of_a_refusal_leads_through_lists_and_maps() -> None:
    class Inner(KubeModel):
        """Inner."""

        weight: float

    class Outer(KubeModel):
        """Outer."""

        parts: Annotated[tuple[Inner, ...], Field(max_length=2)]

    with pytest.raises(InexpressibleType, match=r"^parts\[\]\.weight: type number"):
        structural(schema_of(Outer))


def test_free_names_beside_fixed_ones_are_refused() -> None:
    node = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "additionalProperties": {"type": "boolean"},
    }
    with pytest.raises(InexpressibleType, match="free names beside fixed ones"):
        structural(node, "spec")
