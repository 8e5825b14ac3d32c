"""ROLE auth-worker: asks blocking databases for auth, one request at a time per connection.

In: connections of the auth process.  Out: answers.  A query blocks this process and nobody else.
"""
from __future__ import annotations

import gc
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mailproxy.auth import outcome, workerwire
from mailproxy.auth.passdb.driver import failure, open_driver
from mailproxy.auth.schemes import SchemeError, held, verify
from mailproxy.auth.sections import Section
from mailproxy.auth.setup import Setup, build
from mailproxy.auth.userdb.driver import ListingFailed
from mailproxy.auth.usersections import UserSection
from mailproxy.errors import DriverMissing, ProtocolError
from mailproxy.ipc.authwire import Lines, encode, escape, unescape
from mailproxy.ipc.contract import Child, Listener
from mailproxy.log.pipe import Log
from mailproxy.net.loop import ERR, HUP, IN, Loop, quiet_close
from mailproxy.net.signals import Signals
from mailproxy.sasl.mechanism import to_text

if TYPE_CHECKING:
    from mailproxy.auth.policy import Asker

_READ = 65536
#: A peer that does not take one answer within this many seconds is gone.
_SEND_TIMEOUT = 30.0
#: Names of a list that are sent at once.
_LIST_BATCH = 256


def prepare(conf: Any, service: Any) -> Setup:
    return build(conf)


class _Connection:
    __slots__ = ("_lines", "_socket", "_state", "_worker")

    def __init__(self, worker: _Worker, connection: socket.socket) -> None:
        self._worker = worker
        self._socket = connection
        self._lines = Lines(workerwire.MAX_LINE)
        self._state: Callable[[str, Callable[[str], None]], str | None] = self._hello
        connection.settimeout(_SEND_TIMEOUT)
        worker.loop.register(connection.fileno(), IN, self._ready)
        self._send(workerwire.HELLO)

    def _send(self, line: str) -> None:
        try:
            self._socket.sendall(encode(line) + b"\n")
        except OSError:
            self.close()

    def _ready(self, _mask: int) -> None:
        try:
            data = self._socket.recv(_READ, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for line in self._lines.feed(data):
                reply = self._state(line, self._send)
                if reply:
                    self._send(reply)
                if self._worker.worn:
                    self._worker.retire()
                    self.close()
                if self._socket.fileno() < 0:
                    return
        except ProtocolError as error:
            self._worker.log.error(f"auth process {error}")
            self.close()

    def _hello(self, line: str, _send: Callable[[str], None]) -> str | None:
        if line != workerwire.HELLO:
            raise ProtocolError(f"sent an unknown version: {line[:100]}")
        self._state = self._hash
        return None

    def _hash(self, line: str, _send: Callable[[str], None]) -> str | None:
        if line != f"DBHASH\t{self._worker.fingerprint}":
            raise ProtocolError("sees different passdbs than we do")
        self._state = self._worker.answer
        return None

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._worker.loop.unregister(self._socket.fileno())
            quiet_close(self._socket)
            self._worker.closed(self)


class _Worker:
    __slots__ = ("_accepting", "_asker", "_child", "_connections", "_sections", "_served", "_user_sections", "_uses",
                 "fingerprint", "log", "loop", "worn")

    def __init__(self, child: Child, setup: Setup, log: Log, loop: Loop) -> None:
        self._child = child
        self._sections: dict[int, Section] = {section.number: section for section in setup.sections}
        self._user_sections: dict[int, UserSection] = {section.number: section for section in setup.user_sections}
        view = setup.protocols[""][0]
        self._asker: Asker | None = None
        if view.auth_policy_server_url:
            from mailproxy.auth.policy import Asker  # imported already, by setup in the master
            self._asker = Asker(view, time.monotonic)
        self.fingerprint = setup.fingerprint
        self.log = log
        self.loop = loop
        self._connections: set[_Connection] = set()
        self._served = 0
        self._accepting = True
        self._uses: dict[int, int] = {}
        self.worn = False                       # a driver has had all the lookups that one process is good for
        for listener in child.listeners:
            loop.register(listener.socket.fileno(), IN, self._acceptor(listener))
        self._report()

    def _acceptor(self, listener: Listener) -> Callable[[int], None]:
        return lambda _mask: self._accept(listener)

    @property
    def idle(self) -> bool:
        return not self._connections

    def _report(self) -> None:
        free = self._child.client_limit - len(self._connections)
        if self._child.service_count:
            free = min(free, self._child.service_count - self._served)
        self._child.report(max(free, 0) if self._accepting else 0)
        if free <= 0 and self._accepting:
            for listener in self._child.listeners:
                self.loop.unregister(listener.socket.fileno())
            self._accepting = False

    def _accept(self, listener: Listener) -> None:
        try:
            connection, _peer = listener.socket.accept()
        except OSError:                     # another worker was quicker
            return
        self._served += 1
        self._connections.add(_Connection(self, connection))
        self._report()

    def closed(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        retired = bool(self._child.service_count) and self._served >= self._child.service_count
        if not self._connections and (retired or self._child.dead_fd < 0):
            self.loop.stop()
        elif not self._accepting and not retired:
            self._accepting = True
            for listener in self._child.listeners:
                self.loop.register(listener.socket.fileno(), IN, self._acceptor(listener))
            self._report()

    def retire(self) -> None:
        """The master wants no more from us: finish what is there."""
        if self._accepting:
            for listener in self._child.listeners:
                self.loop.unregister(listener.socket.fileno())
        self._accepting = False
        self._child.service_count = max(self._served, 1)
        self._served = self._child.service_count
        self._child.report(0)
        if not self._connections:
            self.loop.stop()

    def answer(self, line: str, send: Callable[[str], None]) -> str | None:
        number, command, *fields = [*line.split("\t"), ""][:-1] if "\t" in line else ("", "")
        if command == "PASSV" and len(fields) >= 3:
            return self._look_up(number, fields)
        if command == "PASSW" and len(fields) >= 3:
            right, complaint = _compare(unescape(fields[1]), unescape(fields[0]), unescape(fields[2]))
            verdict = "" if right is None else "1" if right else "0"
            return f"{number}\t{verdict}\t{escape(complaint)}"
        if command == "USER" and fields:
            return self._look_up_user(number, fields)
        if command == "LIST" and fields:
            return self._list(number, fields, send)
        if command == "POLICY" and len(fields) >= 2 and self._asker is not None:
            status, message, error = self._asker.ask(fields[0], unescape(fields[1]))
            return f"{number}\t{status}\t{escape(message)}\t{escape(error)}"
        if command == "MAKE" and len(fields) >= 4:
            return _make(number, *map(unescape, fields[:4]))
        if command == "SETCRED" and len(fields) >= 2:
            return f"{number}\t{escape(self._replace(fields))}"
        raise ProtocolError(f"sent unknown command: {command[:50]}")

    def _replace(self, fields: list[str]) -> str:
        section = self._sections.get(int(fields[0]) if fields[0].isdecimal() else 0)
        update = getattr(section.driver, "update", None) if section is not None else None
        if update is None:
            return "passdb doesn't support credential updates"
        return str(update(_Values({**workerwire.pairs(fields[2:]), "password": unescape(fields[1])})))

    def _look_up(self, number: str, fields: list[str]) -> str:
        section = self._sections.get(int(fields[0]) if fields[0].isdecimal() else 0)
        values = _Values(workerwire.pairs(fields[3:]))
        if section is None:
            return workerwire.answer_line(number, failure(f"no passdb {fields[0]}"))
        check, password = fields[1] == "1", unescape(fields[2])
        if section.verify is not None and check:
            answer = section.verify(values, password)
            self._wear(section)
            if answer.result == outcome.OK and answer.verdict is None:
                answer.verdict = True
        else:
            answer = section.driver.lookup(values)
        if check and answer.result == outcome.OK and answer.password is not None:
            answer.verdict, answer.complaint = _compare(answer.password, password, values["orig_user"])
        return (workerwire.RESTART + "\n" if self.worn else "") + workerwire.answer_line(number, answer)

    def _wear(self, section: Section) -> None:
        if section.max_requests:
            self._uses[section.number] = uses = self._uses.get(section.number, 0) + 1
            self.worn = self.worn or uses >= section.max_requests

    def _look_up_user(self, number: str, fields: list[str]) -> str:
        section = self._user_sections.get(int(fields[0]) if fields[0].isdecimal() else 0)
        if section is None:
            return workerwire.answer_line(number, failure(f"no userdb {fields[0]}"))
        return workerwire.answer_line(number, section.driver.lookup(_Values(workerwire.pairs(fields[1:]))))

    def _list(self, number: str, fields: list[str], send: Callable[[str], None]) -> str:
        """Names leave in batches: a list may be longer than memory."""
        section = self._user_sections.get(int(fields[0]) if fields[0].isdecimal() else 0)
        if section is None:
            return f"{number}\t0\t{escape(f'no userdb {fields[0]}')}"
        batch: list[str] = []
        try:
            for name in section.driver.users(_Values(workerwire.pairs(fields[1:]))):
                batch.append(f"{number}\t*\t{escape(name)}")
                if len(batch) == _LIST_BATCH:
                    send("\n".join(batch))
                    batch.clear()
        except ListingFailed as error:
            return "\n".join([*batch, f"{number}\t0\t{escape(str(error))}"])
        return "\n".join([*batch, f"{number}\t1\t"])


class _Values(dict[str, str]):
    """What auth sent; a variable that it did not send is one that the query does not use."""

    def __missing__(self, key: str) -> str:
        return ""


def _compare(stored: str, plain: str, user: str) -> tuple[bool | None, str]:
    try:
        return verify(stored, plain, user), ""
    except (SchemeError, DriverMissing) as error:
        return None, str(error)


def _make(number: str, stored: str, scheme: str, user: str, salt: str) -> str:
    try:
        return f"{number}\t1\t{escape(to_text(held(stored, scheme, user, bytes.fromhex(salt))))}"
    except (SchemeError, DriverMissing, ValueError, KeyError) as error:
        return f"{number}\t0\t{escape(str(error))}"


def main(child: Child, prepared: Setup) -> int:
    log = Log(child.log_fd, debug=prepared.debug)
    loop = Loop()
    for section in prepared.sections:
        open_driver(section.driver, log)
    for user_section in prepared.user_sections:
        open_driver(user_section.driver, log)
    worker = _Worker(child, prepared, log, loop)
    Signals(loop, {signal.SIGTERM: loop.stop, signal.SIGQUIT: worker.retire,
                   signal.SIGINT: lambda: loop.stop() if worker.idle else None})
    if child.dead_fd >= 0:
        loop.register(child.dead_fd, ERR | HUP, lambda _mask: _retire(loop, worker, child))
    gc.freeze()
    loop.run()
    return 0


def _retire(loop: Loop, worker: _Worker, child: Child) -> None:
    loop.unregister(child.dead_fd)
    worker.retire()
