"""Fields of databases and of default_fields/override_fields: their meaning for a request.

In: (name, value) pairs.  Out: changes of the request.  A FieldSet is a list of constant pairs looked at once: most hold
nothing special and are applied as one dict.
"""
from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Callable, Iterator

from mailproxy.auth import renames
from mailproxy.auth.journal import Journal
from mailproxy.auth.passdb.driver import Pairs
from mailproxy.auth.request import Request
from mailproxy.auth.userfields import set_user_field
from mailproxy.auth.variables import template
from mailproxy.ipc.authwire import escape

#: Seconds that delay_until may lie ahead.
MAX_DELAY = 300

Setter = Callable[[Request, str, Journal, str], None]


class FieldSet:
    """Constant pairs.  `plain`: what they amount to when nothing among them is special, else None."""

    __slots__ = ("pairs", "plain")

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = tuple(pairs)
        special = any(name in _SPECIAL or ":" in name or name.startswith("userdb_") or not name.isprintable()
                      for name, _ in pairs)
        self.plain = None if special else dict(pairs)

    def apply(self, request: Request, journal: Journal, name: str) -> None:
        if self.plain is None:
            for key, value in self.pairs:
                set_field(request, key, value, journal, name)
        elif request.fields:
            request.fields.update(self.plain)
        else:
            request.fields = self.plain.copy()

    def __bool__(self) -> bool:
        return bool(self.pairs)


class FieldTemplates:
    """The text of default_fields or override_fields.  `constant`: its FieldSet when it has no variables."""

    __slots__ = ("_templates", "constant", "variables")

    def __init__(self, text: str) -> None:
        self._templates = []
        variables: dict[str, None] = {}
        for word in text.split():
            key, _, value = word.partition("=")
            compiled = template(value)
            self._templates.append((key, compiled))
            variables.update(dict.fromkeys(compiled.key_variables))
        self.variables = tuple(variables)
        self.constant = FieldSet([(key, each.constant or "") for key, each in self._templates]) \
            if all(each.constant is not None for _, each in self._templates) else None

    def __bool__(self) -> bool:
        return bool(self._templates)

    def apply(self, request: Request, journal: Journal, name: str) -> tuple[tuple[str, str], ...]:
        """Set them in order and say what was set.  ExpandError for an unknown variable."""
        if self.constant is not None:
            self.constant.apply(request, journal, name)
            return self.constant.pairs
        pairs = []
        for key, value in self.expand(request):
            set_field(request, key, value, journal, name)
            pairs.append((key, value))
        return tuple(pairs)

    def expand(self, request: Request) -> Iterator[tuple[str, str]]:
        """One after the other: a value may depend on what its predecessor has set.  ExpandError."""
        for key, each in self._templates:
            yield key, each.expand(request)


def set_field(request: Request, key: str, value: str, journal: Journal, name: str) -> None:
    """One field as a database gave it, modifiers included."""
    special = _SPECIAL.get(key)
    if special is not None:
        special(request, value, journal, name)
    elif key.startswith("userdb_"):
        set_user_field(request, key[7:], value, journal, name)
    elif key.endswith(":remove"):
        _remove(request, key.removesuffix(":remove"))
    elif key.endswith(":protected"):
        key = key.removesuffix(":protected")
        if not _has(request, key):
            set_field(request, key, value, journal, name)
    else:                                   # other colons belong to the name
        request.fields[escape(key)] = value             # names go to lines of the protocol as they are


def _has(request: Request, key: str) -> bool:
    return key in request.fields or (request.hidden is not None and key in request.hidden)


def _remove(request: Request, key: str) -> None:
    request.fields.pop(key, None)
    if request.hidden is not None:
        request.hidden.pop(key, None)
    if key == "nopassword":
        request.nopassword = False
    elif key == "noauthenticate":
        request.noauthenticate = False


def _set_login_user(request: Request, value: str, journal: Journal, name: str) -> None:
    request.login_user = value


def _set_nopassword(request: Request, value: str, journal: Journal, name: str) -> None:
    request.nopassword = True


def _set_noauthenticate(request: Request, value: str, journal: Journal, name: str) -> None:
    request.noauthenticate = True


def _set_fail(request: Request, value: str, journal: Journal, name: str) -> None:
    request.hide("fail", value)
    request.failed = True


def _set_allow_nets(request: Request, value: str, journal: Journal, name: str) -> None:
    request.hide("allow_nets", value)
    _check_nets(request, "allow_nets", value, request["rip"], journal, name)


def _set_allow_real_nets(request: Request, value: str, journal: Journal, name: str) -> None:
    request.hide("allow_real_nets", value)
    _check_nets(request, "allow_real_nets", value, request["real_rip"], journal, name)


def _set_delay_until(request: Request, value: str, journal: Journal, name: str) -> None:
    request.hide("delay_until", value)
    stamp, plus, spread = value.partition("+")
    if not (stamp.isascii() and stamp.isdigit()):
        journal.error(name, request, f"Invalid delay_until timestamp '{stamp}'")
        request.failed = True
        return
    when = int(stamp[:18])
    if plus:
        if not (spread.isascii() and spread.isdigit()) or int(spread[:9]) == 0:
            journal.error(name, request, f"Invalid delay_until randomness number '{spread}'")
            request.failed = True
            return
        when += random.SystemRandom().randrange(int(spread[:9]))
    now = time.time()
    if when - now > MAX_DELAY:
        journal.error(name, request, f"delay_until timestamp {value} is too much in the future, failing")
        request.failed = True
    elif when > now:
        request.delay_until = float(when)


def _import(request: Request, value: str, journal: Journal, name: str) -> None:
    for word in value.split("\t"):
        key, _, text = word.partition("=")
        if key and key != "passdb_import":
            set_field(request, key, text, journal, name)


_SPECIAL: dict[str, Setter] = {
    "user": renames.set_user, "username": renames.set_username, "domain": renames.set_domain,
    "login_user": _set_login_user,
    "nopassword": _set_nopassword, "noauthenticate": _set_noauthenticate, "fail": _set_fail,
    "allow_nets": _set_allow_nets, "allow_real_nets": _set_allow_real_nets, "delay_until": _set_delay_until,
    "passdb_import": _import,
}


def _check_nets(request: Request, field: str, nets: str, peer: str, journal: Journal, name: str) -> None:
    """No match makes this database's answer a failure."""
    words = nets.replace(",", " ").split()
    address = parse_address(peer)
    if address is None:
        if "local" in words:
            return
        if journal.verbose:
            journal.info(name, request, f"{field} check failed: Remote IP not known and 'local' missing")
        request.failed = True
        return
    for word in words:
        if word == "local":
            continue
        try:
            network = ipaddress.ip_network(word, strict=False)
        except ValueError:
            journal.error(name, request, f"{field}: Invalid network '{word}'")
            continue
        if address.version == network.version and address in network:
            return
    if journal.verbose:
        journal.info(name, request, f"{field} check failed: IP {peer} not in allowed networks")
    request.failed = True


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
