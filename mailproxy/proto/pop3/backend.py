"""The POP3 client side towards a backend: banner, STLS, XCLIENT, USER and PASS or AUTH, and what its answers mean.

In: an Order and the backend's bytes.  Out: one of MORE, START_TLS, READY, REFUSED, FAILED from every `feed`, bytes
through `take_output`.  It must not know of sockets or clients.  Limit: lines.LINE_MAX per line of the backend.
"""
from __future__ import annotations

import re

from mailproxy.proto import forward, spec
from mailproxy.proto.lines import Dialogue, shown
from mailproxy.proto.spec import MORE, READY, REFUSED, START_TLS, Order

# The answer that is awaited, by the name that logs use.
_BANNER, _STARTTLS, _XCLIENT, _LOGIN1, _LOGIN2 = "banner", "starttls", "xclient", "login1", "login2"
#: What the arguments of USER and PASS cannot hold.
_UNFIT = re.compile(r"[\0\r\n]")
_XCLIENT_OFFERED = b"+OK [XCLIENT]"


class Pop3Backend(Dialogue):
    """One attempt at one backend."""

    __slots__ = ("_order", "_state", "_trusts", "_welcome")

    def __init__(self, order: Order) -> None:
        super().__init__()
        self._order = order
        self._state = _BANNER
        self._trusts = False                # it takes XCLIENT
        self._welcome = b""

    def tls_started(self) -> int:
        """The TLS session stands; whatever was buffered before it is not trusted (nothing may be)."""
        if self._buf:
            return self.fail(spec.REMOTE, "Plaintext data received after STLS")
        if self._order.starttls:
            return self._login()
        return MORE

    def describe(self) -> str:
        return self._state

    def success(self) -> bytes:
        """What the client sees."""
        return self._welcome + b"\r\n"

    def line(self, line: bytes) -> int:
        state = self._state
        positive = line.startswith(b"+OK")
        if state == _BANNER:
            if not positive:
                return self.fail(spec.PROTOCOL, f"Invalid banner: {shown(line)}")
            self._trusts = line.startswith(_XCLIENT_OFFERED)
            if not self._order.starttls:
                return self._login()
            self._state = _STARTTLS
            return self.send(b"STLS\r\n")
        if state == _STARTTLS:
            if positive:
                return START_TLS
            return self.fail(spec.REMOTE, f"STLS failed: {shown(line)}")
        if state == _XCLIENT:
            if not positive:
                return self.fail(spec.REMOTE, f"XCLIENT failed: {shown(line)}")
            self._state = _LOGIN2 if self._order.sasl is not None else _LOGIN1
            return MORE
        return self._login_answer(line, positive)

    def _login(self) -> int:
        """In one burst: who the client is, and the first login command."""
        order = self._order
        if order.sasl is None and _UNFIT.search(order.user + order.password.reveal()):
            return self.fail(spec.INTERNAL_ERROR, "User name or password with characters that end a line")
        commands = b""
        self._state = _LOGIN2 if order.sasl is not None else _LOGIN1
        if order.identity and self._trusts:
            commands = b"XCLIENT " + forward.xclient(order.identity) + b"\r\n"
            self._state = _XCLIENT
        if order.sasl is None:
            return self.send(b"%bUSER %b\r\n" % (commands, order.user.encode("utf-8", "surrogateescape")))
        initial = self.encoded(order.sasl.initial() or b"") or b"="
        return self.send(b"%bAUTH %b %b\r\n" % (commands, order.mechanism.encode(), initial))

    def _login_answer(self, line: bytes, positive: bool) -> int:
        if positive:
            if self._state == _LOGIN1:
                self._state = _LOGIN2
                return self.send(b"PASS %b\r\n" % self._order.password.reveal().encode("utf-8", "surrogateescape"))
            self._welcome = line
            return READY
        if self._order.sasl is not None and line[:2] == b"+ ":
            return self.respond(self._order, line[2:], "AUTH")
        text = line
        self.reply = b"-ERR Authentication failed."
        if line.startswith(b"-ERR "):
            text = line[5:]
            self.reply = line
            self.temporary = text.startswith(b"[SYS/TEMP]")
        self.reason = text.decode("utf-8", "backslashreplace")
        return REFUSED
