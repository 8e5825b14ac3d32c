"""The %variables that auth templates may use, and how their keys are spelled.

`NAMES` maps every spelling to a key; `Request` and the auth-worker's dict answer keys.  The order of the table is
the order of cache keys.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from mailproxy.variables import Template, Values, compile

_TABLE: tuple[tuple[str, str, tuple[str, ...]], ...] = (        # key, short letter, long names
    ("user", "u", ("user",)),
    ("username", "n", ("username",)),
    ("domain", "d", ("domain",)),
    ("service", "s", ("service",)),
    ("home", "h", ("home",)),
    ("lip", "l", ("lip", "local_ip")),
    ("rip", "r", ("rip", "remote_ip")),
    ("pid", "p", ("pid",)),
    ("password", "w", ("password",)),
    ("id", "!", ()),
    ("mech", "m", ("mech", "mechanism")),
    ("secured", "c", ("secured",)),
    ("lport", "a", ("lport", "local_port")),
    ("rport", "b", ("rport", "remote_port")),
    ("cert", "k", ("cert",)),
    ("login_user", "", ("login_user",)),
    ("login_username", "", ("login_username",)),
    ("login_domain", "", ("login_domain",)),
    ("session", "", ("session",)),
    ("real_lip", "", ("real_lip", "real_local_ip")),
    ("real_rip", "", ("real_rip", "real_remote_ip")),
    ("real_lport", "", ("real_lport", "real_local_port")),
    ("real_rport", "", ("real_rport", "real_remote_port")),
    ("domain_first", "", ("domain_first",)),
    ("domain_last", "", ("domain_last",)),
    ("master_user", "", ("master_user",)),
    ("session_pid", "", ("session_pid",)),
    ("orig_user", "", ("orig_user", "original_user")),
    ("orig_username", "", ("orig_username", "original_username")),
    ("orig_domain", "", ("orig_domain", "original_domain")),
    ("auth_user", "", ("auth_user",)),
    ("auth_username", "", ("auth_username",)),
    ("auth_domain", "", ("auth_domain",)),
    ("local_name", "", ("local_name",)),
    ("client_id", "", ("client_id",)),
)
NAMES = {name: key for key, short, names in _TABLE for name in ((short, *names) if short else names)}


def _asked(prefix: str, rest: str) -> Callable[[Values], str]:
    key = prefix + rest
    return lambda values: values[key]


_FUNCTIONS = {"passdb": partial(_asked, "passdb:"), "userdb": partial(_asked, "userdb:")}


class Said:
    """The values of a request, and in front of them what a database has said so far: a later field of its answer may
    use an earlier one.  `prefix`: "passdb:" or "userdb:", the kind of the database."""

    __slots__ = ("_prefix", "_said", "_values")

    def __init__(self, values: Values, prefix: str) -> None:
        self._values = values
        self._prefix = prefix
        self._said: dict[str, str] = {}

    def say(self, name: str, value: str) -> None:
        self._said[name] = value

    def __getitem__(self, key: str) -> str:
        if key.startswith(self._prefix):
            value = self._said.get(key[len(self._prefix):].partition(":")[0])
            if value is not None:
                return value
        return self._values[key]


def expand_fields(templates: Iterable[tuple[str, Template]], values: Values, prefix: str) -> list[tuple[str, str]]:
    """A database's fields, in order.  ExpandError."""
    said = Said(values, prefix)
    pairs = []
    for name, each in templates:
        value = each.expand(said)
        said.say(name, value)
        pairs.append((name, value))
    return pairs


def template(text: str, escape: Callable[[str], str] | None = None, *, tables: Iterable[str] = (),
             names: Iterable[str] = ()) -> Template:
    """`tables`: what a driver answers itself, as %{table:key}; the values are asked for "table:key".  `names`: single
    variables of a driver, as `$` for %$."""
    return compile(text, {**NAMES, **{name: name for name in names}},
                   {**_FUNCTIONS, **{table: partial(_asked, table + ":") for table in tables}}, escape)
