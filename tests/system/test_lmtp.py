"""The lmtp service as a whole: large messages, slow and dying backends, clients that vanish, kills and reloads."""
from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import smtplib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.fakes.lmtp_server import LmtpServer
from tests.servers import HOST, Server, wait_until

Start = Callable[..., Server]

CONF = """
base_dir = @dir@/run
state_dir = @dir@
log_path = @dir@/log
protocols = lmtp
listen = 127.0.0.1
hostname = proxy.test
ssl = no
lmtp_proxy = yes
mail_temp_dir = @dir@
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
passdb {
  driver = passwd-file
  args = @users@
}
service lmtp {
  inet_listener lmtp {
    port = @lmtp@
  }
  unix_listener lmtp {
    mode = 0666
  }
  process_min_avail = 1
  process_limit = 5
  client_limit = 100
  EXTRA
}
"""
_MB = 1 << 20


@pytest.fixture
def backends() -> Iterator[Callable[..., LmtpServer]]:
    made: list[LmtpServer] = []

    def make(**options: object) -> LmtpServer:
        made.append(LmtpServer(**options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for server in made:
        server.close()


def _start(start: Start, directory: Path, users: dict[str, str], extra: str = "") -> Server:
    path = directory / "users"
    path.write_text("".join(f"{name}:{{PLAIN}}x::::::{fields}\n" for name, fields in users.items()))
    path.chmod(0o644)
    return start(CONF.replace("@users@", str(path)).replace("EXTRA", extra), "lmtp")


def _on(server: LmtpServer, more: str = "") -> str:
    return f"proxy=y host=127.0.0.1 port={server.port} {more}"


def _worker(server: Server) -> psutil.Process:
    """The process that has a client on the LMTP port."""
    for child in server.children():
        for connection in child.net_connections():
            if connection.status == "ESTABLISHED" and connection.laddr.port == server.port["lmtp"]:
                return child
    raise AssertionError("no process serves the client")


class Client:
    """A client that speaks raw."""

    def __init__(self, server: Server) -> None:
        self.sock = socket.create_connection((HOST, server.port["lmtp"]), 30)
        self.stream = self.sock.makefile("rb")
        self.reply()

    def reply(self) -> str:
        while True:
            line = self.stream.readline().decode()
            if line[3:4] != "-":
                return line.rstrip("\r\n")

    def ask(self, line: str) -> str:
        self.sock.sendall(line.encode() + b"\r\n")
        return self.reply()

    def envelope(self, *recipients: str) -> None:
        assert self.ask("LHLO mx.test").startswith("250")
        assert self.ask("MAIL FROM:<s@test>").startswith("250")
        for recipient in recipients:
            assert self.ask(f"RCPT TO:<{recipient}>").startswith("250")

    def close(self) -> None:
        self.stream.close()
        self.sock.close()


def _memory(process: psutil.Process) -> int:
    return int(process.memory_full_info().uss)


@pytest.mark.parametrize("chunking", [True, False])
def test_large_message_takes_no_memory(mailproxy_server: Start, short_dir: Path, backends: Callable[..., LmtpServer],
                                       chunking: bool) -> None:
    """100 MB to two backends, one of them slow: the same bytes at both, and less than 5 MB more memory."""
    quick, slow = backends(chunking=chunking), backends(chunking=chunking, pause=0.0005)
    server = _start(mailproxy_server, short_dir, {"a": _on(quick), "b": _on(slow)})
    client = Client(server)
    client.envelope("a", "b")
    assert client.ask("DATA").startswith("354")
    worker = _worker(server)
    line = b".." + b"x" * 74 + b"\r\n"
    piece = line * 13000                        # about 1 MB, each line with a dot to be taken out
    before, peak = _memory(worker), 0
    for _ in range(100):
        client.sock.sendall(piece)
        peak = max(peak, _memory(worker))
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.1):
            peak = max(peak, _memory(worker))
    watcher = threading.Thread(target=watch)
    watcher.start()
    client.sock.sendall(b".\r\n")
    answers = [client.reply(), client.reply()]
    done.set()
    watcher.join()
    assert [answer[:3] for answer in answers] == ["250", "250"]
    assert peak - before < 5 * _MB, f"{(peak - before) / _MB:.1f} MB more"
    size = 100 * 13000 * (len(line) - 1)
    for backend in (quick, slow):
        message = backend.messages[0]
        assert message.size > size
        assert message.digest.digest() == _digest(message.head, size, message.size)
    client.close()


def _digest(head: bytes, size: int, whole: int) -> bytes:
    """The digest of our header, which `head` begins with, and `size` bytes of lines."""
    digest = hashlib.sha256(head[:whole - size])
    line = b"." + b"x" * 74 + b"\r\n"
    for _ in range(100):
        digest.update(line * 13000)
    return digest.digest()


def test_a_backend_that_dies_takes_only_its_recipients(mailproxy_server: Start, short_dir: Path,
                                                       backends: Callable[..., LmtpServer]) -> None:
    good, dying, full = backends(), backends(die_after=100_000), backends(refuse=frozenset(("e",)))
    server = _start(mailproxy_server, short_dir, {"a": _on(good), "b": _on(dying), "c": _on(good), "d": _on(dying),
                                                 "e": _on(full), "f": _on(full)})
    client = Client(server)
    client.envelope("a", "b", "c", "d", "e", "f")
    client.ask("DATA")
    client.sock.sendall(b"x\r\n" * 100_000 + b".\r\n")
    answers = [client.reply() for _ in range(6)]
    assert [answer[:9] for answer in answers] == ["250 2.0.0", "451 4.4.0", "250 2.0.0", "451 4.4.0", "452 4.2.2",
                                                  "250 2.0.0"]
    assert [message.recipients for message in good.messages] == [["a", "c"]]
    assert client.ask("NOOP").startswith("250")         # and the connection lives
    client.close()


def test_a_client_that_vanishes_delivers_nothing(mailproxy_server: Start, short_dir: Path,
                                                 backends: Callable[..., LmtpServer]) -> None:
    backend = backends()
    server = _start(mailproxy_server, short_dir, {"a": _on(backend)})
    for data in (b"DATA\r\nhalf a message\r\n", b"BDAT 100 LAST\r\nhalf", b"BDAT 4\r\nhalf", b"DATA\r\nx\r\n.\r"):
        client = Client(server)
        client.envelope("a")
        client.sock.sendall(data)
        client.close()
    wait_until(lambda: backend.commands.count("QUIT") == 4)
    assert not backend.messages
    assert server.log_text().count("Connection closed (unfinished DATA command)") == 2


def test_a_complete_message_is_delivered_though_its_client_is_gone(
        mailproxy_server: Start, short_dir: Path, backends: Callable[..., LmtpServer]) -> None:
    backend = backends(pause=0.1)
    server = _start(mailproxy_server, short_dir, {"a": _on(backend)})
    client = Client(server)
    client.envelope("a")
    client.ask("DATA")
    client.sock.sendall(b"x" * 200_000 + b"\r\n.\r\n")
    client.close()
    wait_until(lambda: len(backend.messages) == 1)
    wait_until(lambda: "Sent message to <a>" in server.log_text())


def test_unix_socket_and_many_recipients(mailproxy_server: Start, short_dir: Path,
                                         backends: Callable[..., LmtpServer]) -> None:
    one, two = backends(), backends()
    users = {f"u{number}": _on((one, two)[number % 2]) for number in range(1000)}
    server = _start(mailproxy_server, short_dir, users)
    with contextlib.closing(smtplib.LMTP(str(server.directory / "run/lmtp"), 0, timeout=60)) as client:
        assert client.sendmail("s@test", [*users, "nobody"], "Subject: x\n\nbody\n") == {
            "nobody": (550, b"5.1.1 <nobody> User doesn't exist: nobody")}
    assert [len(backend.messages) for backend in (one, two)] == [1, 1]
    assert sorted(one.messages[0].recipients + two.messages[0].recipients) == sorted(users)
    assert "Connect from local" in server.log_text()


def test_proxy_not_trusted_keeps_the_client_to_itself(mailproxy_server: Start, short_dir: Path,
                                                      backends: Callable[..., LmtpServer]) -> None:
    backend = backends()
    server = _start(mailproxy_server, short_dir, {"a": _on(backend, "proxy_not_trusted=y forward_x=y")})
    client = Client(server)
    client.envelope("a")
    client.close()
    wait_until(lambda: "QUIT" in backend.commands)
    assert backend.commands == ["LHLO proxy.test", "MAIL FROM:<s@test>", "RCPT TO:<a>", "QUIT"]


def test_killed_process_costs_its_clients_only(mailproxy_server: Start, short_dir: Path,
                                               backends: Callable[..., LmtpServer]) -> None:
    backend = backends()
    server = _start(mailproxy_server, short_dir, {"a": _on(backend)})
    client = Client(server)
    client.envelope("a")
    _worker(server).send_signal(signal.SIGKILL)
    assert client.stream.readline() == b""
    client.close()
    again = Client(server)
    again.envelope("a")
    again.ask("DATA")
    assert again.ask("x\r\n.").startswith("250")
    again.close()
    assert len(backend.messages) == 1


def test_reload_and_stop_lose_no_message(mailproxy_server: Start, short_dir: Path,
                                         backends: Callable[..., LmtpServer]) -> None:
    backend = backends()
    server = _start(mailproxy_server, short_dir, {"a": _on(backend)})
    old = Client(server)
    old.envelope("a")
    server.reload()
    wait_until(lambda: "SIGHUP" in server.log_text())
    new = Client(server)
    for client in (old, new):
        if client is new:
            client.envelope("a")
        client.ask("DATA")
        assert client.ask("x\r\n.").startswith("250")
    assert len(backend.messages) == 2
    server.process.send_signal(signal.SIGTERM)
    assert new.reply().startswith("421 4.3.2 proxy.test Shutting down")
    old.close()
    new.close()


def test_service_count_and_client_limit(mailproxy_server: Start, short_dir: Path,
                                        backends: Callable[..., LmtpServer]) -> None:
    """One client a process, each in a process of its own."""
    server = _start(mailproxy_server, short_dir, {"a": _on(backends())}, "client_limit = 1\n  service_count = 1")
    clients = [Client(server) for _ in range(3)]
    pids = set()
    for child in server.children():
        if any(connection.status == "ESTABLISHED" for connection in child.net_connections()):
            pids.add(child.pid)
    assert len(pids) == 3
    for client in clients:
        client.ask("QUIT")
        client.close()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_backend_that_is_silent_costs_a_temporary_failure(mailproxy_server: Start, short_dir: Path) -> None:
    with socket.create_server((HOST, 0)) as silent:
        server = _start(mailproxy_server, short_dir, {
            "a": f"proxy=y host=127.0.0.1 port={silent.getsockname()[1]}"})
        client = Client(server)
        client.ask("MAIL FROM:<s@test>")
        client.sock.sendall(b"RCPT TO:<a>\r\n")
        time.sleep(0.2)
        client.close()                          # nobody waits for the 30 seconds
        wait_until(lambda: "Disconnect from" in server.log_text())
        accepted, _ = silent.accept()
        with accepted:
            accepted.settimeout(5)
            assert accepted.recv(100) in (b"", b"QUIT\r\n")
    assert os.listdir(server.directory / "run")
