"""What a frontend machine tells its session.  Each protocol's frontend speaks in these words alone.

Slotted plain classes: one is made per command that matters (a login makes one), none per NOOP.
"""
from __future__ import annotations


class PlainLogin:
    """A command that carries the user name and the password themselves (IMAP LOGIN, POP3 PASS)."""

    __slots__ = ("password", "user")

    def __init__(self, user: bytes, password: bytes) -> None:
        self.user = user
        self.password = password


class SaslStart:
    """AUTHENTICATE or AUTH.  `initial`: base64 text of the initial response, b"" for an empty one, None for none.
    `private`: the mechanism has a command of its own (APOP), and cannot be named by the client."""

    __slots__ = ("initial", "mechanism", "private")

    def __init__(self, mechanism: bytes, initial: bytes | None, private: bool = False) -> None:
        self.mechanism = mechanism
        self.initial = initial
        self.private = private


class SaslResponse:
    """A line of the client while a SASL exchange runs: base64 text, not yet checked."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class SaslAbort:
    """The client gave the exchange up (`*`), or, with `problem`, sent something that no exchange goes on with."""

    __slots__ = ("problem",)

    def __init__(self, problem: str = "") -> None:
        self.problem = problem


class StartTls:
    """The OK is in the output; what follows from the client is a TLS handshake."""

    __slots__ = ()


class Identify:
    """The client named itself, or, if the peer is trusted, forwards another client's identity.

    `forwarded`: canonical names "session", "rip", "rport", "lip", "lport", "ttl" and "forward_NAME" of what the
    protocol reserves for proxies; `said`: everything as it was said, for the log (value None: NIL).
    `first`: it may change the identity (of IMAP's commands only the first of a connection may).
    """

    __slots__ = ("first", "forwarded", "said")

    def __init__(self, forwarded: dict[str, str], said: list[tuple[str, str | None]], first: bool) -> None:
        self.forwarded = forwarded
        self.said = said
        self.first = first


class Remark:
    """Something that an administrator who wants to hear of failed logins (auth_verbose) should hear of; it is answered
    already."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Quit:
    """The dialogue is over and the farewell is in the output; `reason` is for the log, and so is the SASL mechanism
    that the client was in the middle of choosing."""

    __slots__ = ("mechanism", "reason")

    def __init__(self, reason: str, mechanism: bytes = b"") -> None:
        self.reason = reason
        self.mechanism = mechanism


Event = PlainLogin | SaslStart | SaslResponse | SaslAbort | StartTls | Identify | Remark | Quit
