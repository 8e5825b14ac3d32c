"""The listening sockets: made once in the master, inherited by every child.

In: the listener sections of a service, and sockets that a service manager has opened for us.  Out: bound, non-blocking
sockets.  A reload keeps those whose address is still wanted, so no connection is refused and none is lost.
A FIFO is held as if it were a socket: it is watched, inherited and closed like one.  Only programs get one.
It must not know what is spoken on a socket.
"""
from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mailproxy.errors import ConfigInvalid, MailproxyError, Problem
from mailproxy.ipc.contract import Listener
from mailproxy.master.identity import group_id, user_id

_MIN_BACKLOG = 4
_MAX_BACKLOG = 65535
#: Connections thrown away at once, so that a flood cannot keep the master busy.
_MAX_DROPS = 1000
_DROP_SIZE = 65536
_WILDCARDS = {"*": "0.0.0.0", "::": "::", "[::]": "::"}
INET, UNIX, FIFO = "inet", "unix", "fifo"
#: Kind of a socket whose file was removed; its key has no path, so that ending it leaves the new file alone.
GONE = "gone"

Key = tuple[str, ...]


def _somaxconn() -> int:
    try:
        with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return _MAX_BACKLOG


class Fifo:
    """The descriptor of a FIFO with as much of a socket as its holders need."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)


@dataclass(slots=True)
class Sockets:
    """All listening sockets of the master by what they are bound to.  One is in use by the newest generation only.

    `lent`: sockets of a service manager that is still to be asked for; `borrowed`: keys of those in use."""

    held: dict[Key, Any] = field(default_factory=dict)
    lent: list[socket.socket] = field(default_factory=list)
    borrowed: set[Key] = field(default_factory=set)

    def retain(self, wanted: set[Key]) -> list[Callable[[], None]]:
        """Let go of all sockets but these.  Returns what ends each, to be called when nobody is served there."""
        return [self.release(key) for key in list(self.held) if key not in wanted]

    def release(self, key: Key) -> Callable[[], None]:
        """Let go of one, a file at once; returns what ends the socket."""
        sock = self.held.pop(key)
        if key[0] in (UNIX, FIFO):
            with contextlib.suppress(OSError):      # removed by hand
                os.unlink(key[1])
        owned = key[0] == INET and key not in self.borrowed
        self.borrowed.discard(key)
        return lambda: end_listening(sock, owned=owned)

    def borrow(self, family: int, host: str, port: int) -> socket.socket | None:
        """A lent socket with this address, or else with this port."""
        rows = [(sock, sock.getsockname()) for sock in self.lent if sock.family == family]
        for fits in ([sock for sock, name in rows if name[:2] == (host, port)],
                     [sock for sock, name in rows if name[1] == port]):
            if fits:
                self.lent.remove(fits[0])
                self.borrowed.add((INET, host, str(port)))
                return fits[0]
        return None

    def return_lent(self) -> list[str]:
        """Close what nobody has asked for; texts about it."""
        texts = []
        for sock in self.lent:
            name = sock.getsockname()
            where = f"port {name[1]}" if sock.family in (socket.AF_INET, socket.AF_INET6) else str(name)
            texts.append(f"systemd listens on {where}, but it's not configured in mailproxy. Closing.")
            sock.close()
        self.lent.clear()
        return texts


@dataclass(slots=True)
class Opening:
    """One pass over the configuration: opens what is new, notes what is kept, collects what fails."""

    sockets: Sockets
    base_dir: str
    ssl_enabled: bool
    wanted: set[Key] = field(default_factory=set)
    fresh: list[Key] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)       # those of them about ports that somebody else has
    warnings: list[str] = field(default_factory=list)

    def service(self, service: Any, backlog: int, *, fifos: bool = False) -> tuple[Listener, ...]:
        """The listeners of one service, in configuration order; failures go to `errors`."""
        backlog = max(_MIN_BACKLOG, min(backlog, _somaxconn(), _MAX_BACKLOG))
        found: list[Listener] = []
        for unix in service.unix_listeners:
            if unix.mode:
                found += self._file(service, unix, UNIX, backlog)
        for fifo in service.fifo_listeners if fifos else ():
            if fifo.mode:
                found += self._file(service, fifo, FIFO, backlog)
        for inet in service.inet_listeners:
            if inet.port and not (inet.ssl and not self.ssl_enabled):
                for address in inet.addresses:
                    found += self._inet(service, inet, address, backlog)
        return tuple(found)

    def give_up(self) -> None:
        """Close what this pass opened."""
        for key in self.fresh:
            opened = self.sockets.held.pop(key, None)
            if opened is not None:
                opened.close()

    # --- inet -------------------------------------------------------------------------------------------------------

    def _inet(self, service: Any, inet: Any, address: str, backlog: int) -> list[Listener]:
        found = []
        for family, host in resolve(address):
            key: Key = (INET, host, str(inet.port))
            if key in self.wanted:          # one host name twice, or two names of one address
                continue
            sock = self.sockets.held.get(key)
            if sock is None:
                try:
                    sock = self.sockets.borrow(family, host, inet.port)
                    if sock is None:
                        sock = bind_inet(family, host, inet.port, reuse_port=inet.reuse_port)
                        sock.listen(backlog)
                except OSError as failure:
                    self._inet_failed(service, address, inet.port, family, failure)
                    continue
                self.sockets.held[key] = sock
                self.fresh.append(key)
            elif key not in self.sockets.borrowed:
                sock.listen(backlog)        # a reload may have changed it, and this, which stays once it is on
                if inet.reuse_port:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self.wanted.add(key)
            bound = None if host in ("0.0.0.0", "::") else (host, sock.getsockname()[1])
            found.append(Listener(inet.name, INET, sock, inet.ssl, inet.haproxy, bound))
        return found

    def _inet_failed(self, service: Any, address: str, port: int, family: int, failure: OSError) -> None:
        if failure.errno == errno.EAFNOSUPPORT and family == socket.AF_INET6 and address == "::":
            self.warnings.append(f"service({service.name}): IPv6 is not available, not listening on ::")
        elif failure.errno == errno.EADDRINUSE:
            self.busy.append(f"service({service.name}): listen({address}, {port}) failed: {failure.strerror}")
            self.errors.append(self.busy[-1])
        else:
            self.errors.append(f"bind({address}, {port}) failed: {failure.strerror}")

    # --- files ------------------------------------------------------------------------------------------------------

    def _file(self, service: Any, row: Any, kind: str, backlog: int) -> list[Listener]:
        path = os.path.join(self.base_dir, row.path)
        key: Key = (kind, path)
        if key in self.wanted:
            self.errors.append(f"duplicate listener: {path}")
            return []
        owner = self._owner(service, row, kind)
        sock: Any = self.sockets.held.get(key)
        try:
            if sock is None or not os.path.exists(path):
                if sock is not None:        # somebody removed the file; who waits there already is still served
                    self.sockets.held[GONE, "", path] = sock
                trusted = path.startswith(self.base_dir + "/")
                sock = open_fifo(path) if kind == FIFO else bind_unix(path, trusted=trusted)
                if kind == UNIX:
                    sock.listen(backlog)
                self.sockets.held[key] = sock
                self.fresh.append(key)
            if owner != (-1, -1):
                os.chown(path, *owner)
            os.chmod(path, row.mode)
        except OSError as failure:
            self.errors.append(f"service({service.name}): listen({path}) failed: {failure.strerror or failure}")
            return []
        except MailproxyError as failure:
            self.errors.append(f"service({service.name}): {failure}")
            return []
        self.wanted.add(key)
        return [Listener(row.path, kind, sock)]

    @staticmethod
    def _owner(service: Any, row: Any, kind: str) -> tuple[int, int]:
        if os.geteuid() != 0:
            return -1, -1
        where = f"(See service {service.name} {{ {kind}_listener {row.path} {{"
        uid = gid = -1
        if row.user:
            uid, _ = user_id(row.user, f"service({service.name}) User doesn't exist: {row.user} "
                                       f"{where} user }} }} setting)")
        if row.group:
            gid = group_id(row.group, f"service({service.name}) Group doesn't exist: {row.group} "
                                      f"{where} group }} }} setting)")
        return uid, gid


def resolve(address: str) -> list[tuple[int, str]]:
    """Family and numeric form of everything that an address of the configuration stands for."""
    name = _WILDCARDS.get(address, address.strip("[]"))
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as failure:
        reason = failure.strerror if isinstance(failure, socket.gaierror) else "Name or service not known"
        raise ConfigInvalid([Problem("", 0, f"Can't resolve address {address}: {reason}")]) from None
    return [(int(row[0]), str(row[4][0])) for row in rows]


def bind_inet(family: int, host: str, port: int, *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)    # accepted connections inherit it
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def bind_unix(path: str, *, trusted: bool) -> socket.socket:
    """Bind to a path, in place of a stale socket.  `trusted`: the path lies where only we may listen (the pid file's
    lock says so), hence whatever is there is stale; elsewhere a socket that answers belongs to somebody."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        there = None
    if there is not None:
        if not stat.S_ISSOCK(there.st_mode):
            raise MailproxyError(f"listen({path}) failed: File exists and is no socket")
        if not trusted and _answers(path):
            raise MailproxyError(f"Socket already exists: {path}")
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def open_fifo(path: str) -> Fifo:
    """A FIFO that never reads as ended, since we hold it open for writing, too."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            raise MailproxyError(f"mkfifo({path}) failed: File exists and is no FIFO")
        os.unlink(path)
    os.mkfifo(path, 0o600)
    return Fifo(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW))


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def drop_pending(listeners: tuple[Listener, ...], farewell: bytes = b"") -> None:
    """Accept and close what waits: better than silence.  `farewell`: what its role has to say to clients in the clear;
    only they understand it."""
    for listener in listeners:
        for _ in range(_MAX_DROPS):
            try:
                if listener.kind == FIFO:
                    os.read(listener.socket.fileno(), _DROP_SIZE)
                else:
                    connection = listener.socket.accept()[0]
                    with connection:
                        if farewell and listener.kind == INET and not (listener.ssl or listener.haproxy):
                            connection.send(farewell, socket.MSG_DONTWAIT)
            except OSError:         # nothing more, or a connection that is gone already
                break


def end_listening(sock: Any, *, owned: bool) -> None:
    """Free an address at once, even while retiring children still hold a copy of the socket.  `owned`: it has an
    address, and no service manager goes on listening there."""
    if owned:
        with contextlib.suppress(OSError):          # it was not listening
            sock.shutdown(socket.SHUT_RDWR)
    sock.close()
