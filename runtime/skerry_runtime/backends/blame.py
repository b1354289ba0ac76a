"""Whose fault an engine's error is: the client's where it names the argument, else the model's.

An engine checks a request's values only where an operator meets them: an index beyond a table, a
text longer than the positions. It says so by the kind of its error, or only in its words. What
names neither an index nor a shape cannot be told from a fault of the model and counts as one.
"""

from __future__ import annotations

import re

from skerry_runtime.backends.base import Tensors
from skerry_runtime.backends.messages import safe_text
from skerry_runtime.errors import InferenceFailed, InvalidRequest, ServingError

_OURS = re.compile(
    r"failed to allocate|(?:can|could )not allocate|allocation (?:failed|error)|bad_?alloc"
    r"|out of memory|terminate flag|\bcuda|cudnn|cublas|\bdriver\b",
    re.IGNORECASE,
)
"""Memory, devices and interruption, whatever else the text says."""

_THE_ARGUMENT_S = re.compile(
    r"out of (?:the )?(?:\w+ )?(?:bounds|range)|\bindi(?:ces|ce)\b|\bindex(?:es)?\b"
    r"|dimension|broadcast|mismatch|must match|not equal to|not be greater|should be greater"
    r"|reshape|shape|\brank\b|\baxis\b|num_input_elements|NumElements|\bdims\b",
    re.IGNORECASE,
)
"""Words of the engines' checks of an operator's operands."""

_MESSAGE = "Status Message:"
"""Behind it is what the operator says; before it the names of nodes, which may be any words."""


def blamed(error: Exception, inputs: Tensors, *, is_argument: bool = False) -> ServingError:
    """Return an engine's error as the client is told it.

    Args:
        error: what the engine raised.
        inputs: what it was given.
        is_argument: the error's kind says already that an argument is wrong.
    """
    return blamed_text(str(error), safe_text(error), inputs, is_argument=is_argument)


def blamed_text(text: str, told: str, inputs: Tensors, *, is_argument: bool) -> ServingError:
    """Return the error for an engine's whole text, and the part of it that may be told."""
    if _OURS.search(text):
        return InferenceFailed(f"the model failed: {told}")
    empty = _empty(inputs)
    if empty:
        return InvalidRequest(f"input '{empty}' is empty, which the model cannot take: {told}")
    if is_argument or _THE_ARGUMENT_S.search(text.rpartition(_MESSAGE)[2]):
        return InvalidRequest(f"the model cannot take these inputs: {told}")
    return InferenceFailed(f"the model failed: {told}")


def _empty(inputs: Tensors) -> str:
    """Return the name of an input without elements; empty when all have some."""
    return next((name for name, array in inputs.items() if array.size == 0), "")
