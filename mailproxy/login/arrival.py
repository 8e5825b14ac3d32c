"""A connection from a load balancer, until its PROXY header is there.

In: an accepted socket of a listener with `haproxy = yes`.  Out: the header, to the worker, or a line in the log and the
end of the connection.  The header alone is taken from the socket: what follows it, a TLS handshake for instance, is
for whoever reads next.  Limits: haproxy_timeout seconds, the sizes of net.proxyhdr.
"""
from __future__ import annotations

import os
import socket
from typing import Protocol

from mailproxy.ipc.contract import Listener
from mailproxy.log.pipe import Log
from mailproxy.net.addr import Networks
from mailproxy.net.loop import IN, Loop, Timer
from mailproxy.net.proxyhdr import V2_MAX, Address, BadHeader, Header, parse
from mailproxy.net.transport import borrowed


class Door(Protocol):
    """Whom to believe, and how long to wait."""

    @property
    def balancers(self) -> Networks: ...
    @property
    def header_timeout(self) -> float: ...


class Worker(Protocol):
    """Who has accepted it."""

    @property
    def loop(self) -> Loop: ...
    @property
    def log(self) -> Log: ...
    def arrived(self, arrival: Arrival, header: Header) -> None: ...
    def ended(self, what: Arrival) -> None: ...


class Arrival:
    __slots__ = ("_data", "_door", "_timer", "_worker", "fd", "listener", "local", "remote")

    def __init__(self, worker: Worker, door: Door, fd: int, remote: Address, local: Address,
                 listener: Listener) -> None:
        self._door = door
        self._worker = worker
        self._data = b""
        self._timer: Timer | None = None
        self.fd = fd
        self.remote = remote
        self.local = local
        self.listener = listener

    def begin(self, *, implicit_tls: bool) -> None:
        """`implicit_tls` is for later: the header comes in the clear."""
        worker = self._worker
        if self.remote[0] not in self._door.balancers:
            worker.log.warning(f"haproxy: Client not trusted (rip={self.remote[0]})")
            self.close()
            return
        worker.loop.register(self.fd, IN, self._read)
        self._timer = worker.loop.call_later(self._door.header_timeout, self._timed_out)

    def _read(self, mask: int) -> None:
        log = self._worker.log
        try:
            header = self._take()
        except BadHeader as error:
            version = f"(v{error.version})" if error.version else ""
            details = f"{error.details}, " if error.details else ""
            log.error(f"haproxy{version}: Client disconnected: {error.text} ({details}rip={self.remote[0]})")
            self.close()
        except EOFError:
            why = ": Failed to read full header" if self._data else ""
            log.info(f"haproxy: Client disconnected{why} (rip={self.remote[0]})")
            self.close()
        except BlockingIOError:
            return
        except OSError as error:
            log.info(f"haproxy: Client disconnected (rip={self.remote[0]}): {error.strerror}")
            self.close()
        else:
            if header is not None:
                if header.note:
                    log.error(f"haproxy(v2): Unsupported address family ({header.note}, rip={self.remote[0]})")
                self._leave()
                self._worker.arrived(self, header)

    def _take(self) -> Header | None:
        """The header and not a byte more; the part of it that is there, if there is only a part."""
        with borrowed(self.fd) as sock:
            data = sock.recv(V2_MAX, socket.MSG_PEEK)
            if not data:
                raise EOFError
            header = parse(self._data + data)
            sock.recv(len(data) if header is None else header.size - len(self._data))
        self._data += data
        return header

    def _timed_out(self) -> None:
        self._worker.log.error(f"haproxy: Client timed out (rip={self.remote[0]})")
        self.close()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._worker.loop.unregister(self.fd)

    def close(self) -> None:
        """End it; whoever calls has said why."""
        self._leave()
        os.close(self.fd)
        self._worker.ended(self)

    fail = close
