"""`$name` inside values: expansion at the point where it stands.

In: the unquoted text of a value and a way to look up the current value of a setting.  Out: the expanded text and the
text for a dump, in which only a setting's reference to itself is expanded.  Limit: MAX_VALUE characters.
"""
from __future__ import annotations

import os
import re
from collections.abc import Callable

_TOKEN = re.compile(r"(?:\A|[ \t])\$")
_ENVIRONMENT = "ENV:"
#: A value that appends itself to itself in every include must stay finite.
MAX_VALUE = 1 << 20


def has_variable(text: str) -> bool:
    return "$" in text and _TOKEN.search(text) is not None


def expand(text: str, own: str, lookup: Callable[[str], str | None]) -> tuple[str, str]:
    """(expanded, shown).  `own`: the setting that the value is for.  ValueError: an unknown variable."""
    expanded: list[str] = []
    shown: list[str] = []
    for token in text.split():
        value = token
        if token.startswith("$"):
            value = _value(token[1:], lookup)
        expanded.append(value)
        shown.append(value if token[1:] == own else token)
    result = " ".join(expanded)
    if len(result) > MAX_VALUE:
        raise ValueError(f"Value of {own} is too long")
    return result, " ".join(shown)


def _value(name: str, lookup: Callable[[str], str | None]) -> str:
    if name.startswith(_ENVIRONMENT):
        return os.environ.get(name[len(_ENVIRONMENT):], "")
    value = lookup(name)
    if value is None:
        raise ValueError(f"Unknown variable: ${name}")
    return value
