"""The %variables that auth templates may use, and how their keys are spelled.

`NAMES` maps every spelling to a key; `Request` and the auth-worker's dict answer keys.  The order of the table is
the order of cache keys.
"""
from __future__ import annotations

from collections.abc import Callable
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


def template(text: str, escape: Callable[[str], str] | None = None) -> Template:
    return compile(text, NAMES, _FUNCTIONS, escape)
