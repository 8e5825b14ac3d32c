"""The service manager's side: datagrams to NOTIFY_SOCKET, sockets passed from outside, the unit files."""
from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.system.services.test_programs import TEXT

UNITS = servers.PROJECT / "packaging" / "systemd"
#: Starts the command as a service manager does, who knows the pid only in the child.
PASS_ON = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
WAIT = 20.0


class Activated(servers.Server):
    """A mailproxy started as a service manager would start it."""

    def __init__(self, text: str, directory: Path, environ: dict[str, str], passed: list[socket.socket], *,
                 background: bool = False) -> None:
        self.directory = directory
        self.port = {}
        self.log = directory / "log"
        self.conf = directory / "server.conf"
        self._output = directory / "output"
        self._pids = {}
        self.rewrite(text)
        environ = {**os.environ, **environ, "LISTEN_FDS": str(len(passed))}

        def move() -> None:
            copies = [os.dup(sock.fileno()) for sock in passed]
            for number, fd in enumerate(copies):
                os.dup2(fd, 3 + number)
        with self._output.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PASS_ON, sys.executable, str(servers.PROJECT / "master.py"),
                 *([] if background else ["-F"]), "-c", str(self.conf)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=servers.PROJECT, env=environ, close_fds=False,
                preexec_fn=move)        # noqa: PLW1509


class Manager:
    """Collects datagrams."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(WAIT)
        self.seen: list[str] = []

    def until(self, pattern: str) -> str:
        """The next datagram that matches."""
        while True:
            text = self.socket.recv(4096).decode()
            self.seen.append(text)
            if re.search(pattern, text, re.DOTALL):
                return text


@pytest.fixture
def manager(short_dir: Path) -> Iterator[Manager]:
    made = Manager(str(short_dir / "notify"))
    yield made
    made.socket.close()


@pytest.fixture
def place(no_leaks: None, short_dir: Path) -> Path:
    path = short_dir / "server"
    path.mkdir()
    path.chmod(0o755)
    return path


def test_the_manager_hears_of_everything(manager: Manager, place: Path, short_dir: Path) -> None:
    server = Activated(TEXT, place, {"NOTIFY_SOCKET": str(short_dir / "notify"), "WATCHDOG_USEC": "400000"}, [])
    pid = server.process.pid
    ready = manager.until("READY=1")
    assert re.fullmatch(rf"READY=1\nSTATUS=v[\d.]+ running: \d+ processes, 0 login connections\nMAINPID={pid}", ready)
    began = time.monotonic()
    for _ in range(4):
        manager.until("WATCHDOG=1")
    assert 0.5 < time.monotonic() - began < 5           # every 0.2 s
    server.wait("imap")
    before = time.monotonic_ns() // 1000
    server.reload()
    text = manager.until("RELOADING=1")
    said = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", text)
    assert said is not None
    assert before <= int(said[1]) <= time.monotonic_ns() // 1000
    manager.until("READY=1")
    server.conf.write_text("nonsense")
    server.reload()
    manager.until("RELOADING=1")
    manager.until("READY=1")                            # the old configuration is ready
    assert server.stop() == []
    manager.until(r"STOPPING=1\nSTATUS=mailproxy stopping\.\.\.")
    manager.until(r"\ASTATUS=mailproxy stopped\Z")


def test_the_status_counts_connections(manager: Manager, place: Path, short_dir: Path) -> None:
    name = f"@mailproxy-{os.getpid()}"
    abstract = Manager("\0" + name[1:])
    server = Activated(TEXT, place, {"NOTIFY_SOCKET": name}, [])
    abstract.until("READY=1")
    server.wait("imap")
    with socket.create_connection((servers.HOST, server.port["imap"]), WAIT) as client:
        client.recv(1000)
        server.reload()
        abstract.until(r"READY=1.* 0 login connections, \d+ processes of older configurations")
    assert not any("WATCHDOG" in text for text in abstract.seen)
    assert server.stop() == []
    abstract.socket.close()


def test_the_main_pid_of_a_daemon(manager: Manager, place: Path, short_dir: Path) -> None:
    server = Activated(TEXT, place, {"NOTIFY_SOCKET": str(short_dir / "notify")}, [], background=True)
    text = manager.until("READY=1")
    pid = int(text.rpartition("MAINPID=")[2])
    assert server.process.wait(WAIT) == 0
    assert pid != server.process.pid
    assert (place / "run" / "master.pid").read_text() == f"{pid}\n"
    os.kill(pid, signal.SIGTERM)
    manager.until("STATUS=mailproxy stopped")


def listening(address: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket()
    sock.bind((address, servers.free_port()))
    sock.listen(7)
    return sock


def test_sockets_from_outside_are_used(place: Path) -> None:
    other, exact, stray = listening("127.0.0.2"), listening(), listening()
    port = exact.getsockname()[1]
    # with curves of its own the program executes itself again: the sockets must survive that
    text = TEXT.replace("port = @imap@", f"port = {port}") + f"""
ssl_curve_list = P-256:P-384
service imap-login {{
  inet_listener second {{
    address = 127.0.0.3
    port = {other.getsockname()[1]}
  }}
}}
"""
    server = Activated(text, place, {}, [other, stray, exact])
    server.port["imap"] = port
    server.wait("imap")
    with socket.create_connection(other.getsockname(), WAIT) as client:         # the port fits, the address does not
        assert client.recv(100).startswith(b"* OK")
    assert (f"master: Warning: systemd listens on port {stray.getsockname()[1]}, "
            "but it's not configured in mailproxy. Closing.\n") in server.log_text()
    for round_ in range(2):
        server.reload()
        servers.wait_until(lambda round_=round_: server.log_text().count("Configuration reloaded") == round_ + 1)
    with socket.create_connection(("127.0.0.1", port), WAIT) as client:
        assert client.recv(100).startswith(b"* OK")
    assert server.stop() == []
    # they are the manager's: it goes on listening for the next start
    with socket.create_connection(("127.0.0.1", port), WAIT):
        accepted, _ = exact.accept()
        accepted.close()
    for sock in (other, exact, stray):
        sock.close()


def test_sockets_meant_for_another_process_are_not_touched(place: Path) -> None:
    sock = listening()
    text = TEXT
    made: Callable[..., servers.Server] = Activated
    server = made(text, place, {"LISTEN_PID": "1"}, [])
    server.wait("imap")
    assert "systemd" not in server.log_text()
    assert server.stop() == []
    sock.close()


@pytest.mark.parametrize("unit", ["mailproxy.service", "mailproxy.socket"])
def test_units_are_valid(unit: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    assert program, "install systemd"
    for path in UNITS.iterdir():
        text = path.read_text().replace("/usr/bin/mailproxy", "/bin/true")
        (tmp_path / path.name).write_text(text)
    done = subprocess.run([program, "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True,
                          timeout=60, check=False)
    said = [line for line in done.stderr.splitlines() if unit in line]
    assert done.returncode == 0, done.stderr
    assert not said, said
