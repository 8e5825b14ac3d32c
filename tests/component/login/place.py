"""A login worker in a process of its own, with a scripted auth server and a scripted backend around it."""
from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mailproxy import config
from mailproxy.ipc.contract import STATUS_SIZE, Child, Listener, parse_status
from mailproxy.login import worker

LIMIT = 10.0
CONF = """
protocols = imap
ssl = no
log_path = /dev/stderr
disable_plaintext_auth = no
login_greeting = hello
auth_verbose = yes
"""
HELLO = ("VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nSPID\t1\nCUID\t1\n"
         "COOKIE\t0123456789abcdef0123456789abcdef\nDONE\n")


def soon(condition: Callable[[], bool], limit: float = LIMIT) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


class Thread(threading.Thread):
    """A daemon that ends when its sockets do."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            self.work()


class Auth:
    """Listens as `login`; `answer(auth, connection, fields)` is called for every AUTH line;
    `lines` is all it was sent."""

    def __init__(self, directory: Path, answer: Callable[[Auth, socket.socket, list[str]], None],
                 hello: str = HELLO) -> None:
        self.path = directory / "login"
        self.answer = answer
        self.hello = hello
        self.lines: list[str] = []
        self.connections: list[socket.socket] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(self.path))
        self.socket.listen(10)
        Thread(self._accept)

    def _accept(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            self.connections.append(connection)
            Thread(lambda connection=connection: self._serve(connection))

    def _serve(self, connection: socket.socket) -> None:
        connection.sendall(self.hello.encode())
        with connection.makefile("r", encoding="utf-8") as file:
            for line in file:
                self.lines.append(line.rstrip("\n"))
                if line.startswith("AUTH\t"):
                    self.answer(self, connection, line.rstrip("\n").split("\t"))

    def drop(self) -> None:
        """Close every connection, and go on listening."""
        while self.connections:
            connection = self.connections.pop()
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.drop()
        self.path.unlink(missing_ok=True)


class Backend:
    """An IMAP server that lets everybody in and then echoes; `talk(connection)` replaces the echo."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.talk: Callable[[socket.socket], None] = self.echo
        self.logins: list[str] = []
        Thread(self._accept)

    def _accept(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            Thread(lambda connection=connection: self._serve(connection))

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
            line = b""
            while not line.endswith(b"\n"):
                line += connection.recv(1)
            self.logins.append(line.decode())
            connection.sendall(b"L OK [CAPABILITY IMAP4rev1 IDLE] in\r\n")
            self.talk(connection)

    @staticmethod
    def echo(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            connection.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Client:
    """A mail client, blocking."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.file = self.socket.makefile("rb")

    def line(self) -> bytes:
        return self.file.readline()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes, tag: bytes = b"a") -> bytes:
        """Send, and read up to the tagged reply."""
        self.send(data)
        while True:
            line = self.line()
            if line.startswith(tag + b" ") or not line:
                return line

    def login(self) -> bytes:
        return self.ask(b"a LOGIN alice sesame\r\n")

    def quiet(self, seconds: float) -> bool:
        self.socket.settimeout(seconds)
        try:
            return not self.socket.recv(1, socket.MSG_PEEK) and False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(LIMIT)

    def close(self) -> None:
        self.file.close()
        self.socket.close()


class Place:
    """The worker.  `login` is its working directory, where it looks for the auth server's socket."""

    def __init__(self, login: Path, text: str = "", prepared: Callable[[Any], None] | None = None,
                 **options: Any) -> None:
        """`prepared` may change the worker's Setup before it starts; `options` are the Child's."""
        self.directory = login
        login.mkdir(exist_ok=True)
        path = login.parent / "worker.conf"
        path.write_text(CONF + text)
        conf = config.load(str(path))
        setup = worker.prepare(conf, conf.services["imap-login"])
        if prepared is not None:
            prepared(setup)
        listening = socket.create_server(("127.0.0.1", 0), backlog=50)
        listening.setblocking(False)
        self.port: int = listening.getsockname()[1]
        self._log_path = login.parent / "worker.log"
        log_fd = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._status, status_in = os.pipe2(os.O_NONBLOCK)
        self._dead, dead_in = os.pipe()
        self.notify = os.open(login.parent / "notify", os.O_RDWR | os.O_CREAT)
        child = Child("imap-login", "imap", 9, str(login.parent), (Listener("imap", "inet", listening),), status_in,
                      dead_in,
                      log_fd, notify_fd=self.notify, **options)
        self.reports: list[int] = []
        self.pid = os.fork()
        if not self.pid:
            self._child(child, setup, log_fd)
        listening.close()
        for fd in (log_fd, status_in, dead_in):
            os.close(fd)
        self._exit: int | None = None

    def _child(self, child: Child, setup: object, log_fd: int) -> None:
        status = 99
        try:
            os.close(self._dead)
            os.chdir(self.directory)
            status = worker.main(child, setup)
        except BaseException:
            os.write(log_fd, b"TRACEBACK " + traceback.format_exc().encode())
        finally:
            os._exit(status)

    def free(self) -> int:
        """The last report; -1 before the first."""
        with contextlib.suppress(BlockingIOError):
            for pid, generation, available in parse_status(os.read(self._status, STATUS_SIZE * 1000)):
                assert (pid, generation) == (self.pid, 9)
                self.reports.append(available)
        return self.reports[-1] if self.reports else -1

    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def retire(self) -> None:
        os.close(self._dead)
        self._dead = -1

    def full(self, full: bool = True) -> None:
        os.lseek(self.notify, int(full), os.SEEK_SET)
        self.signal(signal.SIGUSR1)

    def ended(self) -> bool:
        if self._exit is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._exit = os.waitstatus_to_exitcode(status)
        return self._exit is not None

    def wait(self) -> int:
        """Its exit code."""
        soon(self.ended)
        assert self._exit is not None
        return self._exit

    def stop(self) -> None:
        if not self.ended():
            self.signal(signal.SIGTERM)
            try:
                soon(self.ended, 5)
            except AssertionError:
                self.signal(signal.SIGKILL)
                self.wait()
                raise
        for fd in (self._status, self._dead, self.notify):
            if fd >= 0:
                os.close(fd)
        assert "TRACEBACK" not in self.log(), self.log()
        assert self._exit == 0


def yes(port: int) -> Callable[[Auth, socket.socket, list[str]], None]:
    """An auth server that sends everybody to this backend."""
    def answer(auth: Auth, connection: socket.socket, fields: list[str]) -> None:
        connection.sendall(f"OK\t{fields[1]}\tuser=alice\tproxy\thost=127.0.0.1\tport={port}\tpass=sesame\n".encode())
    return answer


@contextlib.contextmanager
def ended_after(*things: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for thing in things:
            thing.close()
