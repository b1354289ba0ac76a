"""Why a build is not made."""

from __future__ import annotations


class BadPlan(ValueError):  # noqa: N818 (says what is bad)
    """The plan asks for something that cannot be meant; the text names the field and the remedy."""


class StepRefused(Exception):  # noqa: N818 (as the phase of its job)
    """A step cannot be done with this model; the text names what is in the way and the remedy."""
