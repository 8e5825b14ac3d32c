"""The demo as its user sees it: one command, lines to copy that work, Ctrl-C, nothing left."""
from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mailproxy.demo import people, place
from tests import servers

#: Seconds that it has to show its last line, and to stop.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 25.0
COMMAND_TIMEOUT = 20
LAST_LINE = "Ctrl-C stops everything."


def open_to_all(path: Path) -> bool:
    return all(above.stat().st_mode & 0o005 == 0o005 for above in (path, *path.parents))


def users() -> list[str | None]:
    """Who runs the demo: we, and if we are root also somebody who is not (where he can read the sources)."""
    ours = [servers.PROJECT, Path(sys.executable).parent, Path(sys.executable).resolve().parent]
    return [None, "nobody"] if os.geteuid() == 0 and all(map(open_to_all, ours)) else [None]


class Demo:
    """A running demo and what it printed."""

    def __init__(self, directory: Path, user: str | None, arguments: list[str]) -> None:
        self._path = directory / "printed"
        argv = [sys.executable, "-m", "mailproxy.demo", "--dir", str(directory / "demo"), *arguments]
        other = os.environ.get("MAILPROXY_TEST_SERVER")
        with self._path.open("wb") as out:
            self.process = subprocess.Popen([*argv, *(["--server", other] if other else [])], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out, cwd=servers.PROJECT, user=user,
                                            group="nogroup" if user else None, extra_groups=[] if user else None)
        self.family: list[psutil.Process] = []

    def printed(self) -> str:
        return self._path.read_text()

    def wait_for_start(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while LAST_LINE not in self.printed():
            assert self.process.poll() is None, self.printed()
            assert time.monotonic() < deadline, self.printed()
            time.sleep(0.1)
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(STOP_TIMEOUT)


@pytest.fixture
def start_demo(short_dir: Path, no_leaks: None) -> Iterator[Callable[..., Demo]]:
    """start_demo(user, arguments...): a demo in a directory of its own."""
    running: list[Demo] = []

    def start(user: str | None, *arguments: str) -> Demo:
        if user:
            short_dir.chmod(0o777)
        running.append(Demo(short_dir, user, list(arguments)))
        return running[-1]

    yield start
    for demo in running:
        demo.stop()


def expected_backend(line: str) -> str:
    """The backend of the user that a command logs in as."""
    user = re.search(r"(?:-u '?|LOGIN |\\0|RCPT TO:<(?!x@))(\w+)", line)
    assert user, line
    return f"Backend-{people.USERS[user[1]]}"


@pytest.mark.parametrize("user", users())
def test_demo(start_demo: Callable[..., Demo], user: str | None) -> None:
    ports = [servers.free_port(), servers.free_port()]
    demo = start_demo(user, "--imap-port", str(ports[0]), "--imaps-port", str(ports[1]))
    demo.wait_for_start()
    lines = re.findall(r"^ +((?:curl|printf) .+)$", demo.printed(), re.MULTILINE)
    assert sum(line.startswith("curl ") for line in lines) >= 2
    assert sum("openssl s_client" in line for line in lines) >= 2
    for word in ("imap://", "pop3://", "-starttls sieve", "-starttls smtp", "-starttls lmtp"):
        assert any(word in line for line in lines), word
    for line in lines:
        done = subprocess.run(["sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, check=False,
                              timeout=COMMAND_TIMEOUT, cwd=servers.PROJECT)
        assert done.returncode == 0, f"{line}\n{done}"
        assert done.stdout.decode().count("Backend-") == 1, f"{line}\n{done}"
        assert expected_backend(line) in done.stdout.decode(), f"{line}\n{done}"
    assert len(demo.family) >= 4            # two backends, the proxy and processes of it
    demo.stop()
    assert demo.process.returncode == 0
    assert demo.printed().endswith("Stopped.\n")
    _, left = psutil.wait_procs(demo.family, timeout=5.0)
    assert not left
    for port in ports:
        with socket.socket() as sock:
            assert sock.connect_ex((servers.HOST, port)) != 0


def test_second_demo_in_the_same_directory_is_refused(short_dir: Path) -> None:
    directory = place.choose_directory(str(short_dir / "demo"))
    held = place.lock(directory)
    try:
        done = subprocess.run([sys.executable, "-m", "mailproxy.demo", "--dir", str(directory)], capture_output=True,
                              text=True, timeout=COMMAND_TIMEOUT, check=False, cwd=servers.PROJECT)
    finally:
        os.close(held)
    assert done.returncode == 1
    assert done.stderr.startswith(f"demo: a demo is already running in {directory}")


def test_missing_packages_are_named(short_dir: Path) -> None:
    # -S: without what is installed
    done = subprocess.run([sys.executable, "-S", "-m", "mailproxy.demo", "--dir", str(short_dir / "demo")], text=True,
                          capture_output=True, timeout=COMMAND_TIMEOUT, check=False, cwd=servers.PROJECT,
                          env={**os.environ, "PYTHONPATH": str(servers.PROJECT)})
    assert done.returncode == 1
    assert re.fullmatch(r"demo: .*needs the Python package \w+: run make venv\n", done.stderr)


def test_busy_port_is_replaced_and_said() -> None:
    said: list[str] = []
    with socket.socket() as sock:
        sock.bind((place.HOST, 0))
        sock.listen()
        busy = sock.getsockname()[1]
        taken = place.choose_port(busy, "imap", said.append)
    assert taken != busy
    assert said == [f"imap: port {busy} cannot be used (Address already in use), taking {taken}"]


def test_too_long_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(place.DemoFailed, match="too long for UNIX sockets"):
        place.choose_directory(str(tmp_path / ("x" * 110)))


def test_directory_of_somebody_else_is_refused(short_dir: Path) -> None:
    (short_dir / "demo").symlink_to(short_dir)
    with pytest.raises(place.DemoFailed, match="not a directory of yours"):
        place.choose_directory(str(short_dir / "demo"))
