"""ROLE of the login services: accepts clients up to its limits, and ends when its work is done.

In: a Child and the Setup that `prepare` made in the master.  Out: an exit code.  Limits: client_limit clients at once,
service_count in all; a full worker leaves its listeners alone, except when the whole service is full: then the oldest
client that has not logged in makes room for a new one.
"""
from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable

from mailproxy.errors import describe
from mailproxy.ipc.contract import Child, Listener
from mailproxy.log.pipe import PANIC, Log
from mailproxy.login.arrival import Arrival
from mailproxy.login.authclient import SOCKET, AuthClient
from mailproxy.login.connection import Connection
from mailproxy.login.notify import Notifier
from mailproxy.login.proxied import Proxied
from mailproxy.login.rehearsal import prepare
from mailproxy.login.session import HANDOFF
from mailproxy.login.setup import Setup
from mailproxy.login.spread import Spread
from mailproxy.net.loop import EXCLUSIVE, IN, Loop
from mailproxy.net.proxyhdr import Address, Header
from mailproxy.net.signals import Signals
from mailproxy.net.transport import borrowed
from mailproxy.relay.lingering import Lingering
from mailproxy.relay.relay import Relay

__all__ = ["main", "prepare"]

_SIGINT, _SIGQUIT, _SIGUSR1, _SIGTERM = 2, 3, 10, 15

#: Status reports that only change the number of free places are this far apart.
REPORT_EVERY = 1.0
#: A proxied session may be cut at a hard shutdown once it has been idle this long; at the latest after as long again.
IDLE_CUT = 2.0
#: Process titles follow the work at most this often.
TITLE_EVERY = 1.0
#: With one client a process, the oldest should make room first: up to this long for the youngest.
EVICT_WAIT = 0.1
#: The master hears this often that room is being made.
SAY_SWAPPED_EVERY = 0.2


def main(child: Child, prepared: object) -> int:
    assert isinstance(prepared, Setup)
    return Worker(child, prepared).run()


class Worker:
    __slots__ = (
        "_accepting",
        "_arriving",
        "_child",
        "_evicting",
        "_exit",
        "_finished",
        "_notifier",
        "_reported",
        "_reporting",
        "_sessions",
        "_set_title",
        "_signals",
        "_spread",
        "_swapped",
        "_swapping",
        "_titling",
        "auth",
        "limit",
        "log",
        "loop",
        "proxied",
        "served",
        "setup",
    )

    def __init__(self, child: Child, setup: Setup, auth_address: str = SOCKET) -> None:
        self._child = child
        self.loop = Loop()
        self.log = Log(child.log_fd, buffered=True, debug=setup.view.auth.auth_debug)
        self.setup = setup
        self.limit = child.client_limit
        self.served = 0
        self._arriving: dict[Arrival, None] = {}        # their PROXY header is awaited
        self._sessions: dict[Connection, None] = {}     # not logged in, oldest first
        self.proxied: dict[Proxied, None] = {}
        self._finished: list[Connection] = []
        self._notifier: Notifier | None = None
        self._spread: Spread | None = None
        self._accepting = False
        self._reported = -1
        self._reporting = False
        self._titling = False
        self._exit = False
        self._evicting = False          # the oldest client will have to make room soon
        self._swapped = 0.0             # when the master was last told of that
        self._swapping = False          # one client makes room for another
        self._set_title: Callable[[str], None] | None = _title_setter() if child.verbose_proctitle else None
        self.loop.at_batch_end(self._batch_end)
        self.loop.on_failure = self._failed
        self.auth = AuthClient(self.loop, self.log, self._auth_ready, auth_address)
        setup.begin(self.log, self.auth)
        self.loop.register(child.dead_fd, 0, self._retire)      # EPOLLERR comes unasked

    def run(self) -> int:
        self._signals = Signals(self.loop, {_SIGTERM: self._stop_now, _SIGINT: self._stop_if_idle,
                                            _SIGQUIT: self._retire_quietly, _SIGUSR1: self._notified})
        if self._child.service_count != 1:
            # cycles are broken by hand where sessions end; this only catches what a bug would leave behind
            gc.enable()
            gc.set_threshold(50_000, 20, 100)
            self._take_news()               # a signal may have come too early to be heard
        self.serve()
        return 0

    def serve(self) -> None:
        """Until the work is done."""
        self._listen()
        self._report()
        self.loop.run()
        self.auth.close()
        self.log.flush()

    def _batch_end(self) -> None:
        if self._finished:
            for connection in self._finished:
                connection.let_go()
            self._finished.clear()
        self.log.flush()
        if self._exit and not self._sessions and not self.proxied and not self._arriving:
            self.loop.stop()

    def _failed(self, fd: int, handler: Callable[[int], None] | None, failure: Exception) -> None:
        """A bug of ours costs the session in which it showed, and no other."""
        self.log.write(PANIC, describe(failure))
        owner = getattr(handler, "__self__", None)
        if isinstance(owner, (Connection, Relay, AuthClient, Arrival, Lingering)):
            owner.fail()
        elif fd >= 0 and all(fd != listener.socket.fileno() for listener in self._child.listeners):
            self.loop.unregister(fd)    # the session ends by its timeout

    def _auth_ready(self) -> None:
        for connection in list(self._sessions):
            connection.session.auth_ready()

    # --- clients ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._accepting or self._exit:
            return
        self._accepting = True
        for listener in self._child.listeners:
            self.loop.register(listener.socket.fileno(), IN | EXCLUSIVE, _acceptor(self, listener))

    def _stop_listening(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._child.listeners:
                self.loop.unregister(listener.socket.fileno())

    def accept(self, listener: Listener) -> None:
        """Take one connection, if another worker has not been quicker."""
        free = self._places()
        if free <= 0:
            if not self._make_room():
                return
            free = self._places()
        lsock = listener.socket
        try:
            # the C method under socket.accept(): building the address family enums there costs more than the call
            fd, remote = lsock._accept()  # type: ignore[attr-defined]
        except (BlockingIOError, ConnectionAbortedError):
            self._report()              # someone may have made room for nothing
            return
        except OSError as error:
            self.log.error(f"accept() failed: {error.strerror}")
            self._pause_accepting()
            return
        os.set_blocking(fd, False)
        local = listener.address or _local_address(fd)
        self.served += 1
        connection: Connection | Arrival
        if listener.haproxy:
            connection = Arrival(self, self.setup.policy, fd, remote[:2], local, listener)
            self._arriving[connection] = None
        else:
            connection = self._admit(fd, remote[:2], local, listener)
        if free <= 1 and not (self.limit > 1 and self._is_full()):
            self._stop_listening()
        if free <= 1 or not self._reporting:
            self._report()
        if self._set_title is not None:
            self._retitle()
        connection.begin(implicit_tls=listener.ssl)

    def _admit(self, fd: int, remote: Address, local: Address, listener: Listener) -> Connection:
        setup = self.setup
        if setup.views is not None:
            setup = setup.views(local[0], remote[0])
        connection = Connection(self, fd, setup, remote, local, listener.name)
        self._sessions[connection] = None
        return connection

    def arrived(self, arrival: Arrival, header: Header) -> None:
        """A load balancer has said whom it speaks for."""
        del self._arriving[arrival]
        connection = self._admit(arrival.fd, header.remote or arrival.remote, header.local or arrival.local,
                                 arrival.listener)
        connection.session.behind(header, arrival.remote, arrival.local)
        connection.begin(implicit_tls=arrival.listener.ssl)

    def _pause_accepting(self) -> None:
        """Out of descriptors: a level-triggered listener would spin."""
        self._stop_listening()
        self.loop.call_later(1.0, self._listen_again)

    def _listen_again(self) -> None:
        if self._places() > 0:
            self._listen()

    def proxying(self, connection: Connection, proxied: Proxied) -> None:
        """A client has logged in and is relayed from now on."""
        del self._sessions[connection]
        self._finished.append(connection)
        self.proxied[proxied] = None
        if self._set_title is not None:
            self._retitle()

    def refresh(self, proxied: Proxied, name: str, every: int) -> None:
        """Say now and then that this user is still there."""
        if self._notifier is None:
            self._notifier = Notifier(self.loop, self.log, self.setup.view.login.login_proxy_notify_path)
        self._notifier.add(proxied, name, every)

    def disconnect_delay(self, proxied: Proxied) -> float:
        """Seconds that a client may stay whose backend is gone."""
        longest = proxied.setup.policy.disconnect_delay
        if not longest:
            return 0.0
        if self._spread is None:
            self._spread = Spread()
        backend = proxied.backend
        return self._spread.delay(backend, self.loop.now, longest, lambda: sum(
            isinstance(one.relay, Relay) and one.backend == backend for one in self.proxied if not one.lent))

    def ended(self, what: Connection | Proxied | Arrival) -> None:
        """A client is gone."""
        if isinstance(what, Proxied):
            self.proxied.pop(what, None)
            if self._notifier is not None:
                self._notifier.remove(what)
        elif isinstance(what, Arrival):
            self._arriving.pop(what, None)
        elif self._sessions.pop(what, self) is None:
            self._finished.append(what)
        if not self._accepting and self._places() > 0:
            self._listen()
        if not self._reporting or self._reported == 0:
            self._report()
        if self._set_title is not None:
            self._retitle()
        count = self._child.service_count
        if count and self.served >= count:
            self._exit = True           # checked again when the batch ends

    def _places(self) -> int:
        """How many more clients may come now."""
        if self._exit:
            return 0
        free = self.limit - len(self._sessions) - len(self.proxied) - len(self._arriving)
        count = self._child.service_count
        return min(free, count - self.served) if count else free

    # --- reports ---------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """At once between none and some; otherwise soon."""
        free = max(self._places(), 0)
        if free == self._reported or self._swapping:
            return
        if self._reported < 0 or (free == 0) != (self._reported == 0):
            self._reported = free
            self._child.report(free)
        elif not self._reporting:
            self._reporting = True
            self.loop.call_later(REPORT_EVERY, self._report_late)

    def _report_late(self) -> None:
        self._reporting = False
        free = max(self._places(), 0)
        if free != self._reported:
            self._reported = free
            self._child.report(free)

    def _retitle(self) -> None:
        if not self._titling:
            self._titling = True
            self.loop.call_later(TITLE_EVERY if len(self._sessions) + len(self.proxied) > 1 else 0, self._title)

    def _title(self) -> None:
        self._titling = False
        waiting, proxied = len(self._sessions), len(self.proxied)
        text = ""
        if waiting + proxied == 1:
            for connection in self._sessions:
                text = f" [{connection.session.rip} pre-login]"
            for session in self.proxied:
                text = f" [{session.rip} {'TLS proxy' if session.lent else 'proxy'}]"
        elif waiting + proxied:
            lent = sum(session.lent for session in self.proxied)
            text = f" [{waiting} pre-login + {proxied - lent} proxies{f' + {lent} TLS proxies' if lent else ''}]"
        assert self._set_title is not None
        self._set_title(self._child.title + text)

    # --- full ------------------------------------------------------------------------------------------------------

    def _notified(self) -> None:
        """USR1: the master has renewed certificates, or says whether the service is full."""
        count = self._child.service_count
        if not self._exit and not (count and self.served >= count):
            self._take_news()
        self._look_if_full()

    def _take_news(self) -> None:
        for problem in self.setup.keeper.catch_up(self._child.notify_fd):
            self.log.error(problem)

    def _look_if_full(self) -> None:
        if self._places() > 0 or not self._is_full():
            return
        count = self._child.service_count
        if self.limit > 1 and not (count and self.served >= count):
            self._listen()              # a waiting connection makes room in `accept`
            return
        # nobody can take a place here any more: the end of this process makes room for another
        oldest = next(iter(self._sessions), None)
        if oldest is not None and not self._evicting:
            self._evicting = True
            age = min(self.loop.now - oldest.session.created, 10.0)
            self.loop.call_later(EVICT_WAIT * (1 - age / 10) + time.time_ns() % 100 / 10_000, self._evict_if_full)

    def _is_full(self) -> bool:
        return self._child.notify_fd >= 0 and os.lseek(self._child.notify_fd, 0, os.SEEK_CUR) == 1

    def _evict_if_full(self) -> None:
        self._evicting = False
        if self._is_full() and self._evict():
            self._child.report(0)       # there is no place yet, but there will be

    def _make_room(self) -> bool:
        """Someone waits and we are full: may he come in?"""
        if self._exit or not self._is_full():
            self._stop_listening()
            return False
        # the place is taken at once: a report of it would end the full state, and with it the making of room, for the
        # two seconds until the master's next signal; a crowd of silent clients would keep everybody out
        self._swapping = True
        evicted = self._evict()
        self._swapping = False
        if not evicted or self._places() <= 0:
            self._stop_listening()
            return False
        if self.loop.now - self._swapped >= SAY_SWAPPED_EVERY:
            self._swapped = self.loop.now
            self._child.report(0)       # the service is full, but whoever waits will be let in
        return True

    def _evict(self) -> bool:
        for connection in self._sessions:
            if connection.session.state != HANDOFF:     # as good as logged in
                connection.session.close("Connection queue full", "Connection queue full")
                return True
        return False

    # --- the end ---------------------------------------------------------------------------------------------------

    def _retire(self, mask: int) -> None:
        """The master closed its end: a newer generation serves from now on, or the master is gone."""
        self.loop.unregister(self._child.dead_fd)
        self._retire_quietly()
        if self._child.cut_on_retire:
            self._cut_idle()
            self.loop.call_later(IDLE_CUT, lambda: self._cut_all(also_lent=False))

    def _retire_quietly(self) -> None:
        self._stop_listening()
        for listener in self._child.listeners:
            listener.socket.close()
        self._exit = True
        self._report()

    def _stop_if_idle(self) -> None:
        if not self._sessions and not self.proxied and not self._arriving:
            self._stop_listening()
            self._exit = True

    def _stop_now(self) -> None:
        """TERM: everybody goes."""
        self._retire_quietly()
        for arrival in list(self._arriving):
            arrival.close()
        for connection in list(self._sessions):
            connection.session.close("Shutting down", "Shutting down")
        self._cut_all()

    def _cut_idle(self) -> None:
        for session in list(self.proxied):
            if not session.lent and self.loop.now - session.relay.last >= IDLE_CUT:
                session.cut("Process shutting down")

    def _cut_all(self, *, also_lent: bool = True) -> None:
        """Those whom a mail process serves end with it, and are told so by it."""
        for session in list(self.proxied):
            if also_lent or not session.lent:
                session.cut("Process shutting down")


def _local_address(fd: int) -> tuple[str, int]:
    with borrowed(fd) as sock:
        return sock.getsockname()[:2]  # type: ignore[no-any-return]


def _acceptor(worker: Worker, listener: Listener) -> Callable[[int], None]:
    return lambda mask: worker.accept(listener)


def _title_setter() -> Callable[[str], None] | None:
    try:
        from setproctitle import setproctitle
    except ImportError:                 # the master has said so
        return None
    return setproctitle
