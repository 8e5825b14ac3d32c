"""The Submission client side towards a backend: banner, EHLO, STARTTLS, XCLIENT, AUTH, and what its answer means.

In: an Order and the backend's bytes.  Out: one of MORE, START_TLS, READY, REFUSED, FAILED from every `feed`, bytes
through `take_output`.  It must not know of sockets or clients.  Limits: those of wire.ReplyReader.
"""
from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable

from mailproxy.errors import ProtocolError
from mailproxy.proto import spec
from mailproxy.proto.lines import shown
from mailproxy.proto.smtp import wire
from mailproxy.proto.smtp.wire import BadReply, Reply, ReplyReader
from mailproxy.proto.spec import FAILED, MORE, READY, REFUSED, START_TLS, Order

#: An AUTH command with its line end; a longer one sends its response in a line of its own (RFC 4954).
AUTH_LINE_MAX = 512
_BANNER, _EHLO, _STARTTLS, _TLS_EHLO, _XCLIENT, _XCLIENT_EHLO, _AUTHENTICATE = range(7)
_NAMES = ("banner", "ehlo", "starttls", "tls-ehlo", "xclient", "xclient-ehlo", "authenticate")
#: What the client is told where no AUTH takes place.
_LOGGED_IN = b"235 2.7.0 Logged in."
_CRLF = b"\r\n"
_TOKEN_STATUS = re.compile(rb'"status"\s*:\s*"([^"]*)"')


class SubmissionBackend:
    """One attempt at one backend."""

    __slots__ = ("_caps", "_later", "_order", "_out", "_queue", "_reader", "_state", "_xclients", "failure", "forward",
                 "ignored", "reason", "reply", "temporary")

    def __init__(self, order: Order) -> None:
        self.failure = 0
        self.reason = ""
        self.reply = b""
        self.temporary = False
        self.forward = b""
        self.ignored: tuple[str, ...] = ()
        self._order = order
        self._out: list[bytes] = []
        self._reader = ReplyReader()
        self._state = _BANNER
        self._caps: dict[bytes, tuple[bytes, ...]] = {}
        self._later: bytes | None = None                # a SASL response too long for the AUTH command
        self._xclients = 0                              # that wait for an answer
        self._queue: list[bytes] = []                   # commands that wait their turn (no pipelining)

    # --- what the session calls ------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> int:
        reader = self._reader
        reader.feed(data)
        while True:
            try:
                reply = reader.next_reply()
            except BadReply as bad:
                return self._unreadable(bad)
            if reply is None:
                return MORE
            result = _ON_REPLY[self._state](self, reply)
            if result != MORE:
                return result
            if self._out and reader.leftover():         # an answer to a command that has not even left, nor shall
                self._out.clear()
                return self._fail(spec.PROTOCOL, f"Unexpected reply: {shown(reader.leftover().partition(_CRLF)[0])}")

    def tls_started(self) -> int:
        """What was said before the handshake, and what came along with its last words, counts no more."""
        if self._reader.leftover():
            return self._fail(spec.REMOTE, "Plaintext data received after STARTTLS")
        if self._state == _STARTTLS:
            self._caps = {}
            self._reader.enhanced = False
            return self._hello(_TLS_EHLO)
        return MORE

    def take_output(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def leftover(self) -> bytes:
        """What the backend sent behind its answer: it belongs to the client."""
        return self._reader.leftover()

    def describe(self) -> str:
        """The step, for logs."""
        return _NAMES[self._state]

    # --- the steps -------------------------------------------------------------------------------------------------

    def _unreadable(self, bad: BadReply) -> int:
        if not bad.first:
            return self._fail(spec.PROTOCOL, str(bad))
        line = shown(bad.line)
        if self._state in (_XCLIENT, _STARTTLS):
            return self._fail(spec.REMOTE, f"{_NAMES[self._state].upper()} failed: {line}")
        if self._state == _BANNER:
            return self._fail(spec.PROTOCOL, f"Invalid banner: {line}")
        return self._fail(spec.PROTOCOL, str(bad) if self._state == _AUTHENTICATE else f"Invalid EHLO line: {line}")

    def _banner(self, reply: Reply) -> int:
        if reply.code != 220:
            return self._fail(spec.PROTOCOL, f"Invalid banner: {_first_line(reply)}")
        return self._hello(_EHLO)

    def _hello(self, state: int) -> int:
        self._state = state
        self._out.append(self._ehlo())
        return MORE

    def _ehlo(self) -> bytes:
        return b"EHLO %b\r\n" % self._order.machine.encode()

    def _greeted(self, reply: Reply) -> int:
        """The answer to any of the EHLO commands."""
        if not reply.is_success():
            return self._fail(spec.PROTOCOL, f"Invalid EHLO line: {_first_line(reply)}")
        self._caps = wire.capabilities(reply.lines)
        self._reader.enhanced = b"ENHANCEDSTATUSCODES" in self._caps
        order = self._order
        if self._state == _EHLO and order.starttls:
            if b"STARTTLS" not in self._caps:
                return self._fail(spec.REMOTE_CONFIG, "STARTTLS not supported")
            self._state = _STARTTLS
            self._out.append(b"STARTTLS\r\n")
            return MORE
        if self._state != _XCLIENT_EHLO:
            return self._introduce()
        return self._login()

    def _starttls(self, reply: Reply) -> int:
        if reply.code != 220:
            return self._fail(spec.REMOTE, f"STARTTLS failed: {_first_line(reply)}")
        return START_TLS

    def _introduce(self) -> int:
        """XCLIENT with what the backend wants to know of it, and EHLO again right behind."""
        order = self._order
        wanted = {key.upper() for key in self._caps.get(b"XCLIENT", ())}
        known = wire.xclient_pairs(order.identity)
        said = {key: value for key, _, value in (pair.partition(b"=") for pair in order.client_id.split())}
        pairs = [(b"HELO", wire.from_xtext(said.get(b"HELO", b"")) or wire.UNAVAILABLE),
                 (b"PROTO", said.get(b"PROTO", b"ESMTP"))]
        if order.noauth:
            user = wire.from_xtext(said.get(b"LOGIN", b"")) or order.user.encode("utf-8", "surrogateescape")
            pairs.append((b"LOGIN", user))
        pairs = [pair for pair in (*pairs, *known) if pair[0] in wanted] if order.identity else []
        if order.noauth and not order.anonymous and not any(key == b"LOGIN" for key, _ in pairs):
            return self._fail(spec.REMOTE_CONFIG, "proxy_noauth needs XCLIENT with LOGIN, which is not supported")
        if not pairs:
            return self._login()
        self._state = _XCLIENT
        self._queue = [*wire.xclient_lines(pairs), self._ehlo()]
        self._xclients = len(self._queue) - 1
        if order.pipelining:
            self._out += self._queue
            self._queue = []
        else:
            self._out.append(self._queue.pop(0))
        return MORE

    def _introduced(self, reply: Reply) -> int:
        if not reply.is_success():
            return self._fail(spec.REMOTE, f"XCLIENT failed: {_first_line(reply)}")
        self._xclients -= 1
        if not self._xclients:
            self._state = _XCLIENT_EHLO
        if self._queue:
            self._out.append(self._queue.pop(0))
        return MORE

    # --- AUTH ------------------------------------------------------------------------------------------------------

    def _login(self) -> int:
        order, mechanism = self._order, self._order.sasl
        if order.noauth:
            self.reply = _LOGGED_IN
            return READY
        if not self._caps.get(b"AUTH"):
            return self._fail(spec.REMOTE_CONFIG, "Authentication support not advertised (TLS required?)")
        assert mechanism is not None
        self._state = _AUTHENTICATE
        line = b"AUTH " + order.mechanism.encode()
        initial = mechanism.initial()
        if initial is not None:
            response = b2a_base64(initial, newline=False) or b"="
            if len(line) + 1 + len(response) + 2 > AUTH_LINE_MAX:
                self._later = response
            else:
                line += b" " + response
        self._out.append(line + b"\r\n")
        return MORE

    def _authenticated(self, reply: Reply) -> int:
        if reply.code == 334:
            return self._challenged(reply.lines[0])
        self.reply = reply.raw.removesuffix(b"\r\n")
        if reply.is_success():
            return READY
        self.reason = reply.text().decode("utf-8", "backslashreplace")
        self.temporary = 400 <= reply.code < 500 and reply.code != 421
        return REFUSED

    def _challenged(self, text: bytes) -> int:
        response, self._later = self._later, None
        if response is None:
            mechanism = self._order.sasl
            assert mechanism is not None
            try:
                challenge = a2b_base64(text, strict_mode=True) if text else b""
                response = b2a_base64(mechanism.respond(challenge), newline=False)
            except Base64Error:
                return self._fail(spec.PROTOCOL, "Invalid base64 data in AUTH response")
            except ProtocolError as error:
                return self._fail(spec.PROTOCOL, f"Invalid authentication data: {error}")
            if getattr(mechanism, "refusal", b""):
                # a token that was refused: the backend's answer that would follow says no more than this
                status = _TOKEN_STATUS.search(challenge)
                return self._fail(spec.PROTOCOL, "Invalid authentication data: Failed to authenticate: "
                                                 + shown(status[1] if status else challenge))
        self._out.append(response + b"\r\n")
        return MORE

    def _fail(self, failure: int, reason: str) -> int:
        self.failure = failure
        self.reason = reason
        return FAILED


def _first_line(reply: Reply) -> str:
    return shown(reply.raw.partition(b"\r\n")[0])


_ON_REPLY: tuple[Callable[[SubmissionBackend, Reply], int], ...] = (
    SubmissionBackend._banner, SubmissionBackend._greeted, SubmissionBackend._starttls, SubmissionBackend._greeted,
    SubmissionBackend._introduced, SubmissionBackend._greeted, SubmissionBackend._authenticated)
