"""`$name` inside values: expansion at the point where it stands.

In: the unquoted text of a value and a way to look up the current value of a setting.  Out: the expanded text and the
text for a dump, in which only a setting's reference to itself is expanded.  Limit: MAX_VALUE characters.

Two variables of the environment are there even if nobody sets them, for limits that fit the machine:
$ENV:MAILPROXY_CPUS and $ENV:MAILPROXY_CLIENTS.
"""
from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable

_TOKEN = re.compile(r"(?:\A|[ \t])\$")
_ENVIRONMENT = "ENV:"
#: A value that appends itself to itself in every include must stay finite.
MAX_VALUE = 1 << 20

#: More processes than this that wait for connections gain nothing; and process_limit is 100.
_CPUS_MAX = 64
#: Connections of a process: two descriptors each, some for itself, and what one processor can serve.
_DESCRIPTORS_EACH, _DESCRIPTORS_SPARE = 2, 64
_CLIENTS_MIN, _CLIENTS_MAX = 100, 10_000


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
        key = name[len(_ENVIRONMENT):]
        return os.environ.get(key) or (_MACHINE[key]() if key in _MACHINE else "")
    value = lookup(name)
    if value is None:
        raise ValueError(f"Unknown variable: ${name}")
    return value


def _cpus() -> str:
    return str(min(len(os.sched_getaffinity(0)), _CPUS_MAX))


def _clients() -> str:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    fitting = (limit - _DESCRIPTORS_SPARE) // _DESCRIPTORS_EACH if limit != resource.RLIM_INFINITY else _CLIENTS_MAX
    return str(min(max(fitting, _CLIENTS_MIN), _CLIENTS_MAX))


_MACHINE: dict[str, Callable[[], str]] = {"MAILPROXY_CPUS": _cpus, "MAILPROXY_CLIENTS": _clients}
