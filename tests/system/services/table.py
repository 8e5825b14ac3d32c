"""What 200 connections do to a login service: the same load on real Dovecot and on mailproxy, row by row.

A row is one setting of the service with one load.  Out: how many processes were started, how many clients each had,
what was refused, and which words the master logged.
"""
from __future__ import annotations

import re
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import servers

TEXT = """
log_timestamp =
ssl = no
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
login_log_format_elements = pid=%p
passdb {{
  driver = static
  args = password=x
}}
service anvil {{
  client_limit = 5000
}}
service auth {{
  client_limit = 5000
}}
service imap-login {{
  service_count = {row.service_count}
  process_min_avail = {row.process_min_avail}
  process_limit = {row.process_limit}
  client_limit = {row.client_limit}
  inet_listener imap {{
    port = @imap@
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""
WAIT = 20.0
#: Words of the master about a full service, without the numbers.
_WORDS = re.compile(r"(?:process_limit|client_limit(?:/service_count)?) \(\d+\) reached, client connections are being"
                    r" dropped|Connection queue full|throttling for")
_ENDED = re.compile(r"imap-login: Info: (?:Aborted login|Disconnected|Logged out).*?pid=(\d+)")


@dataclass(frozen=True)
class Row:
    service_count: int
    process_min_avail: int
    process_limit: int
    client_limit: int
    at_once: int                    # connections that are open at the same time
    connections: int = 200

    @property
    def places(self) -> int:
        """Clients that fit in at the same time."""
        limit = min(self.client_limit, self.service_count) if self.service_count else self.client_limit
        return self.process_limit * limit

    def __str__(self) -> str:
        return (f"service_count={self.service_count} min_avail={self.process_min_avail} "
                f"process_limit={self.process_limit:<3} client_limit={self.client_limit} at_once={self.at_once}")


@dataclass
class Seen:
    started: int
    clients: list[int]              # of each process that had some, most first
    full: int                       # clients that made room for others
    words: frozenset[str]

    def __str__(self) -> str:
        most = f"{self.clients[0]}" if self.clients else "0"
        least = f"{self.clients[-1]}" if self.clients else "0"
        return (f"{self.started:>4} started, {len(self.clients):>3} served {least}-{most} clients, "
                f"{self.full:>3} made room; {', '.join(sorted(self.words)) or '-'}")


def grid(*, small: bool) -> Iterator[Row]:
    """All rows; `small`: those that show the most."""
    for service_count in (0, 1, 3):
        for minimum in (0, 4):
            for client_limit in (1, 5):
                for at_once in (1, 5):
                    row = Row(service_count, minimum, 100, client_limit, at_once)
                    if not small or (at_once == 5) is (client_limit == 5):
                        yield row
        for client_limit in (1, 5):
            most = 2 * (min(client_limit, service_count) if service_count else client_limit)
            for at_once in (1, most + 1):
                # each newcomer waits for a place: fewer of them show the same
                count = 200 if at_once == 1 else 2 * at_once
                if not small or (at_once > 1 and service_count < 3 and client_limit > service_count):
                    yield Row(service_count, 0, 2, client_limit, at_once, count)


def run(row: Row, kind: str) -> Seen:
    directory = Path(tempfile.mkdtemp(prefix="mp-", dir="/tmp"))
    directory.chmod(0o755)
    start = servers.dovecot if kind == "dovecot" else servers.mailproxy
    server = start(servers.HEAD + TEXT.format(row=row), directory)
    try:
        _await_start(server, row)
        _load(server.port["imap"], row)
        served = _settled(server, row)
        total = _total(server)
        return Seen(total, served, server.log_text().count("Disconnected: Connection queue full"),
                    frozenset(re.sub(r"\d+", "N", word) for word in _WORDS.findall(server.log_text())))
    finally:
        problems = server.stop()
        shutil.rmtree(directory, ignore_errors=True)
        assert kind == "dovecot" or not problems, problems


def _await_start(server: servers.Server, row: Row) -> None:
    """Without a connection: each would count."""
    servers.wait_until(lambda: "starting up" in server.log_text(), WAIT)
    servers.wait_until(lambda: _total(server) >= row.process_min_avail, WAIT)


def _load(port: int, row: Row) -> None:
    for _ in range(row.connections // row.at_once):
        clients = [_connect(port) for _ in range(row.at_once)]
        for client in clients:
            _leave(client)


def _connect(port: int) -> socket.socket:
    client = socket.create_connection((servers.HOST, port), WAIT)
    assert client.recv(4096).startswith(b"* OK"), "no greeting"
    return client


def _leave(client: socket.socket) -> None:
    """Until the server has said goodbye, so that the next one comes after this one."""
    try:
        client.sendall(b"a LOGOUT\r\n")
        while client.recv(4096):
            pass
    except ConnectionError:             # it has made room for somebody
        pass
    client.close()


def _settled(server: servers.Server, row: Row) -> list[int]:
    """Clients of each process by the log, when all are in it."""
    end = time.monotonic() + WAIT
    while True:
        found = _ENDED.findall(server.log_text())
        if len(found) >= row.connections // row.at_once * row.at_once or time.monotonic() > end:
            return sorted(Counter(found).values(), reverse=True)
        time.sleep(0.02)


def _total(server: servers.Server) -> int:
    """process_total of the service, from the master's control socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WAIT)
        try:
            sock.connect(str(server.directory / "run" / "master"))
        except OSError:
            return -1
        sock.sendall(b"VERSION\tmaster-client\t1\t0\nSERVICE-STATUS\timap-login\n")
        received = b""
        while not received.endswith(b"\n\n"):
            received += sock.recv(65536)
    row = next(line for line in received.decode().splitlines() if line.startswith("imap-login\t"))
    return int(row.split("\t")[-1])


def differences(row: Row, real: Seen, ours: Seen) -> list[str]:
    """What must be equal and is not.  Which of several waiting processes gets a connection is the kernel's choice, so
    numbers of processes are compared exactly only where there is no choice."""
    found = []
    # a client that comes when the one before has just left may still find its place taken, there and here
    racy = row.at_once <= row.places and row.process_limit == 2
    if ours.words - real.words and not racy:
        found.append(f"words that Dovecot does not say: {sorted(ours.words - real.words)}")
    if real.words - ours.words and not racy:
        found.append(f"words missing: {sorted(real.words - ours.words)}")
    limit = row.service_count or row.connections
    if ours.clients and ours.clients[0] > limit:
        found.append(f"a process had {ours.clients[0]} clients, {limit} is the limit")
    if sum(ours.clients) != sum(real.clients) and row.at_once <= row.places:
        found.append(f"{sum(ours.clients)} clients in the log, {sum(real.clients)} in Dovecot's")
    slack = _slack(row)
    if abs(ours.started - real.started) > slack:
        found.append(f"{ours.started} processes, {real.started} in Dovecot (may differ by {slack})")
    return found


def _slack(row: Row) -> int:
    if row.at_once > row.places:
        return 2 * row.connections      # Dovecot lets more fall than come
    if row.at_once == 1 and row.process_min_avail == 0:
        # with one place a process the next client may come before the place of the last is known to be free
        return 0 if row.client_limit > 1 and row.service_count != 1 else 2
    return 2 * row.at_once + row.process_min_avail + (row.connections // 10 if row.service_count == 3 else 0)
