"""The contract of SASL mechanisms: two halves, sans-IO.

Server half: `respond(data)` with the client's bytes (None: no initial response was sent) answers
    Challenge    send this to the client and come back with its answer; `user` is set once the name is known
    Credentials  the conversation is over, ask the databases
    Proof        the same, but only who has the plain password can tell whether the client knows it
    Refusal      malformed; the text is for the log
Client half: `initial()` gives the first response, or None when the server speaks first; `respond(challenge)` the next.
Text is utf-8 with surrogateescape, so that any byte survives.  No mechanism keeps data after its last answer.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mailproxy.secret import Secret


class Challenge:
    __slots__ = ("data", "user")

    def __init__(self, data: bytes, user: str | None = None) -> None:
        self.data = data
        self.user = user


class Credentials:
    """What the client claims.  `authzid` is "" unless it differs from nothing: who to act as."""

    __slots__ = ("authcid", "authzid", "password")

    def __init__(self, authcid: str, password: str, authzid: str = "") -> None:
        self.authcid = authcid
        self.password = Secret(password)
        self.authzid = authzid


class Proof:
    """What the client proves without saying it: `holds` tells whether it knows this plain password."""

    __slots__ = ("authcid", "holds")

    def __init__(self, authcid: str, holds: Callable[[str], bool]) -> None:
        self.authcid = authcid
        self.holds = holds


class Refusal:
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


Answer = Challenge | Credentials | Proof | Refusal


class ServerMechanism(Protocol):
    def respond(self, data: bytes | None) -> Answer: ...


class ClientMechanism(Protocol):
    def initial(self) -> bytes | None: ...

    def respond(self, challenge: bytes) -> bytes: ...


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
