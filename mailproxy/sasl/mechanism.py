"""The contract of SASL mechanisms: two halves, sans-IO.

Server half: `respond(data)` with the client's bytes (None: no initial response was sent) answers
    Challenge    send this to the client and come back with its answer; `user` is set once the name is known
    Credentials  a name and a password (or token): ask the databases whether it is right
    Wanted       ask the databases for what they hold of this user in a certain form, then call `check` with it
    Verdict      the conversation is over: right or wrong, and what the client must still hear
    Refusal      malformed; the text is for the log
`check(held)`, of those that answer Wanted: what the databases hold, None when there is no such user or nothing usable;
answers Challenge or Verdict.  Of those that answer Credentials, some have `refused(url)`: what the client must hear
(and answer with anything) before it is told no.
Client half: `initial()` gives the first response, or None when the server speaks first; `respond(challenge)` the next.
Text is utf-8 with surrogateescape, so that any byte survives.  No mechanism keeps data after its last answer.
"""
from __future__ import annotations

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


class Wanted:
    """`scheme`: the form in which the databases should hold the password.  `realm`: what goes behind the name where
    the form depends on names, for names that have an @ of their own."""

    __slots__ = ("authcid", "authzid", "realm", "scheme")

    def __init__(self, scheme: str, authcid: str, authzid: str = "", realm: str | None = None) -> None:
        self.scheme = scheme
        self.authcid = authcid
        self.authzid = authzid
        self.realm = realm


class Verdict:
    """`data`: the last words to a client that is right, b"" for none.  `replacement`: what the databases must hold from
    now on; without that, the client was not right."""

    __slots__ = ("data", "replacement", "right")

    def __init__(self, right: bool, data: bytes = b"", replacement: str = "") -> None:
        self.right = right
        self.data = data
        self.replacement = replacement


class Refusal:
    """`user`: whose message it was, as far as that could be read."""

    __slots__ = ("text", "user")

    def __init__(self, text: str, user: str | None = None) -> None:
        self.text = text
        self.user = user


Answer = Challenge | Credentials | Wanted | Verdict | Refusal


class ServerMechanism(Protocol):
    def respond(self, data: bytes | None) -> Answer: ...


class ClientMechanism(Protocol):
    def initial(self) -> bytes | None: ...

    def respond(self, challenge: bytes) -> bytes: ...


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def escape_name(name: str) -> str:
    """A name in the header that SCRAM and OAUTHBEARER share (RFC 5801)."""
    return name.replace("=", "=3D").replace(",", "=2C")


def unescape_name(name: str) -> str | None:
    """None: an escape that does not exist."""
    first, *rest = name.split("=")
    out = [first]
    for part in rest:
        char = {"2C": ",", "3D": "="}.get(part[:2])
        if char is None:
            return None
        out += (char, part[2:])
    return "".join(out)
