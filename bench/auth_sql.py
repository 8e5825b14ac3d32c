"""Logins whose users are in MariaDB: the auth service's cache, its CPU time beside Dovecot's, and a database that dies.

    .venv/bin/python -m bench.auth_sql [--users 500] [--logins 10000] [--seconds 8]

Both sides have the same configuration and are asked the same logins over their login sockets.  Printed for each:

    cached      share of logins that the cache answered, and CPU time of auth (with its workers) per such login
    dying       the database is killed and started again while logins come at a steady rate: what was answered, and how
                late, with entries of the cache that live for one second and without a cache

It needs root and the packages that `make test` installs.  A login that is answered "wrong password" is an error.
"""
from __future__ import annotations

import argparse
import os
import random
import re
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.component.auth.peer import Peer, plain
from tests.component.auth.processes import Ours, dovecot, ours
from tests.component.auth.scenario import Passdb, Scenario
from tests.sql_servers import MariaDb

WINDOW = 64
RATE = 300
WORKERS = 4
_CONF = """driver = mysql
connect = host=127.0.0.1 port={port} dbname=mail user=bench password=bench
default_pass_scheme = PLAIN
password_query = SELECT username AS user, password, 'y' AS proxy, '127.0.0.1' AS host FROM users WHERE username = '%u'
"""


def database(users: int) -> MariaDb:
    server = MariaDb()
    server.start()
    rows = ",".join(f"('user{number}@ex.com', 'pw{number}')" for number in range(users))
    server.run("CREATE DATABASE mail; USE mail; CREATE USER bench IDENTIFIED BY 'bench'; GRANT ALL ON mail.* TO bench;"
               "CREATE TABLE users (username varchar(100) PRIMARY KEY, password varchar(100));"
               f"INSERT INTO users VALUES {rows};")
    return server


def scenario(server: MariaDb, size: int, ttl: float) -> Scenario:
    settings: dict[str, Any] = {"auth_cache_size": size, "auth_cache_ttl": ttl, "auth_worker_max_count": WORKERS}
    return Scenario([Passdb("sql", "@DIR@/sql.conf")], settings, {"sql.conf": _CONF.format(port=server.port)})


class Side:
    """One auth service under test: its sockets, its processes, its log."""

    def __init__(self, directory: Path, log: Path, process: Ours | None) -> None:
        self.base = directory / "run"
        self._log = log
        self._ours = process

    def processes(self) -> list[psutil.Process]:
        """auth and its workers; auth comes first."""
        if self._ours is not None:
            return [psutil.Process(pid) for pid in (self._ours.pid, *self._ours.worker_pids)]
        master = psutil.Process(int((self.base / "master.pid").read_text()))
        found = [child for child in master.children() if child.name() == "auth"]
        return sorted(found, key=lambda child: "-w" in child.cmdline())

    def cpu(self) -> float:
        """Seconds, more exactly than clock ticks tell."""
        return sum(int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0])
                   for process in self.processes()) / 1e9

    def hit_rate(self) -> str:
        before = self._log.stat().st_size
        self.processes()[0].send_signal(signal.SIGUSR2)
        limit = time.monotonic() + 5
        while time.monotonic() < limit:
            found = re.search(r"cache hits (\d+/\d+ \(\d+%\))", self._log.read_text(errors="replace")[before:])
            if found:
                return found[1]
            time.sleep(0.05)
        return "?"


@contextmanager
def started(name: str, setup: Scenario) -> Iterator[Side]:
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as place:
        directory = Path(place)
        if name == "dovecot":
            with dovecot(setup, directory):
                yield Side(directory, directory / "dovecot.log", None)
        else:
            with ours(setup, directory, workers=WORKERS) as process:
                yield Side(directory, directory / "ours.log", process)


class Load:
    """A login process: requests with numbers, answers with their delays."""

    def __init__(self, base: Path) -> None:
        self._peer = Peer(str(base / "login" / "login"))
        self._buffer = b""
        self._number = 0
        self._since: dict[int, float] = {}
        self.words: Counter[str] = Counter()
        self.delays: list[float] = []

    @property
    def waiting(self) -> int:
        return len(self._since)

    def ask(self, user: int, count: int = 1) -> None:
        lines = []
        for _ in range(count):
            self._number += 1
            self._since[self._number] = time.monotonic()
            lines.append("\t".join(("AUTH", str(self._number), "PLAIN", "service=imap", "no-penalty",
                                    f"resp={plain(f'user{user}@ex.com', f'pw{user}')}")))
        self._peer.send(*lines)

    def take(self, seconds: float) -> None:
        """The answers that are there, or come within that time."""
        if not select.select([self._peer.socket], [], [], seconds)[0]:
            return
        data = self._peer.socket.recv(1 << 18)
        if not data:
            raise SystemExit("the auth service closed the connection")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        now = time.monotonic()
        for line in lines:
            word, number, *rest = line.decode(errors="replace").split("\t")
            self.delays.append(now - self._since.pop(int(number)))
            self.words[word if word == "OK" else "temporary" if "code=temp_fail" in rest else "REFUSED"] += 1

    def close(self) -> None:
        self._peer.close()

    def percentile(self, share: float) -> float:
        return sorted(self.delays)[min(int(len(self.delays) * share), len(self.delays) - 1)] * 1000


def cached(name: str, server: MariaDb, users: int, logins: int) -> float:
    """CPU microseconds per login that the cache answers."""
    choose = random.Random(1)
    with started(name, scenario(server, 16 << 20, 3600)) as side:
        load = Load(side.base)

        def run(order: list[int]) -> float:
            before = side.cpu()
            for user in order:
                load.ask(user)
                while load.waiting >= WINDOW:
                    load.take(5)
            while load.waiting:
                load.take(5)
            return side.cpu() - before
        first = run([choose.randrange(users) for _ in range(logins)])
        rate = side.hit_rate()
        run(list(range(users)))
        warm = run([choose.randrange(users) for _ in range(logins)])
        print(f"{name:10} cached  {logins} logins, {users} users: cache hits {rate}, {first * 1e6 / logins:.0f} us CPU "
              f"per login; all cached: {side.hit_rate()}, {warm * 1e6 / logins:.1f} us; "
              f"p99 {load.percentile(.99):.1f} ms; {dict(load.words)}")
        check(load)
        load.close()
        return warm * 1e6 / logins


def dying(name: str, server: MariaDb, users: int, seconds: float, size: int) -> None:
    choose = random.Random(2)
    with started(name, scenario(server, size, 1)) as side:
        load = Load(side.base)
        for user in range(users):
            load.ask(user)
        while load.waiting:
            load.take(5)
        load.delays.clear()
        load.words.clear()
        begun = time.monotonic()
        sent = 0
        recovered = 0.0
        steps = [(0.25, lambda: server.end(signal.SIGKILL)), (0.5, server.start)]
        up = False
        while (now := time.monotonic() - begun) < seconds:
            if steps and now > steps[0][0] * seconds:
                steps.pop(0)[1]()
                up = not steps
                back, good = time.monotonic(), load.words["temporary"]
            while sent < now * RATE:
                load.ask(choose.randrange(users))
                sent += 1
            load.take(0.005)
            if up and load.words["temporary"] > good:
                recovered, good = time.monotonic() - back, load.words["temporary"]
        while load.waiting:
            load.take(5)
        print(f"{name:10} dying   {'cache of 1 s' if size else 'no cache':12} {dict(load.words)}, "
              f"p50 {load.percentile(.5):.1f} p99 {load.percentile(.99):.1f} max {load.percentile(1):.0f} ms, "
              f"last temporary failure {recovered:.1f} s after the database was back")
        check(load)
        load.close()


def check(load: Load) -> None:
    if load.words["REFUSED"]:
        print("ERROR: good passwords were refused")
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--logins", type=int, default=10000)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    if os.getuid():
        sys.exit("it starts servers as other users: run it as root")
    server = database(options.users)
    try:
        costs = {name: cached(name, server, options.users, options.logins) for name in ("dovecot", "mailproxy")}
        print(f"CPU per cached login: mailproxy / dovecot = {costs['mailproxy'] / max(costs['dovecot'], 1e-9):.2f}")
        for name in ("dovecot", "mailproxy"):
            for size in (16 << 20, 0):
                dying(name, server, options.users, options.seconds, size)
    finally:
        server.remove()


if __name__ == "__main__":
    main()
