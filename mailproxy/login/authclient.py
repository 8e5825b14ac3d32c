"""The client side of the auth protocol: one connection per login process, shared by its sessions.

In: requests of sessions; the server's lines.  Out: calls of the sessions that asked.  Requests are written once per
batch of events.  If the connection is lost every pending session is told (`auth_lost`), and the next connection is
tried at once and then every RETRY seconds.  Replies to ids that nobody waits for are ignored.  Works against a real
Dovecot auth server just as well.
"""
from __future__ import annotations

import base64
import os
import socket
import time
from collections import deque
from collections.abc import Callable

from mailproxy.errors import ProtocolError
from mailproxy.ipc.authwire import MAJOR, MAX_LINE, MINOR, Lines, encode, unescape
from mailproxy.log.pipe import Log
from mailproxy.login.ports import Asker
from mailproxy.net.loop import IN, OUT, Loop, Timer, quiet_close

#: Where auth listens, seen from the login directory (which is the root directory of a chrooted worker).
SOCKET = "login"
RETRY = 0.2
#: Seconds for connect and handshake together.
HANDSHAKE = 30.0
#: Replies are read in pieces of this size.
_READ = 65536
#: Requests that wait for the connection; a client beyond that gets a temporary failure.
QUEUE_MAX = 1024
#: Unwritten bytes (of a server that has stopped reading) beyond which a client gets a temporary failure at once.
WRITING_MAX = 1 << 20
#: Digits of a request's id.
_ID_DIGITS = 10
_COOKIE_SIZE = 16

#: Pending requests are looked at this often, and only while there are any.  After SLOW of these the client is told that
#: it must wait, after LOST the request is given up (Dovecot: 30 and 150 seconds).
TICK = 10.0
SLOW, LOST = 3, 15

DOWN, GREETING, READY = range(3)


class AuthClient:
    """`on_ready` is called whenever the mechanisms are known (again)."""

    __slots__ = ("_address", "_connection_id", "_cookie", "_fd", "_lines", "_log", "_loop", "_marks", "_mechanisms",
                 "_next", "_out", "_pending", "_queued", "_sock", "_state", "_timer", "_writing", "mechanisms",
                 "on_ready")

    def __init__(self, loop: Loop, log: Log, on_ready: Callable[[], None], address: str = SOCKET) -> None:
        self._address = address
        self._loop = loop
        self._log = log
        self.on_ready = on_ready
        self.mechanisms: tuple[tuple[str, tuple[str, ...]], ...] = ()
        self._mechanisms: dict[str, tuple[str, ...]] = {}
        self._connection_id = {"SPID": 0, "CUID": 0}
        self._cookie = b""
        self._state = DOWN
        self._sock: socket.socket | None = None
        self._fd = -1
        self._lines = Lines()
        self._next = 0
        self._pending: dict[int, Asker] = {}
        self._queued: dict[int, str] = {}       # asked while there was no connection
        self._out: list[str] = []
        self._writing = b""
        self._timer: Timer | None = None
        self._marks: deque[int] = deque(maxlen=LOST + 1)    # the last id at each of the last ticks
        loop.at_batch_end(self.flush)
        self._connect()

    # --- what sessions call ----------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether the server's mechanisms are known; they stay known while it restarts."""
        return bool(self.mechanisms)

    def connected(self) -> bool:
        return self._state == READY

    def mechanism(self, name: str) -> tuple[str, ...] | None:
        """Its flags; None if the server does not have it."""
        return self._mechanisms.get(name)

    def challenge(self, machine: str) -> str:
        """One for APOP: the server wants to see its pid, the number of our connection and the time in it."""
        nonce = base64.b64encode(os.urandom(16)).decode()
        pid, connection = self._connection_id["SPID"], self._connection_id["CUID"]
        return f"<{pid:x}.{connection:x}.{int(time.time()):x}.{nonce}@{machine}>"

    def ask(self, session: Asker, mechanism: str, parameters: str, initial: bytes | None) -> int:
        """Send an AUTH; its id, for `answer` and `cancel`.  The id is valid even while there is no connection."""
        self._next = request = self._next + 1 if self._next < 0xFFFFFFFF else 1
        line = f"AUTH\t{request}\t{mechanism}\t{parameters}"
        if initial is not None:
            line += "\tresp=" + (initial.decode("ascii") or "=")
        self._pending[request] = session
        if len(line) > MAX_LINE // 4 and len(encode(line)) > MAX_LINE:      # would cost all sessions the connection
            self._refuse(request)
        elif self._state == READY and len(self._writing) < WRITING_MAX:
            self._out.append(line)
        elif self._state != READY and len(self._queued) < QUEUE_MAX:
            self._queued[request] = line
        else:
            self._refuse(request)
        return request

    def _refuse(self, request: int) -> None:
        """It cannot be asked now: a temporary failure, a batch later, unless it is cancelled before."""
        def lost() -> None:
            session = self._pending.pop(request, None)
            if session is not None:
                session.auth_lost()
        self._loop.call_later(0, lost)

    def _age(self) -> None:
        """A tick: ids grow, so the last id of an earlier tick tells which requests are at least as old."""
        marks = self._marks
        marks.append(self._next)
        told = marks[-SLOW - 2] if len(marks) > SLOW + 1 else -1
        slow = marks[-SLOW - 1] if len(marks) > SLOW else -1
        lost = marks[0] if len(marks) > LOST else -1
        for request, session in list(self._pending.items()):
            if request <= lost:
                session.auth_overdue()
            elif told < request <= slow:
                session.auth_slow()
            elif request > slow:
                break
        if self._pending:
            self._loop.call_later(TICK, self._age)
        else:
            marks.clear()

    def answer(self, request: int, data: bytes) -> None:
        if request in self._pending:
            self._out.append(f"CONT\t{request}\t{data.decode('ascii')}")

    def cancel(self, request: int) -> None:
        """Forget a request; no answer will come."""
        if self._pending.pop(request, None) is not None and self._queued.pop(request, None) is None \
                and self._state == READY:
            self._out.append(f"CANCEL\t{request}")

    def identity(self) -> tuple[int, bytes]:
        """The pid and the cookie of the server: what a mail process needs to ask it for a user of ours."""
        return self._connection_id["SPID"], self._cookie

    def withdraw(self, request: int) -> None:
        """Let the server forget a login that it still keeps for a mail process."""
        if self._state == READY:
            self._out.append(f"CANCEL\t{request}")

    def flush(self) -> None:
        """Everything that was asked in this batch, in one write."""
        if not self._out:
            return
        if self._state != READY:
            self._out.clear()
            return
        data = encode("\n".join(self._out) + "\n")
        self._out.clear()
        if self._writing:
            self._writing += data
            return
        self._send(data)

    def close(self) -> None:
        if self._sock is not None:
            self._loop.forget(self._fd)
            quiet_close(self._sock)
            self._sock = None
        self._state = DOWN
        if self._timer is not None:
            self._timer.cancel()

    # --- the connection --------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._timer = None
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:            # out of descriptors
            self._log.error(f"auth: socket() failed: {error.strerror}")
            self._timer = self._loop.call_later(RETRY, self._connect)
            return
        try:
            sock.connect(self._address)
        except OSError as error:            # EAGAIN: its backlog is full
            sock.close()
            if not isinstance(error, (BlockingIOError, ConnectionRefusedError, FileNotFoundError)):
                self._log.error(f"auth: connect({self._address}) failed: {error.strerror}")
            self._timer = self._loop.call_later(RETRY, self._connect)
            return
        self._sock = sock
        self._fd = sock.fileno()
        self._state = GREETING
        self._lines = Lines()
        self._loop.register(self._fd, IN, self._event)
        self._timer = self._loop.call_later(HANDSHAKE, self._too_slow)
        self._send(b"VERSION\t%d\t%d\nCPID\t%d\n" % (MAJOR, MINOR, os.getpid()))

    def _send(self, data: bytes) -> None:
        assert self._sock is not None
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(f"write() failed: {error.strerror}")
            return
        if sent < len(data):
            self._writing = data[sent:]
            self._loop.modify(self._fd, IN | OUT)
        elif self._writing:
            self._writing = b""
            self._loop.modify(self._fd, IN)

    def _event(self, mask: int) -> None:
        if mask & OUT and self._writing:
            self._resend(self._writing)
        assert self._sock is not None
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(f"read() failed: {error.strerror}")
            return
        if not data:
            self._lost("EOF")
            return
        try:
            for line in self._lines.feed(data):
                self._line(line)
        except ProtocolError as error:
            self._lost(f"Auth server {error}")

    def _resend(self, pending: bytes) -> None:
        assert self._sock is not None
        try:
            sent = self._sock.send(pending)
        except OSError:                     # the read that follows tells why
            return
        self._writing = pending[sent:]
        if not self._writing:
            self._loop.modify(self._fd, IN)

    def _lost(self, reason: str) -> None:
        was = self._state
        self._writing = b""
        self._out.clear()
        self.close()
        pending = [(request, session) for request, session in self._pending.items() if request not in self._queued]
        if was != DOWN:
            self._log.warning(f"Auth connection closed with {len(pending)} pending requests: {reason}")
        for request, _ in pending:
            del self._pending[request]
        for _, session in pending:
            session.auth_lost()
        # an auth server that is being replaced listens again within milliseconds
        self._timer = self._loop.call_later(0 if was == READY else RETRY, self._connect)

    def fail(self) -> None:
        """Start anew: something is wrong with us."""
        self._lost("internal error")

    def _too_slow(self) -> None:
        self._lost(f"Auth process not responding (no handshake within {HANDSHAKE:.0f} secs)")

    # --- lines -----------------------------------------------------------------------------------------------------

    def _line(self, line: str) -> None:
        words = line.split("\t")
        if self._state != READY:
            self._handshake(words)
            return
        kind = words[0]
        if len(words) < 2 or len(words[1]) > _ID_DIGITS or not words[1].isdecimal():
            raise ProtocolError(f"sent broken {kind[:20]} line")
        session = self._pending.get(int(words[1]))
        if session is None:
            return                          # cancelled, or answered before
        if kind == "CONT":
            session.auth_continue(words[2].encode("ascii", "replace") if len(words) > 2 else b"")
            return
        if kind not in ("OK", "FAIL"):      # the session stays pending, so that it hears of the loss
            raise ProtocolError(f"sent unknown reply {kind[:20]}")
        del self._pending[int(words[1])]
        fields: dict[str, str] = {}
        for word in words[2:]:
            key, _, value = word.partition("=")
            if key:
                fields[key] = unescape(value) if "\x01" in value else value
        if kind == "OK":
            session.auth_ok(fields)
        else:
            session.auth_failed(fields)

    def _handshake(self, words: list[str]) -> None:
        if words[0] == "VERSION":
            if words[1:2] != [str(MAJOR)]:
                raise ProtocolError("speaks another version of the protocol (mixed old and new binaries?)")
            self._mechanisms = {}
        elif words[0] == "MECH" and len(words) > 1:
            self._mechanisms[words[1].upper()] = tuple(words[2:])
        elif words[0] in self._connection_id and words[1:] and words[1].isdecimal() and len(words[1]) <= _ID_DIGITS:
            self._connection_id[words[0]] = int(words[1])
        elif words[0] == "COOKIE" and words[1:]:
            self._cookie = _hex(words[1])
        elif words[0] == "DONE":
            self._state = READY
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self.mechanisms = tuple(self._mechanisms.items())
            self._out.extend(self._queued.values())
            self._queued.clear()
            self.on_ready()


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)[:_COOKIE_SIZE]
    except ValueError:
        raise ProtocolError("sent an invalid cookie") from None
