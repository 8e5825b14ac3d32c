"""The server side's mechanics of a protocol whose commands are lines: buffers, states, the lines of a SASL exchange.

In: the client's bytes.  Out: whole commands to the subclass, its events to the session, its output.  What a byte means
is the subclass' affair.  Limits: SASL_MAX per SASL line; those of commands are the subclass'.
"""
from __future__ import annotations

from mailproxy.proto import spec
from mailproxy.proto.events import Event, Quit, SaslAbort, SaslResponse

#: Bytes of a SASL response in base64.
SASL_MAX = 8191

# States.  COMMAND: reading commands.  SASL: the next line answers a challenge.  WAIT: a login is in progress, nothing
# is read.  CLOSED: the farewell is out, nothing is read ever again.
COMMAND, SASL, WAIT, CLOSED = range(4)

#: Handled here altogether: look for the next one.
CONTINUE: Event = SaslAbort()


class Commands:
    """Implements the mechanical half of spec.Frontend; a subclass has `command`, `greet`, `refuse`, `bye` and so on."""

    __slots__ = ("_buf", "_out", "_pos", "_skip", "client_id", "listed", "state")

    def __init__(self) -> None:
        self.state = COMMAND
        self.client_id = b""
        self.listed = False
        self._out: list[bytes] = []
        self._buf = b""
        self._pos = 0
        self._skip = False                  # the rest of a line that was answered already

    def command(self) -> Event | None:
        """Read one; None: more bytes are needed."""
        raise NotImplementedError

    def bye(self, text: str, *, internal: bool = False) -> None:
        raise NotImplementedError

    def refuse(self, why: int, text: str = "") -> None:
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        self._buf = self._buf[self._pos:] + data if self._pos < len(self._buf) else data
        self._pos = 0

    def take_output(self) -> bytes:
        if not self._out:
            return b""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def leftover(self) -> bytes:
        """What the client sent behind its login command: it belongs to the backend."""
        return self._buf[self._pos:]

    def mail_input(self) -> bytes:
        """What a mail process of this machine is told of the dialogue, in front of the leftover."""
        return b""

    def forget(self) -> None:
        """STARTTLS has happened: drop every byte that came before it (CVE-2021-33515)."""
        self._buf = b""
        self._pos = 0
        self._skip = False

    def skip_line(self) -> bool:
        """Pass over the rest of a line that was answered already; False: its end has not come yet."""
        end = self._buf.find(b"\n", self._pos)
        self._skip = end < 0
        self._pos = len(self._buf) if end < 0 else end + 1
        return end >= 0

    def next_event(self) -> Event | None:
        """The next thing to act on; None: feed more, or a login is in progress."""
        while True:
            if self.state == COMMAND:
                event = self.command()
            elif self.state == SASL:
                event = self.sasl_response()
            else:
                return None
            if event is not CONTINUE:
                return event

    def resume(self) -> None:
        """Back to commands after a login that failed."""
        if self.state != CLOSED:
            self.state = COMMAND

    def waiting(self) -> None:
        """The auth server lets us wait: most protocols have no words for that."""

    def backend_refused(self, reply: bytes) -> None:
        """The backend's own refusal: shown if it is fit for the client, else replaced by our words."""
        if reply:
            self._out.append(reply + b"\r\n")
            self.resume()
        else:
            self.refuse(spec.AUTH_FAILED)

    def sasl_response(self) -> Event | None:
        """A line of base64, or `*`."""
        end = self._buf.find(b"\n", self._pos)
        if end < 0:
            return self.too_large() if len(self._buf) - self._pos > SASL_MAX + 1 else None
        line = self._buf[self._pos:end].rstrip(b"\r")
        self._pos = end + 1
        if len(line) > SASL_MAX:
            return self.too_large()
        self.state = WAIT
        return SaslAbort() if line == b"*" else SaslResponse(line)

    def too_large(self, mechanism: bytes = b"") -> Event:
        self.state = CLOSED
        return Quit("Authentication response too large", mechanism)

    def overflow(self) -> Event:
        self.bye("Input buffer full, aborting")
        return Quit("Input buffer full")
