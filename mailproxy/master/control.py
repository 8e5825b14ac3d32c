"""The master's control socket: base_dir/master, for mpadm.

In: lines `VERSION<TAB>master-client<TAB>1<TAB>0`, then SERVICE-STATUS [names], PROCESS-STATUS [names], STOP name.
Out: rows of tab-separated columns ended by an empty line; `+` or `-reason` for STOP.  The file's mode (0600) is the
only authentication.
Limits: _MAX_CLIENTS connections, _MAX_INPUT bytes of input, _MAX_OUTPUT bytes of replies that nobody reads.
"""
from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from mailproxy.log.pipe import sanitise
from mailproxy.master.listen import bind_unix
from mailproxy.master.service import Policy, Process, State
from mailproxy.net.loop import IN, OUT, Loop

NAME = "master"
_MAX_CLIENTS = 16
_MAX_INPUT = 8192
_MAX_OUTPUT = 16 * 1024 * 1024
_HELLO = "VERSION\tmaster-server\t1\t0"


class Subject(Protocol):
    """What the control socket asks of the master."""

    def policies(self) -> Iterable[Policy]: ...

    def stop_service(self, name: str) -> bool: ...


class Control:
    """The listening socket."""

    __slots__ = ("_clients", "_loop", "_path", "_socket", "_subject")

    def __init__(self, base_dir: str, loop: Loop, subject: Subject) -> None:
        self._path = os.path.join(base_dir, NAME)
        self._socket = bind_unix(self._path, trusted=True)
        os.chmod(self._path, 0o600)
        self._socket.listen(_MAX_CLIENTS)
        self._loop = loop
        self._subject = subject
        self._clients: set[_Client] = set()
        loop.register(self._socket.fileno(), IN, self._accept)

    def close(self) -> None:
        self._loop.unregister(self._socket.fileno())
        self._socket.close()
        for client in list(self._clients):
            client.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:       # removed by hand
            return

    def _accept(self, mask: int) -> None:
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError:                 # out of descriptors; whoever asks waits, or gives up
            self._loop.rest(self._socket.fileno(), IN)
            return
        if len(self._clients) >= _MAX_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        self._clients.add(_Client(connection, self._loop, self._subject, self._clients.discard))


class _Client:
    """One connection."""

    __slots__ = ("_greeted", "_input", "_loop", "_output", "_socket", "_subject", "_when_closed")

    def __init__(self, connection: socket.socket, loop: Loop, subject: Subject,
                 when_closed: Callable[[_Client], None]) -> None:
        self._socket = connection
        self._loop = loop
        self._subject = subject
        self._when_closed = when_closed
        self._input = b""
        self._output = b""
        self._greeted = False
        loop.register(connection.fileno(), IN, self._ready)
        self._send(_HELLO + "\n")

    def close(self) -> None:
        self._loop.unregister(self._socket.fileno())
        self._socket.close()
        self._when_closed(self)

    def _ready(self, mask: int) -> None:
        if mask & OUT:
            self._send("")
        try:
            data = self._socket.recv(_MAX_INPUT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._input += data
        if not data or len(self._input) > _MAX_INPUT:
            self.close()
            return
        *lines, self._input = self._input.split(b"\n")
        for line in lines:
            if not self._line(line.decode("utf-8", "replace")):
                self.close()
                return

    def _line(self, line: str) -> bool:
        """False: the connection is not worth keeping."""
        command, *words = line.rstrip("\r").split("\t")
        if not self._greeted:
            self._greeted = command == "VERSION" and words[:2] == ["master-client", "1"]
            return self._greeted
        if command == "SERVICE-STATUS":
            return self._send(table(service_row(policy) for policy in self._wanted(words)))
        if command == "PROCESS-STATUS":
            return self._send(table(process_row(policy.rules.name, process) for policy in self._wanted(words)
                                    for process in policy.processes.values()))
        if command == "STOP" and len(words) == 1:
            return self._send("+\n" if self._subject.stop_service(words[0]) else f"-Unknown service: {words[0]}\n")
        return self._send(f"-Unknown command: {sanitise(command)}\n")

    def _wanted(self, names: list[str]) -> list[Policy]:
        return [policy for policy in self._subject.policies() if not names or policy.rules.name in names]

    def _send(self, text: str) -> bool:
        self._output += text.encode("utf-8", "replace")
        try:
            self._output = self._output[self._socket.send(self._output):] if self._output else b""
        except BlockingIOError:
            pass                        # the rest goes out when the reader has read
        except OSError:
            return False
        self._loop.modify(self._socket.fileno(), IN | OUT if self._output else IN)
        return len(self._output) <= _MAX_OUTPUT


def table(rows: Iterable[list[str]]) -> str:
    return "".join("\t".join(map(sanitise, row)) + "\n" for row in rows) + "\n"


def service_row(policy: Policy) -> list[str]:
    """name, process_count, process_avail, process_limit, client_limit, throttle_secs, exit_failure_last,
    exit_failures_in_sec, last_drop_warning, listen_pending, listening, doveadm_stop, process_total"""
    rules = policy.rules
    throttled = policy.throttle if policy.state is State.THROTTLED else 0
    pending = policy.state in (State.FULL, State.LOOKING)
    numbers = (len(policy.processes), policy.available, rules.process_limit, rules.client_limit, int(throttled),
               wall(policy.last_failure), policy.failures, wall(policy.last_drop))
    flags = (pending, policy.watching, policy.by_admin)
    return [rules.name, *map(str, numbers), *("y" if flag else "n" for flag in flags), str(policy.started)]


def process_row(name: str, process: Process) -> list[str]:
    """name, pid, available_count, total_count, idle_start, last_status_update, last_kill_sent"""
    return [name, str(process.pid), str(process.available), str(process.total), str(wall(process.idle_since)),
            str(wall(process.last_status)), str(wall(process.last_kill))]


def wall(moment: float) -> int:
    """A moment of the loop's clock in Unix seconds; 0 stays 0."""
    return int(time.time() - (time.monotonic() - moment)) if moment else 0
