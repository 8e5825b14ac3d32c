"""A backend that is spoken to line by line: what the machines of POP3 and ManageSieve have in common.

In: the backend's bytes through `feed`.  Out: lines to the subclass, its verdicts to the session, its output.
Limit: LINE_MAX bytes a line.
"""
from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

from mailproxy.errors import ProtocolError
from mailproxy.proto import spec
from mailproxy.proto.spec import FAILED, MORE, Order

LINE_MAX = 4096
#: Characters of a backend's line that a log shows.
SHOWN_MAX = 160
_TOKEN_STATUS = re.compile(rb'"status"\s*:\s*"([^"]*)"')
_CONTROL = dict.fromkeys((*range(32), 127), "?")


class Dialogue:
    """Implements the mechanical half of spec.Backend; a subclass has `line`, `tls_started` and `describe`."""

    __slots__ = ("_buf", "_out", "failure", "forward", "ignored", "reason", "reply", "temporary")

    def __init__(self) -> None:
        self.failure = 0
        self.reason = ""
        self.reply = b""
        self.temporary = False
        self.forward = b""
        self.ignored: tuple[str, ...] = ()
        self._buf = b""
        self._out = b""

    def line(self, line: bytes) -> int:
        """One line of the backend, without its end."""
        raise NotImplementedError

    def feed(self, data: bytes) -> int:
        buf = self._buf + data if self._buf else data
        start = 0
        while True:
            end = buf.find(b"\n", start)
            if end < 0:
                self._buf = rest = buf[start:]
                if len(rest) > LINE_MAX + 1:            # a CR may be the last
                    return self.fail(spec.PROTOCOL, "Too long input line")
                return MORE
            line = buf[start:end - 1] if buf[end - 1:end] == b"\r" else buf[start:end]
            if len(line) > LINE_MAX:
                return self.fail(spec.PROTOCOL, "Too long input line")
            start = end + 1
            result = self.line(line)
            if result != MORE:
                self._buf = buf[start:]
                return result

    def send(self, data: bytes) -> int:
        self._out += data
        return MORE

    def take_output(self) -> bytes:
        out, self._out = self._out, b""
        return out

    def leftover(self) -> bytes:
        """What the backend sent behind its OK: it belongs to the client."""
        return self._buf

    def encoded(self, data: bytes) -> bytes:
        return b2a_base64(data, newline=False)

    def respond(self, order: Order, data: bytes, command: str, form: bytes = b"%b\r\n",
                words: str = "Invalid base64 data in") -> int:
        """Answer a challenge (base64) with the order's mechanism, as a line of this form."""
        assert order.sasl is not None
        try:
            challenge = a2b_base64(data, strict_mode=True) if data else b""
            answer = order.sasl.respond(challenge)
        except Base64Error:
            return self.fail(spec.PROTOCOL, f"{words} {command} response")
        except ProtocolError as error:
            return self.fail(spec.PROTOCOL, str(error))
        if getattr(order.sasl, "refusal", b""):
            # a token that was refused: the backend's NO that follows says no more than this
            status = _TOKEN_STATUS.search(challenge)
            return self.fail(spec.PROTOCOL, "Invalid authentication data: Failed to authenticate: "
                                            + shown(status[1] if status else challenge))
        return self.send(form % self.encoded(answer))

    def fail(self, failure: int, reason: str) -> int:
        self.failure = failure
        self.reason = reason
        return FAILED


def shown(line: bytes) -> str:
    """A backend's words for a log: what is not text becomes `?`, and not too much of it."""
    text = line.decode("utf-8", "replace").replace("\ufffd", "?").translate(_CONTROL)
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX - 3] + "..."
