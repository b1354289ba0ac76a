"""What a page tells people to type, taken from the page."""

from __future__ import annotations

import re


def indented(text: str, begin: str, end: str) -> list[str]:
    """Return the indented lines between two beginnings of lines, in a text without markup."""
    found = re.search(rf"^{re.escape(begin)}.*?^{re.escape(end)}", text, re.M | re.S)
    assert found, f"no line begins with {begin!r}, or none after it with {end!r}"
    return [line.strip() for line in found[0].splitlines() if line.startswith(" ")]


def fenced(text: str, headline: str) -> list[str]:
    """Return the commands of the first block of code below a headline of a page in Markdown."""
    found = re.search(rf"^#+ {re.escape(headline)}$.*?^```sh\n(.*?)^```", text, re.M | re.S)
    assert found, f"no block of code stands below {headline!r}"
    lines = found[1].replace("\\\n", " ").splitlines()
    bare = (re.sub(r"\s+", " ", re.sub(r"\s+# .*", "", line)).strip() for line in lines)
    return [line for line in bare if line]
