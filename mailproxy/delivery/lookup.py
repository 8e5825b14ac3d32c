"""Asks the auth server where recipients live: the client side of the auth master protocol, PASS only.

In: a user and what is known of the client.  Out: for each lookup one call with fields, NOT_FOUND or FAILED.  One
connection for the whole process, made when it is needed.  Limits: LINE_MAX bytes a request (longer ones are not sent),
WAIT seconds for an answer.
"""
from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from mailproxy.errors import ProtocolError
from mailproxy.ipc.authwire import Lines, encode, escape, pair
from mailproxy.log.pipe import Log
from mailproxy.net.loop import IN, OUT, Loop, Timer, quiet_close

#: Bytes of one line that the server takes.
LINE_MAX = 1024
#: Seconds for an answer (Dovecot's).
WAIT = 155.0
_READ = 65536
_MAX_REPLY = 65536
#: Seconds for a place in the queue of a server that hangs: all clients of the process wait meanwhile.
_PATIENCE = struct.pack("ll", 2, 0)

NOT_FOUND = "not found"
FAILED = "failed"
#: A dict: the fields of the answer.
Answer = dict[str, str] | str
Done = Callable[[Answer], None]


class _Pending:
    __slots__ = ("done", "timer", "user")

    def __init__(self, user: str, done: Done, timer: Timer) -> None:
        self.user = user
        self.done = done
        self.timer = timer


class Lookups:
    __slots__ = ("_address", "_greeted", "_lines", "_log", "_loop", "_next", "_out", "_pending", "_sock", "_writing")

    def __init__(self, loop: Loop, log: Log, address: str) -> None:
        self._loop = loop
        self._log = log
        self._address = address
        self._sock: socket.socket | None = None
        self._greeted = False
        self._lines = Lines(_MAX_REPLY)
        self._next = 0
        self._pending: dict[int, _Pending] = {}
        self._out: list[str] = []
        self._writing = b""
        loop.at_batch_end(self._flush)

    def ask(self, user: str, parameters: dict[str, str], done: Done) -> None:
        """`done` is called once, never from within this call."""
        self._next = number = self._next % 0xFFFFFFFF + 1
        line = "\t".join((f"PASS\t{number}\t{escape(user)}", *(f"{key}={escape(value)}"
                                                              for key, value in parameters.items())))
        self._pending[number] = _Pending(user, done, self._loop.call_later(WAIT, lambda: self._overdue(number)))
        if any(char in user for char in "\t\r\n"):
            self._loop.call_later(0, lambda: self._answer(number, NOT_FOUND))
        elif len(encode(line)) >= LINE_MAX:
            self._fail(number, "request is too long")
        elif self._sock is None and (error := self._connect()):
            self._fail(number, f"connect({self._address}) failed: {error}")
        else:
            self._out.append(line)

    def close(self) -> None:
        if self._sock is not None:
            self._loop.unregister(self._sock.fileno())
            quiet_close(self._sock)
            self._sock = None

    def fail(self) -> None:
        """A bug of ours showed in an answer: begin anew."""
        if self._sock is not None:
            self._lost("Internal error")

    # --- answers ---------------------------------------------------------------------------------------------------

    def _answer(self, number: int, answer: Answer) -> None:
        pending = self._pending.pop(number, None)
        if pending is not None:
            pending.timer.cancel()
            pending.done(answer)

    def _fail(self, number: int, reason: str) -> None:
        """A batch later: whoever asks is not answered before he has finished asking."""
        self._log.error(f"auth-master: passdb lookup({self._pending[number].user}): {reason}")
        self._loop.call_later(0, lambda: self._answer(number, FAILED))

    def _overdue(self, number: int) -> None:
        self._fail(number, f"Auth server did not answer within {WAIT:.0f} secs")

    # --- the connection --------------------------------------------------------------------------------------------

    def _connect(self) -> str:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
            sock.connect(self._address)     # a local socket connects at once, or waits for a place in its queue
        except OSError as error:
            sock.close()
            return error.strerror or str(error)
        sock.setblocking(False)
        self._sock = sock
        self._greeted = False
        self._lines = Lines(_MAX_REPLY)
        self._writing = b""
        self._loop.register(sock.fileno(), IN, self._event)
        self._out.insert(0, "VERSION\t1\t1")
        return ""

    def _flush(self) -> None:
        if self._sock is None or not self._out:
            return
        self._writing += encode("\n".join(self._out) + "\n")
        self._out.clear()
        self._write()

    def _write(self) -> None:
        assert self._sock is not None
        blocked = False
        try:
            self._writing = self._writing[self._sock.send(self._writing):]
        except BlockingIOError:
            blocked = True
        except OSError:                     # the read that follows tells why
            self._writing = b""
        self._loop.modify(self._sock.fileno(), IN | OUT if self._writing or blocked else IN)

    def _event(self, mask: int) -> None:
        assert self._sock is not None
        if mask & OUT and self._writing:
            self._write()
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        if not data:
            self._lost("Disconnected unexpectedly")
            return
        try:
            for line in self._lines.feed(data):
                self._line(line.split("\t"))
        except ProtocolError as error:
            self._lost(f"Auth server {error}")

    def _line(self, words: list[str]) -> None:
        if not self._greeted:
            if words[:2] != ["VERSION", "1"]:
                raise ProtocolError("speaks another version of the protocol (mixed old and new binaries?)")
            self._greeted = True
        elif words[0] in ("PASS", "NOTFOUND", "FAIL") and len(words) > 1 and words[1].isdecimal():
            number = int(words[1][:10])
            if words[0] == "PASS":
                self._answer(number, dict(pair(word) for word in words[2:] if word))
            elif words[0] == "NOTFOUND":
                self._answer(number, NOT_FOUND)
            elif number in self._pending:
                fields = dict(pair(word) for word in words[2:] if word)
                detail = f": {fields['reason']}" if fields.get("reason") else ""
                self._log.error(f"auth-master: passdb lookup({self._pending[number].user}): "
                                f"Auth PASS lookup failed{detail}")
                self._answer(number, FAILED)
        elif words[0] != "SPID":
            raise ProtocolError(f"sent unknown reply {words[0][:20]}")

    def _lost(self, reason: str) -> None:
        self.close()
        self._out.clear()
        for number in list(self._pending):
            self._fail(number, reason)
