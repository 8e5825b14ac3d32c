"""A client who is not proxied, on the way to the mail process that serves it: post-login hand-off.

In: an authenticated session.  Out: the client's descriptor, sent to the mail service with a record of the login; then
one call of the session: `handed_over`, `not_handed_over` or `too_many`.  First anvil is asked how often the user is
connected from there.  A client in clear text is the mail process' from then on; one with TLS, or with more to say than
the record holds, keeps its worker, which relays between it and a socket pair.
It must not know what a mail process does.  Limits: PATIENCE seconds for the mail process, ANVIL_PATIENCE for anvil.
"""
from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailproxy.errors import ProtocolError
from mailproxy.ipc import mailwire
from mailproxy.ipc.authwire import escape
from mailproxy.net.addr import packed
from mailproxy.net.loop import IN, Loop, quiet_close

if TYPE_CHECKING:
    from mailproxy.login.connection import Connection
    from mailproxy.login.session import Session

#: Seconds for a mail process to start, to ask auth for the user, and to run post-login scripts (Dovecot's).
PATIENCE = 90.0
#: Seconds for anvil; a login does not fail for want of it.
ANVIL_PATIENCE = 5.0
#: Seen from the login directory, which is the root directory of a chrooted worker.
ANVIL = "anvil"
_ANSWER_MAX = 64
_GONE = "read() failed: Remote closed connection (destination service { process_limit } reached?)"


class MailService:
    """Where the clients of a login service go.  `path`: seen from the login directory; `limit`: sessions of a user
    from one address, 0: any number."""

    __slots__ = ("limit", "path")

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self.limit = limit


class Handoff:
    """`pid`: of the mail process, once it has answered."""

    __slots__ = ("_begun", "_connection", "_exchange", "_leftover", "_limit", "_loop", "_path", "_request", "_said",
                 "_session", "pid")

    def __init__(self, loop: Loop, connection: Connection, request: int, service: MailService, said: bytes,
                 leftover: bytes) -> None:
        """`said`: what the protocol tells of the dialogue; `leftover`: what the client has said since."""
        self._loop = loop
        self._connection = connection
        self._session: Session = connection.session
        self._request = request
        self._path = service.path
        self._limit = service.limit
        self._said = said
        self._leftover = leftover
        self._begun = loop.now
        self._exchange: _Exchange | None = None
        self.pid = 0

    def begin(self) -> None:
        if not self._limit:
            self._introduce()
            return
        session = self._session
        ident = escape(f"{session.shared.protocol}/{session.rip}/{session.user}")
        question = f"VERSION\tanvil\t1\t0\nLOOKUP\t{ident}\n".encode("utf-8", "surrogateescape")
        self._exchange = _Exchange(self._loop, ANVIL, question, (), _is_line, self._counted, ANVIL_PATIENCE)
        self._exchange.begin()

    def _counted(self, found: bytes, error: str) -> None:
        self._exchange = None
        if error:
            self._session.shared.log.error(f"anvil: {error}")
        if found.strip().isdigit() and int(found) >= self._limit:
            self._session.too_many(self._limit)
        else:
            self._introduce()

    def _introduce(self) -> None:
        """Send the record, and with it the client."""
        session = self._session
        data = f"{session.session_id()}\0".encode() + self._said
        try:
            fd, alone = self._connection.lend(len(data) + len(self._leftover) <= mailwire.DATA_MAX)
        except OSError as failure:
            self._failed(f"socketpair() failed: {failure.strerror}", "")
            return
        if alone:
            data += self._leftover
            self._leftover = b""
        flags = mailwire.SECURED * session.secured | mailwire.TLS * (session.tls or session.outer_tls)
        record = mailwire.Request(
            session.shared.auth.identity(), self._request, os.getpid(), (packed(session.lip), session.lport),
            (packed(session.rip), session.rport), flags, os.fstat(fd).st_ino, data)
        self._exchange = _Exchange(self._loop, self._path, record.encode(), (fd,), _is_reply, self._answered, PATIENCE)
        self._exchange.begin()
        if not alone:
            os.close(fd)

    def _answered(self, reply: bytes, error: str) -> None:
        self._exchange = None
        if error:
            self._failed(error, f", received {len(reply)}/{mailwire.REPLY_SIZE} bytes")
            return
        try:
            taken, self.pid = mailwire.answer(reply)
        except ProtocolError as failure:
            self._failed(str(failure), "")
            return
        if taken:
            self._session.handed_over(self._leftover)
        else:
            self._session.not_handed_over(self._request, told=True)     # by the mail process

    def _failed(self, error: str, received: str) -> None:
        session = self._session
        msecs = int((self._loop.now - self._begun) * 1000)
        session.shared.log.error(f"master({self._path}): {error} (client-pid={os.getpid()}, client-id={self._request}, "
                                 f"rip={session.rip}, created {msecs} msecs ago{received})")
        session.not_handed_over(self._request, told=False)

    def stop(self) -> None:
        """Nobody waits for the outcome any more."""
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None
        self._session.shared.auth.withdraw(self._request)


class _Exchange:
    """One message to a UNIX socket and its answer, which is complete when `enough` says so.  `done(answer, error)` is
    called once, and never before `begin` has returned."""

    __slots__ = ("_data", "_done", "_enough", "_fds", "_loop", "_message", "_path", "_sock", "_timer")

    def __init__(self, loop: Loop, path: str, message: bytes, fds: tuple[int, ...], enough: Callable[[bytes], bool],
                 done: Callable[[bytes, str], None], patience: float) -> None:
        self._loop = loop
        self._path = path
        self._message = message
        self._fds = fds
        self._enough = enough
        self._done = done
        self._data = b""
        self._sock: socket.socket | None = None
        self._timer = loop.call_later(patience, lambda: self._over("Request timed out"))

    def begin(self) -> None:
        call = "socket"
        try:
            self._sock = sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            call = f"net_connect_unix({self._path})"
            sock.connect(self._path)
            call = "write()"
            socket.send_fds(sock, [self._message], list(self._fds))     # a new socket has room for it all
        except OSError as failure:
            error = f"{call} failed: {failure.strerror}"
            self._timer.cancel()
            self._timer = self._loop.call_later(0, lambda: self._over(error))
        else:
            self._loop.register(sock.fileno(), IN, self._ready)

    def _ready(self, mask: int) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(_ANSWER_MAX)
        except BlockingIOError:
            return
        except OSError as failure:
            self._over(f"read() failed: {failure.strerror}")
            return
        self._data += data
        if self._enough(self._data):
            self._over("")
        elif not data or len(self._data) > _ANSWER_MAX:
            self._over(_GONE)

    def _over(self, error: str) -> None:
        self.close()
        self._done(self._data, error)

    def close(self) -> None:
        self._timer.cancel()
        if self._sock is not None:
            self._loop.unregister(self._sock.fileno())
            quiet_close(self._sock)
            self._sock = None


def _is_line(data: bytes) -> bool:
    return data.endswith(b"\n")


def _is_reply(data: bytes) -> bool:
    return len(data) >= mailwire.REPLY_SIZE
