"""CRAM-MD5 (RFC 2195): HMAC-MD5 of a challenge, keyed by the password.

The databases hold the password, or the state of the sum after the key: enough to check with, not the password itself.
"""
from __future__ import annotations

import binascii
import hmac

from mailproxy.errors import ProtocolError
from mailproxy.sasl.md import hmac_md5_resume
from mailproxy.sasl.mechanism import Answer, Challenge, Refusal, Verdict, Wanted, to_bytes, to_text
from mailproxy.secret import Secret


class Server:
    """`challenge`: <something.that@never-comes-again>"""

    __slots__ = ("_asked", "_challenge", "_digest")

    def __init__(self, challenge: bytes) -> None:
        self._challenge = challenge
        self._asked = False
        self._digest = b""

    def respond(self, data: bytes | None) -> Answer:
        if not self._asked:                     # the client cannot know anything yet: an initial response is ignored
            self._asked = True
            return Challenge(self._challenge)
        data = data or b""
        if b"\0" in data:
            return Refusal("NUL byte in the response")
        user, space, digest = data.rpartition(b" ")
        if not space or not user:
            return Refusal("missing digest")
        try:
            self._digest = binascii.a2b_hex(digest)
        except ValueError:                      # wrong, as any other
            self._digest = b""
        return Wanted("CRAM-MD5", to_text(user))

    def check(self, held: bytes | None) -> Answer:
        return Verdict(held is not None
                       and hmac.compare_digest(hmac_md5_resume(held, self._challenge), self._digest))


class Client:
    __slots__ = ("_for_another", "_password", "_user")

    def __init__(self, user: str, password: Secret, authzid: str = "") -> None:
        self._user = user
        self._for_another = bool(authzid) and authzid != user
        self._password: Secret | None = password

    def initial(self) -> bytes | None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        if self._for_another:
            raise ProtocolError("CRAM-MD5 cannot log in on behalf of somebody else")
        if self._password is None:
            raise ProtocolError("Server didn't finish authentication")
        key, self._password = self._password, None
        digest = hmac.digest(to_bytes(key.reveal()), challenge, "md5")
        return to_bytes(self._user) + b" " + digest.hex().encode()
