"""The master as processes: real forks, sockets and signals, with a fake role instead of a mail protocol."""
from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mailproxy.admin import master as admin

DRIVER = Path(__file__).parents[2] / "fakes" / "run_master.py"
WAIT = 10.0


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """Poll with a bound."""
    end = time.monotonic() + WAIT
    while not (value := condition()):
        assert time.monotonic() < end, what or "it never happened"
        time.sleep(0.01)
    return value


class Daemon:
    """One master below a short directory."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.base = directory / "run"
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self.raw: dict[str, Any] = {
            "core": {"base_dir": str(self.base), "state_dir": str(directory / "state")},
            "logging": {"log_path": str(directory / "log"), "log_timestamp": ""}}
        self.login: dict[str, Any] = {
            "name": "imap-login", "executable": "echo", "type": "login", "protocol": "imap", "user": "dovenull",
            "chroot": "login", "client_limit": 10, "service_count": 1, "process_limit": 5,
            "inet_listeners": [{"port": port}]}
        self.others: list[dict[str, Any]] = []

    def write(self) -> str:
        path = self.directory / "conf"
        path.write_text(json.dumps({**self.raw, "services": [self.login, *self.others]}))
        return str(path)

    def command(self, *arguments: str, user: str = "") -> list[str]:
        drop = ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"] if user else []
        return [*drop, sys.executable, str(DRIVER), *arguments, self.write()]

    def start(self, *, user: str = "") -> Daemon:
        self.process = subprocess.Popen(self.command("-F", user=user), stderr=subprocess.PIPE)
        until(lambda: self.running() or self.process.poll() is not None)        # type: ignore[union-attr]
        assert self.process.poll() is None, self.process.stderr.read()          # type: ignore[union-attr]
        return self

    def running(self) -> bool:
        return "starting up" in self.log()

    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(WAIT)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code

    def connect(self) -> Client:
        return Client(self.port)

    def pids(self, service: str = "imap-login") -> list[int]:
        control = admin.Control(str(self.base))
        try:
            return [int(row[1]) for row in control.rows("PROCESS-STATUS", service)]
        finally:
            control.close()

    def status(self, service: str = "imap-login") -> dict[str, str]:
        control = admin.Control(str(self.base))
        try:
            names = ("name", "count", "avail", "process_limit", "client_limit", "throttle", "last_failure", "failures",
                     "last_drop", "pending", "listening", "stopped", "total")
            return dict(zip(names, control.rows("SERVICE-STATUS", service)[0], strict=True))
        finally:
            control.close()


class Client:
    """One connection; the greeting says which process took it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self.file = self.socket.makefile("rb")
        greeting = self.file.readline().decode().split()
        self.instance, self.pid = greeting[0], int(greeting[1])

    def ask(self, word: str) -> str:
        self.socket.sendall(word.encode())
        return self.file.readline().decode().strip()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def daemon(short_dir: Path, free_port: Callable[[], int]) -> Iterator[Daemon]:
    made = Daemon(short_dir, free_port())
    yield made
    if made.process is not None:
        left = psutil.Process(made.process.pid).children(recursive=True) if made.process.poll() is None else []
        assert made.stop() == 0
        _, alive = psutil.wait_procs(left, WAIT)
        assert alive == []


def test_start_and_stop_as_root(daemon: Daemon) -> None:
    daemon.others = [{"name": "auth", "executable": "echo", "user": "dovecot", "unix_listeners": [
        {"path": "login/login", "mode": 0o666}, {"path": "auth-client", "mode": 0o600, "user": "dovecot"}]}]
    daemon.start()
    login = pwd.getpwnam("dovenull")
    client = daemon.connect()
    uid, gid, directory, descriptors, files = client.ask("whoami").split()
    assert (int(uid), int(gid), directory) == (login.pw_uid, login.pw_gid, "/")
    assert files == "login"
    # 0 1 2, listener, status, dead, notify; the role's own epoll, socket pair, client
    assert int(descriptors) <= 11
    assert psutil.Process(client.pid).cmdline()[0] == "mailproxy/imap-login"
    limits = Path(f"/proc/{client.pid}/limits").read_text()
    size = re.search(r"Max address space +(\d+) ", limits)
    assert size is not None
    assert int(size[1]) > 268435456                 # what it shares with the master is not counted
    assert re.search(r"Max processes +1 ", limits)
    assert (daemon.base / "auth-client").stat().st_uid == pwd.getpwnam("dovecot").pw_uid
    assert (daemon.base / "master.pid").read_text() == f"{daemon.process.pid}\n"        # type: ignore[union-attr]
    assert daemon.stop() == 0
    assert client.file.read() == b""
    client.close()
    assert not (daemon.base / "master.pid").exists()
    assert not (daemon.base / "auth-client").exists()
    with pytest.raises(ConnectionRefusedError):
        daemon.connect()
    log = daemon.log()
    assert log.startswith("master: Info: mailproxy v")
    assert re.search(r" starting up for imap( \(core dumps disabled\))?\n", log)
    assert re.search(rf"master: Warning: Killed with signal 15 \(by pid={os.getpid()} uid=0 code=kill\)\n", log)
    assert "Fatal" not in log


def test_start_and_stop_as_an_ordinary_user(daemon: Daemon) -> None:
    shutil.chown(daemon.directory, "nobody")
    daemon.raw["core"]["instance_name"] = "r1"
    daemon.start(user="nobody")
    client = daemon.connect()
    uid, _, directory, *_ = client.ask("whoami").split()
    assert (int(uid), directory) == (65534, str(daemon.base / "login"))
    assert client.instance == "r1"
    assert psutil.Process(client.pid).cmdline()[0] == "mailproxy-r1/imap-login"
    client.close()
    assert daemon.stop() == 0
    assert "Error" not in daemon.log()


def test_in_the_background_the_command_returns_when_ports_are_bound(daemon: Daemon) -> None:
    done = subprocess.run(daemon.command(), timeout=WAIT, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    client = daemon.connect()
    client.close()
    pid = admin.pid_of(str(daemon.base))
    assert os.getsid(pid) == pid
    admin.stop(str(daemon.base))
    with pytest.raises(admin.NotRunning, match="mailproxy is not running"):
        admin.pid_of(str(daemon.base))


def start_fails(daemon: Daemon) -> tuple[int, str]:
    done = subprocess.run(daemon.command("-F"), timeout=WAIT, check=False, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_already_running(daemon: Daemon) -> None:
    daemon.start()
    code, text = start_fails(daemon)
    assert code == 89
    assert text == (f"Fatal: mailproxy is already running with PID {daemon.process.pid} "       # type: ignore[union-attr]
                    f"(read from {daemon.base}/master.pid)\n")
    daemon.connect().close()


def test_all_configuration_errors_are_said(daemon: Daemon) -> None:
    path = daemon.directory / "broken"
    path.write_text("{")
    done = subprocess.run([sys.executable, str(DRIVER), "-F", str(path)], timeout=WAIT, check=False,
                          capture_output=True, text=True)
    assert done.returncode == 89
    assert done.stderr == (f"Fatal: Error in configuration file {path} line 1: Unknown setting: foo\n"
                           f"Fatal: Error in configuration file {path} line 2: Expecting '{{'\n")


def test_a_log_that_cannot_be_opened(daemon: Daemon) -> None:
    daemon.raw["logging"]["log_path"] = "/nonexistent/log"
    assert start_fails(daemon) == (80, "Fatal: Can't open log file /nonexistent/log: No such file or directory\n")


def test_a_user_that_does_not_exist(daemon: Daemon) -> None:
    daemon.login["user"] = "nosuch"
    text = "service(imap-login) User doesn't exist: nosuch (See service imap-login { user } setting)"
    assert start_fails(daemon) == (89, f"Fatal: {text}\n")
    assert daemon.log() == f"master: Fatal: {text}\n"


def test_a_busy_port(daemon: Daemon) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", daemon.port))
        other.listen()
        code, text = start_fails(daemon)
    assert code == 89
    assert text == (f"Error: service(imap-login): listen(127.0.0.1, {daemon.port}) failed: Address already in use\n"
                    "Fatal: Failed to start listeners\n")
    assert daemon.log().splitlines()[1] == "master: Fatal: Failed to start listeners"
    assert not (daemon.base / "master.pid").exists()


def test_a_role_that_cannot_be_prepared_stops_the_start(daemon: Daemon) -> None:
    daemon.others = [{"name": "unpreparable", "executable": "echo"}]
    assert start_fails(daemon) == (89, "Fatal: service(unpreparable): there is no key\n")


def test_service_count_one_is_one_connection_a_process(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.pids() == []
    clients = [daemon.connect() for _ in range(3)]
    assert len({client.pid for client in clients}) == 3
    assert sorted(daemon.pids()) == sorted(client.pid for client in clients)
    for client in clients:
        client.close()
    until(lambda: daemon.pids() == [])
    assert daemon.status()["total"] == "3"


def test_service_count_one_with_min_avail_keeps_processes_ready(daemon: Daemon) -> None:
    daemon.login["process_min_avail"] = 2
    daemon.start()
    until(lambda: len(daemon.pids()) == 2)
    client = daemon.connect()
    until(lambda: len(daemon.pids()) == 3)
    assert daemon.status()["avail"] == "2"
    client.close()
    until(lambda: len(daemon.pids()) == 2)


def test_service_count_three_serves_three(daemon: Daemon) -> None:
    daemon.login.update(service_count=3, client_limit=2)
    daemon.start()
    first, second = daemon.connect(), daemon.connect()
    assert first.pid == second.pid
    third = daemon.connect()                    # the first process is full
    assert third.pid != first.pid
    third.close()
    first.close()
    second.close()
    until(lambda: sum(1 for pid in daemon.pids() if pid == first.pid) == 1)
    pids = []
    for _ in range(6):
        client = daemon.connect()
        pids.append(client.pid)
        client.close()
    assert pids.count(first.pid) <= 1           # it had one connection left
    assert max(pids.count(pid) for pid in set(pids)) <= 3


def test_service_count_zero_serves_all_with_one_process(daemon: Daemon) -> None:
    daemon.login["service_count"] = 0
    daemon.start()
    clients = [daemon.connect() for _ in range(10)]
    assert len({client.pid for client in clients}) == 1
    assert daemon.connect().pid != clients[0].pid
    assert len(daemon.pids()) == 2


def test_idle_processes_leave(daemon: Daemon) -> None:
    daemon.login.update(service_count=0, idle_kill=0.3)
    daemon.start()
    daemon.connect().close()
    assert len(daemon.pids()) == 1
    until(lambda: daemon.pids() == [])
    daemon.connect().close()
    assert "Fatal" not in daemon.log()


def test_a_killed_child_costs_only_its_own_sessions(daemon: Daemon) -> None:
    daemon.start()
    victim, other = daemon.connect(), daemon.connect()
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.file.read() == b""
    assert other.ask("still here") == "still here"
    until(lambda: f"imap-login: Fatal: master: service(imap-login): child {victim.pid} killed with signal 9\n"
          in daemon.log())
    daemon.connect().close()
    assert "throttling" not in daemon.log()


def test_what_a_child_says_and_how_it_ends(daemon: Daemon) -> None:
    daemon.start()
    for word in ("fatal", "raise", "print", "exit3"):
        client = daemon.connect()
        client.ask(word)
        client.close()
    until(lambda: "returned error 3" in daemon.log())
    log = daemon.log()
    assert "imap-login: Fatal: my last words\n" in log
    assert "imap-login: Panic: unhandled ValueError at echo_role.py:" in log
    assert "secret" not in log
    assert "imap-login: Error: library speaking\n" in log
    assert "error 89" not in log


def test_a_service_that_fails_at_once_is_throttled(daemon: Daemon) -> None:
    daemon.login["executable"] = "failing"
    daemon.start()
    with pytest.raises((IndexError, ConnectionResetError)):
        daemon.connect()
    until(lambda: "imap-login: Error: master: service(imap-login): command startup failed, throttling for 2.000 secs\n"
          in daemon.log())
    assert re.search(r"imap-login: Fatal: master: service\(imap-login\): child \d+ returned error 3\n", daemon.log())
    assert daemon.status()["throttle"] == "2"


def test_a_full_service_tells_its_processes(daemon: Daemon) -> None:
    daemon.login["process_limit"] = 2
    daemon.start()
    clients = [daemon.connect() for _ in range(2)]
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=WAIT) as waiting:
        until(lambda: daemon.log().count("imap-login: Info: full=1\n") >= 2)
        assert ("master: Warning: service(imap-login): process_limit (2) reached, "
                "client connections are being dropped\n") in daemon.log()
        clients[0].close()
        assert waiting.recv(100).startswith(b"mailproxy ")
    clients[1].close()


def test_the_log_process_is_replaced_without_losing_lines(daemon: Daemon) -> None:
    daemon.start()
    client = daemon.connect()
    log_pid, = daemon.pids("log")
    os.kill(log_pid, signal.SIGKILL)
    client.ask("print")
    until(lambda: "library speaking" in daemon.log())
    until(lambda: re.search(rf"log: Fatal: master: service\(log\): child {log_pid} killed with signal 9\n",
                            daemon.log()))
    assert client.ask("well") == "well"
    client.close()


def test_usr1_reopens_and_usr2_is_ignored(daemon: Daemon) -> None:
    daemon.start()
    (daemon.directory / "log").rename(daemon.directory / "log.1")
    daemon.signal(signal.SIGUSR2)
    daemon.signal(signal.SIGUSR1)
    until((daemon.directory / "log").exists)
    client = daemon.connect()
    client.ask("print")
    until(lambda: "library speaking" in daemon.log())
    client.close()


def test_a_reload_cuts_nobody_off(daemon: Daemon, free_port: Callable[[], int]) -> None:
    daemon.login["service_count"] = 0
    second = free_port()
    daemon.login["inet_listeners"].append({"port": second})
    daemon.start()
    old = daemon.connect()
    gone = Client(second)
    del daemon.login["inet_listeners"][1]
    daemon.raw["core"]["instance_name"] = "mailproxy-2"
    daemon.write()
    daemon.signal(signal.SIGHUP)
    until(lambda: "Configuration reloaded" in daemon.log())
    fresh = daemon.connect()
    assert (old.instance, fresh.instance) == ("mailproxy", "mailproxy-2")
    assert old.ask("still here") == "still here"
    assert gone.ask("me too") == "me too"
    until(lambda: refused(second))
    for client in (old, gone):
        client.close()
    until(lambda: not psutil.pid_exists(old.pid))
    assert fresh.ask("and me") == "and me"
    fresh.close()
    assert len(daemon.pids("log")) == 1
    until(lambda: len(psutil.Process(daemon.process.pid).children()) == 2)      # type: ignore[union-attr]
    assert "Fatal" not in daemon.log()


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except TimeoutError:            # nobody accepts any more, and the backlog is full
        return False
    return False


def test_no_connection_is_refused_while_reloading(daemon: Daemon) -> None:
    daemon.login.update(service_count=0, process_min_avail=1)
    daemon.start()
    for number in range(5):
        daemon.raw["core"]["instance_name"] = f"mailproxy-{number}"
        daemon.write()
        daemon.signal(signal.SIGHUP)
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            daemon.connect().close()
    until(lambda: daemon.log().count("Configuration reloaded") == 5)
    assert daemon.connect().instance == "mailproxy-4"
    until(lambda: len(psutil.Process(daemon.process.pid).children()) == 2)      # type: ignore[union-attr]


def test_a_bad_reload_changes_nothing(daemon: Daemon) -> None:
    daemon.start()
    path = daemon.directory / "conf"
    good = path.read_text()
    path.write_text("{")
    daemon.signal(signal.SIGHUP)
    until(lambda: "Expecting" in daemon.log())
    assert (f"master: Error: Error reading configuration: Error in configuration file {path} line 1: "
            "Unknown setting: foo\n") in daemon.log()
    changed = json.loads(good)
    changed["services"].append({"name": "unpreparable", "executable": "echo"})
    path.write_text(json.dumps(changed))
    daemon.signal(signal.SIGHUP)
    until(lambda: "master: Error: Config reload failed: service(unpreparable): there is no key\n" in daemon.log())
    changed = json.loads(good)
    changed["core"]["base_dir"] = "/elsewhere"
    path.write_text(json.dumps(changed))
    daemon.signal(signal.SIGHUP)
    until(lambda: "base_dir can't be changed" in daemon.log())
    daemon.connect().close()
    assert "reloaded" not in daemon.log()


def test_written_shutdown_clients_cuts_old_sessions_after_a_reload(daemon: Daemon) -> None:
    daemon.raw["written"] = ["shutdown_clients"]
    daemon.login["service_count"] = 0
    daemon.start()
    old = daemon.connect()
    began = time.monotonic()
    daemon.signal(signal.SIGHUP)
    assert old.file.read() == b""
    assert 5.5 < time.monotonic() - began < 9
    until(lambda: "Processes aren't dying after reload, sent SIGTERM to 1 processes." in daemon.log())
    assert "killed with signal" not in daemon.log()


def test_without_shutdown_clients_sessions_outlive_the_master(daemon: Daemon) -> None:
    daemon.raw["core"]["shutdown_clients"] = False
    daemon.login["service_count"] = 0
    daemon.start()
    client = daemon.connect()
    assert daemon.stop() == 0
    daemon.process = None
    assert client.ask("still here") == "still here"
    client.ask("print")
    until(lambda: "library speaking" in daemon.log())       # the log process stays for them
    assert not (daemon.base / "master.pid").exists()
    daemon.directory.joinpath("log").rename(daemon.directory / "log.1")
    daemon.start()                                          # the port is free
    assert daemon.connect().pid != client.pid
    client.close()
    until(lambda: not psutil.pid_exists(client.pid))


def test_a_child_that_ignores_term_is_killed(daemon: Daemon) -> None:
    daemon.login["service_count"] = 0
    daemon.start()
    client = daemon.connect()
    os.kill(client.pid, signal.SIGSTOP)
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 8
    assert client.file.read() == b""
    assert "Processes aren't dying, sent SIGKILL to 1 processes." in daemon.log()


def test_service_stop_closes_the_listeners(daemon: Daemon) -> None:
    daemon.login["service_count"] = 0
    daemon.start()
    client = daemon.connect()
    control = admin.Control(str(daemon.base))
    with pytest.raises(admin.Refused, match="Unknown service: nosuch"):
        control.order("STOP", "nosuch")
    control.order("STOP", "imap-login")
    control.close()
    until(lambda: refused(daemon.port))
    assert client.ask("still here") == "still here"
    assert daemon.status()["stopped"] == "y"
    daemon.signal(signal.SIGHUP)
    until(lambda: not refused(daemon.port))
    client.close()


def test_the_control_socket_shows_numbers(daemon: Daemon) -> None:
    daemon.login.update(service_count=0, client_limit=7)
    daemon.start()
    client = daemon.connect()
    until(lambda: daemon.status()["listening"] == "n")
    assert {key: daemon.status()[key] for key in ("count", "process_limit", "client_limit", "pending", "total")} == {
        "count": "1", "process_limit": "5", "client_limit": "7", "pending": "n", "total": "1"}
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(str(daemon.base / "master"))
        rude.sendall(b"GIVE ME ALL\n")
        rude.settimeout(WAIT)
        received = b""
        while data := rude.recv(4096):
            received += data
    assert received.startswith(b"VERSION\tmaster-server\t1\t")
    client.close()


def test_a_bug_in_the_master_ends_it_only_when_there_is_nothing_else(daemon: Daemon,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "DRIVER", DRIVER.with_name("failing_master.py"))
    daemon.start()
    client = daemon.connect()
    daemon.signal(signal.SIGHUP)
    until(lambda: "master: Panic: unhandled ValueError at failing_master.py:" in daemon.log())
    daemon.connect().close()                    # it goes on
    for _ in range(60):
        daemon.signal(signal.SIGHUP)
        time.sleep(0.02)
        if daemon.process.poll() is not None:                       # type: ignore[union-attr]
            break
    assert daemon.process.wait(WAIT) == 89                          # type: ignore[union-attr]
    assert client.ask("still here") == "still here"                 # sessions do not depend on it
    client.close()
    assert "secret" not in daemon.log()
    lastlog = (daemon.base / "master-fatal.lastlog").read_text()
    assert lastlog.startswith("unhandled ValueError at failing_master.py:")
    until(lambda: not psutil.pid_exists(client.pid))
    daemon.process.stderr.close()                                   # type: ignore[union-attr]
    daemon.process = None
