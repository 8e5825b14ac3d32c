"""Starting and stopping auth processes: ours as a forked role, and a real Dovecot."""
from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from mailproxy.auth import server_main, worker_main
from mailproxy.ipc.contract import Child, Listener
from tests.component.auth.scenario import Scenario, StandIn, dovecot_conf

DOVECOT = "/usr/sbin/dovecot"
_START_SECONDS = 15.0


def write_files(scenario: Scenario, directory: Path) -> None:
    for name, content in scenario.files.items():
        (directory / name).write_text(content.replace("@DIR@", str(directory)), encoding="utf-8",
                                      errors="surrogateescape")
    if scenario.sqlite:
        database = sqlite3.connect(directory / "users.db")
        database.executescript(scenario.sqlite)
        database.commit()
        database.close()
        os.chmod(directory / "users.db", 0o666)
    os.chmod(directory, 0o777)


def _listener(path: Path, name: str) -> Listener:
    path.parent.mkdir(parents=True, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen(128)
    listening.setblocking(False)
    return Listener(name, "unix", listening)


class Ours:
    """Our auth process with `workers` auth-workers; `log()` is everything that they wrote."""

    def __init__(self, scenario: Scenario, directory: Path, workers: int = 1, *, client_limit: int = 100) -> None:
        self.directory = directory
        self._base = directory / "run"
        self._base.mkdir()
        write_files(scenario, directory)
        setup = server_main.prepare(StandIn(scenario, str(directory)), None)
        self._listeners = [_listener(self._base / name, name)
                           for name in ("auth-client", "login/login", "auth-userdb", "auth-master")]
        self._worker_listener = _listener(self._base / "auth-worker", "auth-worker")
        self._log_path = directory / "ours.log"
        self._log_fd = os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._status_out, self._status_in = os.pipe()
        os.set_blocking(self._status_in, False)
        self.dead_out, self._dead_in = os.pipe()
        self._setup = setup
        self._client_limit = client_limit
        self.worker_pids = [self.start_worker() for _ in range(workers)]
        self.pid = self._fork("auth", self._listeners, client_limit)

    def start_worker(self) -> int:
        return self._fork("auth-worker", [self._worker_listener], 1)

    def _fork(self, service: str, listeners: list[Listener], limit: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            os.close(self.dead_out)
            child = Child(service, "", 1, str(self._base), tuple(listeners), self._status_in, self._dead_in,
                          self._log_fd, client_limit=limit)
            module = server_main if service == "auth" else worker_main
            status = module.main(child, self._setup)
        except BaseException as error:
            os.write(self._log_fd, f"TRACEBACK {error!r}\n".encode())
            import traceback
            os.write(self._log_fd, traceback.format_exc().encode())
        finally:
            os._exit(status)

    def path(self, name: str) -> str:
        return str(self._base / name)

    def log(self) -> str:
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """Ends everything; the exit code of auth."""
        status = _end(self.pid)
        for pid in self.worker_pids:
            _end(pid)
        for fd in (self._log_fd, self._status_out, self._status_in, self.dead_out, self._dead_in):
            with contextlib.suppress(OSError):
                os.close(fd)
        for listener in (*self._listeners, self._worker_listener):
            listener.socket.close()
        assert "TRACEBACK" not in self.log(), self.log()
        return status


def _end(pid: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    limit = time.monotonic() + 5
    while time.monotonic() < limit:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -9


@contextlib.contextmanager
def ours(scenario: Scenario, directory: Path, workers: int = 1, client_limit: int = 100) -> Iterator[Ours]:
    process = Ours(scenario, directory, workers, client_limit=client_limit)
    try:
        yield process
    finally:
        process.stop()


@contextlib.contextmanager
def dovecot(scenario: Scenario, directory: Path) -> Iterator[Path]:
    """A real Dovecot; yields its base_dir."""
    base = directory / "run"
    write_files(scenario, directory)
    conf = directory / "dovecot.conf"
    conf.write_text(dovecot_conf(scenario, str(directory)), encoding="utf-8")
    process = subprocess.Popen([DOVECOT, "-F", "-c", str(conf)], stdin=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + _START_SECONDS
        while not (base / "login" / "login").exists():
            assert process.poll() is None, f"dovecot did not start: {(directory / 'dovecot.log').read_text()}"
            assert time.monotonic() < limit, "dovecot did not make its sockets"
            time.sleep(0.02)
        yield base
    finally:
        process.terminate()
        process.wait(10)
