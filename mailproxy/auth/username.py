"""From the name that a client sent to the name that databases are asked for.

Order: master separator, certificate name, default realm, translation, allowed characters, format.  Compiled once per
set of auth settings.  Out: None, or the text for the log why the name is refused.
"""
from __future__ import annotations

import re
from typing import Any

from mailproxy.auth.request import Request
from mailproxy.auth.variables import template
from mailproxy.variables import ExpandError
from mailproxy.variables.modifiers import lower


class Names:
    """`prepare` sets user, original_user and login_user of a request."""

    __slots__ = ("_allowed", "_bytes", "_format", "_from_certificate", "_realm", "_separator", "_table", "_to_lower",
                 "masters")

    def __init__(self, view: Any, masters: bool) -> None:
        self._separator: str = view.auth_master_user_separator[:1]
        self._realm: str = view.auth_default_realm
        self._table = _translation(view.auth_username_translation)
        chars: str = view.auth_username_chars
        self._bytes = frozenset(chars.encode("utf-8", "surrogateescape"))
        # the quick test; the slow one by bytes decides when it says no
        self._allowed = re.compile(f"[{re.escape(chars)}]+").fullmatch if chars and chars.isascii() else None
        source: str = view.auth_username_format
        self._to_lower = source == "%Lu"
        self._format = template(source) if source and source not in ("%Lu", "%u") else None
        self._from_certificate: bool = view.auth_ssl_username_from_cert
        self.masters = masters

    def prepare(self, request: Request, authcid: str, authzid: str) -> str | None:
        login = None
        if self._separator and self._separator in authcid:
            login, _, authcid = authcid.partition(self._separator)
        request.original_user = authcid
        if self._from_certificate:
            authcid = request.args.get("cert_username") or authcid
        error = self._normalise(request, authcid)
        if error is not None:
            request.user = None
            return error
        if authzid and authzid != authcid:
            login = authzid
        if login is None:
            return None
        return self._prepare_login(request, login)

    def _prepare_login(self, request: Request, login: str) -> str | None:
        if not login:
            return "Master user login attempted to use empty login username"
        if not self.masters:
            if login == request.user:
                return None
            return "login user: Master user login attempted without master passdbs"
        master = request.user
        error = self._normalise(request, login)
        target = request.user
        request.user = master
        if error is not None:
            return "login user: " + error
        if target != master:
            request.login_user = target or ""
        return None

    def _normalise(self, request: Request, name: str) -> str | None:
        """Sets request.user."""
        if self._realm and "@" not in name:
            name = f"{name}@{self._realm}"
        allowed = self._allowed
        if self._table is None and allowed is not None and allowed(name):
            pass
        elif name and (self._table is not None or self._bytes):
            refused = self._by_bytes(name)
            if isinstance(refused, int):
                return (f"Username character disallowed by auth_username_chars: 0x{refused:02x} "
                        f"(username: {_shown(name)})")
            name = refused
        if self._to_lower:
            name = lower(name)
        elif self._format is not None:
            request.user = name
            try:
                name = self._format.expand(request)
            except ExpandError as error:
                return f"Failed to expand username: {error}"
        request.user = name
        return None if name else "Empty username"

    def _by_bytes(self, name: str) -> str | int:
        data = name.encode("utf-8", "surrogateescape")
        if self._table is not None:
            data = data.translate(self._table)
        if self._bytes:
            for byte in data:
                if byte not in self._bytes:
                    return byte
        return data.decode("utf-8", "surrogateescape")


def _translation(pairs: str) -> bytes | None:
    data = pairs.encode("utf-8", "surrogateescape")
    if not data:
        return None
    table = bytearray(range(256))
    for index in range(0, len(data) - 1, 2):
        table[data[index]] = data[index + 1]
    return bytes(table)


def _shown(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name[:64])
