"""XOAUTH2 (Google) and OAUTHBEARER (RFC 7628), client halves: a bearer token towards a backend.

A refusal arrives as a challenge with JSON in it, which the client must answer before the server says no.
"""
from __future__ import annotations

from mailproxy.sasl.mechanism import to_bytes
from mailproxy.secret import Secret

_SEPARATOR = "\x01"


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
        name = (authzid or user).replace("=", "=3D").replace(",", "=2C")
        place = (f"host={host}{_SEPARATOR}" if host else "") + (f"port={port}{_SEPARATOR}" if port else "")
        super().__init__(f"n,a={name},{_SEPARATOR}{place}auth=Bearer {token.reveal()}{_SEPARATOR * 2}")
