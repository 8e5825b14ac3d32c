"""Which fields of a passdb's answer cannot work, seen without a login.

In: the fields of one answer, as far as they are known.  Out: complaints.  A value that depends on the user is None.
"""
from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mailproxy.login.target import MECHANISMS, interval
from mailproxy.net.addr import normal
from mailproxy.net.proxyhdr import KINDS as HAPROXY_KINDS

Fields = Mapping[str, str | None]


class Complaint(NamedTuple):
    """`fatal`: with this field nobody is proxied."""

    text: str
    fatal: bool = False


#: Presence is all that counts.
_SWITCHES = ("proxy", "proxy_maybe", "proxy_always", "proxy_nopipelining", "proxy_not_trusted", "proxy_noauth",
             "nopassword", "noauthenticate", "nodelay", "nologin", "fail")
_TLS = ("ssl", "starttls")
_KNOWN = frozenset((
    *_SWITCHES, *_TLS, "host", "hostip", "port", "source_ip", "destuser", "pass", "master", "proxy_mech",
    "proxy_timeout", "proxy_refresh", "proxy_host_immediate_failure_after", "proxy_haproxy", "reason", "delay_until",
    "allow_nets", "allow_real_nets", "user", "username", "domain", "login_user", "original_user", "password",
    "password_noscheme", "passdb_import"))
_FREE = ("forward_", "userdb_", "user_")
_NO = ("no", "n", "0", "false", "off")
#: How alike a name must be to be taken for a typing error.
_ALIKE = 0.75


def complaints(fields: Fields, *, complete: bool) -> Iterator[Complaint]:
    """`complete`: no other source adds fields to these."""
    plain = {name.partition(":")[0]: value for name, value in fields.items() if not name.endswith(":remove")}
    yield from _names(plain)
    yield from _values(plain)
    yield from _combinations(plain, complete)


def _names(fields: Fields) -> Iterator[Complaint]:
    for name in fields:
        if name in _KNOWN or name.lower().startswith(_FREE):
            continue
        near = difflib.get_close_matches(name, _KNOWN, 1, _ALIKE)
        yield Complaint(f"unknown field {name} is ignored" + (f" (do you mean {near[0]}?)" if near else ""))


def _values(fields: Fields) -> Iterator[Complaint]:
    for name, value in fields.items():
        if value is None:
            continue
        if name in _SWITCHES and value.lower() in _NO:
            yield Complaint(f"{name}={value} means yes: the field counts, not its value")
        elif name in _TLS and value.lower() in _NO:
            yield Complaint(f"{name}={value} means verified TLS: the field counts, not its value")
        elif name in ("allow_nets", "allow_real_nets"):
            yield from _nets(name, value)
        else:
            reason, fatal = _bad(name, value)
            if reason:
                yield Complaint(f"{name}={value}: {reason}", fatal)


def _bad(name: str, value: str) -> tuple[str, bool]:
    """(what is wrong with a value or "", fatal)."""
    if name == "port" and not (value.isascii() and value.isdigit() and 0 < int(value[:9]) < 65536):
        return "a port is a number from 1 to 65535", True
    if name == "host" and not value:
        return "an empty host is none", True
    if name == "hostip" and value and normal(value) is None:
        return "not an IP address", True
    if name == "source_ip" and normal(value) is None:
        return "not an IP address", False
    if name == "proxy_mech" and value.upper() not in MECHANISMS:
        return f"one of {' '.join(sorted(MECHANISMS))}", True
    if name == "proxy_haproxy" and value not in HAPROXY_KINDS:
        return f"one of {' '.join(HAPROXY_KINDS)}", True
    if name == "proxy_refresh" and not (value.isascii() and value.isdigit()):
        return "a number of seconds", False
    if name in ("proxy_timeout", "proxy_host_immediate_failure_after"):
        found = interval(value, bare_seconds=name == "proxy_timeout")
        return (found, name == "proxy_timeout") if isinstance(found, str) else ("", False)
    return "", False


def _nets(name: str, value: str) -> Iterator[Complaint]:
    for word in value.replace(",", " ").split():
        try:
            if word != "local":
                ipaddress.ip_network(word, strict=False)
        except ValueError:
            yield Complaint(f"{name}: {word} is no network and matches nobody")


def _combinations(fields: Fields, complete: bool) -> Iterator[Complaint]:
    proxied = "proxy" in fields or "proxy_maybe" in fields
    if proxied and "host" not in fields and complete:
        yield Complaint("proxy without host: there is nowhere to go", fatal=True)
    if "ssl" in fields and "starttls" in fields:
        yield Complaint("ssl beside starttls: starttls wins, ssl is ignored")
    if "master" in fields and "pass" not in fields and proxied and complete:
        yield Complaint("master without pass: the user's own password is sent for the master user")
    if "proxy_always" in fields and "proxy_maybe" not in fields and complete:
        yield Complaint("proxy_always has an effect beside proxy_maybe only")
    if proxied and "nologin" in fields:
        yield Complaint("nologin beside proxy is ignored")
    if complete and "host" in fields and not proxied and "nologin" not in fields:
        yield Complaint("host without proxy: the login would be local, and there is no mail storage here")
    if fields.get("password") and "nopassword" in fields:
        yield Complaint("nopassword beside a password: the password is still checked")
