"""EXTERNAL (RFC 4422 appendix A): the identity comes from outside (TLS certificate); the message is the authzid."""
from __future__ import annotations

from mailproxy.errors import ProtocolError
from mailproxy.sasl.mechanism import Answer, Challenge, Credentials, Refusal, to_bytes, to_text
from mailproxy.secret import Secret


class Server:
    """`user`: the name that the certificate proves, "" for none."""

    __slots__ = ("_user",)

    def __init__(self, user: str) -> None:
        self._user = user

    def respond(self, data: bytes | None) -> Answer:
        if data is None:
            return Challenge(b"")
        if b"\0" in data:
            return Refusal("invalid input: NUL byte")
        if not self._user:
            return Refusal("username not known")
        return Credentials(self._user, "", to_text(data))


class Client:
    __slots__ = ("_authzid",)

    def __init__(self, user: str, password: Secret, authzid: str = "") -> None:
        self._authzid = authzid or user

    def initial(self) -> bytes | None:
        return to_bytes(self._authzid)

    def respond(self, challenge: bytes) -> bytes:
        if challenge:
            raise ProtocolError("Server didn't finish authentication")
        return to_bytes(self._authzid)
