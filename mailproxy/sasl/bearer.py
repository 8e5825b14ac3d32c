"""XOAUTH2 (Google) and OAUTHBEARER (RFC 7628): a bearer token.

A refusal arrives as a challenge with JSON in it, which the client must answer before the server says no.
"""
from __future__ import annotations

import json
import re

from mailproxy.sasl.mechanism import (
    Answer,
    Challenge,
    Credentials,
    Refusal,
    escape_name,
    to_bytes,
    to_text,
    unescape_name,
)
from mailproxy.secret import Secret

_SEPARATOR = "\x01"
#: RFC 6750: what a token may consist of.
_TOKEN = re.compile("[A-Za-z0-9._~+/-]+=*")
_FIELD = re.compile("bearer +(.+)", re.IGNORECASE | re.DOTALL)


class _BearerServer:
    """`refused` is what a client must hear before it is refused; `url` tells it where to ask for a token."""

    __slots__ = ()

    def respond(self, data: bytes | None) -> Answer:
        if data is None:
            return Challenge(b"")
        if b"\0" in data:
            return Refusal("Invalid continued data")
        return self._read(to_text(data))

    def _read(self, message: str) -> Answer:
        raise NotImplementedError

    def _error(self) -> dict[str, str]:
        raise NotImplementedError

    def refused(self, url: str) -> bytes:
        words = self._error()
        if url:
            words["openid-configuration"] = url
        return json.dumps(words, separators=(",", ":")).encode()


class XOAuth2Server(_BearerServer):
    __slots__ = ()

    def _read(self, message: str) -> Answer:
        user: str | None = None
        token = ""
        for field in message.split(_SEPARATOR):
            name, _, value = field.partition("=")
            if name == "user":
                user = value
            elif name == "auth":
                match = _FIELD.fullmatch(value)
                if match is None:
                    return Refusal("Invalid continued data")
                token = match[1] if _TOKEN.fullmatch(match[1]) else ""
        if not user or not token:
            return Refusal("Username or token missing", user)
        return Credentials(user, token)

    def _error(self) -> dict[str, str]:
        return {"status": "401", "schemes": "bearer", "scope": "mail"}


class OAuthBearerServer(_BearerServer):
    __slots__ = ()

    def _read(self, message: str) -> Answer:
        header, *fields = message.split(_SEPARATOR)
        binding, comma, rest = header.partition(",")
        if not comma or binding not in ("n", "y"):
            return Refusal({"f": "Client requested non-standard mechanism",
                            "p": "Client requested and used channel-binding"}.get(
                                binding[:1], "Invalid gs2-header in request"))
        authzid = rest.removesuffix(",")
        if authzid and not authzid.startswith("a="):
            return Refusal("Invalid gs2-header in request")
        user = unescape_name(authzid[2:])
        if user is None:
            return Refusal("Invalid username escaping")
        token = ""
        for field in fields:
            name, _, value = field.partition("=")
            if name == "auth":
                match = _FIELD.fullmatch(value)
                if match is None:
                    return Refusal("Invalid continued data")
                token = match[1] if _TOKEN.fullmatch(match[1]) else ""
        if not user or not token:
            return Refusal("Missing username or token", user if authzid else None)
        return Credentials(user, token)

    def _error(self) -> dict[str, str]:
        return {"status": "invalid_token"}


class _BearerClient:
    """What both do: one message, and one word of consent to a refusal."""

    __slots__ = ("_message", "refusal")
    _consent = b""

    def __init__(self, message: str) -> None:
        self._message = Secret(message)
        self.refusal = b""

    def initial(self) -> bytes | None:
        return to_bytes(self._message.reveal())

    def respond(self, challenge: bytes) -> bytes:
        """An empty challenge asks for the message; anything else says why it was refused."""
        if not challenge:
            return to_bytes(self._message.reveal())
        self.refusal = challenge
        return self._consent


class XOAuth2Client(_BearerClient):
    __slots__ = ()

    def __init__(self, user: str, token: Secret, authzid: str = "") -> None:
        super().__init__(f"user={authzid or user}{_SEPARATOR}auth=Bearer {token.reveal()}{_SEPARATOR * 2}")


class OAuthBearerClient(_BearerClient):
    """`host` and `port` are what the client connected to; a 0 port and an empty host are left out."""

    __slots__ = ()
    _consent = _SEPARATOR.encode()

    def __init__(self, user: str, token: Secret, authzid: str = "", host: str = "", port: int = 0) -> None:
        place = (f"host={host}{_SEPARATOR}" if host else "") + (f"port={port}{_SEPARATOR}" if port else "")
        super().__init__(f"n,a={escape_name(authzid or user)},{_SEPARATOR}{place}"
                         f"auth=Bearer {token.reveal()}{_SEPARATOR * 2}")
