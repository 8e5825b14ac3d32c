"""PLAIN (RFC 4616): authzid NUL authcid NUL password, in one message."""
from __future__ import annotations

from mailproxy.errors import ProtocolError
from mailproxy.sasl.mechanism import Answer, Challenge, Credentials, Refusal, to_bytes
from mailproxy.secret import Secret


class Server:
    __slots__ = ()

    def respond(self, data: bytes | None) -> Answer:
        if data is None:
            return Challenge(b"")
        fields = data.decode("utf-8", "surrogateescape").split("\0")
        if len(fields) != 3:
            return Refusal("invalid input")
        return Credentials(fields[1], fields[2], fields[0])


class Client:
    __slots__ = ("_message",)

    def __init__(self, user: str, password: Secret, authzid: str = "") -> None:
        self._message = Secret(f"{authzid}\0{user}\0{password.reveal()}")

    def initial(self) -> bytes | None:
        return to_bytes(self._message.reveal())

    def respond(self, challenge: bytes) -> bytes:
        if challenge:
            raise ProtocolError("Server didn't finish authentication")
        return to_bytes(self._message.reveal())
