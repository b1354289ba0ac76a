"""Bounds that the CRD sets on a single value, beside its type.

Each is a rule of the CRD, whose message names the value and the remedy, and a check that the
strict readers (`skerry validate`) make. The operator itself does not refuse what is beyond: an
older CRD may have let it in, and `quantity.py` takes it as the largest that there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from skerry_operator.api.quantity import duration_s, quantity
from skerry_runtime.contract import KNOWN_WORDS_ONLY

RULES = "x-kubernetes-validations"
"""Where a schema holds its rules."""
STRICT = {**KNOWN_WORDS_ONLY, "strict": True}
"""Validation context of those who refuse what is beyond a bound, and words that are not known."""
# A regular expression inside a CEL text: every backslash is written twice.
_UNSEEN_CEL = "[^" + "".join(rf"\\p{{{name}}}" for name in "LMNPS") + " ]"
"""All but letters, marks, numbers, punctuation, symbols and the space: `str.isprintable` in CEL.
No terminal may be sent control characters, marks that change the direction of text or that nobody
sees, or separators of lines."""
_FRACTION = r"(\\.[0-9]{1,9})?"
DURATION_CEL = (
    f"^([0-9]{{1,10}}{_FRACTION}ms|[0-9]{{1,8}}{_FRACTION}s|"
    f"[0-9]{{1,6}}{_FRACTION}m|[0-9]{{1,4}}{_FRACTION}h)+$"
)
"""A duration with so few digits that the API server can read it; it gives up at 292 years."""


@dataclass(frozen=True)
class Bound:
    """What a value must keep within."""

    rule: str
    """CEL on `self`."""
    message: str
    """What to write, without the value."""
    holds: Callable[[str], bool]
    """The same as `rule`."""
    names_value: bool = True
    """False: the value is not to be printed."""

    def to_dict(self) -> dict[str, str]:
        """Return the rule as the CRD holds it."""
        rule = {"rule": self.rule, "message": self.message}
        if self.names_value:
            rule["messageExpression"] = f"self + ' is out of bounds: {self.message}'"
        return rule

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check the value for those who are strict."""
        return core_schema.with_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the schema with the rule."""
        described = handler(schema)
        return {**described, RULES: [*described.get(RULES, ()), self.to_dict()]}

    def _checked(self, value: str, info: ValidationInfo) -> str:
        if info.context == STRICT and not self.holds(value):
            raise PydanticCustomError("bound", "{remedy}", {"remedy": self.message})
        return value


def duration_between(least: str, most: str, why: str = "") -> Bound:
    """Return the bound of a duration."""
    return Bound(
        f"self.matches('{DURATION_CEL}') && duration(self) >= duration('{least}') "
        f"&& duration(self) <= duration('{most}')",
        f"write {least} to {most}{why}",
        lambda text: duration_s(least) <= duration_s(text, math.inf) <= duration_s(most),
    )


def quantity_between(least: str, most: str) -> Bound:
    """Return the bound of a quantity."""
    return Bound(
        f"quantity(self).compareTo(quantity('{least}')) >= 0 "
        f"&& quantity(self).compareTo(quantity('{most}')) <= 0",
        f"write {least} to {most}",
        lambda text: quantity(least) <= quantity(text) <= quantity(most),
    )


def is_plain(text: str, but: str = "") -> bool:
    r"""Tell whether a text can be printed as it is; `but` are characters that may be in it anyway.

    >>> is_plain("1.0"), is_plain("1.0\x1b[31m"), is_plain("a\tb", but="\t")
    (True, False, True)
    """
    return all(one.isprintable() or one in but for one in text)


PLAIN = Bound(
    f"!self.matches('{_UNSEEN_CEL}')",
    "must hold no control characters, invisible characters or marks of text direction: retype it",
    is_plain,
    names_value=False,
)
"""For free text of one line."""
PLAIN_LINES = Bound(
    rf"!self.replace('\n', '').replace('\t', '').matches('{_UNSEEN_CEL}')",
    "must hold no control characters but tab and end of line, no invisible characters and no "
    "marks of text direction: retype it",
    lambda text: is_plain(text, but="\n\t"),
    names_value=False,
)
"""For free text of several lines."""
