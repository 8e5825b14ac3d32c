"""Logs in a few times in the master before any worker is forked, so that workers share what that leaves behind.

A process that serves one connection and ends (service_count = 1) pays for every page of memory that it is the first
to write to: code that was never run has its inline caches filled, names resolved and library functions bound on its
first run, in each worker anew.  After a rehearsal that has all happened once, in memory that all workers share.
Measured: a third of the page faults of a login.

In: a Setup.  Out: the same Setup, with nothing of the rehearsal in it.  All peers are ours: a client, an auth server on
an abstract UNIX address and a backend on a loopback port, all on the worker's own loop.  A machine where that cannot be
set up (no loopback interface) goes without.
"""
from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from mailproxy import sasl
from mailproxy.ipc.contract import Child, Listener
from mailproxy.login import setup as shared
from mailproxy.login.backends import Backends
from mailproxy.login.setup import Setup, Sources
from mailproxy.net.loop import IN, OUT, Loop
from mailproxy.net.transport import Broken, Plain, Tls

#: The interpreter specialises code after 8 runs, and what it specialised may still change its mind.
ROUNDS = 16
#: Seconds for one login; it takes a millisecond, and nothing waits for it if it cannot be done.
PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class Script:
    """What the peers say in one protocol: the client's lines, each after something was received, and the backend's
    greeting and answers by what they answer."""

    client: tuple[bytes, ...]
    greeting: bytes
    answers: tuple[tuple[bytes, bytes], ...]


_CAPS = b"[CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID IDLE AUTH=PLAIN]"
_EHLO = b"250-be\r\n250-AUTH PLAIN\r\n250 XCLIENT ADDR PORT PROTO HELO TTL SESSION\r\n"
_SCRIPTS = {
    "imap": Script((b"a LOGIN rehearsal@example.com secret\r\n", b"b LOGOUT\r\n"),
                   b"* OK " + _CAPS + b" ready.\r\n",
                   ((b"LOGOUT", b"* BYE bye\r\nb OK bye\r\n"),
                    (b"L LOGIN", b"* ID NIL\r\nI OK ID\r\nL OK " + _CAPS + b" Logged in\r\n"))),
    "pop3": Script((b"USER rehearsal@example.com\r\n", b"PASS secret\r\n", b"QUIT\r\n"),
                   b"+OK [XCLIENT] ready.\r\n",
                   ((b"QUIT", b"+OK BYE\r\n"), (b"PASS", b"+OK Logged in\r\n"), (b"XCLIENT", b"+OK\r\n+OK\r\n"))),
    "submission": Script((b"EHLO rehearsal.example.com\r\n",
                          b"AUTH PLAIN AHJlaGVhcnNhbEBleGFtcGxlLmNvbQBzZWNyZXQ=\r\n", b"QUIT\r\n"),
                         b"220 be\r\n",
                         ((b"QUIT", b"221 BYE\r\n"), (b"AUTH ", b"235 in\r\n"),
                          (b"XCLIENT", b"220 be\r\n" + _EHLO), (b"EHLO", _EHLO))),
    "sieve": Script((b'AUTHENTICATE "PLAIN" "AHJlaGVhcnNhbEBleGFtcGxlLmNvbQBzZWNyZXQ="\r\n', b"LOGOUT\r\n"),
                    b'"SASL" "PLAIN"\r\n"XCLIENT"\r\nOK "ready."\r\n',
                    ((b"LOGOUT", b'OK "BYE"\r\n'), (b"AUTHENTICATE", b'OK "in"\r\n'), (b"XCLIENT", b"OK\r\n"))),
}


def prepare(conf: Any, service: Any) -> Setup:
    """The login roles' `prepare`: the Setup, rehearsed."""
    setup = shared.prepare(conf, service)
    script = _SCRIPTS.get(service.protocol)
    if script is not None:
        try:
            rehearse(setup, script)
        except (OSError, Broken):       # it would only have made workers cheaper
            return setup
    return setup


def rehearse(setup: Setup, script: Script) -> None:
    """`ROUNDS` logins without TLS and, if there is a certificate, as many with it."""
    views, setup.views = setup.views, None
    sources, setup.sources = setup.sources, Sources("")     # a configured address may not reach our own backend
    with ExitStack() as stack:
        sinks = _sinks(stack)
        for tls in (False, True)[:2 if setup.contexts.server is not None else 1]:
            for _ in range(ROUNDS):
                if not _login(setup, script, tls, sinks):
                    break               # somebody else's connection came between, or the machine is too busy
    setup.views = views
    setup.sources = sources
    setup.backends = Backends()


def _sinks(stack: ExitStack) -> tuple[int, int]:
    """Descriptors for reports and logs, and for the master's end of life."""
    null = os.open("/dev/null", os.O_WRONLY)
    stack.callback(os.close, null)
    ends = os.pipe()
    stack.callback(os.close, ends[0])
    stack.callback(os.close, ends[1])
    return null, ends[1]


def _login(setup: Setup, script: Script, tls: bool, sinks: tuple[int, int]) -> bool:
    """One login; False if it did not come to its end in time."""
    from mailproxy.login.worker import Worker
    null, dead = sinks
    with ExitStack() as stack:
        front, back = stack.enter_context(_listen()), stack.enter_context(_listen())
        auth = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        address = f"\0mailproxy-rehearsal-{os.getpid()}-{front.fileno()}"
        auth.bind(address)
        auth.listen(1)
        child = Child(setup.policy.service, setup.protocol, 0, "/", (
            Listener("rehearsal", "inet", front, ssl=tls, address=front.getsockname()[:2]),),
            status_fd=null, dead_fd=dead, log_fd=null, client_limit=1, service_count=1)
        worker = Worker(child, setup, address)
        setup.rawlog = None             # the words of this backend are no news
        loop = worker.loop
        stack.callback(loop.close)
        for listener, lines in ((auth, _auth_lines(setup, back.getsockname()[1])), (back, _backend_lines(script))):
            stack.callback(_Peer(loop, listener, lines).close)
        stack.callback(_Client(loop, front.getsockname()[:2], script, setup if tls else None).close)
        limit = loop.call_later(PATIENCE, loop.stop)
        worker.serve()
        return loop.now < limit.when


def _listen() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(1)
    return sock


def _auth_lines(setup: Setup, port: int) -> tuple[bytes, Callable[[bytes], bytes]]:
    names = [name.upper() for name in setup.view.auth.auth_mechanisms]
    greeting = "VERSION\t1\t2\n" + "".join(
        "\t".join(("MECH", name, *sasl.FLAGS.get(name, ()))) + "\n" for name in names) + "SPID\t1\nCUID\t1\nDONE\n"

    def answer(data: bytes) -> bytes:
        at = data.find(b"AUTH\t")
        if at < 0:
            return b""
        return (f"OK\t{data[at:].split(chr(9).encode(), 2)[1].decode()}\tuser=rehearsal@example.com\tproxy\t"
                f"host=127.0.0.1\tport={port}\tpass=secret\n").encode()
    return greeting.encode(), answer


def _backend_lines(script: Script) -> tuple[bytes, Callable[[bytes], bytes]]:
    return script.greeting, lambda data: next((reply for word, reply in script.answers if word in data), b"")


class _Peer:
    """A server that greets and answers, for one connection; it closes after an answer that says BYE."""

    __slots__ = ("_answer", "_greeting", "_listener", "_loop", "_sock")

    def __init__(self, loop: Loop, listener: socket.socket, lines: tuple[bytes, Callable[[bytes], bytes]]) -> None:
        self._loop = loop
        self._listener = listener
        self._greeting, self._answer = lines
        self._sock: socket.socket | None = None
        loop.register(listener.fileno(), IN, self._accept)

    def _accept(self, mask: int) -> None:
        self._sock, _ = self._listener.accept()
        self._sock.setblocking(False)
        self._sock.send(self._greeting)
        self._loop.register(self._sock.fileno(), IN, self._read)

    def _read(self, mask: int) -> None:
        assert self._sock is not None
        data = self._sock.recv(4096)
        reply = self._answer(data) if data else b""
        if reply:
            self._sock.send(reply)
        if not data or b"BYE" in reply:
            self._loop.unregister(self._sock.fileno())
            self._sock.close()

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()


class _Client:
    """Says its lines one by one, each when something has come in."""

    __slots__ = ("_lines", "_link", "_loop", "_setup")

    def __init__(self, loop: Loop, address: tuple[str, int], script: Script, setup: Setup | None) -> None:
        self._loop = loop
        self._lines = list(script.client)
        self._setup = setup
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(address)
        self._link: Plain | Tls = Plain(sock.detach())
        loop.register(self._link.fd, OUT if setup else IN, self._event)

    def _event(self, mask: int) -> None:
        link = self._link
        if self._setup is not None and isinstance(link, Plain):
            self._link = link = Tls(link, self._setup.contexts.any_cert, server_side=False)
        if isinstance(link, Tls) and self._setup is not None:
            if link.handshake():
                self._setup = None
            self._loop.modify(link.fd, link.wants)
            return
        while True:
            data = link.recv(4096)
            if not data:
                if data is not None:
                    self._loop.unregister(link.fd)
                return
            if self._lines:
                link.send(self._lines.pop(0))

    def close(self) -> None:
        self._link.close()
