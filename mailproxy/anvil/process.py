"""ROLE anvil: accepts its peers and keeps the two tables for them.

In: listeners; what peers say (see peer).  Out: an exit code.  It ends on TERM, or when its generation is retired and
the last peer is gone.  Limit: client_limit peers.
"""
from __future__ import annotations

import signal
from typing import Any

from mailproxy.anvil.counts import Counts
from mailproxy.anvil.peer import Peer
from mailproxy.errors import describe
from mailproxy.ipc.contract import Child, Listener
from mailproxy.ipc.penalty import Penalties
from mailproxy.log.pipe import PANIC, Log
from mailproxy.net.loop import ERR, HUP, IN, Handler, Loop, quiet_close
from mailproxy.net.signals import Signals


def prepare(conf: Any, service: Any) -> object:
    """It reads no settings."""
    return None


def main(child: Child, prepared: object) -> int:
    anvil = Anvil(child)
    anvil.run()
    return 0


class Anvil:
    __slots__ = ("_child", "_peers", "_retired", "_signals", "counts", "log", "loop", "penalties")

    def __init__(self, child: Child) -> None:
        self._child = child
        self._peers: set[Peer] = set()
        self._retired = False
        self.log = Log(child.log_fd)
        self.loop = Loop()
        self.loop.on_failure = self._failed
        self.counts = Counts()
        self.penalties = Penalties()

    def run(self) -> None:
        self._signals = Signals(self.loop, {signal.SIGTERM: self.loop.stop, signal.SIGQUIT: self._retire,
                                            signal.SIGINT: lambda: None if self._peers else self.loop.stop()})
        for listener in self._child.listeners:
            self.loop.register(listener.socket.fileno(), IN, _acceptor(self, listener))
        if self._child.dead_fd >= 0:
            self.loop.register(self._child.dead_fd, ERR | HUP, lambda mask: self._retire())
        self._report()
        self.loop.run()

    def accept(self, listener: Listener) -> None:
        try:
            connection, _ = listener.socket.accept()
        except BlockingIOError:
            return
        except OSError as error:
            self.log.error(f"accept({listener.name}) failed: {error.strerror}")
            self.loop.rest(listener.socket.fileno(), IN)
            return
        if len(self._peers) >= self._child.client_limit:
            self.log.warning(f"client_limit ({self._child.client_limit}) reached, client connection is dropped")
            quiet_close(connection)
            return
        connection.setblocking(False)
        self._peers.add(Peer(self, connection, asks=listener.name.startswith("login/")))
        self._report()

    def gone(self, peer: Peer) -> None:
        self._peers.discard(peer)
        if not self._retired:
            self._report()
        elif not self._peers:
            self.loop.stop()

    def _report(self) -> None:
        self._child.report(max(self._child.client_limit - len(self._peers), 0))

    def _retire(self) -> None:
        """A newer anvil takes new peers."""
        if self._retired:
            return
        self._retired = True
        if self._child.dead_fd >= 0:
            self.loop.unregister(self._child.dead_fd)
        for listener in self._child.listeners:
            self.loop.unregister(listener.socket.fileno())
            quiet_close(listener.socket)
        self._child.report(0)
        if not self._peers:
            self.loop.stop()

    def _failed(self, fd: int, handler: Handler | None, failure: Exception) -> None:
        """A bug of ours costs one peer its connection."""
        self.log.write(PANIC, describe(failure))
        owner = getattr(handler, "__self__", None)
        if isinstance(owner, Peer):
            owner.close()


def _acceptor(anvil: Anvil, listener: Listener) -> Handler:
    return lambda mask: anvil.accept(listener)
