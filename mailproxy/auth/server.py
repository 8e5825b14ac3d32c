"""The auth process: listeners, plans per protocol, what all connections share.

Listeners are told apart by the last word of their names: `login` sockets are for login processes, `master` and
`userdb` for lookups, `token` and `tokenlogin` are refused for now, everything else is an ordinary client socket.
"""
from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mailproxy.auth.cache import Cache
from mailproxy.auth.chain import Plan
from mailproxy.auth.client import Client
from mailproxy.auth.failures import FailureQueue
from mailproxy.auth.journal import Journal
from mailproxy.auth.master import Master
from mailproxy.auth.penalty import Penalty
from mailproxy.auth.proxying import Proxying
from mailproxy.auth.request import Request
from mailproxy.auth.resolver import Resolver
from mailproxy.auth.userchain import UserPlan
from mailproxy.auth.workers import Pool
from mailproxy.ipc.contract import Child, Listener
from mailproxy.log.pipe import Log
from mailproxy.net.loop import IN, Loop, quiet_close
from mailproxy.sasl import FLAGS

if TYPE_CHECKING:
    from mailproxy.auth.policy import Policy

#: Connections taken from a listener at once.
_ACCEPT_BATCH = 32
_MASTERS = frozenset(("master", "userdb"))
_REFUSED = frozenset(("token", "tokenlogin"))
#: Seconds that a refused connection may stay.
_REFUSAL_TIME = 5.0


def role_of(name: str) -> str:
    """The word behind the last dash of a socket's base name."""
    return name.rpartition("/")[2].rpartition("-")[2]


class Server:
    __slots__ = ("_accepting", "_child", "_clients", "_connections", "_pids", "_user_plans", "cache", "default_plan",
                 "dirty", "failures", "journal", "log", "loop", "mech_lines", "mechanisms", "penalty", "pid", "plans",
                 "plans_by_parameter", "policy", "pool", "proxying", "resolver", "started", "tracing")

    def __init__(self, loop: Loop, log: Log, journal: Journal, plans: dict[str, Plan],
                 user_plans: dict[str, UserPlan], child: Child, pool: Pool, cache: Cache | None) -> None:
        self.loop = loop
        self.log = log
        self.journal = journal
        self.plans = plans
        self.default_plan = default_plan = plans[""]
        self._user_plans = {id(plan): user_plans[name] for name, plan in plans.items()}
        self.pool = pool
        self.cache = cache
        self.plans_by_parameter = {f"service={name}": plan for name, plan in plans.items() if name}
        self.tracing = journal.debug
        self.pid = os.getpid()
        self.started = time.time()
        settings: Any = default_plan.settings
        names = [name.upper() for name in settings.auth_mechanisms]
        self.mechanisms = frozenset(names)
        self.mech_lines = "".join("\t".join(("MECH", name, *FLAGS[name])) + "\n" for name in names)
        self.failures = FailureQueue(loop)
        self.penalty: Penalty | None = None
        self.policy: Policy | None = None
        self.resolver = Resolver(loop)
        self.proxying = Proxying(journal, self.resolver, settings.auth_proxy_self)
        self.dirty: list[Client] = []
        self._child = child
        self._clients: set[Client] = set()
        self._pids: dict[int, Client] = {}
        self._connections = 0
        self._accepting = False
        loop.at_batch_end(self._flush)

    def listen(self, listeners: Iterable[Listener]) -> None:
        self._accepting = True
        for listener in listeners:
            self.loop.register(listener.socket.fileno(), IN, _Acceptor(self, listener))

    def stop_listening(self, listeners: Iterable[Listener]) -> None:
        """Take no more connections; those that are there stay."""
        self._accepting = False
        for listener in listeners:
            self.loop.unregister(listener.socket.fileno())
            quiet_close(listener.socket)
        self._child.report(0)

    @property
    def idle(self) -> bool:
        return not self._clients

    def accept(self, listener: Listener) -> None:
        role = role_of(listener.name)
        for _ in range(_ACCEPT_BATCH):
            try:
                connection, _peer = listener.socket.accept()
            except BlockingIOError:
                break
            except OSError as error:
                self.log.error(f"accept({listener.name}) failed: {error.strerror}")
                self.loop.rest(listener.socket.fileno(), IN)
                break
            connection.setblocking(False)
            if role in _REFUSED:
                self._refuse(connection, listener.name)
                continue
            if len(self._clients) >= self._child.client_limit:
                self.log.warning(f"client_limit ({self._child.client_limit}) reached, client connection is dropped")
                quiet_close(connection)
                continue
            self._connections += 1
            if role in _MASTERS:
                path = listener.socket.getsockname()
                Master(self, connection, self._connections, path, role == "master")
            else:
                Client(self, connection, role == "login", self._connections)
        self._report()

    def _refuse(self, connection: socket.socket, name: str) -> None:
        """Tokens do not exist yet: say so to the peer and to the log."""
        self.log.error(f"connection to {name} refused: lookups over this socket are not supported")
        try:
            connection.send(f"VERSION\t1\t1\nSPID\t{self.pid}\nFAIL\t0\treason=Lookups are not supported\n".encode())
        except OSError as error:
            self.log.error(f"send({name}) failed: {error.strerror}")
        quiet_close(connection)

    def user_plan(self, request: Request) -> UserPlan:
        """The userdbs that belong to the request's passdbs."""
        return self._user_plans[id(request.plan)]

    def login_process(self, pid: int) -> Client | None:
        return self._pids.get(pid)

    def claim(self, pid: int, client: Client) -> bool:
        """A login process' pid belongs to one connection."""
        return self._pids.setdefault(pid, client) is client

    def joined(self, client: Client) -> None:
        """Called before the first byte is sent to it: a peer that is gone already is closed while it is made."""
        self._clients.add(client)

    def closed(self, client: Client) -> None:
        self._clients.discard(client)
        if self._pids.get(client.pid) is client:
            del self._pids[client.pid]
        if self._accepting:
            self._report()
        elif not self._clients:
            self.loop.stop()

    def _report(self) -> None:
        self._child.report(max(self._child.client_limit - len(self._clients), 0))

    def _flush(self) -> None:
        if self.dirty:
            dirty, self.dirty = self.dirty, []
            for client in dirty:
                client.flush()
        self.log.flush()

    def shut_down(self) -> None:
        """Answer what waits, then let go."""
        self.failures.flush()
        self._flush()
        if self.penalty is not None:
            self.penalty.close()
        for client in list(self._clients):
            client.close("")

    # -- auth_debug -----------------------------------------------------------------------------------------------

    def trace_in(self, pid: int, parts: list[str]) -> None:
        shown = [part if self.journal.passwords or not part.startswith("resp=") else "resp=<hidden>"
                 for part in parts]
        self.log.debug("client in: " + "\t".join(shown))

    def trace_out(self, line: str) -> None:
        shown = [part if self.journal.passwords or not part.startswith(("pass=", "resp=", "token="))
                 else part.partition("=")[0] + "=<hidden>" for part in line.split("\t")]
        self.log.debug("client passdb out: " + "\t".join(shown))


class _Acceptor:
    __slots__ = ("_listener", "_server")

    def __init__(self, server: Server, listener: Listener) -> None:
        self._server = server
        self._listener = listener

    def __call__(self, _mask: int) -> None:
        self._server.accept(self._listener)
