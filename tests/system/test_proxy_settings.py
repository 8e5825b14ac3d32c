"""login_proxy_max_disconnect_delay, login_proxy_rawlog_dir, login_proxy_notify_path with proxy_refresh: real Dovecot
and mailproxy do the same."""
from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests import servers
from tests.certificates import Authority
from tests.fakes.attack import Backend, Peer, backend

LIMIT = 10.0
CONF = servers.HEAD + """
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
login_proxy_max_disconnect_delay = 2 secs
login_proxy_rawlog_dir = raw
login_proxy_notify_path = told
ssl_client_require_valid_cert = no
passdb {
  driver = static
  args = password=secret proxy=y host=127.0.0.1 port=BACKEND proxy_refresh=1 destuser=other@example.com MORE
}
service imap-login {
  service_count = 0
  process_limit = 1
  inet_listener imap {
    port = @imap@
  }
  inet_listener imaps {
    port = 0
  }
}
"""
SIDES: dict[str, Callable[[str, Path], servers.Server]] = {"dovecot": servers.dovecot, "mailproxy": servers.mailproxy}


def welcome(peer: Peer) -> None:
    """Log everybody in, then say what is asked for until the test ends it."""
    peer.send(b"* OK [CAPABILITY IMAP4rev1] hi\r\n")
    peer.line()
    peer.send(b"L OK in\r\n")
    while line := peer.line():
        if line.startswith(b"x BIG"):
            peer.send(b"* " + b"y" * 100_000 + b"\r\n")
        elif line.startswith(b"x BYE"):
            return


def _start(side: str, directory: Path, one: Backend, more: str = "") -> servers.Server:
    server = SIDES[side](CONF.replace("BACKEND", str(one.port)).replace("MORE", more), directory)
    server.wait("imap")
    (directory / "run/login/raw").mkdir(exist_ok=True)
    (directory / "run/login/raw").chmod(0o777)
    return server


class _Client:
    def __init__(self, server: servers.Server) -> None:
        self.sock = socket.create_connection((servers.HOST, server.port["imap"]), LIMIT)
        self.file = self.sock.makefile("rb")
        self.file.readline()
        self.sock.sendall(b"a LOGIN u secret\r\n")
        assert self.file.readline().startswith(b"a OK")

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def ends(self, start: float) -> float:
        """Seconds until it is disconnected; what it says meanwhile is of no interest."""
        self.sock.sendall(b"x BIG\r\n" * 100)
        try:
            while self.file.read(1 << 16):
                continue
        except ConnectionResetError:        # there was more to be read
            pass
        return time.monotonic() - start


@pytest.fixture
def running(short_dir: Path, request: pytest.FixtureRequest) -> Iterator[tuple[servers.Server, Backend]]:
    side, more = request.param
    with backend(welcome) as one:
        server = _start(side, short_dir, one, more)
        try:
            yield server, one
        finally:
            problems = server.stop()
    assert side == "dovecot" or not problems, problems


def _both(more: str = "") -> pytest.MarkDecorator:
    return pytest.mark.parametrize("running", [("dovecot", more), ("mailproxy", more)], indirect=True,
                                   ids=["dovecot", "mailproxy"])


@_both()
def test_clients_of_a_backend_that_goes_leave_one_after_the_other(running: tuple[servers.Server, Backend]) -> None:
    server, _ = running
    clients = [_Client(server) for _ in range(6)]
    with ThreadPoolExecutor(len(clients)) as pool:
        start = time.monotonic()
        for client in clients:
            client.sock.sendall(b"x BYE\r\n")
        ends = sorted(pool.map(lambda client: client.ends(start), clients))
    for client in clients:
        client.close()
    assert ends[2] < 0.5 < ends[3]          # 3 a second
    for end, due in zip(ends[3:], (1.33, 1.66, 2.0), strict=True):
        assert due - 0.3 < end < due + 0.6
    found = re.findall(r"Disconnected by server \(0s idle, in=\d+, out=\d+\) - disconnecting client in (\d+)ms: "
                       r"user=<u>", server.log_text())
    assert len(found) == 3
    assert all(1200 < int(text) < 2300 for text in found)


@_both()
def test_refresh_tells_who_is_there(running: tuple[servers.Server, Backend]) -> None:
    server, _ = running
    path = server.directory / "run/login/told"
    os.mkfifo(path)
    path.chmod(0o666)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    first, second = _Client(server), _Client(server)
    time.sleep(1.6)
    second.sock.sendall(b"x BYE\r\n")
    assert second.ends(time.monotonic()) < LIMIT
    time.sleep(1.0)
    told = os.read(reader, 1000)
    os.close(reader)
    first.close()
    second.close()
    assert told == b"other@example.com\n" * 3


def test_a_fifo_that_is_not_there_is_said_once_and_harms_nobody(short_dir: Path) -> None:
    with backend(welcome) as one:
        server = _start("mailproxy", short_dir, one)
        with closing(_Client(server)) as client:
            time.sleep(2.3)
            client.sock.sendall(b"x BIG\r\n")
            assert len(client.file.readline()) == 100_004
        problems = server.stop()
    assert not problems
    assert server.log_text().count("open(told) failed: No such file or directory") == 1


def _said(server: servers.Server) -> dict[str, bytes]:
    """What the raw logs have, without their times, by the end of their names."""
    return {re.sub(r"^\d+-\d+\.\d+\.", "", path.name):
            re.sub(rb"^\d+\.\d{6} ", b"T ", re.sub(rb"y{1000,}", b"y", path.read_bytes()), flags=re.M)
            for path in sorted((server.directory / "run/login/raw").iterdir())}


@_both()
def test_raw_logs(running: tuple[servers.Server, Backend]) -> None:
    server, _ = running
    with closing(_Client(server)) as client:
        client.sock.sendall(b"x BIG\r\n")
        assert len(client.file.readline()) == 100_004
        client.sock.sendall(b"x BIG\r\nx BIG\r\n")
        assert len(client.file.readline()) == len(client.file.readline()) == 100_004
    servers.wait_until(lambda: "Disconnected by" in server.log_text())
    assert _said(server) == {
        "1.in": b"T * OK [CAPABILITY IMAP4rev1] hi\r\nT L OK in\r\n" + b"T * y\r\n" * 3,
        "1.out": b'T L LOGIN "other@example.com" "secret"\r\n' + b"T x BIG\r\n" * 3}


def test_raw_logs_show_what_goes_through_tls(short_dir: Path, authority: Authority) -> None:
    pair = authority.issue("localhost", "127.0.0.1")
    listener = socket.create_server((servers.HOST, 0))
    threading.Thread(target=_serve_tls, args=(listener, pair), daemon=True).start()

    class _One:
        port = listener.getsockname()[1]

    server = _start("mailproxy", short_dir, _One, "ssl=any-cert")       # type: ignore[arg-type]
    with closing(_Client(server)) as client:
        assert client.file.readline() == b"* more\r\n"
    problems = server.stop()
    listener.close()
    assert not problems
    assert _said(server) == {"1.in": b"T * OK [CAPABILITY IMAP4rev1] hi\r\nT L OK in\r\nT * more\r\n",
                             "1.out": b'T L LOGIN "other@example.com" "secret"\r\n'}


def _serve_tls(listener: socket.socket, pair: object) -> None:
    import ssl
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)     # type: ignore[attr-defined]
    sock, _ = listener.accept()
    with context.wrap_socket(sock, server_side=True) as peer:
        peer.sendall(b"* OK [CAPABILITY IMAP4rev1] hi\r\n")
        peer.recv(1000)
        peer.sendall(b"L OK in\r\n* more\r\n")
        peer.recv(1000)
