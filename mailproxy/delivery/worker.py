"""ROLE lmtp: accepts clients up to its limits, and ends when its work is done.

In: a Child and the Setup that `prepare` made in the master.  Out: an exit code.  Limits: client_limit clients at once,
service_count in all; a full worker leaves its listeners alone.  A message that is complete is delivered even if its
client is gone; a hard stop (TERM) waits GRACE seconds for that.
"""
from __future__ import annotations

import gc
import os
from collections.abc import Callable

from mailproxy.delivery.connection import Connection
from mailproxy.delivery.lookup import Lookups
from mailproxy.delivery.setup import Setup, prepare
from mailproxy.errors import Problem, describe
from mailproxy.ipc.contract import Child, Listener
from mailproxy.log.pipe import PANIC, Log
from mailproxy.login.arrival import Arrival
from mailproxy.net.loop import EXCLUSIVE, IN, Loop
from mailproxy.net.proxyhdr import Address, Header
from mailproxy.net.signals import Signals
from mailproxy.net.transport import borrowed

__all__ = ["main", "prepare"]

_SIGINT, _SIGQUIT, _SIGUSR1, _SIGTERM = 2, 3, 10, 15
#: The socket of the auth server that answers lookups, below base_dir.
AUTH = "auth-userdb"
#: Seconds that messages in delivery have after TERM.
GRACE = 5.0
#: Seconds without descriptors before accepting is tried again.
_PAUSE = 1.0


def main(child: Child, prepared: object) -> int:
    assert isinstance(prepared, Setup)
    return Worker(child, prepared, os.path.join(child.base_dir, AUTH)).run()


class Worker:
    """`touched`: connections with replies to write, or commands to go on with, when the batch is done."""

    __slots__ = (
        "_accepting",
        "_arriving",
        "_child",
        "_connections",
        "_exit",
        "_number",
        "_ready",
        "_reported",
        "_served",
        "_setup",
        "log",
        "lookups",
        "loop",
        "touched",
    )

    def __init__(self, child: Child, setup: Setup, auth_address: str) -> None:
        self._child = child
        self._setup = setup
        self._ready: set[Setup] = set()
        self._arriving: dict[Arrival, None] = {}        # their PROXY header is awaited
        self.loop = Loop()
        self.log = Log(child.log_fd, buffered=True, debug=setup.debug)
        self.log.prefix(f"lmtp({os.getpid()})")
        self.touched: dict[Connection, None] = {}
        self._connections: dict[Connection, None] = {}
        self._accepting = False
        self._exit = False
        self._served = 0
        self._number = 0
        self._reported = -1
        self.loop.at_batch_end(self._advance)
        self.lookups = Lookups(self.loop, self.log, auth_address)
        self.loop.at_batch_end(self._batch_end)
        self.loop.on_failure = self._failed
        self.loop.register(child.dead_fd, 0, self._retire)      # EPOLLERR comes unasked

    def run(self) -> int:
        Signals(self.loop, {_SIGTERM: self._stop_now, _SIGINT: self._stop_if_idle, _SIGQUIT: self._stop_taking,
                            _SIGUSR1: self._take_news})
        gc.enable()
        gc.set_threshold(50_000, 20, 100)
        self._take_news()               # a signal may have come too early to be heard
        self._listen()
        self._report()
        self.loop.run()
        self.lookups.close()
        self.log.flush()
        return 0

    def _advance(self) -> None:
        while self.touched:
            touched, self.touched = self.touched, {}
            for connection in touched:
                connection.advance()

    def _batch_end(self) -> None:
        self.log.flush()
        if self._exit and not self._connections and not self._arriving:
            self.loop.stop()

    def _failed(self, fd: int, handler: Callable[[int], None] | None, failure: Exception) -> None:
        """A bug of ours costs the client in which it showed, and no other."""
        self.log.write(PANIC, describe(failure))
        owner = getattr(handler, "__self__", None)
        if isinstance(owner, (Connection, Arrival, Lookups)):
            owner.fail()
        elif fd >= 0 and all(fd != listener.socket.fileno() for listener in self._child.listeners):
            self.loop.unregister(fd)    # what waits for it ends by its timeout

    # --- clients ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._accepting or self._exit:
            return
        self._accepting = True
        for listener in self._child.listeners:
            self.loop.register(listener.socket.fileno(), IN | EXCLUSIVE, self._acceptor(listener))

    def _acceptor(self, listener: Listener) -> Callable[[int], None]:
        return lambda mask: self._accept(listener)

    def _stop_listening(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._child.listeners:
                self.loop.unregister(listener.socket.fileno())

    def _accept(self, listener: Listener) -> None:
        """Take one connection, if another worker has not been quicker."""
        if self._places() <= 0:
            self._stop_listening()
            return
        try:
            sock, remote = listener.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self.log.error(f"accept() failed: {error.strerror}")
            self._stop_listening()      # out of descriptors: a level-triggered listener would spin
            self.loop.call_later(_PAUSE, self._listen)
            return
        sock.setblocking(False)
        fd = sock.detach()
        inet = listener.kind == "inet"
        local = (listener.address or _local_address(fd)) if inet else ("", 0)
        peer: tuple[str, int] = remote[:2] if inet else ("", 0)
        self._served += 1
        connection: Connection | Arrival
        if listener.haproxy:
            connection = Arrival(self, self._setup, fd, peer, local, listener)
            self._arriving[connection] = None
        else:
            connection = self._admit(fd, peer, local)
        if self._places() <= 0:
            self._stop_listening()
        self._report()
        connection.begin(implicit_tls=listener.ssl)

    def _admit(self, fd: int, remote: Address, local: Address) -> Connection:
        setup = self._setup
        if setup.views is not None and remote[0]:
            problems: list[Problem] = []
            setup = setup.views.find(local[0], remote[0], problems)
            for problem in problems:
                self.log.error(str(problem))
        if setup not in self._ready:
            self._ready.add(setup)
            setup.begin(self.log)
        self._number += 1
        connection = Connection(self, fd, setup, remote, local, self._number)
        self._connections[connection] = None
        return connection

    def arrived(self, arrival: Arrival, header: Header) -> None:
        """A load balancer has said whom it speaks for."""
        del self._arriving[arrival]
        connection = self._admit(arrival.fd, header.remote or arrival.remote, header.local or arrival.local)
        connection.begin(implicit_tls=arrival.listener.ssl)

    def ended(self, what: Connection | Arrival) -> None:
        if isinstance(what, Arrival):
            self._arriving.pop(what, None)
        else:
            self._connections.pop(what, None)
        if self._child.service_count and self._served >= self._child.service_count:
            self._exit = True           # checked again when the batch ends
        elif self._places() > 0:
            self._listen()
        self._report()

    def _places(self) -> int:
        """How many more clients may come now."""
        if self._exit:
            return 0
        free = self._child.client_limit - len(self._connections) - len(self._arriving)
        count = self._child.service_count
        return min(free, count - self._served) if count else free

    def _report(self) -> None:
        free = max(self._places(), 0)
        if free != self._reported:
            self._reported = free
            self._child.report(free)

    # --- the end ---------------------------------------------------------------------------------------------------

    def _retire(self, mask: int) -> None:
        """The master closed its end: a newer generation serves from now on, or the master is gone."""
        self.loop.unregister(self._child.dead_fd)
        self._stop_taking()

    def _stop_taking(self) -> None:
        self._stop_listening()
        for listener in self._child.listeners:
            listener.socket.close()
        self._exit = True
        self._report()

    def _stop_if_idle(self) -> None:
        if not self._connections and not self._arriving:
            self._stop_listening()
            self._exit = True

    def _take_news(self) -> None:
        """The master has renewed certificates."""
        for problem in self._setup.keeper.catch_up(self._child.notify_fd):
            self.log.error(problem)

    def _stop_now(self) -> None:
        """TERM: everybody goes; who has given us a whole message hears what became of it."""
        self._stop_taking()
        for arrival in list(self._arriving):
            arrival.close()
        for connection in list(self._connections):
            transaction = connection.transaction
            if transaction is None or not transaction.delivering:
                connection.hang_up(b"4.3.2", "Shutting down")
        if self._connections:
            self.loop.call_later(GRACE, self.loop.stop)


def _local_address(fd: int) -> tuple[str, int]:
    with borrowed(fd) as sock:
        return sock.getsockname()[:2]  # type: ignore[no-any-return]
