"""A relay between two connections whose far ends belong to the test."""
from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import threading
from collections.abc import Callable

from mailproxy.net.loop import IN
from mailproxy.net.transport import Plain, Tls
from mailproxy.relay.relay import Relay
from tests.unit.net.drive import LIMIT, Driver, plain_end, tcp_pair, tls_pair

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
CLIENT, BACKEND = 0, 1


class Bench:
    """`client` and `backend` are the far ends, blocking; `over` is what the relay said at its end."""

    def __init__(self, driver: Driver, contexts: Contexts, *, client_tls: bool = False, backend_tls: bool = False,
                 buffer: int = 0) -> None:
        self.driver = driver
        near_client, self.client = _ends(contexts, client_tls, True, buffer)
        near_backend, self.backend = _ends(contexts, backend_tls, False, buffer)
        self.links = (near_client, near_backend)
        self.over: list[tuple[int, str]] = []
        for link in self.links:
            driver.loop.register(link.fd, IN, lambda mask: None)
        self.relay = Relay(driver.loop, near_client, near_backend, lambda side, why: self.over.append((side, why)))

    def start(self, *, to_client: bytes = b"", to_backend: bytes = b"") -> Bench:
        self.relay.start(to_client=to_client, to_backend=to_backend, sent_client=0, sent_backend=0)
        return self

    def finish(self) -> None:
        """What the owner of a relay does when it is over."""
        self.relay.stop()
        for sock in (self.client, self.backend):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in threading.enumerate():        # none may be inside a call when the number is used again
            if isinstance(thread, Talk | Listen) and thread.sock in (self.client, self.backend):
                thread.join(LIMIT)
        for sock in (self.client, self.backend):
            sock.close()


def _ends(contexts: Contexts, tls: bool, server_side: bool, buffer: int) -> tuple[Plain | Tls, socket.socket]:
    if not tls:
        near, far = tcp_pair(buffer)
        return plain_end(near), far
    server, client = tls_pair(*contexts, buffer)
    near_link, far_link = (server, client) if server_side else (client, server)
    far_link.sock.settimeout(LIMIT)
    return near_link, far_link.sock


class Talk(threading.Thread):
    """Writes `data` to a socket in chunks of random sizes, then calls `after`."""

    def __init__(self, sock: socket.socket, data: bytes, after: Callable[[], object] = lambda: None,
                 seed: int = 1, largest: int = 70000) -> None:
        super().__init__(daemon=True)
        self.sock, self.data, self.after = sock, data, after
        self.sizes = random.Random(seed)
        self.largest = largest
        self.error: OSError | None = None
        self.start()

    def run(self) -> None:
        at = 0
        try:
            while at < len(self.data):
                size = self.sizes.choice((1, 7, 100, 4096, 16384, self.largest))
                self.sock.sendall(self.data[at:at + size])
                at += size
            self.after()
        except OSError as error:
            self.error = error


class Listen(threading.Thread):
    """Reads until `size` bytes or the end."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        super().__init__(daemon=True)
        self.sock, self.size = sock, size
        self.parts: list[bytes] = []
        self.count = 0
        self.ended = False
        self.start()

    def run(self) -> None:
        while self.count < self.size:
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                self.ended = True
                return
            self.parts.append(data)
            self.count += len(data)

    def data(self) -> bytes:
        return b"".join(self.parts)


def bulk(size: int, seed: int = 0) -> bytes:
    """Bytes in which any loss, repetition or swap shows."""
    return random.Random(seed).randbytes(size)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
