"""The one error that ends the demo with a sentence instead of a traceback."""

from __future__ import annotations


class DemoError(Exception):
    """Something outside the demo's code is not as it must be: what, and what helps."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}\n  what helps: {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy
