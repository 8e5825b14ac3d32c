"""Running a Loop for as long as a test needs it, and connected sockets to run it on."""
from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable

from mailproxy.net.loop import Loop
from mailproxy.net.transport import Plain, Tls

#: Seconds that any single wait may take.
LIMIT = 10.0


class Driver:
    """Owns a loop that wakes often enough to look at a condition."""

    def __init__(self) -> None:
        self.loop = Loop()
        self._until: Callable[[], bool] = lambda: True
        self._tick()
        self.loop.at_batch_end(self._look)

    def _tick(self) -> None:
        self.loop.call_later(0.005, self._tick)

    def _look(self) -> None:
        if self._until():
            self.loop.stop()

    def until(self, condition: Callable[[], bool], limit: float = LIMIT) -> None:
        """Serve until `condition()` holds."""
        deadline = time.monotonic() + limit
        self._until = lambda: condition() or time.monotonic() > deadline
        self.loop.run()
        assert condition(), "it did not happen in time"

    def rest(self, seconds: float) -> None:
        """Serve for a while."""
        deadline = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= deadline)


def tcp_pair(buffer: int = 0) -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, blocking; `buffer`: bytes that the kernel is asked to hold a side."""
    with socket.socket() as listener:
        if buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        one = socket.socket()
        if buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        one.connect(listener.getsockname())
        other, _ = listener.accept()
    if buffer:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    for sock in (one, other):
        sock.settimeout(LIMIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def plain_end(sock: socket.socket) -> Plain:
    """One end as a transport that owns the descriptor."""
    sock.setblocking(False)
    return Plain(sock.detach())


def tls_pair(server: ssl.SSLContext, client: ssl.SSLContext, buffer: int = 0) -> tuple[Tls, Tls]:
    """(server side, client side) of a TLS connection whose handshake is done."""
    near, far = tcp_pair(buffer)
    one = Tls(plain_end(near), server, server_side=True)
    other = Tls(plain_end(far), client, server_side=False, name="localhost")
    shake(one, other)
    return one, other


def shake(one: Tls, other: Tls) -> None:
    deadline = time.monotonic() + LIMIT
    done = [False, False]
    while not all(done):
        assert time.monotonic() < deadline
        for number, side in enumerate((one, other)):
            done[number] = done[number] or side.handshake()


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()
