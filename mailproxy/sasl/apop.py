"""APOP (RFC 1939) as Dovecot's login processes hand it on: challenge NUL user NUL the 16 bytes of
MD5(challenge, password).

The challenge was made by the login process, not by us: it must hold our pid and the number of its connection, and a
time since we run, so that none can be used elsewhere or again after a restart.
"""
from __future__ import annotations

import hashlib
import hmac
import re

from mailproxy.sasl.mechanism import Answer, Challenge, Refusal, Verdict, Wanted, to_text

_CHALLENGE = re.compile(rb"<([0-9a-f]{1,8})\.([0-9a-f]{1,8})\.([0-9a-f]{1,16})\.")
_DIGEST = 16


class Server:
    """`pid`, `connection`: what the handshake has told the asking process; `started`: since when we run."""

    __slots__ = ("_challenge", "_connection", "_digest", "_pid", "_started")

    def __init__(self, pid: int, connection: int, started: float) -> None:
        self._pid = pid
        self._connection = connection
        self._started = started

    def respond(self, data: bytes | None) -> Answer:
        if data is None:
            return Challenge(b"")
        challenge, _, rest = data.partition(b"\0")
        user, end, digest = rest.partition(b"\0")
        if not end or len(digest) != _DIGEST:
            return Refusal("invalid input")
        match = _CHALLENGE.match(challenge)
        if match is None or int(match[1], 16) != self._pid or int(match[2], 16) != self._connection \
                or int(match[3], 16) < int(self._started):
            return Refusal("invalid challenge")
        self._challenge, self._digest = challenge, digest
        return Wanted("PLAIN", to_text(user))

    def check(self, held: bytes | None) -> Answer:
        return Verdict(held is not None and hmac.compare_digest(
            hashlib.md5(self._challenge + held, usedforsecurity=False).digest(), self._digest))
