"""Services at their limits, beside Dovecot where Dovecot is right."""
from __future__ import annotations

import contextlib
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests import servers

Start = Callable[..., servers.Server]
TEXT = servers.HEAD + """
log_timestamp =
ssl = no
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
disable_plaintext_auth = no
passdb {
  driver = static
  args = password=secret proxy=y host=127.0.0.1 port=BACKEND
}
SETTINGS
service imap-login {
  LOGINS
  inet_listener imap {
    port = @imap@
  }
  inet_listener imaps {
    port = 0
  }
}
"""
#: What time.time() says, and nobody may rely on.
JUMPY = """
import os, runpy, sys, time
real, place = time.time, sys.argv.pop(1)
time.time = lambda: real() + float(open(place).read())
sys.argv[0] = os.path.join(PROJECT, "master.py")
sys.path.insert(0, PROJECT)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def text_of(backend: servers.Server, logins: str, settings: str = "") -> str:
    return TEXT.replace("BACKEND", str(backend.port["imap"])).replace("LOGINS", logins).replace("SETTINGS", settings)


@pytest.fixture
def dovecot(no_leaks: None) -> Iterator[Start]:
    running = []

    def start(text: str, *ports: str) -> servers.Server:
        directory = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
        directory.chmod(0o755)
        server = servers.dovecot(text, directory)
        running.append(server)
        server.wait(*ports)
        return server

    yield start
    for server in running:
        server.stop()
        shutil.rmtree(server.directory, ignore_errors=True)


def connect(server: servers.Server, *, login: bool = False) -> socket.socket:
    sock = socket.create_connection((servers.HOST, server.port["imap"]), 20)
    assert sock.recv(4096).startswith(b"* OK")
    if login:
        sock.sendall(b"a LOGIN alice secret\r\n")
        assert b"a OK" in sock.recv(4096)
    return sock


def nobody_there(server: servers.Server) -> None:
    """Until no login process is left."""
    servers.wait_until(lambda: not [child for child in server.children()
                                    if "imap-login" in " ".join(_words(child))], what="the end of all login processes")


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:                        # it has just ended
        return []


def end_of(sock: socket.socket, patience: float) -> bytes | None:
    """What comes until the end; None if it does not end in time."""
    sock.settimeout(patience)
    found = b""
    try:
        while data := sock.recv(4096):
            found += data
    except TimeoutError:
        return None
    except ConnectionError:
        return found
    return found


def test_who_finds_only_sessions_hears_so_soon(mailproxy_server: Start, real_dovecot_backend: servers.Server) -> None:
    server = mailproxy_server(text_of(real_dovecot_backend, "process_limit = 2"), "imap")
    nobody_there(server)
    with connect(server, login=True) as one, connect(server, login=True) as two:
        for _ in range(2):
            began = time.monotonic()
            with socket.create_connection((servers.HOST, server.port["imap"]), 20) as third:
                assert end_of(third, 9.0) == b"* BYE Connection queue full\r\n"
            assert time.monotonic() - began < 4.0
        one.sendall(b"b NOOP\r\n")
        two.sendall(b"b NOOP\r\n")
        assert b"b OK" in one.recv(4096)
        assert b"b OK" in two.recv(4096)
    nobody_there(server)
    with connect(server, login=True):
        assert "process_limit (2) reached, client connections are being dropped" in server.log_text()


def test_one_falls_where_a_process_has_used_up_its_count(mailproxy_server: Start, dovecot: Start,
                                                         real_dovecot_backend: servers.Server) -> None:
    """It can take nobody itself, so its clients must not all go for one who waits."""
    text = text_of(real_dovecot_backend, "process_limit = 1\n  service_count = 4\n  client_limit = 4")
    for start in (dovecot, mailproxy_server):
        server = start(text, "imap")            # its look whether the server answers counts
        time.sleep(0.3)
        with contextlib.ExitStack() as stack:
            early = [stack.enter_context(connect(server)) for _ in range(3)]
            stack.enter_context(socket.create_connection((servers.HOST, server.port["imap"]), 20))
            time.sleep(1.0)
            gone = []
            for sock in early:
                sock.setblocking(False)
                try:
                    gone.append(sock.recv(4096))
                except BlockingIOError:
                    gone.append(b"")
            assert gone == [b"* BYE Connection queue full\r\n", b"", b""], start


def test_a_reload_that_cuts_does_so_when_dovecots_does(mailproxy_server: Start, dovecot: Start,
                                                       real_dovecot_backend: servers.Server) -> None:
    text = text_of(real_dovecot_backend, "service_count = 0\n  process_min_avail = 1", "shutdown_clients = yes")

    def times(server: servers.Server) -> list[float]:
        """Seconds from the reload to the end of an idle session, a busy one, and a client that has not logged in."""
        with connect(server, login=True) as idle, connect(server) as waiting:
            time.sleep(2.2)
            with connect(server, login=True) as busy:
                server.reload()
                began = time.monotonic()

                def watch(sock: socket.socket) -> float:
                    assert end_of(sock, 20) is not None
                    return time.monotonic() - began
                with ThreadPoolExecutor(3) as pool:
                    return list(pool.map(watch, (idle, busy, waiting)))

    pair = [start(text, "imap") for start in (dovecot, mailproxy_server)]
    with ThreadPoolExecutor(2) as pool:
        real, ours = pool.map(times, pair)
    assert [round(ours[n] - real[n]) for n in range(3)] == [0, 0, 0], (real, ours)
    words = re.compile(r"Warning: Processes aren't dying after reload, sent SIGTERM to \d+ processes")
    for server in pair:
        servers.wait_until(lambda server=server: words.search(server.log_text()) is not None, what=words.pattern)


def test_a_process_without_memory_says_so(mailproxy_server: Start, real_dovecot_backend: servers.Server,
                                          short_dir: Path) -> None:
    greedy = short_dir / "greedy"
    greedy.write_text("#!/usr/bin/python3\nimport os, struct, sys\n"
                      "os.write(5, struct.pack('=iII', os.getpid(), int(os.environ['GENERATION']), 1))\n"
                      "try:\n    bytearray(200 << 20)\nexcept MemoryError:\n    sys.exit(83)\n")
    greedy.chmod(0o755)
    server = mailproxy_server(text_of(real_dovecot_backend, "process_limit = 3", (
        f"service greedy {{\n  type = startup\n  executable = {greedy}\n  vsz_limit = 100 M\n  idle_kill = 1 s\n}}\n")),
        "imap")
    words = (r"^greedy: Fatal: master: service\(greedy\): child \d+ returned error 83 \(Out of memory "
             r"\(service greedy \{ vsz_limit=100 MB \}, you may need to increase it\)\)$")
    servers.wait_until(lambda: re.search(words, server.log_text(), re.MULTILINE) is not None, what=words)


def test_the_clock_may_jump(real_dovecot_backend: servers.Server, short_dir: Path, no_leaks: None) -> None:
    """Nothing waits for the wall clock: an hour back and an hour forth change nothing but the log's stamps."""
    script, place = short_dir / "jumpy.py", short_dir / "offset"
    script.write_text(f"PROJECT = {str(servers.PROJECT)!r}\n{JUMPY}")
    place.write_text("0")
    place.chmod(0o644)
    server = servers.Server([sys.executable, str(script), str(place)],
                            text_of(real_dovecot_backend, "idle_kill = 1 s\n  service_count = 0\n"), short_dir)
    try:
        server.wait("imap")
        for offset in ("-3600", "3600", "0"):
            with connect(server, login=True) as session:
                place.write_text(offset)
                with connect(server, login=True):
                    session.sendall(b"b NOOP\r\n")
                    assert b"b OK" in session.recv(4096)
        nobody_there(server)                    # idle_kill
        assert "Warning" not in server.log_text()
    finally:
        assert server.stop() == []


def test_reuse_port_follows_a_reload(mailproxy_server: Start, real_dovecot_backend: servers.Server) -> None:
    plain = text_of(real_dovecot_backend, "")
    shared = plain.replace("port = @imap@", "port = @imap@\n    reuse_port = yes")
    server = mailproxy_server(plain, "imap")

    def can_share() -> bool:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                other.bind((servers.HOST, server.port["imap"]))
                other.listen()
            except OSError:
                return False
            return True

    assert not can_share()
    server.rewrite(shared)
    server.reload()
    servers.wait_until(lambda: "Configuration reloaded" in server.log_text())
    assert can_share()
