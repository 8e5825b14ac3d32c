"""The ManageSieve client side towards a backend: capabilities, STARTTLS, XCLIENT, AUTHENTICATE, and what it answers.

In: an Order and the backend's bytes.  Out: one of MORE, START_TLS, READY, REFUSED, FAILED from every `feed`, bytes
through `take_output`.  It must not know of sockets or clients.  One command is outstanding at a time.
Limits: lines.LINE_MAX per line of the backend, CAPABILITIES_MAX lines before its OK.
"""
from __future__ import annotations

import re

from mailproxy.proto import forward, spec
from mailproxy.proto.lines import Dialogue, shown
from mailproxy.proto.sieve import wire
from mailproxy.proto.spec import MORE, READY, REFUSED, START_TLS, Order

#: A greeting has about eight.
CAPABILITIES_MAX = 100

# What is awaited, by the name that logs use.
_GREETING, _TLS_START, _TLS_READY, _XCLIENT, _AUTH = "none", "tls-start", "tls-ready", "xclient", "auth"

_CAPABILITY = re.compile(rb'"((?:[^"\\]|\\.)*)"(?: +"((?:[^"\\]|\\.)*)")?(?: +"(?:[^"\\]|\\.)*")* *\Z')
_STATUS = re.compile(rb"(OK|NO|BYE)(?= |\Z)", re.I)
_NO = re.compile(rb'NO (?:\(([^)]*)\) +)?"((?:[^"\\]|\\.)*)" *\Z', re.I)
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"\Z')
_ESCAPED = re.compile(rb"\\(.)")


class SieveBackend(Dialogue):
    """One attempt at one backend."""

    __slots__ = ("_caps", "_lines", "_order", "_state", "_welcome")

    def __init__(self, order: Order) -> None:
        super().__init__()
        self._order = order
        self._state = _GREETING
        self._caps: dict[bytes, bytes] = {}
        self._lines = 0
        self._welcome = b""

    def tls_started(self) -> int:
        """The TLS session stands; whatever was buffered or known before it is not trusted."""
        if self._buf:
            return self.fail(spec.REMOTE, "Plaintext data received after STARTTLS")
        if self._order.starttls:
            self._state = _TLS_READY
            self._caps = {}
            self._lines = 0
        return MORE

    def describe(self) -> str:
        return self._state

    def success(self) -> bytes:
        """What the client sees."""
        return self._welcome + b"\r\n"

    def line(self, line: bytes) -> int:
        state = self._state
        if state in (_GREETING, _TLS_READY):
            return self._capability(line)
        positive = line[:2].upper() == b"OK" and line[2:3] in (b"", b" ")
        if state == _TLS_START:
            if positive:
                return START_TLS
            return self.fail(spec.REMOTE, "Remote refused STARTTLS command")
        if state == _XCLIENT:
            if positive:
                return self._authenticate()
            return self.fail(spec.REMOTE, f"Remote XCLIENT failed: {shown(line)}")
        if positive:
            self._welcome = line
            return READY
        challenge = _QUOTED.match(line)
        if challenge is not None:
            return self.respond(self._order, challenge[1], "AUTHENTICATE", b'"%b"\r\n',
                                "Server sent invalid base64 data in")
        return self._refused(line)

    def _capability(self, line: bytes) -> int:
        self._lines += 1
        if self._lines > CAPABILITIES_MAX:
            return self.fail(spec.PROTOCOL, "Too many capability lines")
        found = _CAPABILITY.match(line)
        if found is not None:
            self._caps[found[1].upper()] = found[2] or b""
            return MORE
        status = _STATUS.match(line)
        if status is None:
            return self.fail(spec.PROTOCOL, f"Remote sent invalid response: {shown(line)}??")   # its line end
        if status[1].upper() != b"OK":
            return self.fail(spec.PROTOCOL, "Remote sent unexpected NO/BYE instead of capability response")
        return self._greeted()

    def _greeted(self) -> int:
        order = self._order
        if order.starttls and self._state == _GREETING:
            if b"STARTTLS" not in self._caps:
                return self.fail(spec.REMOTE_CONFIG, "Remote doesn't support STARTTLS")
            self._state = _TLS_START
            return self.send(b"STARTTLS\r\n")
        if order.identity and b"XCLIENT" in self._caps:
            self._state = _XCLIENT
            return self.send(b"XCLIENT " + forward.xclient(order.identity) + b"\r\n")
        return self._authenticate()

    def _authenticate(self) -> int:
        if not self._caps.get(b"SASL"):
            return self.fail(spec.REMOTE_CONFIG, "Server has disabled authentication (TLS required?)")
        order = self._order
        assert order.sasl is not None
        self._state = _AUTH
        initial = order.sasl.initial()
        line = b'AUTHENTICATE "%b"' % order.mechanism.encode()
        if initial:
            line += b' "%b"' % self.encoded(initial)
        return self.send(line + b"\r\n")

    def _refused(self, line: bytes) -> int:
        said = _NO.match(line)
        if said is not None:
            text = _ESCAPED.sub(rb"\1", said[2])
            if (said[1] or b"").upper() == b"TRYLATER":
                self.temporary = True
                self.reply = b"NO (TRYLATER) " + wire.quoted(text)
        else:
            text = line[3:] if line[:3].upper() == b"NO " else line
        self.reason = text.decode("utf-8", "backslashreplace")
        return REFUSED
