"""ANONYMOUS (RFC 4505): the message is a free trace text."""
from __future__ import annotations

from mailproxy.errors import ProtocolError
from mailproxy.sasl.mechanism import Answer, Challenge, Credentials, to_bytes, to_text
from mailproxy.secret import Secret


class Server:
    """Credentials carry the trace as `authcid`; who the anonymous user is, the auth server knows."""

    __slots__ = ()

    def respond(self, data: bytes | None) -> Answer:
        if data is None:
            return Challenge(b"")
        return Credentials(to_text(data), "")


class Client:
    """The user's name is the trace."""

    __slots__ = ("_trace",)

    def __init__(self, user: str, password: Secret, authzid: str = "") -> None:
        self._trace = user

    def initial(self) -> bytes | None:
        return to_bytes(self._trace)

    def respond(self, challenge: bytes) -> bytes:
        if challenge:
            raise ProtocolError("Server didn't finish authentication")
        return to_bytes(self._trace)
