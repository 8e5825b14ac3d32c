"""One end of one scripted connection: executes steps on a socket and writes down what happened.

In: a connected socket, the steps, the names to fill in.  Out: `lines`, the transcript.  It knows nothing of IMAP but
the few replies of `serve`.  What goes wrong is a transcript line that begins with `!`, never an exception.
"""
from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import time
from collections.abc import Mapping

from .certs import Certs
from .script import Step, expression, fill

#: Seconds that a read step waits.
PATIENCE = 12.0
#: Seconds after a client's last step in which nothing more may come.
AFTERMATH = 0.1
#: How a TLS handshake begins; its random bytes do not belong in a transcript.
_CLIENT_HELLO = b"\x16\x03"
#: A line in a transcript is cut here.
SHOWN = 3000
#: Bytes that one connection may receive.
MAX_RECEIVED = 8_000_000


#: How `serve` answers the end and everything else.
_SERVED = {
    "imap": ("* BYE bye\r\n{tag} OK bye\r\n", "{tag} OK {command} done\r\n"),
    "pop3": ("+OK bye\r\n", "+OK {command} done\r\n"),
    "sieve": ('OK "bye"\r\n', 'OK "{command} done"\r\n'),
    "submission": ("221 2.0.0 bye\r\n", "250 2.0.0 {command} done\r\n"),
}


class Ended(Exception):
    """This conversation cannot go on; the transcript says why."""


class Conversation:
    """A scripted peer on one connection."""

    __slots__ = ("_buffer", "_certs", "_mark", "_names", "_received", "_server", "_sock", "lines")

    def __init__(self, sock: socket.socket, names: Mapping[str, str], certs: Certs, *, server: bool) -> None:
        self._sock = sock
        self._names = names
        self._certs = certs
        self._server = server
        self._buffer = b""
        self._received = 0
        self._mark = time.monotonic()
        self.lines: list[str] = []

    # -- what is written down

    def note(self, text: str) -> None:
        self.lines.append(text)

    def _incoming(self, data: bytes) -> None:
        text = data.decode("latin-1")
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}… {len(text)} bytes"
        self.note(("P: " if self._server else "S: ") + _visible(shown))

    def _outgoing(self, text: str) -> None:
        text = text.removesuffix("\r\n").replace("\r\n", "⏎")
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}… {len(text)} bytes"
        self.note(("B: " if self._server else "C: ") + _visible(shown))

    # -- reading

    def _receive(self, until: float) -> bool:
        """Read once; False at the end of the stream.  Raises TimeoutError."""
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        try:
            data = self._sock.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            data = b""
        self._buffer += data
        self._received += len(data)
        if self._received > MAX_RECEIVED:
            self.note("! too much received")
            raise Ended
        return bool(data)

    def _line(self) -> bytes | None:
        head, found, rest = self._buffer.partition(b"\n")
        if not found:
            return None
        self._buffer = rest
        return head.removesuffix(b"\r") if head.endswith(b"\r") else head + b"\\n only"

    def _rest(self) -> None:
        if self._server and self._buffer.startswith(_CLIENT_HELLO):
            self.note("P: a TLS handshake")
            self._buffer = b""
        while (line := self._line()) is not None:
            self._incoming(line)
        if self._buffer:
            self._incoming(self._buffer + b"<no newline>")
            self._buffer = b""

    def expect(self, pattern: re.Pattern[str]) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            line = self._line()
            if line is not None:
                self._incoming(line)
                if pattern.search(line.decode("latin-1")):
                    return
                continue
            try:
                more = self._receive(until)
            except TimeoutError:
                self._rest()
                self.note(f"! no {pattern.pattern!r} in time")
                raise Ended from None
            if not more:
                self._rest()
                self.note(f"<EOF> while waiting for {pattern.pattern!r}")
                raise Ended

    def eof(self, patience: float = PATIENCE) -> None:
        until = time.monotonic() + patience
        try:
            while self._receive(until):
                pass
        except TimeoutError:
            self._rest()
            self.note("! no EOF in time")
            raise Ended from None
        self._rest()
        self.note("<EOF>")

    def quiet(self, seconds: float, *, eof_matters: bool = True) -> None:
        """What comes now is recorded, so that a peer that is not quiet differs from one that is."""
        until = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            while self._receive(until):
                pass
            if eof_matters:
                self.note("! EOF while it should be quiet")
        if self._buffer:
            self.note("! not quiet:")
            self._rest()

    # -- acting

    def send(self, text: str, *, record: bool = True) -> None:
        if record:
            self._outgoing(text)
        self._mark = time.monotonic()
        self._sock.settimeout(PATIENCE)
        with contextlib.suppress(OSError):          # a peer that has gone shows in the next read
            self._sock.sendall(text.encode("latin-1"))

    def tls(self, name: str) -> None:
        if self._buffer:
            self.note("! plain text before TLS:")
            self._rest()
        self._sock.settimeout(PATIENCE)
        seen: list[str] = []
        context = self._certs.server_context(name, seen) if self._server else self._certs.client_context(name)
        try:
            if self._server:
                sock = context.wrap_socket(self._sock, server_side=True)
            else:
                sock = context.wrap_socket(self._sock, server_hostname="proxy.test")
        except (OSError, ValueError):
            self.note("-- TLS refused")
            raise Ended from None
        self._sock = sock
        self.note("-- TLS" + "".join(f" {item}" for item in [*seen, *_peer_name(sock, self._server)]))

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()

    def _end(self, verb: str) -> None:
        if verb == "rst":
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.note(f"-- {verb}")
        self.finish()
        raise Ended

    def _serve(self, protocol: str) -> None:
        """Answer commands until EOF: enough of a server to see that the relay works."""
        until = time.monotonic() + PATIENCE
        while True:
            line = self._line()
            if line is None:
                try:
                    more = self._receive(until)
                except TimeoutError:
                    self.note("! no EOF in time")
                    raise Ended from None
                if not more:
                    self._rest()
                    self.note("<EOF>")
                    raise Ended
                continue
            self._incoming(line)
            tag, command = "", line.decode("latin-1")
            if protocol == "imap":
                tag, _, command = command.partition(" ")
            bye, done = _SERVED[protocol]
            if command.upper() in ("LOGOUT", "QUIT"):
                self.send(bye.format(tag=tag))
                self._end("close")
            self.send(done.format(tag=tag, command=command))

    def step(self, step: Step) -> None:
        match step.verb:
            case ">":
                self.send(fill(step.arg, self._names) + "\r\n")
            case ">>":
                self.send(fill(step.arg, self._names))
            case "<":
                self.expect(expression(step.arg, self._names))
            case "eof":
                self.eof()
            case "quiet":
                self.quiet(float(step.arg))
            case "wait":
                time.sleep(float(step.arg))
            case "took":
                low, high = map(float, step.arg.split())
                took = time.monotonic() - self._mark
                self.note(f"-- took {low}..{high} s" if low <= took <= high else f"! took {took:.2f} s, not {step.arg}")
            case "tls":
                self.tls(step.arg)
            case "shut":
                self._sock.shutdown(socket.SHUT_WR)
                self.note("-- shut")
            case "close" | "rst":
                self._end(step.verb)
            case "notify":
                with contextlib.suppress(OSError):      # the peer may close without an answer
                    self._sock.unwrap()                 # type: ignore[attr-defined]
                self._end("notify")
            case "serve":
                self._serve(step.arg or "imap")
            case _:
                raise ValueError(f"unknown step {step.verb!r}")


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _peer_name(sock: ssl.SSLSocket, server: bool) -> list[str]:
    cert = sock.getpeercert() if server else None
    if not cert:
        return []
    subject = cert.get("subject", ())
    return [f"{key}={value}" for rdn in subject for key, value in rdn]  # type: ignore[str-unpack]
