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
SAYS_FORM = "x-skerry-says-form"
"""In a schema on its way to a CRD: its rule says what its pattern says, in words."""
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


_DURATION_FORM = "^([0-9]{1,9}d|([0-9]+([.][0-9]+)?(ms|s|m|h))+)$"
_QUANTITY_FORM = "^[0-9]+([.][0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"
_MOST_DAYS = 30
"""As many as the longest bound has; CEL adds up no days."""


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
    form: str = ""
    """CEL on `self`: the text is one of the kind. Empty: the type's pattern says so. What a rule
    says people read once, in words; a pattern beside it would be a second message."""
    form_message: str = ""
    """What to write when it is not."""

    def to_dict(self) -> dict[str, str]:
        """Return the rule as the CRD holds it."""
        rule = {"rule": self.rule, "message": self.message}
        if self.names_value:
            beyond = f"self + ' is out of bounds: {self.message}'"
            other = f"self + ' is {self.form_message}'"
            choices = {"": beyond, self.rule: other}
            rule["messageExpression"] = choices.get(self.form, f"{self.form} ? {beyond} : {other}")
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
        said = {SAYS_FORM: True} if self.form else {}
        return {**described, **said, RULES: [*described.get(RULES, ()), self.to_dict()]}

    def _checked(self, value: str, info: ValidationInfo) -> str:
        if info.context == STRICT and not self.holds(value):
            raise PydanticCustomError("bound", "{remedy}", {"remedy": self.message})
        return value


def duration_between(least: str, most: str, why: str = "") -> Bound:
    """Return the bound of a duration."""
    days = (f"{number}d" for number in range(_MOST_DAYS + 1))
    allowed = [day for day in days if duration_s(least) <= duration_s(day) <= duration_s(most)]
    return Bound(
        f"self.matches('{DURATION_CEL}') ? duration(self) >= duration('{least}') "
        f"&& duration(self) <= duration('{most}') : self in {allowed}",
        f"write {least} to {most}{why}",
        lambda text: duration_s(least) <= duration_s(text, math.inf) <= duration_s(most),
        form=f"self.matches('{_DURATION_FORM}')",
        form_message="no duration: write for example 90s, 1h30m or 2d",
    )


def quantity_between(least: str, most: str) -> Bound:
    """Return the bound of a quantity."""
    form = f"self.matches('{_QUANTITY_FORM}')"
    return Bound(
        f"{form} && quantity(self).compareTo(quantity('{least}')) >= 0 "
        f"&& quantity(self).compareTo(quantity('{most}')) <= 0",
        f"write {least} to {most}",
        lambda text: quantity(least) <= quantity(text) <= quantity(most),
        form=form,
        form_message="no quantity: write for example 500m, 2, 200Mi or 1.5Gi",
    )


def is_plain(text: str, but: str = "") -> bool:
    r"""Tell whether a text can be printed as it is; `but` are characters that may be in it anyway.

    >>> is_plain("1.0"), is_plain("1.0\x1b[31m"), is_plain("a\tb", but="\t")
    (True, False, True)
    """
    return all(one.isprintable() or one in but for one in text)


def on_one_line(text: str, limit: int) -> str:
    r"""Return a text of other people's as one line of a message: what a terminal obeys is a space.

    >>> on_one_line("no such\nimage \x1b[31mred", 20)
    'no such image [31mre'
    """
    plain = "".join(one if one.isprintable() else " " for one in text[: 2 * limit])
    return " ".join(plain.split())[:limit]


_COUNT = "self.matches('^([1-9][0-9]{0,5}|([1-9][0-9]?|100)%)$')"
COUNT_OR_PERCENT = Bound(
    _COUNT,
    'write a count such as "1", or a percentage from "1%" to "100%"',
    lambda _: True,  # the type's pattern says the same to all readers
    form=_COUNT,
    form_message='no number of units: write a count such as "1", or "1%" to "100%"',
)
"""For the units of a step."""
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
