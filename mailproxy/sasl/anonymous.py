"""ANONYMOUS (RFC 4505): the message is a free trace text."""
from __future__ import annotations

from mailproxy.sasl.mechanism import Answer, Challenge, Credentials, to_text


class Server:
    """Credentials carry the trace as `authcid`; who the anonymous user is, the auth server knows."""

    __slots__ = ()

    def respond(self, data: bytes | None) -> Answer:
        if data is None:
            return Challenge(b"")
        return Credentials(to_text(data), "")
